"""The runs that compare fine-tuning with alignment: their splits, their names, and what each starts from."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlaif.config import Config, ConfigurationError
from rlaif.datasets.study_table import DatasetError
from rlaif.launch import checked_overrides
from rlaif.regime_checks import check_shares, heldout_cases
from rlaif.regime_plan import regimes_of, tables_of, transfers_of
from rlaif.run_configuration import CONFIG_FILE

MODEL = "policy.language_model={hidden: 8, layers: 1, heads: 1, intermediate: 8, vocabulary: 300, positions: 512}"
BASE = ["experiment=rgro", "policy.size=tiny", "run.name=cmp"]


def write_reports(folder: Path, number: int) -> None:
    """Open-I's reports in the CSV form."""
    folder.mkdir()
    rows = ["uid,findings,impression", *(f"{report},Clear lungs.,Normal." for report in range(number))]
    (folder / "indiana_reports.csv").write_text("\n".join(rows) + "\n")


def mimic(folder: Path) -> None:
    """MIMIC-CXR's reports, five to train with and three to test with, each of its own patient."""
    folder.mkdir()
    reports = ["study,findings,impression", *(f"s{number},Clear lungs.,Normal." for number in range(8))]
    parts = ["study_id,subject_id,split", *(f"{one},{one},{'test' if one > 4 else 'train'}" for one in range(8))]
    (folder / "mimic_cxr_sectioned.csv").write_text("\n".join(reports) + "\n")
    (folder / "mimic-cxr-2.0.0-split.csv").write_text("\n".join(parts) + "\n")


@pytest.fixture
def configured_here(configured: Callable[..., Config], tmp_path: Path) -> Callable[..., tuple[Config, list[str]]]:
    write_reports(tmp_path / "openi", 200)
    write_reports(tmp_path / "mimic", 20)
    mimic(tmp_path / "official")

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
    config, overrides = configured_here("regimes.shares=[70]", "regimes.loops=[ppo,dpo]")
    assert [(one.loop, one.overrides[-1]) for one in regimes_of(config, overrides)] == [
        (first.loop, first.overrides[-1]),
        (second.loop, second.overrides[-1]),
    ]


def test_a_comparison_that_grows_keeps_the_run_that_trained_the_base(configured_here: Any, tmp_path: Path) -> None:
    def begins(loops: str) -> list[tuple[str, bool, int]]:
        config, overrides = configured_here("regimes.shares=[70]", f"regimes.loops={loops}")
        start = f'run.start_from="{tmp_path / "runs" / "cmp-70-ppo"}"'
        return [(one.loop, start in one.overrides, len(one.policies)) for one in regimes_of(config, overrides)]

    def ran(loop: str, start: str) -> None:
        folder = tmp_path / "runs" / f"cmp-70-{loop}"
        folder.mkdir(parents=True)
        (folder / CONFIG_FILE).write_text(f"run: {{start_from: {start}}}\n")

    assert begins("[ppo]") == [("ppo", False, 2)]
    ran("ppo", "null")
    assert begins("[dpo,ppo]") == [("ppo", False, 2), ("dpo", True, 1)]
    ran("dpo", str(tmp_path / "runs" / "cmp-70-ppo"))
    assert begins("[dpo,ppo]") == begins("[ppo,dpo]") == [("ppo", False, 2), ("dpo", True, 1)]
    # Alone it still begins where it did, and its base stands in the tables.
    assert begins("[dpo]") == [("dpo", True, 2)]


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
    assert "run.rounds=0" in given and 'run.target="impression"' in given and "sampler.max_tokens=96" in given
    assert "data.split={sft: 0.0, align: 0.0, heldout: 1.0}" in given and f'data.path="{tmp_path / "mimic"}"' in given


def test_a_transfer_writes_and_is_judged_as_the_run_that_made_the_policy(
    configured_here: Any, configured: Any, tmp_path: Path
) -> None:
    judge = ["judge=gpt4", "judge.base_url=http://127.0.0.1:1/v1", "judge.model=mine", "judge.threshold=4"]
    config, overrides = configured_here(
        f"regimes.zero_shot=[{{data: mimic_cxr, path: {tmp_path / 'official'}}}]",
        *judge, "heldout.judges=[rules]", "heldout.limit=7", "sampler.cpus=0.125", "sampler.timeout_s=99", "run.seed=5",
        "run.max_bad_fraction=0.5", "run.blind_control=false", "recipe.orientation=stored", "ingest.cpus=0.5",
        "cluster=gpus_1", "cluster.memory_gib=100", "learner.cpus=1", f"cache.root={tmp_path / 'cache'}",
        "trackers=mlflow", "trackers.mlflow.experiment=mine", "trackers.tensorboard=false",
    )  # fmt: skip
    transfer = transfers_of(config, regimes_of(config, overrides))[0]
    # Its policy is not there before the run that trains it.
    own = [one for one in transfer.overrides if not one.startswith("policy")]
    given = configured(*own, "policy=rgro", MODEL, "policy.pretrained=null")
    assert given.data.name == "mimic_cxr" and given.data.seed == 5 and given.run.rounds == 0
    for section in ("cluster", "sampler", "judge", "heldout", "ingest", "cache", "trackers"):
        assert getattr(given, section) == getattr(config, section), section
    assert given.recipe.orientation == "stored" and given.learner.cpus == 1 and given.learner.dtype == "bfloat16"
    assert given.run.model_copy(update={"name": "", "rounds": 1}) == config.run.model_copy(update={"name": ""})
    assert not any(one.startswith(("experiment=", "pairs", "start")) for one in transfer.overrides)


def test_each_source_has_a_table_of_its_own(configured_here: Any, tmp_path: Path) -> None:
    one, other = ({"path": str(tmp_path / name)} for name in ("mimic", "openi"))
    config, overrides = configured_here(
        "regimes.shares=[50]",
        f"regimes.zero_shot=[{{data: openi, path: {one['path']}}},{{data: openi, path: {other['path']}, limit: 3}}]",
    )
    regimes = regimes_of(config, overrides)
    tables = tables_of(config, regimes, transfers_of(config, regimes))
    assert [*tables] == [
        "openi, held out",
        f"openi (path: {one['path']}), not seen in training",
        f"openi (path: {other['path']}, limit: 3), not seen in training",
    ]
    assert [[policy.name for policy in table] for table in tables.values()] == [["SFT-50", "RGRO-50 by DPO"]] * 3
    folders = [policy.folder for table in tables.values() for policy in table]
    assert len({*folders}) == 6
    assert folders[0] == tmp_path / "runs" / "cmp-50-dpo" / "heldout" / "base"
    assert folders[3] == tmp_path / "runs" / "cmp-50-dpo-round-000-on-openi-0" / "heldout" / "base"


def test_sources_are_read_before_anything_runs(configured_here: Any, tmp_path: Path) -> None:
    official, whole = tmp_path / "official", tmp_path / "mimic"
    config, _ = configured_here(
        f"regimes.zero_shot=[{{data: mimic_cxr, path: {official}}},{{data: openi, path: {whole}}}]"
    )
    # The official test split where there is one, else all.
    assert heldout_cases(config) == {f"mimic_cxr (path: {official})": 3, f"openi (path: {whole})": 20}
    for source, error, words in (
        ("{data: mimic, path: /}", ConfigurationError, "data=mimic does not exist; did you mean mimic_cxr"),
        ("{data: openi}", ConfigurationError, r"regimes.zero_shot, openi: .*write \{data: openi, path: FOLDER"),
        (
            "{data: openi, path: /nowhere}",
            ConfigurationError,
            r"openi \(path: /nowhere\): data.path: /nowhere does not",
        ),
        (
            f"{{data: openi, path: {whole}, limt: 3}}",
            ConfigurationError,
            "unknown key data.limt; did you mean data.limit",
        ),
        (f"{{data: ct_rate, path: {whole}}}", DatasetError, str(whole)),
        (f"{{data: mimic_cxr, path: {whole}}}", DatasetError, "holds no mimic-cxr-2.0.0-split.csv"),
        ("{data: phantom, sft: 0, align: 0, heldout: 0}", ConfigurationError, "no held-out case to measure on"),
    ):
        config, _ = configured_here(f"regimes.zero_shot=[{source}]")
        with pytest.raises(error, match=words):
            heldout_cases(config)


def test_shares_that_leave_nobody_are_told_before_anything_runs(configured_here: Any, tmp_path: Path) -> None:
    check_shares(configured_here()[0])
    write_reports(tmp_path / "few", 30)
    for overrides, words in (
        (["regimes.shares=[50,99]", f"data.path={tmp_path / 'few'}"], r"shares=99 .* nothing to align on, of 30"),
        (["regimes.heldout=0.999"], r"regimes.heldout=0.999 leaves nothing to .*align on, of 200 studies"),
        (["regimes.heldout=0.0001"], "leaves nothing to measure on"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            check_shares(configured_here(*overrides)[0])


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data.split.sft=0.5", r"^data.split.sft=0.5: the comparison sets data.split.sft .*; say it in regimes.s"),
        ("++data.split={sft: 1}", r"^data.split=.* sets data.split .*; say it in regimes.shares and regimes.heldout"),
        ("run.rounds=3", "sets run.rounds in each of its runs; each of them aligns for one round: leave it out"),
        ("run={rounds: 3}", "sets run.rounds in each of its runs"),
        ("run.start_from=x", "sets run.start_from in each of its runs; the loops of a share begin at one base"),
        ("run.alignment=ppo", "sets run.alignment in each of its runs; say it in regimes.loops"),
    ],
)
def test_what_the_comparison_sets_itself_is_refused(configured_here: Any, override: str, words: str) -> None:
    config, overrides = configured_here()
    with pytest.raises(ConfigurationError, match=words):
        regimes_of(config, [*overrides, override])


def test_what_only_begins_alike_is_handed_on(configured_here: Any, tmp_path: Path) -> None:
    config, overrides = configured_here(
        "data=mimic_cxr", f"data.path={tmp_path / 'official'}", "data.split_table=mimic-cxr-2.0.0-split.csv"
    )
    assert "data.split_table=mimic-cxr-2.0.0-split.csv" in regimes_of(config, overrides)[0].overrides


def test_data_and_policies_that_cannot_be_compared_are_refused(
    configured_here: Any, configured: Any, tmp_path: Path
) -> None:
    config, overrides = configured_here("data.limit=800")
    with pytest.raises(ConfigurationError, match=r"data.limit=800 limits each split.*heldout.limit"):
        regimes_of(config, overrides)
    overrides = ["experiment=smoke"]
    with pytest.raises(ConfigurationError, match=r"data=phantom has no data\.split"):
        regimes_of(configured(*overrides), overrides)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "policy.json").write_text(config.policy.settings().model_dump_json())
    overrides = ["policy=folder", f"policy.path={tmp_path / 'mine'}", "run.target=impression"]
    with pytest.raises(ConfigurationError, match="is taken as it is, and the comparison is of policies that are fine-"):
        regimes_of(configured(*overrides), overrides)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("regimes.zero_shot=[{path: /data}]", r"zero_shot: write \{data: NAME, path: FOLDER, \.\.\.\}"),
        ("regimes.shares=[50,50]", "shares has one of its entries twice"),
        ("regimes.zero_shot=[{data: openi, path: x},{data: openi, path: x}]", "zero_shot has one of its entries twice"),
        ("regimes.shares=[100]", "less than or equal to 99"),
    ],
)
def test_what_cannot_be_compared_is_an_error(configured_here: Any, override: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        configured_here(override)
