"""The runs of an ablation: what each of them varies, from where it starts, and that nothing else differs."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rlaif.ablation_plan import Part, parts_of
from rlaif.config import ConfigurationError
from rlaif.run_configuration import differences

if TYPE_CHECKING:
    from rlaif.config import Config


def planned(configured: Callable[..., "Config"], root: Path, *overrides: str) -> list[Part]:
    given = ["experiment=smoke", f"run.root={root}", "run.name=which", *overrides]
    return parts_of(configured(*given), given)


def test_every_run_differs_in_judge_pairs_and_seed_alone(configured: Callable[..., "Config"], tmp_path: Path) -> None:
    judges = (
        "ablate.judges=[rules,{judge: gpt4, name: local, base_url: 'http://127.0.0.1:1/v1', model: 'a \"b\", C:\\new'}]"
    )
    parts = planned(configured, tmp_path, judges, "ablate.pairs=[strategy1,best_worst]", "ablate.seeds=[4,5]")
    assert [(one.seed, one.judge, one.pairs) for one in parts] == [
        (seed, judge, pairs) for seed in (4, 5) for judge in ("rules", "local") for pairs in ("strategy1", "best_worst")
    ]
    assert [one.name for one in parts[:3]] == [
        "which-rules-strategy1-4",
        "which-rules-best_worst-4",
        "which-local-strategy1-4",
    ]
    for one in parts:
        (tmp_path / one.name).mkdir()
    configs = [configured(*one.overrides) for one in parts]
    # The first run trains the base; a seed's first takes it from there, and the others take its candidates too.
    starts = [one.run.start_from and one.run.start_from.name for one in configs]
    lead = "which-rules-strategy1-5"
    assert starts == [None, *["which-rules-strategy1-4"] * 4, *[lead] * 3]
    first = configs[0].plain()
    for config in configs[1:]:
        keys = {key for key in differences(first, config.plain()) if not key.startswith("judge.")}
        assert keys <= {
            "run.name",
            "run.seed",
            "run.start_from",
            "pairs.strategy",
            "pairs.threshold",
            "pairs.minimum_margin",
        }
    # All judges look at every run's held-out reports, and none of them at others than these.
    assert {tuple(one.judges) for one in configs} == {("rules", "local")}
    assert configs[2].judges["local"].model == 'a "b", C:\\new'  # type: ignore[union-attr]
    assert [one.judge.name for one in configs] == ["rules", "rules", "local", "local"] * 2


def test_a_plan_starts_from_no_run_that_is_not_there(configured: Callable[..., "Config"], tmp_path: Path) -> None:
    parts = planned(configured, tmp_path, "ablate.pairs=[strategy1,best_worst]", "run.dry=true")
    assert [configured(*one.overrides).run.start_from for one in parts] == [None, None]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("judge=rules", "an ablation sets judge in each of its runs; say it in ablate.judges"),
        ("judge.threshold=0.4", "an ablation sets judge.threshold in each of its runs"),
        ("pairs=strategy2", "an ablation sets pairs in each of its runs"),
        ("run.seed=3", "an ablation sets run.seed in each of its runs"),
        ("run.seed=3", "say it in ablate.seeds"),
        ("run.alignment=dpo", "an ablation sets run.alignment in each of its runs; they align by DPO"),
        ("+run.start_from=/", "run.start_from=/: an ablation sets run.start_from in each of its runs; they begin"),
        ("run.rounds=0", "run.rounds=0 leaves no gain for an ablation to compare: set it to 1 or more"),
        ("heldout.judges=[rules]", "an ablation sets heldout.judges in each of its runs"),
        ("ablate.judges=[rules,{judge: rules, threshold: 0.4}]", "two judges of one name"),
        ("ablate.pairs=[strategy1,strategy1]", "ablate.pairs has strategy1 twice"),
        ("ablate.seeds=[0,0]", "ablate.seeds has 0 twice"),
        ("ablate.judges=[{judge: rules, name: a/b}]", "a/b is no judge's name"),
        ("ablate.judges=[rulse]", "ablate.judges: there is no judge rulse; did you mean rules?"),
        ("ablate.judges=[{kind: rules}]", "write {judge: NAME, ...} or a judge's name"),
    ],
)
def test_what_an_ablation_sets_itself_is_refused(
    configured: Callable[..., "Config"], tmp_path: Path, override: str, words: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        planned(configured, tmp_path, override)
    assert words in str(refused.value)
