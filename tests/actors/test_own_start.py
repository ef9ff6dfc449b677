"""Round 0 from a team's own file: its tables, whose scores build pairs, what is refused, and a kill in between."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from actors.learning import learn
from actors.own_start import check_start, check_unchanged, pairing_of, start_checksum, take_start
from actors.preparation import TooManyBad
from actors.rounds import make_pairs
from rlaif.config import ConfigurationError
from rlaif.ledger import RunFolder
from rlaif.metrics.page.tables import rounds_table
from rlaif.metrics.summary import _lengths, _round
from rlaif.preferences.examples import Answer, examples_of
from rlaif.preferences.own_file import OwnFileError
from rlaif.preferences.own_rows import LeftOut
from rlaif.records import Candidate, Case, Dropped, Judgement, Pair, Split, Study

if TYPE_CHECKING:
    from rlaif.config import Config

REFERENCE = "A nodule in the right lung."
SPLITS: dict[str, Split] = {"a": "align", "b": "align", "c": "align", "h": "heldout"}
STUDIES = [Study(name, f"p-{name}", "x", split, None, REFERENCE) for name, split in SPLITS.items()]
# The CT of study c could not be read.
CASES = [Case(name, name, f"p-{name}", "<image>\nDescribe.", REFERENCE, REFERENCE, f"key-{name}") for name in "ab"]
NO_FLEET: Any = None


class Start:
    """A run before its first round, that starts from rows of a file."""

    def __init__(self, root: Path, configured: Callable[..., "Config"]) -> None:
        self.file, self.root, self.configured = root / "rows.jsonl", root, configured

    def write(self, rows: Sequence[dict[str, Any]]) -> None:
        self.file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def config(self, key: str, *overrides: str) -> "Config":
        here = [f"run.root={self.root / 'runs'}", f"cache.root={self.root / 'cache'}"]
        return self.configured("experiment=smoke", *here, f"start.{key}={self.file}", *overrides)

    def open(self, config: "Config") -> RunFolder:
        run = RunFolder.open(config.run.root, config.run.name, config.plain())
        if not run.done("studies"):
            run.replace("studies", Study, STUDIES)
            run.finish("studies", seconds=0.0)
        return run


@pytest.fixture
def start(tmp_path: Path, configured: Callable[..., "Config"]) -> Start:
    return Start(tmp_path, configured)


def scored(study_id: str, text: str, score: float, **more: Any) -> dict[str, Any]:
    return {"study_id": study_id, "text": text, "score": score, **more}


def test_judged_candidates_are_paired_by_their_own_scores_on_their_own_scale(start: Start) -> None:
    rows = [
        scored("b", "Nodule.", 4, judge="reader-1", explanation="close"),
        scored("a", "Cyst.", 2, judge="reader-1"),
        scored("b", "Clear.", 1, judge="reader-1"),
        scored("a", "Nodule.", 5, judge="reader-1"),
        scored("a", "Nodule.", 1, judge="reader-2"),
        scored("a", "Clear.", 1, judge="reader-2"),
    ]
    start.write(rows)
    config = start.config("candidates", "start.judge=reader-1", "start.scale=[1,5]", "start.threshold=3")
    with start.open(config) as run:
        check_start(run, config)
        take_start(run, config, NO_FLEET, CASES)
        candidates = run.read("round-000/candidates", Candidate)
        # Those of a case stand together, in the file's order.
        assert [(one.candidate_id, one.text) for one in candidates] == [
            ("a.0.0", "Cyst."), ("a.0.1", "Nodule."), ("a.0.2", "Clear."), ("b.0.0", "Nodule."), ("b.0.1", "Clear."),
        ]  # fmt: skip
        assert {(one.finish_reason, one.usable, one.policy_version, one.token_ids) for one in candidates} == {
            ("given", True, -1, ())
        }
        assert {one.feature_key for one in candidates} == {"key-a", "key-b"}
        judgements = run.read("round-000/judgements", Judgement)
        assert len(judgements) == 2 * 5
        by_judge = {(one.candidate_id, one.judge): (one.score, one.failure) for one in judgements}
        assert by_judge["a.0.0", "reader-1"] == (2.0, None) and by_judge["a.0.0", "reader-2"] == (None, "abstained")
        assert next(one.explanation for one in judgements if one.candidate_id == "b.0.0" and one.score) == "close"

        judge, pairing = pairing_of(run, config, "round-000")
        assert (judge, pairing.threshold, pairing.strategy) == ("reader-1", 3.0, "strategy2")
        make_pairs(run, config, CASES, 0)
        pairs = run.read("round-000/pairs", Pair)
        assert [(one.case_id, one.chosen, one.rejected, one.margin, one.judge) for one in pairs] == [
            ("a", "Nodule.", "Cyst.", 3.0, "reader-1"),
            ("b", "Nodule.", "Clear.", 3.0, "reader-1"),
        ]
        # A later round is the configured judge's.
        run.finish("round-001/sample", judging={})
        assert pairing_of(run, config, "round-001") == (config.judge.name, config.pairs)
        assert run.facts("round-000/sample")["judging"]["judges"]["reader-1"]["scale"] == [1.0, 5.0]
        assert _lengths(run, 0, "rules").candidates[0] == ("a", 2.0, 1)


def test_pairs_are_learnt_as_they_are_and_no_gap_is_made_up(start: Start) -> None:
    rows = [
        {"study_id": "b", "chosen": REFERENCE, "rejected": "Clear.", "chosen_score": 1.0, "rejected_score": 0.5},
        {"study_id": "a", "chosen": "Nodule.", "rejected": "Clear.", "chosen_score": 1.0, "rejected_score": 0.25},
        {"study_id": "a", "chosen": "Nodule.", "rejected": "Cyst."},
        {"study_id": "a", "chosen": "Nodule.", "rejected": "Cyst."},
        {"study_id": "c", "chosen": "Nodule.", "rejected": "Cyst."},
    ]
    start.write(rows)
    config = start.config("pairs", "run.max_bad_fraction=0.2")
    with start.open(config) as run:
        check_start(run, config)
        take_start(run, config, NO_FLEET, CASES)
        make_pairs(run, config, CASES, 0)
        assert {one.strategy for one in run.read("round-000/pairs", Pair)} == {"given"}
        margins = {(one.chosen_candidate_id, one.rejected): one.margin for one in run.read("round-000/pairs", Pair)}
        # The reference is no candidate, so that it has no score.
        assert margins == {("a.0.0", "Clear."): 0.75, ("a.0.0", "Cyst."): None, (None, "Clear."): None}
        examples = examples_of(run.path, 0)
        assert [(one.feature_key, one.chosen, one.rejected.text) for one in examples] == [
            ("key-a", Answer("Nodule.", ()), "Clear."),
            ("key-a", Answer("Nodule.", ()), "Cyst."),
            ("key-b", Answer(REFERENCE, ()), "Clear."),
        ]
        left_out = {one.row: one.reason for one in run.read("round-000/left_out", LeftOut)}
        assert left_out == {4: "repeated", 5: "no_case"} and run.read("round-000/dropped", Dropped) == []

        class Learners:
            def train(self, *given: Any) -> Any:
                (Path(given[-1]) / "policy.json").write_text("{}", encoding="utf-8")
                return iter([{"step": 0, "of": 1, "loss": 0.5, "margin": 0.0, "left_out": 0.0}])

        fleet: Any = type("OfLearners", (), {"learners": Learners()})()
        learn(run, config, fleet, run.path, run.path, 0)
        assert run.facts("round-000/learn")["logprob_gap"] is None
        assert run.read_json("round-000/metrics.json")["logprob_gap"] is None
        run.finish("heldout/round-000", seconds=0.0)
        told = _round(run, 0, "rules")
        assert told["logprob_gap"] is None and told["weights"] is None and told["judgements"] == 0
        assert told["given"]["rows"] == 5 and told["given"]["left_out"] == {"repeated": 1, "no_case": 1}
        table = dict(rounds_table({"rounds": [told]})["rows"])
        assert "Log-prob gap, sampler to learner" not in table and "Weights" not in table
        assert table["Given, in the place of samples"][0][1:] == [
            "5 rows",
            "left out: no case 1",
            "left out: repeated 1",
        ]
        key = f"start.pairs={start.file}"
        assert start_checksum(config) == {key: told["given"]["sha256"]} and run.facts("round-000/sample")["given"]


def test_an_import_that_was_killed_goes_on(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    start.write([{"study_id": "a", "chosen": "Nodule.", "rejected": "Clear."}])
    config = start.config("pairs")
    finish = RunFolder.finish
    for stage in ("round-000/start", "round-000/pairs", "round-000/sample"):

        def killed(run: RunFolder, name: str, *, at: str = stage, **facts: Any) -> None:
            if name == at:
                raise KeyboardInterrupt
            finish(run, name, **facts)

        with start.open(config) as run:
            monkeypatch.setattr(RunFolder, "finish", killed)
            with pytest.raises(KeyboardInterrupt):
                take_start(run, config, NO_FLEET, CASES)
            monkeypatch.setattr(RunFolder, "finish", finish)
    with start.open(config) as run:
        take_start(run, config, NO_FLEET, CASES)
        assert len(run.read("round-000/candidates", Candidate)) == 2 and len(run.read("round-000/pairs", Pair)) == 1


def test_a_file_may_be_mended_until_it_is_taken_and_is_another_run_then(start: Start) -> None:
    start.write([{"study_id": "nowhere", "chosen": "Nodule.", "rejected": "Clear."}])
    config = start.config("pairs")
    with start.open(config) as run, pytest.raises(OwnFileError, match="no row that can be used"):
        check_start(run, config)
    start.write([{"study_id": "a", "chosen": "Nodule.", "rejected": "Clear."}])
    with start.open(config) as run:
        check_unchanged(run, config)
        check_start(run, config)
        run.write_json("provenance.json", {"data": start_checksum(config)})
        check_unchanged(run, config)
        start.write([{"study_id": "a", "chosen": "Nodule.", "rejected": "Cyst."}])
        with pytest.raises(ConfigurationError, match=r"rows\.jsonl has changed since the run smoke took it"):
            check_unchanged(run, config)


@pytest.mark.parametrize(
    ("rows", "overrides", "words"),
    [
        ([("a", 2)], ["start.scale=[1,5]"], "start.threshold is missing: given scores from 1 to 5, which"),
        ([("a", 2)], ["start.scale=[1,5]", "start.threshold=1"], "start.threshold must lie above 1 and not above 5"),
        (
            [("a", 2)],
            ["start.scale=[1,5]", "pairs=best_worst", "pairs.strategy=best_worst"],
            "start.minimum_margin is missing",
        ),
        ([("a", 1)], ["start.scale=[0,1]", "start.minimum_margin=2"], "start.minimum_margin=2 is more than given's"),
        ([("a", 1)], ["start.scale=[0,1]", "start.judge=reader"], "set start.judge to the one that builds pairs"),
    ],
)
def test_bounds_of_another_scale_are_asked_for_before_anything_is_trained(
    start: Start, rows: list[tuple[str, float]], overrides: list[str], words: str
) -> None:
    start.write([scored(name, "Nodule.", score) for name, score in rows])
    config = start.config("candidates", *overrides)
    with start.open(config) as run, pytest.raises(ConfigurationError) as caught:
        check_start(run, config)
    assert words in str(caught.value)


def test_names_of_judges_are_told_apart(start: Start) -> None:
    rows = [scored("a", "x", 1, judge="one"), scored("a", "x", 1, judge="two")]
    start.write(rows)
    config = start.config("candidates", "start.scale=[0,1]")
    with (
        start.open(config) as run,
        pytest.raises(ConfigurationError, match=r"of one, two: set start\.judge"),
    ):
        check_start(run, config)
    start.write([scored("a", "x", 1, judge="rules")])
    config = start.config("candidates", "start.scale=[1,5]", "start.threshold=3", "run.name=other")
    with start.open(config) as run, pytest.raises(ConfigurationError, match="scores of rules from 1 to 5, while the"):
        check_start(run, config)


def test_too_many_bad_rows_and_held_out_ones_stop_the_run_early(start: Start) -> None:
    start.write([{"study_id": name, "text": "x"} for name in ("a", "b", "nowhere")])
    config = start.config("candidates")
    with start.open(config) as run:
        with pytest.raises(TooManyBad, match=r"1 of 3 rows of .*rows.jsonl cannot be used, .*1 unknown_study \(row 3"):
            check_start(run, config)
        start.write([{"study_id": "h", "text": "x"}])
        with pytest.raises(OwnFileError, match="held-out"):
            check_start(run, config)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["start.candidates={file}", "start.pairs={file}"], "leave one of them out"),
        (["start.pairs={file}", "start.threshold=3"], "start.threshold is for the scores of start.candidates"),
        (["start.candidates={file}", "start.scale=[5,1]"], "must go from low to high"),
        (["start.pairs=/nowhere/pairs"], "start.pairs: /nowhere/pairs does not exist"),
        (["start.pairs={file}", "run.rounds=0"], "run.rounds=0 has none: set run.rounds=1"),
    ],
)
def test_a_start_that_cannot_be_is_said(
    configured: Callable[..., "Config"], tmp_path: Path, overrides: list[str], words: str
) -> None:
    (tmp_path / "rows.jsonl").write_text("{}", encoding="utf-8")
    given = [one.format(file=tmp_path / "rows.jsonl") for one in overrides]
    with pytest.raises(ConfigurationError) as caught:
        configured("experiment=smoke", f"run.root={tmp_path}", *given)
    assert words in str(caught.value)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_candidates_without_scores_are_judged_by_the_runs_judge(cluster: None, start: Start) -> None:
    from actors.fleet import Fleet

    start.write([{"study_id": name, "text": text} for name in "ab" for text in (f"{REFERENCE} Small.", "Clear.")])
    config = start.config("candidates", "judge.cpus=0")
    fleet = Fleet(config, None)
    try:
        with start.open(config) as run:
            take_start(run, config, fleet, CASES)
            make_pairs(run, config, CASES, 0)
            judgements = run.read("round-000/judgements", Judgement)
            assert {one.judge for one in judgements} == {"rules"} and len(judgements) == 4
            assert [one.rejected for one in run.read("round-000/pairs", Pair)] == ["Clear."] * 2
            facts = run.facts("round-000/sample")
            assert facts["judging"]["judges"]["rules"]["scored"] == 4 and facts["given"]["judge"] is None
    finally:
        fleet.close()
