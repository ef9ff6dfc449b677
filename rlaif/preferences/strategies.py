"""From scored candidates to preference pairs: the strategies of the papers, by name.

Two rules hold for all: a text is never paired with itself, and equal scores never make a pair.
Candidates without a score take no part.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from rlaif.preferences.settings import PairSettings, StrategyName
from rlaif.records import Dropped, Pair


@dataclass(frozen=True)
class ScoredCandidate:
    """A candidate with its score; None where the judge failed or the candidate is unusable."""

    candidate_id: str
    text: str
    score: float | None


@dataclass(frozen=True)
class ScoredCase:
    """A case whose candidates are all judged by one judge."""

    case_id: str
    round: int
    prompt: str
    reference: str | None
    judge: str
    candidates: tuple[ScoredCandidate, ...]


Strategy = Callable[[ScoredCase, PairSettings, np.random.Generator], Pair | Dropped]


@dataclass(frozen=True)
class _Scored:
    """A candidate that has a score, or the reference report (no id and no score)."""

    candidate_id: str | None
    text: str
    score: float | None


def rng_for(seed: int, round: int, case_id: str) -> np.random.Generator:
    """A generator that depends on seed, round and case alone, so that the order of cases does not matter."""
    digest = hashlib.sha256(f"{seed}\x1f{round}\x1f{case_id}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


def _scored(case: ScoredCase) -> list[tuple[float, ScoredCandidate]]:
    """The candidates with a score, ordered by id: the result must not depend on the order of arrival."""
    with_score = [(c.score, c) for c in case.candidates if c.score is not None and c.text.strip()]
    return sorted(with_score, key=lambda entry: entry[1].candidate_id)


def _dropped(case: ScoredCase, reason: str) -> Dropped:
    return Dropped(case_id=case.case_id, round=case.round, reason=reason)


def _same(first: str, second: str) -> bool:
    return " ".join(first.split()) == " ".join(second.split())


def _as_scored(candidate: ScoredCandidate) -> _Scored:
    return _Scored(candidate.candidate_id, candidate.text, candidate.score)


def _pair(case: ScoredCase, settings: PairSettings, chosen: _Scored, rejected: _Scored) -> Pair | Dropped:
    """The pair, unless the texts are the same or the scores too close."""
    margin = None
    if chosen.score is not None and rejected.score is not None:
        if chosen.score == rejected.score:
            return _dropped(case, "equal_scores")
        margin = chosen.score - rejected.score
        # A hair of tolerance: 0.4 - 0.3 is less than 0.1 in binary.
        if margin < settings.minimum_margin - 1e-9:
            return _dropped(case, "margin")
    if _same(chosen.text, rejected.text):
        return _dropped(case, "same_text")
    ids = (str(chosen.candidate_id), str(rejected.candidate_id))
    identity = "\x1f".join((str(case.round), case.case_id, settings.strategy, case.judge, *ids))
    return Pair(
        pair_id=hashlib.sha256(identity.encode()).hexdigest()[:24],
        case_id=case.case_id,
        round=case.round,
        strategy=settings.strategy,
        prompt=case.prompt,
        chosen=chosen.text,
        rejected=rejected.text,
        chosen_candidate_id=chosen.candidate_id,
        rejected_candidate_id=rejected.candidate_id,
        chosen_score=chosen.score,
        rejected_score=rejected.score,
        margin=margin,
        judge=case.judge,
    )


def _best_and_worst(
    scored: Sequence[tuple[float, ScoredCandidate]], rng: np.random.Generator
) -> tuple[ScoredCandidate, ScoredCandidate]:
    """One of the highest and one of the lowest scores; ties are broken by chance, not by place."""
    highest, lowest = max(score for score, _ in scored), min(score for score, _ in scored)
    best = [candidate for score, candidate in scored if score == highest]
    worst = [candidate for score, candidate in scored if score == lowest]
    return best[rng.integers(len(best))], worst[rng.integers(len(worst))]


def strategy1(case: ScoredCase, settings: PairSettings, rng: np.random.Generator) -> Pair | Dropped:
    """3D-CT-GPT++, strategy 1: chosen at random from scores at or above the threshold, rejected from those below."""
    scored = _scored(case)
    if not scored:
        return _dropped(case, "no_scores")
    above = [candidate for score, candidate in scored if score >= settings.threshold]
    below = [candidate for score, candidate in scored if score < settings.threshold]
    if not above:
        return _dropped(case, "none_above_threshold")
    if not below:
        return _dropped(case, "none_below_threshold")
    chosen, rejected = above[rng.integers(len(above))], below[rng.integers(len(below))]
    return _pair(case, settings, _as_scored(chosen), _as_scored(rejected))


def strategy2(case: ScoredCase, settings: PairSettings, rng: np.random.Generator) -> Pair | Dropped:
    """3D-CT-GPT++, strategy 2: best against worst; the reference is chosen when none reaches the threshold."""
    scored = _scored(case)
    if not scored:
        return _dropped(case, "no_scores")
    best, worst = _best_and_worst(scored, rng)
    if max(score for score, _ in scored) >= settings.threshold:
        return _pair(case, settings, _as_scored(best), _as_scored(worst))
    return _reference_against(case, settings, worst)


def best_worst(case: ScoredCase, settings: PairSettings, rng: np.random.Generator) -> Pair | Dropped:
    """mu2: the highest score against the lowest, at least the minimum margin apart."""
    scored = _scored(case)
    if not scored:
        return _dropped(case, "no_scores")
    best, worst = _best_and_worst(scored, rng)
    return _pair(case, settings, _as_scored(best), _as_scored(worst))


def reference_chosen(case: ScoredCase, settings: PairSettings, rng: np.random.Generator) -> Pair | Dropped:
    """RGRO (section 4.2): the radiologist's text against the candidate that the judge liked least.

    In the mode `preferred` the preferred candidate takes the reference's place.
    """
    scored = _scored(case)
    if not scored:
        return _dropped(case, "no_scores")
    best, worst = _best_and_worst(scored, rng)
    if settings.mode == "preferred":
        return _pair(case, settings, _as_scored(best), _as_scored(worst))
    return _reference_against(case, settings, worst)


def _reference_against(case: ScoredCase, settings: PairSettings, rejected: ScoredCandidate) -> Pair | Dropped:
    if case.reference is None or not case.reference.strip():
        return _dropped(case, "no_reference")
    return _pair(case, settings, _Scored(None, case.reference.strip(), None), _as_scored(rejected))


STRATEGIES: dict[StrategyName, Strategy] = {
    "strategy1": strategy1,
    "strategy2": strategy2,
    "best_worst": best_worst,
    "reference_chosen": reference_chosen,
}


def build_pairs(settings: PairSettings, case: ScoredCase, rng: np.random.Generator) -> Pair | Dropped:
    """The pair that the configured strategy makes of a case, or the reason why there is none."""
    return STRATEGIES[settings.strategy](case, settings, rng)
