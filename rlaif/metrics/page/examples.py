"""The examples of the report page: which pairs and held-out reports are shown, and what is said beside them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlaif.metrics.display import display_of, is_number, number_text
from rlaif.metrics.page.heldout_changes import heldout_changes
from rlaif.metrics.page.images import SliceRow
from rlaif.metrics.page.run_tables import bounded, read_rows, round_folders
from rlaif.metrics.page.studies import StudyIndex

_EXPLANATION_LIMIT = 1500


@dataclass(frozen=True)
class Passage:
    """A sentence of a report; `differs` where the report it is compared with does not have it."""

    text: str
    differs: bool


@dataclass(frozen=True)
class Side:
    """One of the two reports of an example, with its score in words and the judge's reasons."""

    title: str
    role: str
    passages: tuple[Passage, ...]
    score: str
    explanation: str = ""
    counts: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Example:
    """A case with two reports side by side, the radiologist's reference and slices of its CT."""

    heading: str
    note: str
    case_id: str
    sides: tuple[Side, Side]
    reference: tuple[tuple[str, str], ...]
    images: SliceRow


def compared(text: str, other: str) -> tuple[Passage, ...]:
    """The sentences of a text, each marked where `other` lacks it; none marked where they share no sentence."""

    def sentences(report: str) -> list[str]:
        return [part for part in re.split(r"(?<=[.!?])\s+|\n+", bounded(report).strip()) if part]

    def plain(sentence: str) -> str:
        return " ".join(sentence.lower().split())

    theirs = {plain(sentence) for sentence in sentences(other)}
    marked = [Passage(sentence, plain(sentence) not in theirs) for sentence in sentences(text)]
    return tuple(marked) if not all(one.differs for one in marked) else tuple(Passage(m.text, False) for m in marked)


def _spread(rows: Sequence[Mapping[str, Any]], most: int) -> list[Mapping[str, Any]]:
    """Pairs of different cases, the largest margins first, taken from the rounds in turn."""
    by_round: dict[int, list[Mapping[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: (-(row["margin"] if is_number(row["margin"]) else -1), row["pair_id"])):
        by_round.setdefault(row["round"], []).append(row)
    chosen: list[Mapping[str, Any]] = []
    cases: set[str] = set()
    queues = [by_round[number] for number in sorted(by_round)]
    while len(chosen) < most and any(queues):
        for queue in queues:
            while queue and queue[0]["case_id"] in cases:
                queue.pop(0)
            if queue and len(chosen) < most:
                chosen.append(queue.pop(0))
                cases.add(chosen[-1]["case_id"])
    return sorted(chosen, key=lambda row: row["round"])


def pair_examples(run: Path, studies: StudyIndex, most: int = 12) -> list[Example]:
    """Up to `most` pairs with the largest margins, spread over the rounds; the same for the same run."""
    keys: list[dict[str, Any]] = []
    for folder in round_folders(run):
        keys += read_rows(folder / "pairs", ["pair_id", "case_id", "round", "margin"])
    chosen = _spread(keys, most)
    examples = []
    for folder in round_folders(run):
        wanted = [key["pair_id"] for key in chosen if key["round"] == int(folder.name.removeprefix("round-"))]
        if wanted:
            rows = {row["pair_id"]: row for row in read_rows(folder / "pairs", where=("pair_id", wanted))}
            examples += [_pair_example(rows[pair_id], folder, studies) for pair_id in wanted]
    return examples


def _pair_example(pair: Mapping[str, Any], folder: Path, studies: StudyIndex) -> Example:
    ids = [pair["chosen_candidate_id"], pair["rejected_candidate_id"]]
    judged = {
        row["candidate_id"]: row
        for row in read_rows(
            folder / "judgements",
            ["candidate_id", "judge", "explanation", "counts", "scale_high"],
            ("candidate_id", [one for one in ids if one is not None]),
        )
        if row["judge"] == pair["judge"]
    }

    def side(role: str, other: str, candidate_id: str | None) -> Side:
        judgement = judged.get(candidate_id or "", {})
        score = pair[f"{role}_score"]
        scale = f" of {number_text(judgement['scale_high'], 0)}" if judgement else ""
        return Side(
            title=f"{role.capitalize()}: the reference report" if candidate_id is None else role.capitalize(),
            role=role,
            passages=compared(pair[role], pair[other]),
            score="not scored" if score is None else f"{number_text(score, 2)}{scale}",
            explanation=bounded(judgement.get("explanation") or "", _EXPLANATION_LIMIT),
            counts=tuple(sorted((name, n) for name, n in (judgement.get("counts") or {}).items() if n)),
        )

    candidates = read_rows(folder / "candidates", ["case_id", "study_id"], ("case_id", [pair["case_id"]]))
    study_id = candidates[0]["study_id"] if candidates else pair["case_id"]
    margin = "no margin" if pair["margin"] is None else f"margin {number_text(pair['margin'], 2)}"
    return Example(
        heading=f"Round {pair['round']}, {margin}",
        note=f"{pair['strategy']}, judged by {pair['judge']}",
        case_id=pair["case_id"],
        sides=(
            side("chosen", "rejected", pair["chosen_candidate_id"]),
            side("rejected", "chosen", pair["rejected_candidate_id"]),
        ),
        reference=studies.reference(study_id),
        images=studies.images(study_id),
    )


def heldout_examples(run: Path, studies: StudyIndex) -> list[Example]:
    """The best gain, the median and the worst loss of the last round against the base, by the main metric.

    Empty where the base or a round has no held-out reports with a shared metric.
    """
    changes = heldout_changes(run)
    if changes is None or changes.metric is None or not changes.ranked:
        return []
    ranked = changes.ranked
    places = {0: "Best gain", len(ranked) // 2: "Median", len(ranked) - 1: "Worst"}
    if len(ranked) == 1:
        places = {0: "The only case"}
    (_, base), (label, last) = changes.policies[0], changes.policies[-1]
    return [
        _heldout_example(title, changes.metric, label, base[ranked[place]], last[ranked[place]], studies)
        for place, title in sorted(places.items())
    ]


def _heldout_example(
    title: str, metric: str, label: str, base: Mapping[str, Any], last: Mapping[str, Any], studies: StudyIndex
) -> Example:
    display = display_of(metric)

    def side(name: str, row: Mapping[str, Any], other: Mapping[str, Any]) -> Side:
        rest = {key: value for key, value in row["metrics"].items() if key in ("hallucinated", "omitted")}
        return Side(
            title=name,
            role="base" if row is base else "last",
            passages=compared(row["text"], other["text"]),
            score=f"{display.words} {number_text(row['metrics'][metric], 2)}",
            counts=tuple((key, round(value)) for key, value in sorted(rest.items())),
        )

    change = number_text(last["metrics"][metric] - base["metrics"][metric], 2, signed=True)
    reference = (("Reference", bounded(last["reference"])),) if last["reference"] else ()
    return Example(
        heading=f"{title}: {change}",
        note=f"change in {display.words}, base to {label.lower()}",
        case_id=last["case_id"],
        sides=(side("Base", base, last), side(label, last, base)),
        reference=reference or studies.reference(last["study_id"]),
        images=studies.images(last["study_id"]),
    )
