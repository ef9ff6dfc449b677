"""What raters' answers say: of systems, of the judges beside them, of the raters themselves."""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from rlaif.metrics.agreement import RESAMPLES, IntervalValues, clustered_mean, kappa, resampled
from rlaif.metrics.calibration import calibration_of
from rlaif.metrics.ratings import FLIPPED, Choice, Pair, RatedReport, Ratings
from rlaif.metrics.review.answers import HIGHEST, LOWEST, Answers
from rlaif.metrics.review.judge_scores import JudgeScores
from rlaif.metrics.review.key import KeyItem, ReviewKey
from rlaif.metrics.review.sampling import Reports, shown_text

_CODES: dict[Choice, int] = {"a": 0, "tie": 1, "b": 2}
# What the second of two systems wins.
_WON: dict[Choice, float] = {"a": 0.0, "tie": 0.5, "b": 1.0}


def results_of(
    key: ReviewKey, answers: Sequence[Answers], reports: Reports, judges: JudgeScores, *, resamples: int
) -> dict[str, Any]:
    """The answers of one review in numbers, ready for JSON; repeats count only for how far a rater repeats.

    `raters` has by name what each answered and, of `repeated` items, the share that was answered the `same`, and
    Cohen's `kappa`. `systems` has by name the mean `score`, or the `win_rate` with a tie as half a win, and
    `differences` (scores, second less first) or `pairs` (choices, what the second wins against the first), each with
    its 95 % interval over patients; `wins`, `ties` and `losses` of a pair are votes, of each rater one a case.
    `agreement` is what `calibration_of` gives of judges and raters, over cases, with RESAMPLES resamples at most.
    """
    items = {item.item_id: item for item in key.items}
    head = {
        "review": key.name,
        "systems_shown": [*key.systems],
        "cases": len({item.case_id for own in answers for item in _answered(own, items)}),
        "raters": {own.rater: _rater(own, items, resamples) for own in answers},
    }
    if key.kind == "scores":
        return head | _scores(key, answers, items, reports, judges, resamples)
    return head | _choices(key, answers, items, reports, judges, resamples)


def choice_of(item: KeyItem, choice: Choice, systems: Sequence[str]) -> Choice:
    """A choice of the reports as shown, told of the systems in their own order, whichever stood first."""
    return choice if systems.index(item.systems[0]) < systems.index(item.systems[1]) else FLIPPED[choice]


def rater_scores(answers: Iterable[Answers], items: Mapping[str, KeyItem]) -> dict[tuple[str, str], dict[str, int]]:
    """Each rater's score of every report, by system and case."""
    given: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for own in answers:
        for item_id, score in own.scores.items():
            item = items[item_id]
            if item.repeat_of is None:
                given[item.systems[0], item.case_id][own.rater] = score
    return given


def _answered(own: Answers, items: Mapping[str, KeyItem]) -> list[KeyItem]:
    return [items[item_id] for item_id in (*own.choices, *own.scores)]


def _rater(own: Answers, items: Mapping[str, KeyItem], resamples: int) -> dict[str, Any]:
    """What a rater answered, and how far the same report or pair got the same answer a second time."""
    twice = [
        (item, items[item.repeat_of])
        for item in _answered(own, items)
        if item.repeat_of is not None and (item.repeat_of in own.choices or item.repeat_of in own.scores)
    ]
    first = np.array([_code(own, before, before) for _, before in twice], dtype=np.int64)
    second = np.array([_code(own, again, before) for again, before in twice], dtype=np.int64)
    patients = [again.patient_id for again, _ in twice]
    weights = "quadratic" if own.scores else None
    return {
        "file": own.file,
        "sha256": own.sha256,
        "answered": len(own.choices) + len(own.scores),
        "missing": len(own.missing),
        "comments": len(own.comments),
        "repeated": len(twice),
        "same": clustered_mean((first == second).astype(np.float64).tolist(), patients, resamples=resamples),
        "kappa": resampled(
            lambda chosen: kappa(first[chosen], second[chosen], weights=weights),
            patients,
            resamples=min(resamples, RESAMPLES),
        ),
    }


def _code(own: Answers, item: KeyItem, before: KeyItem) -> int:
    """An answer as a category 0 to 4, of a pair in the order of its first showing."""
    if own.scores:
        return own.scores[item.item_id] - LOWEST
    choice = own.choices[item.item_id]
    return _CODES[choice if item.systems == before.systems else FLIPPED[choice]]


def _scores(
    key: ReviewKey,
    answers: Sequence[Answers],
    items: Mapping[str, KeyItem],
    reports: Reports,
    judges: JudgeScores,
    resamples: int,
) -> dict[str, Any]:
    given = rater_scores(answers, items)
    means = {report: statistics.fmean(own.values()) for report, own in given.items()}
    patients = {item.case_id: item.patient_id for item in key.items}
    by_system = {
        system: {case: score for (name, case), score in sorted(means.items()) if name == system}
        for system in key.systems
    }
    differences = []
    for first, second in combinations(key.systems, 2):
        both = sorted(by_system[first].keys() & by_system[second].keys())
        values = [by_system[second][case] - by_system[first][case] for case in both]
        differences.append({"systems": [first, second], "difference": _by_patient(values, both, patients, resamples)})
    shown = {f"{case}.{system}": (case, (system,)) for system, case in means}
    scores: dict[str, dict[str, float]] = defaultdict(dict)
    for (system, case), own in given.items():
        for rater, score in own.items():
            scores[rater][f"{case}.{system}"] = float(score)
    ratings = Ratings("scores", _rated(shown, reports), scores=dict(scores))
    agreement = calibration_of(
        ratings,
        judges.of(shown),
        judges.scales,
        rating_scale=(float(LOWEST), float(HIGHEST)),
        resamples=min(resamples, RESAMPLES),
    )
    return {
        "scale": [LOWEST, HIGHEST],
        "reports": len(means),
        "systems": {
            name: {"score": _by_patient([*own.values()], [*own], patients, resamples)}
            for name, own in by_system.items()
        },
        "differences": differences,
        "agreement": agreement,
    }


def _choices(
    key: ReviewKey,
    answers: Sequence[Answers],
    items: Mapping[str, KeyItem],
    reports: Reports,
    judges: JudgeScores,
    resamples: int,
) -> dict[str, Any]:
    patients = {item.case_id: item.patient_id for item in key.items}
    given: dict[tuple[str, str, str], dict[str, Choice]] = defaultdict(dict)
    first_shown: list[tuple[str, float]] = []
    for own in answers:
        for item_id, choice in own.choices.items():
            item = items[item_id]
            if item.repeat_of is not None:
                continue
            if choice != "tie":
                first_shown.append((item.case_id, float(choice == "a")))
            first, second = sorted(item.systems, key=key.systems.index)
            given[first, second, item.case_id][own.rater] = choice_of(item, choice, key.systems)
    won = {pair: statistics.fmean(_WON[choice] for choice in own.values()) for pair, own in sorted(given.items())}
    pairs = []
    for first, second in combinations(key.systems, 2):
        rated = {case: rate for (a, b, case), rate in won.items() if (a, b) == (first, second)}
        told = [choice for (a, b, _), by in given.items() if (a, b) == (first, second) for choice in by.values()]
        pairs.append(
            {
                "systems": [first, second],
                "win_rate": _by_patient([*rated.values()], [*rated], patients, resamples),
                "wins": told.count("b"),
                "ties": told.count("tie"),
                "losses": told.count("a"),
            }
        )
    systems = {}
    for name in key.systems:
        rates = [(case, rate if name == b else 1 - rate) for (a, b, case), rate in won.items() if name in (a, b)]
        systems[name] = {
            "win_rate": _by_patient([rate for _, rate in rates], [case for case, _ in rates], patients, resamples)
        }
    shown: dict[str, tuple[str, tuple[str, ...]]] = {}
    choices: dict[str, dict[Pair, Choice]] = defaultdict(dict)
    for (first, second, case), by in given.items():
        # Every pair has items of its own: a pairwise judge scores a report anew beside each other one.
        names = f"{case}.{first}|{second}", f"{case}.{second}|{first}"
        shown[names[0]], shown[names[1]] = (case, (first, second)), (case, (second, first))
        for rater, choice in by.items():
            choices[rater][names] = choice
    ratings = Ratings("choices", _rated(shown, reports), choices=dict(choices))
    return {
        "pairs_shown": len(won),
        "same_text": key.same_text,
        "systems": systems,
        "pairs": pairs,
        "chose_first": _by_patient(
            [value for _, value in first_shown], [case for case, _ in first_shown], patients, resamples
        ),
        "agreement": calibration_of(ratings, judges.of(shown), judges.scales, resamples=min(resamples, RESAMPLES)),
    }


def _by_patient(
    values: Sequence[float], cases: Sequence[str], patients: Mapping[str, str], resamples: int
) -> IntervalValues | None:
    return clustered_mean(values, [patients[case] for case in cases], resamples=resamples)


def _rated(shown: Mapping[str, tuple[str, tuple[str, ...]]], reports: Reports) -> dict[str, RatedReport]:
    rated = {}
    for item, (case, systems) in shown.items():
        row = reports[systems[0]][case]
        rated[item] = RatedReport(item, case, row.reference or "", shown_text(row))
    return rated
