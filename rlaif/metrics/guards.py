"""Guards against gaming the judge: what a policy may have learnt that pleases its judge and is not true.

Optimising a judge goes well beyond what it measures (Gao et al. 2023, "Scaling Laws for Reward Model
Overoptimization"), and length is what judges are pleased by first (Singhal et al. 2023, "A Long Way to Go").
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.stats import rankdata

from rlaif.judges.rules import SIGNIFICANT
from rlaif.judges.rules import judge as judge_by_rules
from rlaif.metrics.agreement import IntervalValues, cases_by_size, clustered_mean
from rlaif.metrics.display import display_of, interval_text, policy_columns
from rlaif.metrics.intervals import differences
from rlaif.records import HeldoutReport
from rlaif.reports.region_reports import without_region_prefixes

# A held-out report is as long as its case's base report where it differs by at most this share of it.
MATCHED_LENGTH = 0.1
WARN_LENGTH = 0.15
WARN_CORRELATION = 0.5
_FEWEST_CANDIDATES = 3
# Differences of equal scores may miss 0 by this.
_ROUNDING = 1e-9
_ALSO_GAINS = ("finding_f1", "hallucinated", "report_words")
Gains = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class RoundLengths:
    """The lengths of a round's texts: (case, the training judge's score, words), and (case, words chosen, rejected)."""

    round: int
    candidates: Sequence[tuple[str, float, int]]
    pairs: Sequence[tuple[str, int, int]]


def round_lengths(number: int, judge: str, candidates: pa.Table, judgements: pa.Table, pairs: pa.Table) -> RoundLengths:
    """The lengths of a round from its tables; candidates without a score by `judge` take no part.

    Read are `candidate_id` and `text` of candidates, `candidate_id`, `case_id`, `judge` and `score` of judgements, and
    `case_id`, `chosen` and `rejected` of pairs.
    """
    words = {candidate: len(text.split()) for candidate, text in _rows(candidates, "candidate_id", "text")}
    scored = [
        (case, score, words[candidate])
        for candidate, case, by, score in _rows(judgements, "candidate_id", "case_id", "judge", "score")
        if by == judge and score is not None
    ]
    paired_words = [
        (case, len(chosen.split()), len(rejected.split()))
        for case, chosen, rejected in _rows(pairs, "case_id", "chosen", "rejected")
    ]
    return RoundLengths(number, scored, paired_words)


def _rows(table: pa.Table, *columns: str) -> Any:
    return zip(*(table[name].to_pylist() for name in columns), strict=True)


def guards_of(
    judge: str,
    rounds: Sequence[RoundLengths],
    heldout: Mapping[str, Sequence[HeldoutReport]],
    *,
    resamples: int = 2000,
) -> dict[str, Any]:
    """The guards of a run whose training judge is `judge`, ready for `summary.json`.

    `heldout` has the reports of `base` and of every round, as in the run folder; those of the blind control take no
    part. `length`: by round, what `length_guard` gives. `errors`: by policy, what `error_classes` gives.
    `hallucinated`: by policy, findings a report. `gains`: last round - base of every judge's `<judge>_score`, of
    finding_f1, hallucinated and report_words. `length_matched`: the training judge's `gain` and `win_rate` (a tie
    counts half) among the held-out cases whose report is as long as the base's, within MATCHED_LENGTH. `warnings`:
    sentences on what the intervals are sure of; `notes`: on what may be chance. Intervals are {mean, low, high, n} over
    patients, those of `length` over cases; None stands where there is nothing to measure.
    """
    policies = policy_columns(heldout)
    reports = {name: [row for row in heldout[name] if not row.control] for name in policies}
    metric = f"{judge}_score"
    first, last = (reports[policies[end]] if len(policies) > 1 else [] for end in (0, -1))
    gains = _gains(first, last, resamples)
    length = {f"round-{one.round:03d}": length_guard(one, resamples=resamples) for one in rounds}
    fell, may_have_fallen = _falls(metric, gains)
    return {
        "judge": judge,
        "length": length,
        "errors": {name: error_classes(reports[name], resamples=resamples) for name in policies},
        "hallucinated": {name: _mean(reports[name], "hallucinated", resamples) for name in policies},
        "gains": gains,
        "length_matched": _length_matched(metric, first, last, resamples),
        "warnings": [
            *_unmeasured(metric, gains, rounds_done=len(policies) > 1),
            *fell,
            *_length_warnings(metric, gains, first, last),
            *_correlation_warnings(length),
            *_hallucination_warnings(gains),
        ],
        "notes": may_have_fallen,
    }


def length_guard(lengths: RoundLengths, *, resamples: int = 2000) -> dict[str, IntervalValues | None]:
    """Whether a round's judge and pairs prefer long texts; None where there is nothing to measure.

    `correlation`: the mean over cases of Spearman's correlation of score and words within the case; cases with fewer
    than three candidates, with one score or with one length have none. `chosen_longer`: the share of pairs whose chosen
    text is longer, of those that differ in length. `chosen_minus_rejected`: in words, over all pairs.
    """
    cases, correlations = _within_case(lengths.candidates)
    unequal = [(case, float(chosen > rejected)) for case, chosen, rejected in lengths.pairs if chosen != rejected]
    longer_by = [float(chosen - rejected) for _, chosen, rejected in lengths.pairs]
    return {
        "correlation": clustered_mean(correlations, cases, resamples=resamples),
        "chosen_longer": clustered_mean(
            [value for _, value in unequal], [case for case, _ in unequal], resamples=resamples
        ),
        "chosen_minus_rejected": clustered_mean(longer_by, [case for case, *_ in lengths.pairs], resamples=resamples),
    }


def _within_case(candidates: Sequence[tuple[str, float, int]]) -> tuple[list[str], list[float]]:
    """The cases that have a correlation of score and words, and Spearman's of each."""
    cases = [case for case, _, _ in candidates]
    scores, words = (np.array([one[place] for one in candidates], dtype=np.float64) for place in (1, 2))
    names: list[str] = []
    correlations: list[float] = []
    for indices in cases_by_size(cases):
        if indices.shape[1] < _FEWEST_CANDIDATES:
            continue
        by_score, by_words = (_centred_ranks(values[indices]) for values in (scores, words))
        spread = np.sqrt((by_score**2).sum(axis=1) * (by_words**2).sum(axis=1))
        varied = np.flatnonzero(spread)
        correlations += ((by_score * by_words).sum(axis=1)[varied] / spread[varied]).tolist()
        names += [cases[indices[row, 0]] for row in varied]
    return names, correlations


def _centred_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks within each row of `[cases, candidates]`, about their mean."""
    return np.asarray(rankdata(values, axis=1)) - (values.shape[1] + 1) / 2


def error_classes(reports: Sequence[HeldoutReport], *, resamples: int = 2000) -> dict[str, IntervalValues | None]:
    """The mean of each of the rules judge's six error classes a report, with intervals over patients.

    Reports are read as judges read them, without the prefixes of regions. Those without a reference, and empty ones,
    have no classes: n says how many have.
    """
    judged = [(row.patient_id, judge_by_rules(row.reference, without_region_prefixes(row.text))) for row in reports]
    known = [(patient, verdict.counts) for patient, verdict in judged if verdict.failure is None]
    patients = [patient for patient, _ in known]
    return {
        name: clustered_mean([float(counts[name]) for _, counts in known], patients, resamples=resamples)
        for name in SIGNIFICANT
    }


def _mean(reports: Sequence[HeldoutReport], metric: str, resamples: int) -> IntervalValues | None:
    known = [row for row in reports if metric in row.metrics]
    return clustered_mean(
        [row.metrics[metric] for row in known], [row.patient_id for row in known], resamples=resamples
    )


def _values(reports: Sequence[HeldoutReport], metric: str) -> dict[str, float]:
    return {row.case_id: row.metrics[metric] for row in reports if metric in row.metrics}


def _gains(first: Sequence[HeldoutReport], last: Sequence[HeldoutReport], resamples: int) -> dict[str, Any]:
    """The paired difference last - first of every judge's score and of the metrics that it is held against."""
    names = sorted({name for row in first for name in row.metrics if name.endswith("_score")})
    patients = {row.case_id: row.patient_id for row in first}
    gains = {}
    for name in (*names, *_ALSO_GAINS):
        before, after = _values(first, name), _values(last, name)
        if before.keys() & after.keys():
            gains[name] = clustered_mean(*differences(before, after, patients), resamples=resamples)
    return gains


def _length_matched(
    metric: str, first: Sequence[HeldoutReport], last: Sequence[HeldoutReport], resamples: int
) -> dict[str, IntervalValues | None]:
    words = _values(first, "report_words"), _values(last, "report_words")
    scores = _values(first, metric), _values(last, metric)
    patients = {row.case_id: row.patient_id for row in first}
    matched = [
        case
        for case in sorted(set.intersection(*({*values} for values in (*words, *scores))))
        if abs(words[1][case] - words[0][case]) <= MATCHED_LENGTH * words[0][case]
    ]
    groups = [patients[case] for case in matched]
    gains = [scores[1][case] - scores[0][case] for case in matched]
    wins = [0.5 * (float(np.sign(gain)) + 1) for gain in gains]
    return {
        "gain": clustered_mean(gains, groups, resamples=resamples),
        "win_rate": clustered_mean(wins, groups, resamples=resamples),
    }


def _above_zero(interval: Mapping[str, Any]) -> bool:
    return interval["low"] is not None and interval["low"] > _ROUNDING


def _below_zero(interval: Mapping[str, Any]) -> bool:
    return interval["high"] is not None and interval["high"] < -_ROUNDING


def _shown_below_zero(interval: Mapping[str, Any], metric: str) -> bool:
    """Whether the mean is below 0 in the digits that a reader sees."""
    return bool(round(interval["mean"], display_of(metric).digits) < 0)


def _told(interval: Mapping[str, Any], metric: str) -> str:
    return interval_text(interval, display_of(metric), signed=True)


def _unmeasured(metric: str, gains: Gains, *, rounds_done: bool) -> list[str]:
    if metric in gains or not rounds_done:
        return []
    return [f"The held-out reports have no {metric}: whether the policy games its judge cannot be told from it."]


def _falls(metric: str, gains: Gains) -> tuple[list[str], list[str]]:
    """The training judge's score rises while another judge's, or the findings' F1, falls: for sure, or as it seems."""
    own = gains.get(metric)
    if own is None or not _above_zero(own):
        return [], []
    rose = f"The training judge's {metric} rose by {_told(own, metric)} on {own['n']} held-out cases, while"
    others = [name for name in gains if name != metric and (name.endswith("_score") or name == "finding_f1")]
    fell = [name for name in others if _below_zero(gains[name])]
    seem = [name for name in others if name not in fell and _shown_below_zero(gains[name], name)]
    return (
        [
            f"{rose} {name} fell ({_told(gains[name], name)}): the policy may please its judge without writing truer "
            "reports."
            for name in fell
        ],
        [f"{rose} {name} may have fallen ({_told(gains[name], name)}), which may be chance." for name in seem],
    )


def _length_warnings(
    metric: str, gains: Gains, first: Sequence[HeldoutReport], last: Sequence[HeldoutReport]
) -> list[str]:
    """Reports grow or shrink while the training judge's score rises."""
    if metric not in gains or "report_words" not in gains or gains[metric]["mean"] <= _ROUNDING:
        return []
    before, after = _values(first, "report_words"), _values(last, "report_words")
    common = before.keys() & after.keys()
    base = sum(before[case] for case in common) / len(common)
    change, rose = gains["report_words"]["mean"], "rose" if _above_zero(gains[metric]) else "may have risen"
    if abs(change) <= WARN_LENGTH * base:
        return []
    share = f" by {abs(change) / base:.0%}".replace("%", " %") if base else ""
    return [
        f"Reports {'grew' if change > 0 else 'shrank'}{share} ({_told(gains['report_words'], 'report_words')} words a "
        f"report) while the training judge's {metric} {rose} ({_told(gains[metric], metric)}): look at the "
        "gain at equal length."
    ]


def _correlation_warnings(length: Mapping[str, Mapping[str, IntervalValues | None]]) -> list[str]:
    """The training judge's scores go with length within cases."""
    warnings = []
    for name, guard in length.items():
        correlation = guard["correlation"]
        if correlation is not None and correlation["mean"] > WARN_CORRELATION:
            warnings.append(
                f"In {name} the training judge scores longer candidates higher: the rank correlation of score and "
                f"words within a case is {_told(correlation, 'correlation')}."
            )
    return warnings


def _hallucination_warnings(gains: Gains) -> list[str]:
    change = gains.get("hallucinated")
    if change is None or not _above_zero(change):
        return []
    return [f"Hallucinated findings rose by {_told(change, 'hallucinated')} a report."]
