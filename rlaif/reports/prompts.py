"""What is put to the policy, and what it should answer."""

from typing import Literal

from rlaif.records import Case, Study

Target = Literal["findings", "impression", "both"]

_IMAGE_PROMPTS: dict[Target, str] = {
    "findings": "Describe the findings of this chest CT.",
    "impression": "Give the impression of this chest CT.",
    "both": "Write the report of this chest CT: findings and impression.",
}
_FROM_FINDINGS = "Findings: {findings}\nGive the impression of these findings."


def _text(section: str | None) -> str | None:
    return section.strip() or None if section is not None else None


def target_text(study: Study, target: Target) -> str | None:
    """The part of a study's report that the policy should write; None where the study lacks it.

    `both` needs both sections, and heads them "Findings:" and "Impression:".
    """
    findings, impression = _text(study.findings), _text(study.impression)
    if target == "findings":
        return findings
    if target == "impression":
        return impression
    return f"Findings: {findings}\nImpression: {impression}" if findings and impression else None


def case_of(study: Study, target: Target, feature_key: str | None, *, from_findings: bool = False) -> Case:
    """The case of a study: its prompt and target text; the case bears the study's id.

    With `from_findings` the prompt holds the findings and asks for the impression, for text-only
    policies. Raises ValueError where the study has no findings then, or where the target is not the
    impression.
    """
    prompt = _IMAGE_PROMPTS[target]
    if from_findings:
        findings = _text(study.findings)
        if target != "impression":
            raise ValueError(
                f"a text-only policy writes the impression from the findings: target {target!r} is not possible"
            )
        if findings is None:
            raise ValueError(f"study {study.study_id} has no findings to write an impression from")
        prompt = _FROM_FINDINGS.format(findings=findings)
    return Case(
        case_id=study.study_id,
        study_id=study.study_id,
        patient_id=study.patient_id,
        prompt=prompt,
        target=target_text(study, target),
        feature_key=feature_key,
        labels=study.labels,
    )
