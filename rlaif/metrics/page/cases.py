"""The cases of the report page's browser: which are shown, with which reports, scores and marked findings."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from rlaif.metrics.display import Judges, MetricDisplay, column_label, display_of, is_number, number_text, ordered
from rlaif.metrics.page.heldout_changes import HeldoutChanges, evenly, heldout_changes
from rlaif.metrics.page.highlights import Compared, compared_findings
from rlaif.metrics.page.run_tables import bounded, read_json, read_rows, read_table, round_folders, target_of
from rlaif.metrics.page.sentences import typographic
from rlaif.metrics.page.stacks import GREYS, HOUNSFIELD
from rlaif.metrics.page.studies import StudyIndex
from rlaif.reports.prompts import Target
from rlaif.reports.region_reports import judged_text, without_region_prefixes

MOST_CASES = 500
MOST_PICTURED = 30
# Of the pictured cases these go to the last round's candidates, if there are as many held-out cases as well.
_PICTURED_CANDIDATES = 10
_CANDIDATE_SHARE = 0.3
_MOST_CANDIDATES = 12
_EXPLANATION_LIMIT = 700
_ENDS = 8

Case = dict[str, Any]


@dataclass(frozen=True)
class Browser:
    """What the case browser needs: its data, the axial stacks beside it, and how many cases the run has."""

    data: dict[str, Any]
    stacks: tuple[str, ...]
    available: int

    @property
    def shown(self) -> int:
        """How many cases the browser holds."""
        return len(self.data["cases"])


def browser(
    run: Path, studies: StudyIndex, judges: Judges, first: Iterable[str] = (), most: int = MOST_CASES
) -> Browser:
    """The held-out cases with their reports by policy, and cases of the last round with their candidates.

    At most `most` cases: the best gains, the worst losses and those of `first` come first, the others are spread evenly
    over the gains and the cases without any. Thirty of them have their CT. The same run gives the same browser.
    """
    changes = heldout_changes(run, judges)
    ranked = (*changes.ranked, *changes.unscored) if changes else ()
    spread = _spread_of_scores(run)
    favoured = list(first)
    scored = changes.ranked if changes else ()
    ends = [case for pair in zip(scored[:_ENDS], scored[: -_ENDS - 1 : -1], strict=True) for case in pair]
    # Held-out cases have the larger share where both kinds are plenty; what one kind leaves, the other takes.
    share = max(round(most * _CANDIDATE_SHARE), most - len(ranked))
    candidates = _chosen(spread, favoured, share)
    heldout = _chosen(ranked, [*favoured, *ends], most - len(candidates))
    cases = [*_heldout_cases(changes, heldout, studies, judges)] if changes else []
    cases += _candidate_cases(run, candidates, studies, judges)
    cases = list({case["id"]: case for case in cases[::-1]}.values())[::-1]
    return Browser(_data(cases, changes, judges), _pictured(cases, studies), len(ranked) + len(spread))


def _chosen(ranked: Sequence[str], first: Iterable[str], most: int) -> list[str]:
    """At most `most` of ranked cases: those of `first`, then the others, evenly over the ranks."""
    known = set(ranked)
    leading = list(dict.fromkeys(case for case in first if case in known))[:most]
    rest = known - set(leading)
    return [*leading, *evenly([case for case in ranked if case in rest], most - len(leading))]


def _data(cases: list[Case], changes: HeldoutChanges | None, judges: Judges) -> dict[str, Any]:
    display = display_of(changes.metric, judges) if changes and changes.metric else None
    return {
        "cases": cases,
        "metric": display.words if display else None,
        "lower": bool(display and display.better == "lower"),
        "greys": GREYS,
        "hounsfield": HOUNSFIELD,
    }


def _pictured(cases: Sequence[Case], studies: StudyIndex) -> tuple[str, ...]:
    """The stacks of up to thirty cases, whose place each case is told; the others are told why they have none."""
    heldout = [case for case in cases if case["kind"] == "held-out"]
    others = [case for case in cases if case["kind"] != "held-out"]
    share = max(_PICTURED_CANDIDATES, MOST_PICTURED - len(heldout))
    chosen = [*heldout[: max(MOST_PICTURED - min(share, len(others)), 0)], *others[:share]][:MOST_PICTURED]
    studies.prepare(case["study"] for case in chosen)
    stacks: dict[str, int] = {}
    for case in chosen:
        stack = studies.stack(case["study"])
        if isinstance(stack, str):
            case["note"] = stack
            continue
        case["stack"] = {
            "at": stacks.setdefault(stack.source, len(stacks)),
            "width": stack.width,
            "height": stack.height,
            "places": stack.places,
        }
    return tuple(stacks)


def _report(label: str, role: str, scores: Sequence[Sequence[str]], text: str, compared: Compared) -> Case:
    return {
        "label": label,
        "role": role,
        "scores": scores,
        "text": text,
        "marks": [(one.start, one.end, one.kind, one.note) for one in compared.candidate],
        "reference_marks": [(one.start, one.end, one.kind, one.note) for one in compared.reference],
    }


def _found(all_compared: Iterable[Compared]) -> list[tuple[str, str]]:
    return sorted({found for compared in all_compared for found in compared.found})


def _number(value: float | None, display: MetricDisplay | None, signed: bool = False) -> str:
    return typographic(number_text(value, min(display.digits, 2), signed)) if display and value is not None else ""


def _heldout_cases(
    changes: HeldoutChanges, chosen: Sequence[str], studies: StudyIndex, judges: Judges
) -> Iterable[Case]:
    display = display_of(changes.metric, judges) if changes.metric else None
    studies.prepare(changes.policies[-1][1][case]["study_id"] for case in chosen)
    for case_id in chosen:
        last = changes.policies[-1][1][case_id]
        reference = bounded(last["reference"] or "")
        reports, compared = [], Compared()
        for label, rows in changes.policies:
            row = rows.get(case_id)
            if row is None:
                continue
            text = bounded(without_region_prefixes(row["text"]))
            compared = compared_findings(reference, text)
            scores = [
                (display_of(metric, judges).label, _number(row["metrics"][metric], display_of(metric, judges)))
                for metric in ordered(row["metrics"])
            ]
            reports.append(_report(label, "base" if label == "Base" else "round", scores, text, compared))
        gain, score = changes.change.get(case_id), last["metrics"].get(changes.metric)
        score = score if is_number(score) else None
        yield {
            "id": case_id,
            "study": last["study_id"],
            "kind": "held-out",
            "gain": gain,
            "gain_text": _number(gain, display, signed=True),
            "score": score,
            "score_text": _number(score, display),
            "reference": reference,
            "reports": reports,
            "found": _found([compared]),
        }


def _spread_of_scores(run: Path) -> list[str]:
    """The cases of the last round, those whose candidates' scores by the run's judge lie furthest apart first."""
    folders = round_folders(run)
    if not folders:
        return []
    table = read_table(folders[-1] / "judgements", ["case_id", "judge", "score"])
    if not table.num_rows:
        return []
    judge = _leading_judge(run, pc.unique(table["judge"]).to_pylist())
    own = table.filter(pc.equal(table["judge"], judge)).group_by("case_id")
    rows = own.aggregate([("score", "min"), ("score", "max")]).to_pylist()

    def distance(row: Mapping[str, Any]) -> float:
        return -1.0 if row["score_min"] is None else row["score_max"] - row["score_min"]

    return [row["case_id"] for row in sorted(rows, key=lambda row: (-distance(row), row["case_id"]))]


def _leading_judge(run: Path, names: Sequence[str]) -> str:
    """The judge that the run trains by, where it has judgements of its own, else the first by name."""
    trained_by = read_json(run / "summary.json").get("judge")
    return str(trained_by) if trained_by in names else sorted(names)[0]


def _candidate_cases(run: Path, chosen: Sequence[str], studies: StudyIndex, judges: Judges) -> list[Case]:
    """Cases of the last round with its candidates, what each judge said of them, and which became a pair."""
    if not chosen:
        return []
    folder = round_folders(run)[-1]
    where = ("case_id", list(chosen))
    by_case: dict[str, list[dict[str, Any]]] = {}
    columns = ["candidate_id", "case_id", "study_id", "index", "prompt", "text"]
    for row in read_rows(folder / "candidates", columns, where):
        by_case.setdefault(row["case_id"], []).append(row)
    judged: dict[str, list[dict[str, Any]]] = {}
    columns = ["candidate_id", "judge", "score", "scale_low", "scale_high", "failure", "explanation", "counts"]
    for row in read_rows(folder / "judgements", columns, where):
        judged.setdefault(row["candidate_id"], []).append(row)
    paired: dict[str, str] = {}
    for row in read_rows(folder / "pairs", ["chosen_candidate_id", "rejected_candidate_id"], where):
        paired |= {row["chosen_candidate_id"]: "chosen", row["rejected_candidate_id"]: "rejected"}
    studies.prepare(rows[0]["study_id"] for rows in by_case.values())
    leading = _leading_judge(run, sorted({row["judge"] for rows in judged.values() for row in rows}) or [""])
    label, target = column_label(folder.name), target_of(run)
    return [
        _candidate_case(by_case[case], judged, paired, leading, label, target, studies)
        for case in chosen
        if case in by_case
    ]


def _candidate_case(
    rows: Sequence[Mapping[str, Any]],
    judged: Mapping[str, Sequence[Mapping[str, Any]]],
    paired: Mapping[str, str],
    leading: str,
    label: str,
    target: Target | None,
    studies: StudyIndex,
) -> Case:
    study_id = rows[0]["study_id"]
    reference = bounded(studies.judged_reference(study_id, target, rows[0]["prompt"]) or "")
    reports, all_compared = [], []
    for row in sorted(rows, key=lambda row: row["index"])[:_MOST_CANDIDATES]:
        text = bounded(judged_text(row["prompt"], row["text"]))
        compared = compared_findings(reference, text)
        all_compared.append(compared)
        said = sorted(judged.get(row["candidate_id"], ()), key=lambda one: (one["judge"] != leading, one["judge"]))
        role = paired.get(row["candidate_id"], "candidate")
        report = _report(f"Candidate {row['index'] + 1}", role, [_score(one) for one in said], text, compared)
        report["why"] = [
            (one["judge"], bounded(one["explanation"], _EXPLANATION_LIMIT)) for one in said if one["explanation"]
        ]
        reports.append(report)
    shares = [_share(one) for row in rows for one in judged.get(row["candidate_id"], ()) if one["judge"] == leading]
    scored = [share for share in shares if share is not None]
    mean = sum(scored) / len(scored) if scored else None
    return {
        "id": rows[0]["case_id"],
        "study": study_id,
        "kind": "candidates",
        "round": label,
        "gain": None,
        "gain_text": "",
        "spread": max(scored) - min(scored) if scored else None,
        "score": mean,
        "score_text": "" if mean is None else f"{mean:.2f}",
        "reference": reference,
        "reports": reports,
        "found": _found(all_compared),
    }


def _score(judgement: Mapping[str, Any]) -> tuple[str, str]:
    """A judge's name and its score of its scale, or why there is none."""
    if judgement["score"] is None:
        return judgement["judge"], f"no score: {str(judgement['failure']).replace('_', ' ')}"
    return judgement["judge"], f"{number_text(judgement['score'], 2)} of {number_text(judgement['scale_high'], 0)}"


def _share(judgement: Mapping[str, Any]) -> float | None:
    """A score as a share of its scale, 0 to 1; None where there is none."""
    low, high, score = judgement["scale_low"], judgement["scale_high"], judgement["score"]
    return (score - low) / (high - low) if is_number(score) and high > low else None
