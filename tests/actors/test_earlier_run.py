"""Starting from another run: what is taken, what is not, and what is refused."""

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pytest

from actors.earlier_run import take_over
from rlaif.config import ConfigurationError
from rlaif.ledger import RunError, RunFolder
from rlaif.records import Candidate, HeldoutReport, Study

if TYPE_CHECKING:
    from rlaif.config import Config

STUDIES = [Study("s1", "p1", "phantom", "align"), Study("s2", "p2", "phantom", "heldout")]
REPORT = HeldoutReport("s2", "s2", "p2", False, "r", "t", "stop", 0, {"report_words": 1.0})
CANDIDATE = Candidate(
    "s1.0.0", "s1", "s1", 0, 0, 0, "?", "text", (1,), (-0.5,), "stop", True, 0, "w", None, 0,
    datetime(2026, 1, 1, tzinfo=UTC),
)  # fmt: skip


Start: TypeAlias = Callable[..., tuple[RunFolder, "Config"]]


@pytest.fixture
def start(tmp_path: Path, configured: Callable[..., "Config"]) -> Start:
    """Opens a run of the smoke experiment whose studies are read."""

    def opened(name: str, *overrides: str) -> tuple[RunFolder, "Config"]:
        here = [f"run.root={tmp_path}", f"run.name={name}", f"cache.root={tmp_path / 'cache'}"]
        config = configured("experiment=smoke", *here, *overrides)
        run = RunFolder.open(tmp_path, name, config.plain())
        run.replace("studies", Study, STUDIES)
        return run, config

    return opened


@pytest.fixture
def earlier(start: Start) -> Path:
    """A run with a base policy, its evaluation and a candidate."""
    run, _ = start("earlier")
    with run:
        with run.folder("base") as base:
            (base / "policy.json").write_text("{}", encoding="utf-8")
        run.append("heldout/base", HeldoutReport, [REPORT])
        run.append("round-000/candidates", Candidate, [CANDIDATE])
        run.finish("base", seconds=3.0, trained=True, cases=1, ran=["sft"])
        run.finish("heldout/base", seconds=1.0, reports=1, version=0, checksum="w")
        run.finish("round-000/sample", seconds=1.0)
    return run.path


def taken(start: Start, earlier: Path, name: str, *overrides: str) -> tuple[bool, int, int]:
    """Whether the base was taken, and how many held-out reports and candidates."""
    run, config = start(name, f"run.start_from={earlier}", *overrides)
    with run:
        take_over(run, config)
        kept = len(run.read("heldout/base", HeldoutReport)), len(run.read("round-000/candidates", Candidate))
        return (run.path / "base" / "policy.json").is_file() and run.done("base"), *kept


def test_what_is_the_same_is_taken(start: Start, earlier: Path) -> None:
    assert taken(start, earlier, "pairs", "pairs=best_worst", "judge.threshold=0.4") == (True, 1, 1)
    # Another seed samples for itself, and so does another number of candidates; other reports are written anew.
    assert taken(start, earlier, "seed", "run.seed=7", "data.seed=0") == (True, 1, 0)
    assert taken(start, earlier, "more", "sampler.n=8") == (True, 1, 0)
    assert taken(start, earlier, "longer", "sampler.max_tokens=70") == (True, 0, 0)


def test_what_would_be_another_base_is_refused(start: Start, earlier: Path) -> None:
    overrides = [
        *("data.align=17", "learner.sft.lr=0.5", "run.target=impression", "run.seed=7"),
        # What else the cache tells base policies apart by.
        *("learner.ranks=1", "learner.micro_batch=3", "learner.weight_decay=0.5", "learner.max_grad_norm=0.5"),
        *("learner.dtype=bfloat16", "learner.zero_stage=2"),
    ]
    for number, override in enumerate(overrides):
        with pytest.raises(ConfigurationError, match="has a base policy of other settings"):
            taken(start, earlier, f"other-{number}", override)


def test_a_run_without_a_base_or_of_other_studies_is_refused(start: Start, earlier: Path) -> None:
    unfinished, _ = start("unfinished")
    unfinished.close()
    with pytest.raises(ConfigurationError, match="has no base policy yet: let that run go on first"):
        taken(start, unfinished.path, "first")
    shutil.rmtree(earlier / "studies")
    with pytest.raises(ConfigurationError, match="is of other studies"):
        taken(start, earlier, "second")
    (earlier / "config.yaml").unlink()
    with pytest.raises(ConfigurationError, match="is no run folder"):
        taken(start, earlier, "third")


def test_a_folder_that_is_no_run_or_is_damaged_is_named(start: Start, earlier: Path) -> None:
    config, mark = earlier / "config.yaml", earlier / "ledger" / "base.json"
    kept = config.read_text()
    for number, text in enumerate(("", "job: regimes", "a: [1")):
        config.write_text(text)
        said = "is not YAML" if number == 2 else "is no run of a loop"
        with pytest.raises(ConfigurationError, match=f"run.start_from: .*{said}"):
            taken(start, earlier, f"no-run-{number}")
    config.write_text(kept)
    for number, text in enumerate(('{"stage": "ba', "null")):
        mark.write_text(text)
        with pytest.raises(RunError, match=r"ledger/base\.json is damaged"):
            taken(start, earlier, f"torn-{number}")


def test_an_evaluation_whose_reports_are_gone_is_made_anew(start: Start, earlier: Path) -> None:
    shutil.rmtree(earlier / "heldout")
    run, config = start("anew", f"run.start_from={earlier}")
    with run:
        take_over(run, config)
        assert run.done("base") and not run.done("heldout/base")


def test_the_base_of_another_run_took_none_of_this_ones_time(start: Start, earlier: Path) -> None:
    run, config = start("timed", f"run.start_from={earlier}")
    with run:
        take_over(run, config)
        facts = run.facts("base")
    assert (facts["seconds"], facts["ran"], facts["start_from"]) == (0.0, [], str(earlier))


def test_a_policy_of_the_users_own_was_trained_by_no_settings(start: Start, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "policy.json").write_text(
        start("probe")[1].policy.settings().model_dump_json(), encoding="utf-8"
    )
    own = ("policy=folder", f"policy.path={tmp_path / 'own'}", "policy.encoder_training=null")
    run, _ = start("first", *own)
    with run:
        run.finish("base", seconds=0.0, trained=False)
    later, config = start("second", *own, "learner.ranks=1", "learner.sft.lr=0.5", f"run.start_from={run.path}")
    with later:
        take_over(later, config)
        assert later.done("base")
