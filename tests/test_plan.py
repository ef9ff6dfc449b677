"""The dry plan: numbers that can be checked by hand, and nothing written."""

from math import prod
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from safetensors.torch import save_file

from rlaif.config import Config, ConfigurationError, load_config
from rlaif.datasets.study_table import DatasetError
from rlaif.launch import CONFIGS, PROJECT, sized
from rlaif.models.encoders.build import new_encoder
from rlaif.models.new_policy import new_policy
from rlaif.models.settings import PolicyError
from rlaif.plan import plan, plan_of
from rlaif.plan_judges import JudgePlan
from rlaif.plan_memory import Role, amount

SIX = "study_id,path,patient_id,findings,impression,split"


def config_of(root: Path, *overrides: str) -> Config:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        given = [f"++run.root={root}/runs", f"++cache.root={root}/cache", *overrides]
        return load_config(sized(compose("config", given), given), PROJECT)


def needs(config: Config) -> dict[str, float]:
    return {need.what: need.bytes for need in plan_of(config).disk}


def test_the_questions_of_judges_and_their_price_at_most(tmp_path: Path) -> None:
    address, prices = "base_url: 'http://127.0.0.1:1/v1'", "usd_per_million_prompt_tokens: 2, "
    grader = f"{{judge: gpt4, model: m, {address}, {prices}usd_per_million_completion_tokens: 8, max_cost_usd: 0.25}}"
    parser = f"{{judge: llm_parser, model: m, {address}}}"
    members = f"judge.members=[rules,{grader},{parser}]"
    made = plan_of(config_of(tmp_path, "experiment=smoke", "sampler.n=6", "judge=ensemble", members))
    # 96 candidates in each of two rounds; 8 held-out reports of the base and after each round.
    assert [(one.name, one.judgements) for one in made.judges] == [("rules", 192), ("gpt4", 216), ("llm_parser", 216)]
    # Nine comparisons of six candidates in both orders, and each held-out report against the base's.
    assert [one.questions for one in made.judges] == [0, 216, 2 * 16 * 18 + 2 * 8 * 2]
    assert [(one.cost_usd, one.cap_usd) for one in made.judges] == [(None, None), (0.25, 0.25), (None, None)]
    uncapped = members.replace(", max_cost_usd: 0.25", "")
    free = plan_of(config_of(tmp_path, "experiment=smoke", "judge=ensemble", uncapped))
    (cost,) = (one.cost_usd for one in free.judges if one.name == "gpt4")
    # About 550 tokens of prompt and 512 of answer a question.
    assert cost is not None and 216 * 512 * 8e-6 < cost < 216 * (800 * 2e-6 + 512 * 8e-6)


def test_the_smoke_plan_in_numbers(tmp_path: Path) -> None:
    made = plan_of(config_of(tmp_path, "experiment=smoke", "sampler.n=6", "sampler.max_tokens=64"))
    counts = made.counts
    assert counts.cases == counts.studies == {"sft": 96, "align": 16, "heldout": 8}
    assert (counts.imaged, counts.quarantined) == (120, 0)
    # Two rounds of 16 x 6; three evaluations of 8, each also with another patient's features.
    assert (counts.candidates, counts.heldout_reports) == (96, 16)
    assert made.judges == (JudgePlan("rules", 192, 0, None, None),)
    disk = {need.what: need.bytes for need in made.disk}
    assert disk["phantom volumes (cache)"] == 120 * 32 * 48 * 48 * 2
    assert disk["encoder features (cache)"] == 120 * 18 * 96 * 2
    assert disk["candidates and judgements"] == 192 * (64 * 16 + 500)
    assert (made.cpus, made.gpus) == (2.0, 0.0)
    names = [stage.name for stage in made.stages]
    assert names[:5] == ["studies", "start", "ingest", "base", "heldout/base"] and names[-1] == "summary"
    assert "at most 2 steps of 8 pairs" in next(one.does for one in made.stages if one.name.endswith("learn"))
    assert made.places["run folder"] == tmp_path / "runs" / "smoke"


def test_policies_on_disk_and_in_memory(tmp_path: Path) -> None:
    config = config_of(tmp_path, "experiment=smoke", "run.rounds=1")
    assert config.policy.language_model is not None and config.policy.encoder is not None
    made = plan_of(config)
    policy = new_policy(
        config.policy.settings(),
        config.policy.language_model.model_copy(update={"vocabulary": 260}),
        [],
        seed=0,
    )
    # The plan counts on the whole vocabulary, of which so few texts would fill no more than 260.
    hidden, vocabulary = config.policy.language_model.hidden, config.policy.language_model.vocabulary
    trained = sum(one.numel() for one in policy.parameters()) + 2 * (vocabulary - 260) * hidden
    [learner] = [role for role in made.roles if role.name == "learner"]
    assert learner.count == 2 and f"policy of {trained / 1e6:.1f} M in float32" in learner.made_of
    policies = needs(config)["policies"]
    # Start, base twice, one checkpoint; each with its encoder of 0.3 M.
    assert 4 * 4 * trained < policies < 4 * 4 * (trained + 400_000)
    assert needs(config_of(tmp_path, "experiment=smoke", "run.rounds=9"))["policies"] == pytest.approx(policies * 6 / 4)
    # What comes before the fine-tuning leaves its policy in the cache too.
    pretrain = "learner.pretrain={train: [connector], epochs: 1, batch: 4, lr: 1e-3, warmup: 0.0, schedule: linear}"
    pretrained = needs(config_of(tmp_path, "experiment=smoke", "run.rounds=1", pretrain))["policies"]
    assert pretrained == pytest.approx(policies * 5 / 4)


def test_adapters_spare_the_learners_memory(tmp_path: Path) -> None:
    def learner(*overrides: str) -> float:
        roles = plan_of(config_of(tmp_path, "experiment=smoke", *overrides)).roles
        return next(role.bytes for role in roles if role.name == "learner")

    lora = "learner.lora={rank: 4, alpha: 8, dropout: 0.0, targets: all-linear}"
    assert learner(lora) < learner()


def test_an_encoder_that_trains_is_counted_with_what_learns_and_samples(tmp_path: Path) -> None:
    def roles(*overrides: str) -> dict[str, Role]:
        made = plan_of(config_of(tmp_path, "experiment=smoke", "sampler.max_tokens=64", *overrides))
        assert ("encoder features (cache)" in {one.what for one in made.disk}) == (len(overrides) == 0)
        return {role.name: role for role in made.roles}

    frozen, training = roles(), roles("learner.sft.train=[encoder,connector,language_model]")
    config = config_of(tmp_path, "experiment=smoke")
    encoder = config.policy.encoder
    assert encoder is not None
    parameters = sum(one.numel() for one in new_encoder(encoder).parameters())
    volume = prod(encoder.volume) * 4
    # Grid 4 x 6 x 6, 96 values, 16 of them a layer: two layers' stay for the backward pass.
    activations = 4 * 6 * 6 * 96 * 4 * 16
    # Weights, reference and gradients; moments over two ranks. Sixteen studies at once.
    # A master copy with the moments, and DeepSpeed's bucket, which holds all of so few.
    more = parameters * (4 + 4 + 4 + 12 / 2 + 4) + 16 * (volume + 2 * activations)
    assert training["learner"].bytes - frozen["learner"].bytes == more
    assert training["sampler"].bytes - frozen["sampler"].bytes == parameters * 4 + volume + activations
    # CTs are read, and not encoded.
    assert (frozen["ingest"].count, training["ingest"].count) == (2, 1)
    assert training["ingest"].bytes < frozen["ingest"].bytes
    stages = plan_of(config_of(tmp_path, "experiment=smoke", "learner.dpo.train=[encoder]")).stages
    assert "reads 120 CTs once, and encodes none" in next(one.does for one in stages if one.name == "ingest")


def test_gradients_and_moments_are_of_what_trains(tmp_path: Path) -> None:
    def learner(train: str) -> float:
        made = plan_of(
            config_of(tmp_path, "experiment=smoke", f"learner.sft.train={train}", f"learner.dpo.train={train}")
        )
        return next(role.bytes for role in made.roles if role.name == "learner")

    # Two layers of the connector, of 96 to 128 and of 128 to 128 values; gradients and their bucket, and a master copy
    # and moments over two ranks.
    connector = 96 * 128 + 128 + 128 * 128 + 128
    assert learner("[language_model,connector]") - learner("[language_model]") == connector * (4 + 4 + 12 / 2)


def folder_of(root: Path, rows: list[str]) -> Path:
    root.mkdir()
    for number in range(1, 6):
        (root / f"{number}.nii.gz").touch()
    (root / "studies.csv").write_text("\n".join([SIX, *rows]) + "\n")
    return root


def test_a_folder_is_counted_from_its_table(tmp_path: Path) -> None:
    folder = folder_of(
        tmp_path / "ct",
        [
            "s1,1.nii.gz,p1,Clear lungs.,Normal.,sft",
            "s2,2.nii.gz,p2,,,sft",
            "s3,3.nii.gz,p3,,,align",
            "s4,4.nii.gz,p4,Clear lungs.,Normal.,align",
            "s5,5.nii.gz,p5,Clear lungs.,Normal.,heldout",
            "s6,gone.nii.gz,p6,Clear lungs.,Normal.,heldout",
        ],
    )
    counts = plan_of(config_of(tmp_path, "data=folder", f"data.path={folder}", "sampler.n=5", "run.rounds=3")).counts
    assert counts.studies == {"sft": 2, "align": 2, "heldout": 1} and counts.quarantined == 1
    assert counts.cases == {"sft": 1, "align": 2, "heldout": 1}
    assert (counts.candidates, counts.rounds) == (10, 3)
    # One patient: there is nobody else's image for a control.
    assert counts.heldout_reports == 1


def test_a_text_only_policy_needs_no_ingest(tmp_path: Path) -> None:
    rows = ["uid,findings,impression", *(f"{number},Clear lungs.,Normal." for number in range(50))]
    (tmp_path / "indiana_reports.csv").write_text("\n".join(rows) + "\n")
    language = (
        "++policy.language_model={hidden: 8, layers: 1, heads: 1, intermediate: 8, vocabulary: 300, positions: 512}"
    )
    made = plan_of(
        config_of(
            tmp_path,
            "policy=rgro",
            "data=openi",
            f"data.path={tmp_path}",
            "++policy.pretrained=null",
            language,
            "heldout.limit=3",
        )
    )
    assert sum(made.counts.studies.values()) == 50 and made.counts.imaged == 0
    assert made.counts.cases["heldout"] == made.counts.heldout_reports == 3
    assert [role.name for role in made.roles] == ["sampler", "judge", "learner"]
    assert "ingest" not in [stage.name for stage in made.stages]
    assert "encoder features (cache)" not in {need.what for need in made.disk}


def test_a_policy_of_ones_own_is_taken_as_it_is(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    assert config.policy.encoder is not None and config.policy.language_model is not None
    policy = new_policy(config.policy.settings(), config.policy.language_model, ["Normal."], seed=0)
    save_file(new_encoder(config.policy.encoder).state_dict(), tmp_path / "encoder.safetensors")
    policy.save_pretrained(tmp_path / "mine", tmp_path / "encoder.safetensors")
    made = plan_of(config_of(tmp_path, "policy=folder", f"policy.path={tmp_path / 'mine'}"))
    assert made.counts.imaged == 2600
    assert next(stage.does for stage in made.stages if stage.name == "base") == "none: the policy is taken as it is"
    assert "base policies by content" not in made.places


def test_what_the_run_would_refuse_the_plan_refuses(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="empty holds no studies"):
        plan_of(config_of(tmp_path, "data=folder", f"data.path={tmp_path / 'empty'}"))
    (tmp_path / "empty" / "studies.csv").write_text("study_id,file,patient_id,findings,impression\n")
    with pytest.raises(DatasetError, match=r"studies\.csv lacks the column 'path'"):
        plan_of(config_of(tmp_path, "data=folder", f"data.path={tmp_path / 'empty'}"))
    text_only = '{"name": "x", "size": "x", "recipe": null, "encoder": null, "connector": null}'
    (tmp_path / "policy.json").write_text(text_only)
    with pytest.raises(PolicyError, match="has no language_model that can be read"):
        plan_of(config_of(tmp_path, "policy=folder", f"policy.path={tmp_path}", "run.target=impression"))


def test_a_plan_without_patients_to_align_or_fine_tune_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no study is in the split align"):
        plan_of(config_of(tmp_path, "experiment=smoke", "data.align=0"))
    assert plan_of(config_of(tmp_path, "experiment=smoke", "data.align=0", "run.rounds=0")).counts.candidates == 0
    with pytest.raises(ConfigurationError, match=r"no reports to fine-tune on \(split sft\)"):
        plan_of(config_of(tmp_path, "experiment=smoke", "data.sft=0"))


def test_a_blind_control_is_told_where_there_is_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for override, told in (("run.blind_control=true", True), ("run.blind_control=false", False)):
        plan(config_of(tmp_path, "experiment=smoke", override))
        assert ("blind control" in capsys.readouterr().out) == told


def test_the_printed_plan_says_it_all_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan(config_of(tmp_path, "experiment=smoke", "sampler.n=6", "run.name=mine"))
    shown = capsys.readouterr().out
    assert "Plan of the run mine" in shown and "nothing is started or written" in shown
    for words in (
        "16 cases x 6",
        "free",
        "judgements by rules",
        "CPUs each",
        "120 studies x 18 tokens x 96 values x 2 bytes",
    ):
        assert words in shown
    assert f"{tmp_path}/runs/mine" in "".join(line.strip(" │") for line in shown.splitlines() if "run" in line)
    assert list(tmp_path.iterdir()) == []


def test_bytes_for_people() -> None:
    assert [amount(size) for size in (12, 2048, 3 * 2**20, 5.5 * 2**30, 2**41)] == [
        "12 bytes",
        "2 KiB",
        "3 MiB",
        "5.5 GiB",
        "2.0 TiB",
    ]
