"""The metrics of one report, by the names that a run's summary uses."""

from collections.abc import Sequence

from rlaif.judges.rules import distinct, judge
from rlaif.reports.extraction import extract
from rlaif.reports.language import is_english
from rlaif.reports.lexicon import CT_RATE_NAMES
from rlaif.reports.region_reports import region_recognition

# A finding as (name, side); the side None where none is said.
_Named = tuple[str, str | None]


def _named_by_labels(labels: tuple[str, ...]) -> list[_Named]:
    named = []
    for label in labels:
        name, _, side = label.strip().lower().partition("/")
        named.append((name.strip(), side.strip() or None))
    return list(dict.fromkeys(named))


def _named_in(text: str) -> list[_Named]:
    return list(dict.fromkeys((finding.name, finding.side) for finding in distinct(extract(text))))


def _covered(named: list[_Named]) -> set[_Named]:
    """All that a list of findings says: bilateral says left and right, left with right says bilateral."""
    covered = set(named)
    for name, _ in named:
        if (name, "bilateral") in covered:
            covered |= {(name, "left"), (name, "right")}
        elif {(name, "left"), (name, "right")} <= covered:
            covered.add((name, "bilateral"))
    return covered


def _agreement(truth: list[_Named], said: list[_Named]) -> tuple[float, int, int]:
    """F1, and how many findings are hallucinated and omitted; a side that the truth gives must be said."""
    true, told = _covered(truth), _covered(said)
    told_names = {name for name, _ in said}
    right = sum(finding in true or (finding[0], None) in true for finding in said)
    found = sum(finding in told or (finding[1] is None and finding[0] in told_names) for finding in truth)
    if not truth and not said:
        return 1.0, 0, 0
    precision = right / len(said) if said else 0.0
    recall = found / len(truth) if truth else 0.0
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return f1, len(said) - right, len(truth) - found


def region_metrics(asked: Sequence[str], text: str) -> dict[str, float]:
    """`region_recognition` of a report on regions that its prompt asked for; nothing where it asked for none."""
    share = region_recognition(asked, text)
    return {} if share is None else {"region_recognition": share}


def report_metrics(reference: str | None, labels: tuple[str, ...] | None, text: str) -> dict[str, float]:
    """The metrics of a report against the study's labels or, where there are none, its reference.

    `rules_score` (absent without a reference, and where the text is empty: that is a failure, not a
    score), `report_words`, and `finding_f1`, `hallucinated`, `omitted` (findings per report; absent
    where neither labels nor reference are known). With labels only the 18 CT-RATE names count. An
    empty text has a `finding_f1` of 0, of a normal study as well. A reference that is not in English
    counts as none: what the rules find nothing in would read as normal.
    """
    metrics = {"report_words": float(len(text.split()))}
    if reference is not None and not (reference.strip() and is_english(reference)):
        reference = None
    if reference is not None:
        score = judge(reference, text).score
        if score is not None:
            metrics["rules_score"] = score
    if labels is None and reference is None:
        return metrics
    said = _named_in(text)
    if labels is not None:
        truth = [entry for entry in _named_by_labels(labels) if entry[0] in CT_RATE_NAMES]
        said = [entry for entry in said if entry[0] in CT_RATE_NAMES]
    else:
        truth = _named_in(reference or "")
    f1, hallucinated, omitted = _agreement(truth, said)
    metrics["finding_f1"] = f1 if text.strip() else 0.0
    metrics["hallucinated"] = float(hallucinated)
    metrics["omitted"] = float(omitted)
    return metrics
