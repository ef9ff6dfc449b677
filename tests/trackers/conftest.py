"""A small run folder with two rounds of DPO and a held-out judge, written as the loop's stages leave it."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from rlaif.ledger import RunFolder
from rlaif.records import HeldoutReport, Judgement

CONFIGURATION: dict[str, Any] = {
    "run": {"name": "run", "seed": 7, "target": "findings", "alignment": "dpo", "rounds": 2},
    "data": {"name": "phantom"},
    "policy": {"name": "rgro", "size": "tiny"},
    "judge": {"name": "rules"},
    "pairs": {"strategy": "strategy1"},
}
SCORES = {"base": (0.2, 0.4), "round-000": (0.3, 0.7), "round-001": (0.6, 0.8)}
LOSSES = {"round-000": (0.75, 0.5), "round-001": (0.25,)}


def finish_base(run: RunFolder) -> None:
    run.finish("studies", seconds=1.0, sft=5, align=2, heldout=2, quarantined=1)
    steps = [
        {"step": place, "of": 2, "left_out": 0.0, "loss": loss, "lr": 0.5} for place, loss in enumerate((4.0, 3.0))
    ]
    (run.path / "base").mkdir()
    run.write_json("base/metrics.json", {"learning": {"steps": steps}})
    run.finish("base", seconds=3.0, trained=True)
    finish_heldout(run, "base")


def finish_heldout(run: RunFolder, name: str) -> None:
    rows = [
        HeldoutReport(
            f"c{case}", f"c{case}", f"p{case}", control, "Clear.", "Clear.", "stop", 0,
            {"rules_score": score - 0.1 if control else score},
        )
        for control in (False, True)
        for case, score in enumerate(SCORES[name])
    ]  # fmt: skip
    run.append(f"heldout/{name}", HeldoutReport, rows)
    run.finish(f"heldout/{name}", seconds=5.0, version=0)
    judged = [
        Judgement(
            f"c{case}.{name}.gpt4", f"c{case}.{name}", f"c{case}", 0, "gpt4", "1", 1.0 + 2 * score, 1.0, 5.0, None, "",
            None, None, None, False, 0.0, 0, 0, 0.0,
        )
        for case, score in enumerate(SCORES[name])
    ]  # fmt: skip
    run.append(f"heldout-judging/{name}/judgements", Judgement, judged)
    judges = {"gpt4": {"judgements": 2, "scored": 2, "mean_score": 2.0, "cost_usd": 0.25, "failures": {}}}
    run.finish(f"heldout-judging/{name}", seconds=2.0, judging={"judges": judges, "agreement": []})


def finish_round(run: RunFolder, number: int) -> None:
    name = f"round-{number:03d}"
    account = {"judgements": 6, "scored": 5, "mean_score": None, "cost_usd": 0.0, "failures": {"no_reference": 1}}
    run.finish(f"{name}/sample", seconds=4.0, repeated_calls=2, judging={"judges": {"rules": account}})
    run.finish(f"{name}/pairs", seconds=1.0, pairs=3, dropped={"equal_scores": 2})
    steps = [{"step": place, "of": 2, "loss": loss, "margin": 2 * loss} for place, loss in enumerate(LOSSES[name])]
    run.write_json(f"{name}/metrics.json", {"learning": {"steps": steps}})
    run.finish(f"{name}/learn", seconds=8.0, steps=len(steps), logprob_gap={"mean": 0.125, "max": 0.5, "tokens": 9.0})
    finish_heldout(run, name)


@pytest.fixture
def begun(tmp_path: Path) -> Callable[[], RunFolder]:
    """Opens the run, each time as another attempt."""
    return lambda: RunFolder.open(tmp_path / "runs", "run", CONFIGURATION)


@pytest.fixture
def run(begun: Callable[[], RunFolder]) -> RunFolder:
    """The run after its first round."""
    opened = begun()
    finish_base(opened)
    finish_round(opened, 0)
    return opened


@pytest.fixture
def next_round() -> Callable[[RunFolder], None]:
    """Does the second round of the run, and ends it."""

    def end(opened: RunFolder) -> None:
        finish_round(opened, 1)
        opened.finish("summary", rounds=2, at=datetime.now(UTC).isoformat())

    return end
