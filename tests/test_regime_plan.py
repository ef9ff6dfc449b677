"""The runs that compare fine-tuning with alignment: their splits, their names, and what each starts from."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlaif.config import Config, ConfigurationError
from rlaif.launch import checked_overrides
from rlaif.regime_plan import regimes_of, transfers_of

BASE = ["experiment=rgro", "policy.size=tiny", "run.name=cmp"]


@pytest.fixture
def configured_here(configured: Callable[..., Config], tmp_path: Path) -> Callable[..., tuple[Config, list[str]]]:
    (tmp_path / "openi").mkdir()
    (tmp_path / "mimic").mkdir()

    def made(*more: str) -> tuple[Config, list[str]]:
        overrides = [*BASE, f"data.path={tmp_path / 'openi'}", f"run.root={tmp_path / 'runs'}", *more]
        return configured(*overrides), overrides

    return made


def splits(config: Config, overrides: list[str], configured: Callable[..., Config]) -> list[tuple[float, float, float]]:
    found = []
    for regime in regimes_of(config, overrides):
        data: Any = configured(*regime.overrides).data
        found.append((data.split.sft, data.split.align, data.split.heldout))
    return found


def test_shares_are_of_the_training_part_and_the_held_out_patients_stay_the_same(
    configured_here: Any, configured: Any
) -> None:
    config, overrides = configured_here()
    assert splits(config, overrides, configured) == [(0.35, 0.35, 0.3), (0.49, 0.21, 0.3), (0.56, 0.14, 0.3)]
    assert [regime.name for regime in regimes_of(config, overrides)] == ["cmp-50-dpo", "cmp-70-dpo", "cmp-80-dpo"]
    config, overrides = configured_here("regimes.shares=[60]", "regimes.heldout=0.1")
    assert splits(config, overrides, configured) == [(0.54, 0.36, 0.1)]


def test_the_loops_of_a_share_begin_at_one_base(configured_here: Any, tmp_path: Path) -> None:
    config, overrides = configured_here("regimes.shares=[70]", "regimes.loops=[dpo,ppo]")
    first, second = regimes_of(config, overrides)
    assert (first.loop, second.loop, second.name) == ("dpo", "ppo", "cmp-70-ppo")
    assert not any("start_from" in one for one in first.overrides)
    assert f'run.start_from="{tmp_path / "runs" / "cmp-70-dpo"}"' in second.overrides


def test_every_policy_goes_to_every_other_source_once(configured_here: Any, tmp_path: Path) -> None:
    source = f"{{data: openi, path: {tmp_path / 'mimic'}}}"
    config, overrides = configured_here(
        "regimes.shares=[50,80]", "regimes.loops=[dpo,ppo]", f"regimes.zero_shot=[{source}]"
    )
    regimes = regimes_of(config, overrides)
    transfers = transfers_of(config, regimes)
    assert [one.name for one in transfers] == [
        "cmp-50-dpo-base-on-openi-0",
        "cmp-50-dpo-round-000-on-openi-0",
        "cmp-50-ppo-round-000-on-openi-0",
        "cmp-80-dpo-base-on-openi-0",
        "cmp-80-dpo-round-000-on-openi-0",
        "cmp-80-ppo-round-000-on-openi-0",
    ]
    given = transfers[2].overrides
    assert checked_overrides(given)
    assert f'policy.path="{tmp_path / "runs" / "cmp-50-ppo" / "round-000" / "checkpoint"}"' in given
    assert "run.rounds=0" in given and "run.target=impression" in given and "sampler.max_tokens=96" in given
    assert "data.split={sft: 0.0, align: 0.0, heldout: 1.0}" in given and f'data.path="{tmp_path / "mimic"}"' in given


@pytest.mark.parametrize("override", ["data.split.sft=0.5", "run.rounds=3", "run.start_from=x", "+data.split={sft: 1}"])
def test_what_the_comparison_sets_itself_is_refused(configured_here: Any, override: str) -> None:
    config, overrides = configured_here()
    with pytest.raises(ConfigurationError, match=r"the comparison sets .* say it in regimes.shares"):
        regimes_of(config, [*overrides, override])


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("regimes.zero_shot=[{path: /data}]", r"zero_shot: write \{data: NAME, path: FOLDER, \.\.\.\}"),
        ("regimes.shares=[50,50]", "shares has one of its entries twice"),
        ("regimes.shares=[100]", "less than or equal to 99"),
    ],
)
def test_what_cannot_be_compared_is_an_error(configured_here: Any, override: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        configured_here(override)
