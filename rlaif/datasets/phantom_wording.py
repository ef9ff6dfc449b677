"""The report of a phantom patient: what is there in one of many phrasings, and some of what is not."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlaif.datasets.phantom_findings import PlacedFinding
from rlaif.datasets.phantom_phrases import (
    CLINICAL_INFORMATION,
    NORMAL_IMPRESSION,
    NORMALS,
    PHRASES,
    REGIONS,
    SUMMARIES,
)


@dataclass(frozen=True)
class PhantomReport:
    """A report's texts, and its findings sentence by sentence as (region, sentence)."""

    clinical_information: str
    findings: str
    impression: str
    sentences: tuple[tuple[str, str], ...]


def write_report(rng: np.random.Generator, findings: Sequence[PlacedFinding], names: Sequence[str]) -> PhantomReport:
    """Write a patient's report of 30 to 60 words; only findings of `names` are ever denied."""
    positive = [
        (REGIONS.get(one.name, "lung"), _fill(str(rng.choice(PHRASES[one.name])), one, rng)) for one in findings
    ]
    present = {one.name for one in findings}
    deniable = set(names) - present
    denials, normals = [], []
    for region, denied, sentences in NORMALS:
        sentence = (region, str(rng.choice(sentences)))
        if denied and deniable.issuperset(denied):
            denials.append(sentence)
        elif not denied:
            normals.append(sentence)
    optional = [denials[index] for index in rng.permutation(len(denials))]
    for sentence in (normals[index] for index in rng.permutation(len(normals))):
        optional.insert(int(rng.integers(len(optional) + 1)), sentence)
    aim = int(rng.integers(38, 53))
    chosen, words = list(positive), sum(len(sentence.split()) for _, sentence in positive)
    for region, sentence in optional:
        length = len(sentence.split())
        if words + length <= aim + 2:
            chosen.append((region, sentence))
            words += length
    ordered = tuple(chosen[index] for index in rng.permutation(len(chosen)))
    return PhantomReport(
        clinical_information=str(rng.choice(CLINICAL_INFORMATION)),
        findings=" ".join(sentence for _, sentence in ordered),
        impression=_impression(rng, findings),
        sentences=ordered,
    )


def _impression(rng: np.random.Generator, findings: Sequence[PlacedFinding]) -> str:
    if not findings:
        return NORMAL_IMPRESSION
    return " ".join(
        _fill(SUMMARIES[findings[index].name] + ".", findings[index], rng) for index in rng.permutation(len(findings))
    )


def _fill(phrase: str, finding: PlacedFinding, rng: np.random.Generator) -> str:
    """Put a finding's attributes into a phrase; both sides at once take the plural of what follows."""
    if finding.side == "bilateral":
        phrase = _bilateral(phrase)
    site = "mediastinal" if finding.location == "mediastinum" else f"{finding.side} hilar"
    size = ""
    if finding.size_mm is not None:
        size = f"{finding.size_mm} mm" if rng.random() < 0.6 else f"{finding.size_mm / 10:.1f} cm"
    severity = finding.severity or ""
    text = phrase.format(
        side=finding.side, lobe=finding.location, size=size, severity=severity, severely=f"{severity}ly", site=site
    )
    return text[0].upper() + text[1:]


def _bilateral(phrase: str) -> str:
    """The phrase for both sides: "both upper lobes", "bilateral pleural effusions", "on both sides"."""
    for one, both in (
        ("the {side} {lobe} shows", "both {lobe}s show"),
        ("The {side} {lobe} shows", "Both {lobe}s show"),
        ("the {side} {lobe}", "both {lobe}s"),
        ("{side} {lobe}", "bilateral {lobe}"),
        ("on the {side} side", "on both sides"),
        ("the {side} pleural space", "both pleural spaces"),
        ("There is a {severity} {side} pleural effusion", "There are {severity} {side} pleural effusions"),
        ("A {severity} {side} pleural effusion is", "{severity} {side} pleural effusions are"),
        ("{side} pleural effusion is", "{side} pleural effusions are"),
        ("The {side} bronchial", "The bilateral bronchial"),
    ):
        phrase = phrase.replace(one, both)
    return phrase
