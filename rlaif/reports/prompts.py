"""What is put to the policy, and what it should answer."""

from collections.abc import Iterable
from typing import Literal

from rlaif.models.settings import PolicySettings
from rlaif.records import Case, Study
from rlaif.reports.region_reports import joined_sentences, region_answer, region_order, region_prompt
from rlaif.reports.regions import REGIONS

Target = Literal["findings", "impression", "both"]

_IMAGE_PROMPTS: dict[Target, str] = {
    "findings": "<image>\nDescribe the findings of this chest CT.",
    "impression": "<image>\nGive the impression of this chest CT.",
    "both": "<image>\nWrite the report of this chest CT: findings and impression.",
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


def sample_prompt(policy: PolicySettings) -> str:
    """A prompt as short as the policy's can be: of no findings, or of one region."""
    if policy.reads == "findings":
        return (policy.prompt or _FROM_FINDINGS).replace("{findings}", "")
    if policy.reads == "regions":
        return region_prompt(REGIONS[:1], policy.prompt)
    return policy.prompt or min(_IMAGE_PROMPTS.values(), key=len)


def image_case(study: Study, target: Target, feature_key: str | None, prompt: str | None = None) -> Case:
    """The case of a study whose report is written from its whole scan; the case bears the study's id.

    `prompt` stands in the place of our own words, in all of these functions.
    """
    text = target_text(study, target)
    return _case(study, prompt or _IMAGE_PROMPTS[target], target=text, answer=text, feature_key=feature_key)


def findings_case(study: Study, target: Target, prompt: str | None = None) -> Case:
    """The case of a study whose impression is written from its findings, for text-only policies.

    Raises ValueError where the study has no findings, or where the target is not the impression.
    """
    if target != "impression":
        raise ValueError(
            f"a text-only policy writes the impression from the findings: target {target!r} is not possible"
        )
    findings, impression = _text(study.findings), _text(study.impression)
    if findings is None:
        raise ValueError(f"study {study.study_id} has no findings to write an impression from")
    asked = (prompt or _FROM_FINDINGS).replace("{findings}", findings)
    return _case(study, asked, target=impression, answer=impression)


def region_case(
    study: Study, target: Target, feature_key: str | None, regions: Iterable[str], prompt: str | None = None
) -> Case:
    """The case of a study whose report is written region by region, in an order that the study's id shuffles.

    Reg2RG trains on the regions that have sentences and is tested on every region with a mask: so is it here, by the
    study's split. Every region is asked for too where none has sentences. The target is the study's own text or, where
    it has none, its regions' sentences; there is an answer where every region that is asked for has sentences.
    """
    reports = {name: said for name, said in (study.region_reports or {}).items() if said.strip()}
    asked = list(regions)
    if study.split != "heldout":
        asked = [name for name in asked if name in reports] or asked
    order = region_order(asked, study.study_id)
    told = [name for name in order if name in reports]
    text = target_text(study, target) or joined_sentences(reports[name] for name in told) or None
    answer = region_answer(order, reports) if order and len(told) == len(order) else None
    return _case(study, region_prompt(order, prompt), target=text, answer=answer, feature_key=feature_key)


def _case(study: Study, prompt: str, *, target: str | None, answer: str | None, feature_key: str | None = None) -> Case:
    return Case(
        case_id=study.study_id,
        study_id=study.study_id,
        patient_id=study.patient_id,
        prompt=prompt,
        target=target,
        answer=answer,
        feature_key=feature_key,
        labels=study.labels,
    )
