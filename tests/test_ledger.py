import json
from pathlib import Path

import pytest
import yaml

from rlaif.ledger import ConfigurationDiffers, RunError, RunFolder
from rlaif.records import Dropped, Study

CONFIGURATION = {
    "run": {"name": "mine", "rounds": 2, "root": "/a", "dry": False},
    "policy": {"name": "argus", "learning_rate": 1e-5, "layers": (1, 2), "weights": Path("/w")},
    "judge": {"api_key": None},
    "cluster": {"gpus": 0},
    "trackers": ["tensorboard"],
}


def changed(**groups: object) -> dict[str, object]:
    merged: dict[str, object] = {}
    for group, values in CONFIGURATION.items():
        change = groups.get(group, {})
        merged[group] = (
            {**values, **change} if isinstance(values, dict) and isinstance(change, dict) else change or values
        )
    return merged


def test_a_run_folder_is_private_and_its_configuration_is_plain_yaml(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path, "sweeps/mine", CONFIGURATION) as run:
        assert run.path == tmp_path / "sweeps" / "mine" and run.attempt == 1
        assert run.path.stat().st_mode & 0o777 == 0o700
        kept = yaml.safe_load((run.path / "config.yaml").read_text(encoding="utf-8"))
    assert kept["policy"] == {"name": "argus", "learning_rate": 1e-5, "layers": [1, 2], "weights": "/w"}
    with RunFolder.open(tmp_path, "sweeps/mine", CONFIGURATION) as run:
        assert run.attempt == 2


def test_another_configuration_is_refused_with_keys_and_values(tmp_path: Path) -> None:
    RunFolder.open(tmp_path, "mine", CONFIGURATION).close()
    other = changed(policy={"learning_rate": 2e-5, "layers": [1, 3], "size": "7b"}, judge={"name": "rules"})
    with pytest.raises(ConfigurationDiffers) as caught:
        RunFolder.open(tmp_path, "mine", other)
    assert caught.value.keys == ["judge.name", "policy.layers", "policy.learning_rate", "policy.size"]
    message = str(caught.value)
    assert "policy.learning_rate: 1e-05 in the run, 2e-05 now" in message
    assert "policy.size: '(absent)' in the run, '7b' now" in message
    assert "choose another run.name" in message
    RunFolder.open(tmp_path, "mine", CONFIGURATION).close()  # the refused attempt gave the lease back


def test_a_run_of_the_other_loop_is_named_as_such(tmp_path: Path) -> None:
    RunFolder.open(tmp_path, "mine", changed(run={"alignment": "ppo"})).close()
    with pytest.raises(ConfigurationDiffers, match=r"mine is a run of jobs/ppo_loop\.py: ") as caught:
        RunFolder.open(tmp_path, "mine", changed(run={"alignment": "dpo"}))
    assert "run.alignment" in str(caught.value) and "own values" not in str(caught.value)
    assert caught.value.keys == ["run.alignment"]


def test_rounds_may_grow_and_never_shrink(tmp_path: Path) -> None:
    RunFolder.open(tmp_path, "mine", CONFIGURATION).close()
    RunFolder.open(tmp_path, "mine", changed(run={"rounds": 3})).close()
    assert yaml.safe_load((tmp_path / "mine" / "config.yaml").read_text(encoding="utf-8"))["run"]["rounds"] == 3
    with pytest.raises(ConfigurationDiffers, match=r"run\.rounds: 3 in the run, 2 now"):
        RunFolder.open(tmp_path, "mine", CONFIGURATION)


def test_cluster_trackers_and_place_may_change(tmp_path: Path) -> None:
    RunFolder.open(tmp_path, "mine", CONFIGURATION).close()
    free = changed(run={"root": "/b", "dry": True}, cluster={"gpus": 8, "nodes": 2}, trackers=["mlflow", "wandb"])
    RunFolder.open(tmp_path, "mine", free).close()


def test_a_secret_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"judge\.api_key holds a secret.*OPENAI_API_KEY") as caught:
        RunFolder.open(tmp_path, "mine", changed(judge={"api_key": "sk-1"}))
    assert "sk-1" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../out", "/etc", "a/../b", "", "a//b", ".hidden", "a\n", "a b", "~"])
def test_a_name_that_leaves_the_root_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(RunError, match="is no name"):
        RunFolder.open(tmp_path, name, {})
    with RunFolder.open(tmp_path, "mine", {}) as run:
        for write in (run.append, run.replace):
            with pytest.raises(RunError, match="is no name"):
                write(name, Dropped, [Dropped("case-1", 0, "x")])
        with pytest.raises(RunError, match="is no name"):
            run.write_json(name, {})
        with pytest.raises(RunError, match="is no name"), run.folder(name):
            pass


def test_a_folder_that_is_no_run_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "documents").mkdir(mode=0o755)
    (tmp_path / "documents" / "letter.txt").write_text("dear")
    with pytest.raises(RunError, match="exists and is not a run folder"):
        RunFolder.open(tmp_path, "documents", {})
    assert [path.name for path in (tmp_path / "documents").iterdir()] == ["letter.txt"]
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="a file of that name is in the way"):
        RunFolder.open(tmp_path, "file", {})


def test_a_damaged_configuration_is_not_overwritten(tmp_path: Path) -> None:
    RunFolder.open(tmp_path, "mine", CONFIGURATION).close()
    for text in ("run: [", "- a list", "!!python/object/apply:os.getcwd []"):
        (tmp_path / "mine" / "config.yaml").write_text(text)
        with pytest.raises(RunError, match=r"config\.yaml is not"):
            RunFolder.open(tmp_path, "mine", CONFIGURATION)
        assert (tmp_path / "mine" / "config.yaml").read_text(encoding="utf-8") == text


def test_stages_and_their_facts_survive(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path, "mine", {}) as run:
        assert not run.done("round-000/sample")
        with pytest.raises(RunError, match="the stage round-000/sample is not finished"):
            run.facts("round-000/sample")
        run.finish("round-000/sample", seconds=1.5, candidates=12)
        run.finish("round-000")
    with RunFolder.open(tmp_path, "mine", {}) as run:
        assert run.done("round-000/sample") and run.done("round-000") and not run.done("round-000/pairs")
        assert run.facts("round-000/sample") == {"seconds": 1.5, "candidates": 12}
        assert run.facts("round-000") == {}
        assert run.read_json("ledger/round-000/sample.json")["attempt"] == 1


def test_tables_belong_to_one_record(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path, "mine", {}) as run:
        with run.writer("round-000/dropped", Dropped, rows=2) as writer:
            writer.add(*(Dropped(f"case-{number}", 0, "x") for number in range(5)))
        assert run.compact("round-000/dropped", Dropped, "case_id") == 5
        assert run.arrow("round-000/dropped", Dropped, ["case_id"])["case_id"][4].as_py() == "case-4"
        assert [row.round for row in run.iterate("round-000/dropped", Dropped)] == [0] * 5
        with pytest.raises(RunError, match="holds Dropped, not Study records"):
            run.read("round-000/dropped", Study)


def test_json_is_exact_and_has_no_nan(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path, "mine", {}) as run:
        path = run.write_json("round-000/metrics.json", {"gain": 0.1, "text": "größer"})
        assert (
            json.loads(path.read_text(encoding="utf-8"))
            == run.read_json("round-000/metrics.json")
            == {"gain": 0.1, "text": "größer"}
        )
        with pytest.raises(RunError, match=r"metrics\.json was not written.*write null"):
            run.write_json("round-000/metrics.json", {"gain": float("nan")})
        assert run.read_json("round-000/metrics.json")["gain"] == 0.1
        path.write_text("{")
        with pytest.raises(RunError, match="is damaged"):
            run.read_json("round-000/metrics.json")


def test_a_folder_takes_its_place_whole_or_not_at_all(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path, "mine", {}) as run:
        with run.folder("base") as folder:
            (folder / "model").mkdir()
            (folder / "model" / "weights").write_text("one")
            assert not (run.path / "base").exists()
        with pytest.raises(KeyError), run.folder("base") as folder:
            (folder / "torn").write_text("")
            raise KeyError("loss")
        assert (run.path / "base" / "model" / "weights").read_text(encoding="utf-8") == "one"
        with run.folder("base") as folder:
            (folder / "other").write_text("two")
        assert [path.name for path in (run.path / "base").iterdir()] == ["other"]
        assert not [path for path in run.path.iterdir() if path.name.startswith(".rlaif")]


def test_opening_removes_leftovers_and_spares_runs_inside(tmp_path: Path) -> None:
    inner = RunFolder.open(tmp_path, "sweep/inner", {})
    building = inner.path / ".rlaif-new-0123.base"
    building.mkdir()
    RunFolder.open(tmp_path, "outer", {}).close()
    (tmp_path / "outer" / "round-000").mkdir()
    for name in (".rlaif-new-01.metrics.json", ".rlaif-new-02.x.parquet"):
        (tmp_path / "outer" / "round-000" / name).write_text("torn")
    for name in (".rlaif-old-03.checkpoint", ".rlaif-new-04.checkpoint", ".rlaif-ready.checkpoint"):
        (tmp_path / "outer" / "round-000" / name).mkdir()
        (tmp_path / "outer" / "round-000" / name / "weights").write_text(name)
    (tmp_path / "outer" / "runs").mkdir()
    inner.close()
    inner.path.rename(tmp_path / "outer" / "runs" / "inner")
    RunFolder.open(tmp_path, "outer", {}).close()
    assert [path.name for path in (tmp_path / "outer" / "round-000").iterdir()] == ["checkpoint"]
    assert (tmp_path / "outer" / "round-000" / "checkpoint" / "weights").read_text(
        encoding="utf-8"
    ) == ".rlaif-ready.checkpoint"
    assert (tmp_path / "outer" / "runs" / "inner" / building.name).is_dir()


def test_the_last_checkpoints_the_base_and_the_needed_ones_are_kept(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path, "mine", {}) as run:
        for name in ("base", *(f"round-{number:03d}/checkpoint" for number in (0, 1, 2, 3, 999, 1000))):
            with run.folder(name) as folder:
                (folder / "weights").write_text(name)
        run.write_json("round-000/metrics.json", {})
        assert run.prune_checkpoints(keep=2, needed={"round-001"}) == ["round-000", "round-002", "round-003"]
        kept = sorted(path.parent.name for path in run.path.glob("round-*/checkpoint"))
        assert kept == ["round-001", "round-1000", "round-999"]
        assert (run.path / "base" / "weights").exists() and (run.path / "round-000" / "metrics.json").exists()
        assert run.prune_checkpoints(keep=5) == []


def test_a_journal_counts_calls_asked_again_and_bears_a_torn_end(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path, "mine", {}) as run:
        journal = run.journal("round-000/judge")
        assert journal.ids() == set() and journal.repeated() == 0
        journal.started(["a", "b"])
        journal.started([])
        journal.started(["c"])
        journal.started(["c"])  # a retry within an attempt is not a repetition after a kill
        assert journal.ids() == {"a", "b", "c"} and journal.repeated() == 0
        with journal.path.open("a") as file:
            file.write('{"attempt": 1, "ids": ["d"')
        assert journal.ids() == {"a", "b", "c"}
    with RunFolder.open(tmp_path, "mine", {}) as run:
        journal = run.journal("round-000/judge")
        journal.started(["b", "c", "e"])
        assert journal.ids() == {"a", "b", "c", "e"} and journal.repeated() == 2
        assert len(journal.path.read_text(encoding="utf-8").splitlines()) == 4
        journal.path.write_text("garbage\n" + journal.path.read_text(encoding="utf-8"))
        with pytest.raises(RunError, match=r"judge\.jsonl, line 1, is damaged"):
            journal.ids()
