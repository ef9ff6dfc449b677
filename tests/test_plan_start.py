"""The plan of a run that starts from a team's own file."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rlaif.plan_counts import counts_of
from rlaif.plan_stages import stages_of

if TYPE_CHECKING:
    from rlaif.config import Config


def test_a_round_that_starts_from_a_file_samples_nothing(configured: Callable[..., "Config"], tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("{}", encoding="utf-8")

    def names(*overrides: str) -> list[str]:
        config = configured("experiment=smoke", f"run.root={tmp_path}", *overrides)
        made = [stage.name for stage in stages_of(config, counts_of(config, image=True))]
        return [name for name in made if name.startswith("round")]

    learnt = ["round-000 to round-001: learn", "round-000 to round-001: evaluate"]
    pairs = names(f"start.pairs={file}")
    assert pairs == ["round-000: start", "round-001: sample", "round-001: pairs", *learnt]
    candidates = names(f"start.candidates={file}")
    assert candidates == ["round-000: start", "round-001: sample", "round-000 to round-001: pairs", *learnt]
    assert names(f"start.pairs={file}", "run.rounds=1")[:2] == ["round-000: start", "round-000: learn"]
