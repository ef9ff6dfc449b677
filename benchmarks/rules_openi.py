"""The findings that the rules read in Open-I reports, held against the MeSH tags people gave them, and the speed.

python benchmarks/rules_openi.py FOLDER

Prints a table for the development half (on which the rules were mended) and one for the test half,
the judge's pairs a second of processor time, then one line of JSON. A label that no tag of a half
names has no line there; its false positives are in the micro average.
"""

import argparse
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from defusedxml.ElementTree import parse

from rlaif.judges.rules import VERSION, judge
from rlaif.metrics.intervals import bootstrap
from rlaif.reports.extraction import extract
from rlaif.reports.redactions import without_redactions

# Reports a second and core that the judge must take.
TARGET_PAIRS_PER_SECOND = 400.0
NORMAL = "(no abnormality)"
# Each finding's tags; `heading/qualifier` is any tag that has both words, whatever else it has.
TAGS: dict[str, tuple[str, ...]] = {
    "medical material": (
        "catheters, indwelling", "implanted medical device", "surgical instruments", "tube, inserted",
        "medical device", "stents", "sutures", "breast implants", "spinal fusion",
    ),
    "arterial wall calcification": (
        "atherosclerosis", "calcinosis/aorta", "calcinosis/aorta, thoracic", "calcinosis/blood vessels",
    ),
    "coronary artery wall calcification": ("calcinosis/coronary vessels", "atherosclerosis/coronary vessels"),
    "cardiomegaly": ("cardiomegaly", "cardiac shadow/enlarged", "heart/enlarged"),
    "pericardial effusion": ("pericardial effusion",),
    "hiatal hernia": ("hernia, hiatal", "hernia, diaphragmatic"),
    "lymphadenopathy": ("lymph nodes/enlarged",),
    "emphysema": ("emphysema", "pulmonary emphysema", "bullous emphysema", "blister"),
    "atelectasis": ("pulmonary atelectasis", "volume loss"),
    # "Nodular opacity" is tagged as a round opacity; the rules take it for a nodule.
    "lung nodule": ("nodule", "mass", "opacity/round", "density/round", "infiltrate/round"),
    "lung opacity": ("opacity", "airspace disease", "infiltrate", "density"),
    "pulmonary fibrotic sequela": ("cicatrix", "pulmonary fibrosis", "fibrosis"),
    "pleural effusion": ("pleural effusion", "hydropneumothorax", "hemothorax"),
    "peribronchial thickening": ("thickening/bronchi",),
    "consolidation": ("consolidation",),
    "bronchiectasis": ("bronchiectasis",),
    "pneumothorax": ("pneumothorax", "hydropneumothorax", "hemopneumothorax"),
    "fracture": ("fractures, bone",),
    "pulmonary edema": ("pulmonary edema",),
    "vascular congestion": ("pulmonary congestion",),
    "granuloma": ("calcified granuloma", "granuloma", "granulomatous disease"),
    "degenerative change": (
        "spine/degenerative", "thoracic vertebrae/degenerative", "lumbar vertebrae/degenerative",
        "cervical vertebrae/degenerative", "shoulder/degenerative", "bone and bones/degenerative", "spondylosis",
        "osteophyte", "arthritis",
    ),
    "aortic aneurysm": ("aortic aneurysm",),
    "pneumonia": ("pneumonia",),
    "pleural thickening": ("thickening/pleura",),
    "hyperinflation": ("lung/hyperdistention",),
    "scoliosis": ("scoliosis",),
}  # fmt: skip
# What the rules name and no tag does: too fine for a radiograph, or a summary instead of a finding.
WITHOUT_TAG = (
    "mosaic attenuation pattern", "interlobular septal thickening", "aortic dissection", "pulmonary embolism",
    "acute cardiopulmonary disease",
)  # fmt: skip
# Tags of these headings at a place outside the lung are no lung nodule and no lung opacity.
_NOT_LUNG = frozenset(
    {"abdomen", "breast", "neck", "heart", "shoulder", "humerus", "clavicle", "spine", "ribs", "mediastinum"}
)


@dataclass(frozen=True)
class Report:
    """A report's text and its tags in lower case."""

    report_id: str
    text: str
    tags: tuple[str, ...]

    @property
    def for_development(self) -> bool:
        return hashlib.sha256(self.report_id.encode()).digest()[0] % 2 == 0


def read(folder: Path) -> Iterator[Report]:
    """The reports that have findings or an impression and were tagged."""
    for path in sorted(folder.rglob("*.xml"), key=lambda path: (len(path.name), path.name)):
        root = parse(path, forbid_dtd=True).getroot()
        sections = [s for s in root.iter("AbstractText") if s.get("Label") in ("FINDINGS", "IMPRESSION")]
        text = without_redactions("\n".join("".join(section.itertext()) for section in sections))
        tags = tuple(tag.text.strip().lower() for tag in root.iter("major") if tag.text)
        if text.strip() and tags and "no indexing" not in tags:
            yield Report(path.stem, text, tags)


def tagged(tags: tuple[str, ...]) -> dict[str, set[str]]:
    """The names that a report's tags stand for, each with the sides that its tags say."""
    names: dict[str, set[str]] = {}
    for tag in tags:
        words = set(tag.split("/"))
        for name, wanted in TAGS.items():
            if not any(words.issuperset(one.split("/")) for one in wanted):
                continue
            if name in ("lung nodule", "lung opacity") and not _NOT_LUNG.isdisjoint(words):
                continue
            if name == "lung opacity" and "round" in words:
                continue
            names.setdefault(name, set()).update(_sides(words))
    return names


def _sides(words: set[str]) -> set[str]:
    return {"left", "right"} if "bilateral" in words else words & {"left", "right"}


def extracted(text: str, definite_only: bool) -> dict[str, set[str]]:
    """The names that the rules read as present, each with the sides they read."""
    names: dict[str, set[str]] = {}
    for finding in extract(text):
        if finding.present and not (definite_only and finding.certainty == "possible"):
            names.setdefault(finding.name, set()).update(_sides({finding.side or ""}))
    return names


@dataclass(frozen=True)
class Agreement:
    """Counts of one label, or of several together, over a set of reports."""

    hits: tuple[int, ...]
    errors: tuple[int, ...]
    false_positives: int
    false_negatives: int

    @property
    def support(self) -> int:
        return sum(self.hits) + self.false_negatives

    @property
    def precision(self) -> float:
        named = sum(self.hits) + self.false_positives
        return sum(self.hits) / named if named else 0.0

    @property
    def recall(self) -> float:
        return sum(self.hits) / self.support if self.support else 0.0

    @property
    def f1(self) -> float:
        weight = 2 * sum(self.hits) + sum(self.errors)
        return 2 * sum(self.hits) / weight if weight else 0.0

    def interval(self) -> tuple[float | None, float | None]:
        """The 95 % interval of F1, resampling reports: F1 is the mean of two ones a hit and a zero an error; none of
        a single report.
        """
        values: list[float] = []
        reports: list[int] = []
        for report, (hits, errors) in enumerate(zip(self.hits, self.errors, strict=True)):
            values += [1.0] * (2 * hits) + [0.0] * errors
            reports += [report] * (2 * hits + errors)
        if not values:
            return None, None
        interval = bootstrap(values, reports)
        return interval.low, interval.high


_Named = list[dict[str, set[str]]]


def agreement(truth: _Named, said: _Named, names: tuple[str, ...]) -> Agreement:
    """Agreement on these names over all reports."""
    wanted = set(names)
    pairs = [(wanted & true.keys(), wanted & told.keys()) for true, told in zip(truth, said, strict=True)]
    return Agreement(
        tuple(len(true & told) for true, told in pairs),
        tuple(len(true ^ told) for true, told in pairs),
        sum(len(told - true) for true, told in pairs),
        sum(len(true - told) for true, told in pairs),
    )


def side_agreement(truth: _Named, said: _Named, name: str) -> tuple[int, int]:
    """In how many reports both name a side of the finding, and in how many it is the same."""
    both = [
        (true[name], told[name]) for true, told in zip(truth, said, strict=True) if true.get(name) and told.get(name)
    ]
    return len(both), sum(true == told for true, told in both)


def table(reports: list[Report]) -> tuple[list[str], float, float]:
    """Lines of the table for a set of reports, micro F1 and macro F1."""
    truth = [tagged(report.tags) for report in reports]
    said = [extracted(report.text, definite_only=True) for report in reports]
    hedged = [extracted(report.text, definite_only=False) for report in reports]
    lines = [
        f"| {'finding':34} | support | precision | recall |   F1 | 95 % interval | F1 with possible | side (of n) |",
        f"| {'---':34} | ---: | ---: | ---: | ---: | --- | ---: | --- |",
    ]
    rows = [(name, (name,)) for name in TAGS]
    f1s = []
    for title, names in [*rows, ("micro average", tuple(TAGS))]:
        found = agreement(truth, said, names)
        if found.support == 0:
            continue
        if len(names) == 1:
            f1s.append(found.f1)
        low, high = found.interval()
        ends = "" if low is None or high is None else f"{low:.2f} to {high:.2f}"
        sides = [side_agreement(truth, said, name) for name in names]
        n, same = sum(n for n, _ in sides), sum(same for _, same in sides)
        side = f"{same / n:.2f} ({n})" if n else ""
        lines.append(
            f"| {title:34} | {found.support} | {found.precision:.2f} | {found.recall:.2f} | {found.f1:.2f} "
            f"| {ends} | {agreement(truth, hedged, names).f1:.2f} | {side} |"
        )
    macro = sum(f1s) / len(f1s)
    lines.append(f"| {'macro average':34} | | | | {macro:.2f} | | | |")
    return lines, agreement(truth, said, tuple(TAGS)).f1, macro


def pairs_per_second(reports: list[Report], verdict: Callable[[str, str], object] = judge) -> float:
    """Judged pairs a second on one core: each report as the reference of the next, none seen twice in a row."""
    texts = [report.text for report in reports]
    start = time.process_time()
    for reference, candidate in zip(texts, texts[1:] + texts[:1], strict=True):
        verdict(reference, candidate)
    return len(texts) / (time.process_time() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description="The rules against the human tags of Open-I.")
    parser.add_argument("folder", type=Path, help="folder of the Open-I XML files")
    reports = list(read(parser.parse_args().folder))
    result: dict[str, float] = {}
    for half, chosen in (("development", True), ("test", False)):
        part = [report for report in reports if report.for_development == chosen]
        lines, micro, macro = table(part)
        print(f"{VERSION}, {half} half: {len(part)} reports", *lines, "", sep="\n")
        result |= {f"{half}_micro_f1": round(micro, 3), f"{half}_macro_f1": round(macro, 3)}
    speed = pairs_per_second(reports)
    print(f"{speed:.0f} judged pairs a second on one core\n")
    print(json.dumps(result | {"pairs_vs_target": round(speed / TARGET_PAIRS_PER_SECOND, 2)}))


if __name__ == "__main__":
    main()
