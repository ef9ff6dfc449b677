"""The report of a phantom patient: what is there in one of many phrasings, and some of what is not."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlaif.datasets.phantom_findings import FINDING_NAMES, PlacedFinding

NORMAL_IMPRESSION = "No acute cardiopulmonary abnormality."
CLINICAL_INFORMATION = ("Cough.", "Shortness of breath.", "Chest pain.", "Fever and cough.", "Follow-up.", "Not given.")

# Placeholders: {side}, {lobe}, {size} ("14 mm" or "1.4 cm"), {severity} ("mild"), {severely} ("mildly").
PHRASES: dict[str, tuple[str, ...]] = {
    "medical material": (
        "There is a pacemaker in the {side} chest wall.",
        "A pacemaker is seen in the {side} chest wall.",
        "A {side} chest wall pacemaker is present.",
        "Pacemaker in the {side} chest wall with its lead in the heart.",
        "A cardiac pacemaker lies in the {side} chest wall.",
        "Cardiac pacemaker is noted in the {side} chest wall.",
    ),
    "arterial wall calcification": (
        "There is {severity} arterial wall calcification in the aorta.",
        "{severity} calcified atherosclerotic plaques are seen in the aorta.",
        "{severity} atherosclerotic calcification of the aorta is present.",
        "The wall of the aorta shows {severity} calcification.",
        "{severity} aortic calcification is noted.",
        "{severity} wall calcification of the thoracic aorta.",
    ),
    "cardiomegaly": (
        "There is {severity} cardiomegaly.",
        "The heart is {severely} enlarged.",
        "{severity} cardiomegaly is seen.",
        "{severity} enlargement of the heart is present.",
        "The heart size is {severely} increased.",
        "The cardiac silhouette is {severely} enlarged.",
    ),
    "pericardial effusion": (
        "There is a {severity} pericardial effusion.",
        "A {severity} pericardial effusion is seen.",
        "{severity} pericardial effusion is present.",
        "{severity} fluid is noted in the pericardial space.",
        "{severity} pericardial fluid surrounds the heart.",
        "The heart is surrounded by a {severity} pericardial effusion.",
    ),
    "coronary artery wall calcification": (
        "There is {severity} coronary artery calcification.",
        "{severity} coronary artery wall calcification is seen.",
        "The coronary arteries show {severity} calcification.",
        "{severity} calcified plaques are present in the coronary arteries.",
        "{severity} calcification of the coronary arteries is noted.",
        "{severity} coronary atherosclerotic calcification.",
    ),
    "hiatal hernia": (
        "There is a hiatal hernia measuring {size}.",
        "A {size} hiatal hernia is seen behind the heart.",
        "A hiatal hernia of {size} is present.",
        "Hiatal hernia is noted, measuring {size}.",
        "A hiatus hernia measuring {size} lies behind the heart.",
        "A sliding hiatal hernia of {size} is seen.",
    ),
    "lymphadenopathy": (
        "There is {site} lymphadenopathy measuring up to {size}.",
        "Enlarged {site} lymph nodes are seen, up to {size}.",
        "{site} lymphadenopathy up to {size} is present.",
        "{site} lymph nodes are enlarged, measuring up to {size}.",
        "Pathologically enlarged {site} lymph nodes of up to {size}.",
        "{site} lymphadenopathy is noted, the largest node {size}.",
    ),
    "emphysema": (
        "There is {severity} emphysema in the upper lobes.",
        "{severity} emphysema is seen in the upper lobes.",
        "The upper lobes show {severity} emphysematous changes.",
        "{severity} emphysematous changes are present in the upper lobes.",
        "{severity} centrilobular emphysema, mostly in the upper lobes.",
        "{severity} upper lobe emphysema is noted.",
    ),
    "atelectasis": (
        "There is atelectasis in the {side} {lobe}.",
        "Linear atelectasis is seen in the {side} {lobe}.",
        "The {side} {lobe} shows band atelectasis.",
        "{side} {lobe} atelectasis is present.",
        "Atelectatic changes are noted in the {side} {lobe}.",
        "Plate-like atelectasis of the {side} {lobe}.",
    ),
    "lung nodule": (
        "There is a {size} nodule in the {side} {lobe}.",
        "A nodule measuring {size} is seen in the {side} {lobe}.",
        "The {side} {lobe} contains a solid nodule of {size}.",
        "{side} {lobe} nodule measuring {size}.",
        "A solid pulmonary nodule of {size} is present in the {side} {lobe}.",
        "A {size} solid lung nodule is noted in the {side} {lobe}.",
        "In the {side} {lobe}, there is a nodule with a diameter of {size}.",
    ),
    "lung opacity": (
        "There is a ground-glass opacity in the {side} {lobe}.",
        "Ground-glass opacity is seen in the {side} {lobe}.",
        "The {side} {lobe} shows a ground-glass opacity.",
        "{side} {lobe} ground-glass opacity is present.",
        "A hazy opacity is noted in the {side} {lobe}.",
        "Lung opacity of ground-glass density in the {side} {lobe}.",
    ),
    "pulmonary fibrotic sequela": (
        "There are fibrotic sequelae in the {side} {lobe}.",
        "Fibrotic sequela changes are seen in the {side} {lobe}.",
        "The {side} {lobe} shows fibrotic sequela changes.",
        "{side} {lobe} fibrotic sequelae are present.",
        "Sequela fibrotic streaks are noted in the {side} {lobe}.",
        "Pulmonary fibrotic sequelae of the {side} {lobe}.",
    ),
    "pleural effusion": (
        "There is a {severity} {side} pleural effusion.",
        "A {severity} {side} pleural effusion is seen.",
        "{severity} pleural effusion on the {side} side.",
        "{severity} {side} pleural effusion is present.",
        "{severity} fluid is noted in the {side} pleural space.",
        "{severity} pleural fluid is seen on the {side} side.",
    ),
    "mosaic attenuation pattern": (
        "There is a mosaic attenuation pattern in the lungs.",
        "A mosaic attenuation pattern is seen.",
        "The lungs show mosaic attenuation.",
        "Mosaic attenuation of the lung parenchyma is present.",
        "Mosaic attenuation is noted in the lungs.",
        "Lung parenchyma with a mosaic attenuation pattern.",
    ),
    "peribronchial thickening": (
        "There is {side} peribronchial thickening.",
        "{side} peribronchial thickening is seen.",
        "{side} bronchial wall thickening is present.",
        "Peribronchial thickening is noted on the {side} side.",
        "{side} thickening of the bronchial walls.",
        "The {side} bronchial walls are thickened.",
    ),
    "consolidation": (
        "There is a consolidation in the {side} {lobe}.",
        "Consolidation is seen in the {side} {lobe}.",
        "The {side} {lobe} shows consolidation.",
        "{side} {lobe} consolidation is present.",
        "An area of consolidation is noted in the {side} {lobe}.",
        "Dense consolidation of the {side} {lobe}.",
    ),
    "bronchiectasis": (
        "There is bronchiectasis in the {side} {lobe}.",
        "Bronchiectasis is seen in the {side} {lobe}.",
        "The {side} {lobe} shows bronchiectatic changes.",
        "{side} {lobe} bronchiectasis is present.",
        "Dilated bronchi are noted in the {side} {lobe}.",
        "Cylindrical bronchiectasis of the {side} {lobe}.",
    ),
    "interlobular septal thickening": (
        "There is {severity} interlobular septal thickening.",
        "{severity} interlobular septal thickening is seen in the lungs.",
        "The interlobular septa are {severely} thickened.",
        "{severity} thickening of the interlobular septa is present.",
        "{severity} smooth septal thickening is noted.",
        "{severity} interlobular septal thickening at the lung periphery.",
    ),
}

# What the impression says of each, in short.
SUMMARIES = {
    "medical material": "{side} chest wall pacemaker",
    "arterial wall calcification": "{severity} aortic calcification",
    "cardiomegaly": "{severity} cardiomegaly",
    "pericardial effusion": "{severity} pericardial effusion",
    "coronary artery wall calcification": "{severity} coronary artery calcification",
    "hiatal hernia": "hiatal hernia",
    "lymphadenopathy": "{site} lymphadenopathy",
    "emphysema": "{severity} emphysema",
    "atelectasis": "{side} {lobe} atelectasis",
    "lung nodule": "{size} nodule in the {side} {lobe}",
    "lung opacity": "{side} {lobe} ground-glass opacity",
    "pulmonary fibrotic sequela": "{side} {lobe} fibrotic sequelae",
    "pleural effusion": "{severity} {side} pleural effusion",
    "mosaic attenuation pattern": "mosaic attenuation pattern",
    "peribronchial thickening": "{side} peribronchial thickening",
    "consolidation": "{side} {lobe} consolidation",
    "bronchiectasis": "{side} {lobe} bronchiectasis",
    "interlobular septal thickening": "{severity} interlobular septal thickening",
}

# Normal statements: the region, the findings that they deny, and the sentences.
NORMALS: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("heart", ("cardiomegaly",), ("The heart size is normal.", "The heart is not enlarged.", "No cardiomegaly.")),
    (
        "heart",
        ("pericardial effusion",),
        ("No pericardial effusion.", "There is no pericardial effusion.", "Pericardial effusion is not seen."),
    ),
    (
        "pleura",
        ("pleural effusion",),
        ("No pleural effusion.", "There is no pleural effusion.", "Pleural effusion is not seen."),
    ),
    (
        "mediastinum",
        ("lymphadenopathy",),
        ("No lymphadenopathy.", "There is no lymphadenopathy.", "No enlarged lymph nodes are seen."),
    ),
    (
        "lung",
        ("lung nodule",),
        ("No lung nodule is seen.", "There is no pulmonary nodule.", "No nodule in either lung."),
    ),
    (
        "lung",
        ("consolidation",),
        ("No consolidation.", "There is no consolidation.", "Consolidation is not seen in either lung."),
    ),
    ("lung", ("atelectasis",), ("No atelectasis.", "There is no atelectasis.")),
    ("lung", ("emphysema",), ("No emphysema.", "There is no emphysema.")),
    ("esophagus", ("hiatal hernia",), ("No hiatal hernia.", "There is no hiatal hernia.")),
    (
        "trachea and bronchie",
        (),
        ("The trachea and main bronchi are open.", "Trachea and both main bronchi are patent."),
    ),
    ("bone", (), ("No bone lesion is seen.", "The bones are unremarkable.", "Bone structures are intact.")),
    (
        "abdomen",
        (),
        ("The upper abdomen is unremarkable.", "Upper abdominal organs are normal.", "No lesion in the upper abdomen."),
    ),
    ("mediastinum", (), ("The aorta is of normal width.", "The great vessels have a normal diameter.")),
)

REGIONS = {
    "medical material": "bone",
    "arterial wall calcification": "mediastinum",
    "cardiomegaly": "heart",
    "pericardial effusion": "heart",
    "coronary artery wall calcification": "heart",
    "hiatal hernia": "esophagus",
    "lymphadenopathy": "mediastinum",
    "pleural effusion": "pleura",
    "peribronchial thickening": "trachea and bronchie",
}
"""The region of a finding in RadGenome-ChestCT's naming; the lung for all others."""


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


assert set(PHRASES) == set(SUMMARIES) == set(FINDING_NAMES)
