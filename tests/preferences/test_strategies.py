from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rlaif.preferences.settings import PairSettings
from rlaif.preferences.strategies import STRATEGIES, ScoredCandidate, ScoredCase, build_pairs, rng_for
from rlaif.records import Dropped, Pair


def case_of(*scores, reference="The reference.", texts=None, case_id="case"):
    texts = texts or [f"text {index}" for index in range(len(scores))]
    candidates = tuple(
        ScoredCandidate(f"c{i}", text, score) for i, (text, score) in enumerate(zip(texts, scores, strict=True))
    )
    return ScoredCase(case_id, 2, "Describe.", reference, "gpt4", candidates)


def build(case, seed=0, **settings):
    return build_pairs(PairSettings(**settings), case, rng_for(seed, case.round, case.case_id))


def test_strategy1_takes_chosen_from_above_and_rejected_from_below():
    case = case_of(5.0, 3.0, 2.0, 1.0)
    seen = Counter()
    for seed in range(200):
        pair = build(case, seed, strategy="strategy1")
        assert pair.chosen_candidate_id in ("c0", "c1") and pair.rejected_candidate_id in ("c2", "c3")
        assert pair.margin == pair.chosen_score - pair.rejected_score > 0
        seen[pair.chosen_candidate_id, pair.rejected_candidate_id] += 1
    assert len(seen) == 4 and min(seen.values()) > 25


def test_strategy2_takes_best_against_worst():
    pair = build(case_of(2.0, 5.0, 1.0, 3.0), strategy="strategy2")
    assert (pair.chosen_candidate_id, pair.rejected_candidate_id, pair.margin) == ("c1", "c2", 4.0)


def test_strategy2_takes_the_reference_where_none_reaches_the_threshold():
    pair = build(case_of(2.0, 1.0), strategy="strategy2")
    assert (pair.chosen, pair.rejected) == ("The reference.", "text 1")
    assert (pair.chosen_candidate_id, pair.chosen_score, pair.margin) == (None, None, None)
    assert (pair.rejected_candidate_id, pair.rejected_score) == ("c1", 1.0)


def test_best_worst_and_its_margin():
    case = case_of(0.4, 0.3, 0.35)
    pair = build(case, strategy="best_worst", minimum_margin=0.1)
    assert (pair.chosen_candidate_id, pair.rejected_candidate_id) == ("c0", "c1")
    assert build(case, strategy="best_worst", minimum_margin=0.2) == Dropped("case", 2, "margin")


def test_reference_chosen_in_both_modes():
    case = case_of(0.0, 1.0)
    reference = build(case, strategy="reference_chosen")
    assert (reference.chosen, reference.rejected_candidate_id) == ("The reference.", "c0")
    preferred = build(case, strategy="reference_chosen", mode="preferred")
    assert (preferred.chosen_candidate_id, preferred.rejected_candidate_id) == ("c1", "c0")


@pytest.mark.parametrize(
    ("case", "settings", "reason"),
    [
        (case_of(None, None), {}, "no_scores"),
        (case_of(), {"strategy": "best_worst"}, "no_scores"),
        (case_of(1.0, 2.0), {}, "none_above_threshold"),
        (case_of(4.0, 5.0), {}, "none_below_threshold"),
        (case_of(4.0, 4.0), {"strategy": "strategy2"}, "equal_scores"),
        (case_of(4.0), {"strategy": "best_worst"}, "equal_scores"),
        (case_of(4.0, 4.0), {"strategy": "reference_chosen", "mode": "preferred"}, "equal_scores"),
        (case_of(4.0, 2.0), {"minimum_margin": 3.0}, "margin"),
        (case_of(4.0, 2.0, texts=["same  text", "same\ntext "]), {}, "same_text"),
        (case_of(1.0, texts=["The  reference."]), {"strategy": "strategy2"}, "same_text"),
        (case_of(1.0, texts=["The reference. "]), {"strategy": "reference_chosen"}, "same_text"),
        (case_of(1.0, reference=None), {"strategy": "strategy2"}, "no_reference"),
        (case_of(1.0, reference="  "), {"strategy": "reference_chosen"}, "no_reference"),
    ],
)
def test_a_case_without_a_pair_says_why(case, settings, reason):
    assert build(case, **settings) == Dropped("case", 2, reason)


def test_unscored_and_empty_candidates_take_no_part():
    pair = build(case_of(None, 5.0, 4.0, 1.0, texts=["a", " ", "b", "c"]), strategy="best_worst")
    assert (pair.chosen_candidate_id, pair.rejected_candidate_id) == ("c2", "c3")


def test_neither_the_order_of_cases_nor_of_candidates_matters():
    cases = [case_of(5.0, 4.0, 2.0, 1.0, case_id=f"case{i}") for i in range(20)]
    forward = {case.case_id: build(case) for case in cases}
    backward = {}
    for case in reversed(cases):
        shuffled = ScoredCase(case.case_id, 2, case.prompt, case.reference, case.judge, case.candidates[::-1])
        backward[case.case_id] = build(shuffled)
    assert forward == backward
    assert len({pair.pair_id for pair in forward.values()}) == 20
    assert len({(pair.chosen, pair.rejected) for pair in forward.values()}) > 1


def test_seed_round_and_case_each_change_the_draw():
    draws = {float(rng_for(*key).random()) for key in [(0, 0, "a"), (1, 0, "a"), (0, 1, "a"), (0, 0, "b"), (0, 11, "")]}
    assert len(draws) == 5
    assert rng_for(0, 1, "1a").random() != rng_for(0, 11, "a").random()


scores = st.one_of(st.none(), st.integers(1, 5).map(float))
texts = st.sampled_from(["a", "a ", "b", "b  c", "b c", ""])


@given(
    candidates=st.lists(st.tuples(texts, scores), max_size=8),
    reference=st.one_of(st.none(), texts),
    strategy=st.sampled_from(sorted(STRATEGIES)),
    mode=st.sampled_from(["reference", "preferred"]),
    margin=st.sampled_from([0.0, 1.0, 2.0]),
)
def test_what_holds_for_every_pair(candidates, reference, strategy, mode, margin):
    case = case_of(*(s for _, s in candidates), reference=reference, texts=[t for t, _ in candidates])
    result = build(case, strategy=strategy, mode=mode, minimum_margin=margin)
    if isinstance(result, Dropped):
        return
    assert isinstance(result, Pair)
    assert result.chosen.split() != result.rejected.split()
    assert result.chosen.strip() and result.rejected.strip()
    assert result.rejected_score is not None
    if result.chosen_candidate_id is None:
        assert result.chosen_score is None and result.margin is None
    else:
        assert result.margin == result.chosen_score - result.rejected_score >= max(margin, 0.5)


def test_settings_refuse_what_they_do_not_know():
    for bad in ({"strategy": "best"}, {"treshold": 3}, {"minimum_margin": -1}, {"threshold": float("nan")}):
        with pytest.raises(ValidationError):
            PairSettings(**bad)
