"""From a command line to a job: what is put right, what is refused, and in which words."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rlaif.config import Config
from rlaif.files import RunError
from rlaif.launch import PROJECT, launch, refuse_sweep, run_loop_apart
from rlaif.ledger import RunFolder

Start = Callable[..., list[Config]]

LORA = "learner.lora={rank: 4, alpha: 8, dropout: 0.0, targets: all-linear"


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Start:
    """Launches a job that keeps the configurations that it was started with."""
    monkeypatch.chdir(tmp_path)

    def run(*overrides: str) -> list[Config]:
        seen: list[Config] = []
        monkeypatch.setattr(sys, "argv", ["job.py", *overrides])
        launch(seen.append)
        return seen

    return run


def refusal(start: Start, capsys: pytest.CaptureFixture[str], *overrides: str) -> str:
    """The one line on stderr with which a command line is refused."""
    with pytest.raises(SystemExit) as caught:
        start(*overrides)
    assert caught.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), lines
    return lines[0].removeprefix("error: ")


def test_defaults_make_a_configuration_with_absolute_roots(start: Start) -> None:
    [config] = start()
    assert config.run.name == "phantom-ct_gpt_pp" and config.run.root == PROJECT / "runs"
    assert config.cache.root == PROJECT / "cache" and config.judge.name == "rules"
    assert Config.model_validate(config.model_dump(mode="json")) == config


def test_overrides_reach_settings_that_no_file_names(start: Start, tmp_path: Path) -> None:
    (tmp_path / "ct").mkdir()
    [config] = start(
        "data=ct_rate", "data.path=ct", "data.columns.volume=File", "data.order=number", "learner.lora.rank=8",
        "learner.lora.alpha=16", "learner.lora.dropout=0", "learner.lora.targets=all-linear", "run.rounds=3",
    )  # fmt: skip
    assert config.data.name == "ct_rate"
    assert (config.data.columns.volume, config.data.order, config.data.path) == ("File", "number", str(tmp_path / "ct"))
    assert config.learner.lora is not None and config.learner.lora.rank == 8 and config.run.rounds == 3


def test_an_experiment_changes_the_defaults_and_an_override_the_experiment(start: Start) -> None:
    [config] = start("experiment=smoke", "data.align=7")
    assert (config.run.name, config.data.name, config.sampler.max_tokens) == ("smoke", "phantom", 64)
    assert config.data.model_dump()["align"] == 7 and config.data.model_dump()["heldout"] == 8


def test_an_experiment_of_one_loop_is_refused_by_the_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[Config] = []
    monkeypatch.setattr(sys, "argv", ["job.py", "experiment=ppo"])
    launch(seen.append, alignment="ppo")
    assert seen[0].run.alignment == "ppo"
    with pytest.raises(SystemExit):
        launch(seen.append, alignment="dpo")
    line = capsys.readouterr().err
    assert "run.alignment=ppo" in line and "jobs/dpo_loop.py" in line and "experiment=ppo" in line
    assert len(seen) == 1


def test_a_sweep_runs_the_job_once_for_each_choice(start: Start, tmp_path: Path) -> None:
    configs = start("-m", "pairs=strategy1,best_worst", "run.name=sweep-${pairs.strategy}", f"run.root={tmp_path}")
    assert [config.pairs.strategy for config in configs] == ["strategy1", "best_worst"]
    assert [config.run.name for config in configs] == ["sweep-strategy1", "sweep-best_worst"]
    assert [config.run.seed for config in start("-m", "run.seed=3,4", f"run.root={tmp_path}")] == [3, 4]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["run.roundz=3"], ["unknown key run.roundz", "did you mean run.rounds?"]),
        (["rounds=3"], ["unknown key rounds", "did you mean run.rounds?"]),
        (["data.colums.study_id=x"], ["unknown key data.colums.study_id", "did you mean data.columns.study_id?"]),
        (["jugde=rules"], ["unknown key jugde", "did you mean judge?"]),
        (["judge=gpt5"], ["judge=gpt5 does not exist", "rules"]),
        (["data=phantm"], ["data=phantm does not exist", "did you mean phantom?", "there are abdomen_atlas, amos_mm"]),
        (["-m", "pairs=strategy1,strategy9"], ["pairs=strategy9 does not exist", "strategy2"]),
        (["experiment=dmeo"], ["experiment=dmeo does not exist", "did you mean demo?"]),
        (["data=null"], ["data=None does not exist"]),
        (["data=ct_rate"], ["data.path is missing: set data.path=…"]),
        (["policy=folder"], ["policy.path is missing: set policy.path=…"]),
        (["run.rounds=many"], ["run.rounds: Input should be a valid integer", "got 'many'"]),
        (["run.rounds="], ["run.rounds: Input should be a valid integer"]),
        (["run.rounds=-1"], ["run.rounds: Input should be greater than or equal to 0 (got -1)"]),
        (["run=3"], ["run is a section: set one of its keys, such as run.name"]),
        (["run.rounds"], ["cannot read the override 'run.rounds'"]),
        (["run.name=[1"], ["cannot read the override 'run.name=[1'"]),
        (["run.name=../up"], ["run.name: String should match pattern"]),
        (["run.target=prose"], ["run.target: Input should be 'findings', 'impression' or 'both' (got 'prose')"]),
        (["run.name=${nothing.here}"], ["run.name", "nothing.here"]),
        (["~sampler.n"], ["sampler.n is missing: set sampler.n=…"]),
        (["data=ct_rate", "data.path=.", "data.sft=5"], ["data.sft is no setting of data=ct_rate: leave it out"]),
        (["data=folder", "data.path=.", "data.order=seed"], ["data.order is no setting of data=folder"]),
        (["data=folder", "data.path=.", "data.split.sft=all"], ["data.split.sft: Input should be a valid"]),
        (["data=ct_rate", "data.path=nowhere"], ["data.path:", "/nowhere does not exist"]),
        (["data.shape=[32,48]"], ["data.shape.2 is missing"]),
        (["data.findings=[cardiomegaly,gout]", "data.prevalence=1"], ["data.findings: unknown findings ['gout']"]),
        (["policy.encoder.patch=[7,8,8]"], ["policy.encoder: volume depth 32 is no multiple of patch 7 x pool 2"]),
        (["policy.encoder.hidden=wide"], ["policy.encoder.hidden: Input should be a valid integer"]),
        (["policy.encoder.volume=[64,48,48]"], ["policy: encoder.volume (64, 48, 48) is not what the recipe phantom"]),
        (["policy.recipe=ctclip_v3"], ["there is no recipe 'ctclip_v3'; there are phantom"]),
        (["policy.language_model.hidden=130"], ["policy.language_model: hidden 130 is no multiple of 2 x heads 4"]),
        (["size=argus/8b"], ["size=argus/8b: a size goes with its policy", "set policy=POLICY policy.size=SIZE"]),
        (["+size/argus=8b"], ["a size goes with its policy"]),
        (["policy.encoder.patch=[0,8,8]"], ["policy.encoder.patch.0: Input should be greater than or equal to 1"]),
        (["policy.encoder.hidden=1000000"], ["policy.encoder.hidden: Input should be less than or equal to 131072"]),
        (["policy=m3d", "policy.encoder.heads=5"], ["policy.encoder: hidden 96 is no multiple of heads 5"]),
        (
            ["policy=mu2", "policy.connector.differentiable_selection=false"],
            ["policy.connector: temperature 0.1 has no effect without differentiable_selection: set temperature=1.0"],
        ),
        (["learner.sft.train=[conector]"], ["learner.sft: train names conector: name parts of the policy (encoder, c"]),
        (["learner.dpo.train=[]"], ["learner.dpo: train names nothing"]),
        (["policy=reg2rg", "run.target=both"], ["policy=reg2rg writes the findings of each region", "run.target=find"]),
        (
            ["policy=reg2rg", "learner.sft.train=[encoder,connector]", "learner.zero_stage=3"],
            ["policy=reg2rg encodes each region", "set learner.zero_stage=2"],
        ),
        *(
            (["policy=argus", f"policy.name={name}"], ["policy.name=", "is not the chosen policy=argus", "leave"])
            for name in ("null", "..", "mu2", "[1]", "other")
        ),
        (
            ["policy=mu2", "policy.connector.kind=regions"],
            [
                "policy.connector.kind=regions has no queries, selected, temperature",
                "the values of policy=mu2 policy.size=tiny belong to kind mu2",
                "policy.connector=null 'policy.connector={kind: regions, ...}'",
            ],
        ),
        (["policy=mu2", "policy.encoder.kind=ctvit"], ["policy.encoder.kind=ctvit has no layers", "to kind vit3d"]),
        (["policy.connector.queries=3"], ["policy.connector.queries is no setting of policy=ct_gpt_pp: leave it out"]),
        ([f"{LORA}, parts: []}}"], ["learner.lora.parts: Tuple should have at least 1 item"]),
        ([f"{LORA}, parts: [connector, connector]}}"], ["learner.lora: parts ['connector', 'connector'] name a part"]),
        (
            [f"{LORA}, parts: [connector]}}", "learner.sft.train=[encoder]", "learner.dpo.train=[language_model]"],
            ["learner.lora.parts puts adapters on connector, of which neither sft.train nor dpo.train names anything"],
        ),
        (["learner.lora={rank: 9000, alpha: 8, dropout: 0, targets: x}"], ["learner.lora.rank: Input should be less"]),
        *(
            ([f"{key}=inf"], [f"{key}: Input should be a finite number (got inf)"])
            for key in (
                "learner.sft.lr", "learner.dpo.lr", "learner.dpo.beta", "learner.weight_decay", "learner.max_grad_norm",
                "learner.timeout_s", "learner.cpus", "learner.gpus", "policy.encoder_training.lr",
            )
        ),
        *(
            ([f"policy.language_model.{key}={bound + 1}"], [f"policy.language_model.{key}: ", f"equal to {bound} (got"])
            for key, bound in (
                ("hidden", 65536), ("layers", 512), ("heads", 1024), ("key_value_heads", 1024),
                ("intermediate", 524288), ("vocabulary", 1048576), ("positions", 16777216),
            )
        ),
        (["policy=folder", "policy.path=nowhere"], ["/nowhere is no policy: it has no policy.json"]),
        (["policy=folder", "policy.path=.", "policy.prompt=Say."], ["takes the folder as it is", "policy.prompt out"]),
        (["policy=folder", "policy.path=.", "policy.size=7b"], ["takes the folder as it is: leave policy.size out"]),
        (["policy.path=."], ["policy: a policy starts from policy.path, or from"]),
        (["sampler.max_tokens=512"], ["sampler.max_tokens=512 leaves no room for a prompt"]),
        (["sampler.max_length=1024"], ["sampler.max_length=1024 is more than policy.language_model.positions=512"]),
        (["policy=rgro", "run.target=findings"], ["policy=rgro writes the impression", "set run.target=impression"]),
        (["data=openi", "data.path=."], ["data=openi holds reports alone", "use policy=rgro"]),
        (["data=mimic_cxr", "data.path=."], ["data=mimic_cxr holds reports alone", "use policy=rgro"]),
        (["data=ct_3drrg"], ["no source: set data.ct_rate.path"]),
        (["data=ct_3drrg", "data.inspect.path=nowhere"], ["data.inspect.path:", "/nowhere does not exist"]),
        (
            ["policy=rgro", "policy.size=135m", "policy.pretrained.path=nowhere"],
            ["policy.pretrained.path:", "/nowhere does not exist"],
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_run_ends_in_one_clear_line(
    start: Start, capsys: pytest.CaptureFixture[str], overrides: list[str], words: list[str]
) -> None:
    line = refusal(start, capsys, *overrides)
    for word in words:
        assert word in line


def test_a_size_is_no_group_to_choose_from(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    assert refusal(start, capsys, "sizes=8b") == "unknown key sizes"


def test_several_faults_have_a_line_each(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        start("run.rounds=many", "sampler.n=1")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and "run.rounds" in lines[0] and "sampler.n" in lines[1]


def test_expected_errors_of_a_job_are_lines_and_others_keep_their_trace(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def job_with(error: Exception) -> Callable[[Config], None]:
        def job(_: Config) -> None:
            raise error

        return job

    monkeypatch.setattr(sys, "argv", ["job.py"])
    for expected in (RunError("the disk said no"), PermissionError(13, "Permission denied", "/runs/x")):
        with pytest.raises(SystemExit) as caught:
            launch(job_with(expected))
        assert caught.value.code == 2 and capsys.readouterr().err == f"error: {expected}\n"
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(ValueError, match="a bug"):
        launch(job_with(ValueError("a bug")))


@pytest.mark.slow
def test_the_job_itself_says_it_on_stderr_with_status_two(tmp_path: Path) -> None:
    command = [sys.executable, str(PROJECT / "jobs" / "dpo_loop.py")]
    for overrides, line in (
        (["run.roundz=3"], "error: unknown key run.roundz; did you mean run.rounds?"),
        (["data=folder", f"data.path={tmp_path}", "run.dry=true"], f"error: {tmp_path} holds no studies"),
        (
            [f"run.root={tmp_path}", f"cache.root={tmp_path}", "policy=rgro", "learner.dpo.train=[connector]"],
            "error: learner.dpo.train=[connector]: policy=rgro has no such part, so nothing would train",
        ),
    ):
        done = subprocess.run([*command, *overrides], capture_output=True, text=True, timeout=120, cwd=tmp_path)
        assert done.returncode == 2 and done.stderr.splitlines()[-1].startswith(line)
        assert "Traceback" not in done.stdout + done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (2, "the run mine ended with status 2: see its error above"),
        (-9, "ended with status -9: the same command goes on from there; a run that stopped for reasons of its own"),
    ],
)
def test_a_run_that_failed_is_told_with_what_helps(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], status: int, words: str
) -> None:
    ended = subprocess.CompletedProcess([], status)
    monkeypatch.setattr("rlaif.launch.subprocess.run", lambda *_, **__: ended)
    with pytest.raises(SystemExit):
        run_loop_apart("dpo_loop", "mine", [])
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("argument", ["-m", "--multirun", "hydra.mode=MULTIRUN"])
def test_a_job_that_makes_its_runs_itself_refuses_a_sweep(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    refuse_sweep(["run.name=mine", "run.max_bad_fraction=0"])
    with pytest.raises(SystemExit):
        refuse_sweep(["run.name=mine", argument])
    assert f"{argument}: this job makes its runs itself" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("job", ["regimes", "ablate", "proof"])
def test_the_jobs_that_make_runs_say_so_themselves(job: str) -> None:
    command = [sys.executable, str(PROJECT / "jobs" / f"{job}.py"), "-m", "run.rounds=1,2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and done.stderr.startswith("error: -m: this job makes its runs itself")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("job", "folder", "overrides"),
    [
        ("regimes", "mine-regimes", ["experiment=rgro", "policy.size=tiny"]),
        ("ablate", "mine-ablation", ["experiment=smoke"]),
    ],
)
def test_a_result_folder_of_another_job_is_refused_before_the_first_run(
    tmp_path: Path, job: str, folder: str, overrides: list[str]
) -> None:
    rows = ["uid,findings,impression", *(f"{number},Clear lungs.,Normal." for number in range(100))]
    (tmp_path / "indiana_reports.csv").write_text("\n".join(rows) + "\n")
    data = [f"data.path={tmp_path}"] if job == "regimes" else []
    with RunFolder.open(tmp_path / "runs", folder, {"job": "another"}):
        pass
    given = [*overrides, *data, "run.name=mine", f"run.root={tmp_path / 'runs'}"]
    command = [sys.executable, str(PROJECT / "jobs" / f"{job}.py"), *given]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and f"{folder} was started with another configuration" in done.stderr
    assert "===" not in done.stdout and [one.name for one in (tmp_path / "runs").iterdir()] == [folder]


PARTS = {
    "rgro": ["policy=rgro"],
    "reg2rg": ["policy=reg2rg"],
    "ct_gpt_pp": [],
}


@pytest.fixture
def folder(start: Start, tmp_path: Path) -> Callable[[str], str]:
    """The `policy.path` of a folder that says of itself what a policy of the configuration does."""

    def path_of(name: str) -> str:
        [config] = start(*PARTS[name])
        (tmp_path / name).mkdir()
        (tmp_path / name / "policy.json").write_text(config.policy.settings().model_dump_json())
        return f"policy.path={name}"

    return path_of


def test_a_folder_writes_with_the_sampler_of_its_size(start: Start, folder: Callable[[str], str]) -> None:
    path = folder("reg2rg")
    [config] = start("policy=folder", path)
    assert (config.sampler.max_tokens, config.sampler.max_length) == (224, 512)
    [config] = start("policy=folder", path, "sampler.max_tokens=100")
    assert config.sampler.max_tokens == 100
    file = Path(path.removeprefix("policy.path=")) / "policy.json"
    file.write_text(file.read_text(encoding="utf-8").replace('"size":"tiny"', '"size":"7b"'), encoding="utf-8")
    [config] = start("policy=folder", path)
    sampler = config.sampler
    assert (sampler.max_tokens, sampler.max_length, sampler.dtype, sampler.gpus) == (1280, 2048, "bfloat16", 1.0)
    assert config.learner.dtype == "float32"
    # A size of one's own has no settings.
    file.write_text(file.read_text(encoding="utf-8").replace('"size":"7b"', '"size":"mine"'), encoding="utf-8")
    [config] = start("policy=folder", path)
    assert config.sampler.max_tokens == 128


def test_a_folder_that_reads_regions_has_them_drawn(start: Start, folder: Callable[[str], str]) -> None:
    [config] = start("policy=folder", folder("reg2rg"))
    assert config.data.model_dump()["regions"] is True
    [config] = start("policy=folder", folder("ct_gpt_pp"))
    assert config.data.model_dump()["regions"] is False
    [config] = start("policy=reg2rg")
    assert config.data.model_dump()["regions"] is True


@pytest.mark.parametrize(
    ("name", "overrides", "words"),
    [
        ("rgro", [], ["policy=folder writes the impression", "set run.target=impression"]),
        (
            "reg2rg",
            ["run.target=both"],
            ["policy=folder writes the findings of each region", "set run.target=findings"],
        ),
        ("reg2rg", ["learner.dpo.train=[encoder]", "learner.zero_stage=3"], ["set learner.zero_stage=2"]),
        ("ct_gpt_pp", ["data=openi", "data.path=."], ["data=openi holds reports alone", "use policy=rgro"]),
    ],
)
def test_a_folder_is_held_against_data_and_target(
    start: Start,
    folder: Callable[[str], str],
    capsys: pytest.CaptureFixture[str],
    name: str,
    overrides: list[str],
    words: list[str],
) -> None:
    line = refusal(start, capsys, "policy=folder", folder(name), *overrides)
    for word in words:
        assert word in line


def test_zero_3_stands_where_ranks_encode_alike(start: Start, folder: Callable[[str], str]) -> None:
    [config] = start("policy=argus", "learner.sft.train=[encoder,connector]", "learner.zero_stage=3")
    assert config.trains_encoder
    # A folder is not fine-tuned, and without rounds nothing trains.
    path = folder("reg2rg")
    for overrides in (["learner.sft.train=[encoder]"], ["learner.dpo.train=[encoder]", "run.rounds=0"]):
        [config] = start("policy=folder", path, "learner.zero_stage=3", *overrides)
        assert not config.trains_encoder


@pytest.mark.parametrize("kind", ["mlp", "perceiver", "mu2", "regions"])
def test_another_connector_takes_the_place_of_the_policys_own(start: Start, kind: str) -> None:
    [config] = start("policy=argus", f"policy.connector.kind={kind}")
    assert config.policy.connector is not None and config.policy.connector.kind == kind


@pytest.mark.parametrize("kind", ["mlp", "regions"])
def test_a_connector_with_settings_of_its_own_is_replaced_as_the_refusal_says(start: Start, kind: str) -> None:
    [config] = start("policy=mu2", "policy.connector=null", f"policy.connector={{kind: {kind}}}")
    assert config.policy.connector is not None and config.policy.connector.kind == kind


def test_what_a_damaged_policy_folder_lacks_as_a_whole_is_told(
    start: Start, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "policy.json").write_text("[1]")
    line = refusal(start, capsys, "policy=folder", "policy.path=.")
    assert "policy.json does not describe a policy (Input should be an object)" in line
    (tmp_path / "policy.json").write_text('{"name": 3}')
    assert "(name: Input should be a valid string; size: Field" in refusal(
        start, capsys, "policy=folder", "policy.path=."
    )
