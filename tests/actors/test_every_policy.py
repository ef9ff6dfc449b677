"""Every tiny policy on real engines and learners: sampler and learner agree, before and after a sync, and on what."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import ray
import torch
from ray.exceptions import RayTaskError
from safetensors.torch import load_file, save_file
from torch import Tensor

from actors.fleet import Fleet
from actors.learner_group import LearnerGroup
from actors.outages import Outages
from actors.placement import Placement
from actors.requests import Request
from actors.sampler import Sampler
from rlaif.config import PhantomDataSettings
from rlaif.datasets import phantom
from rlaif.datasets.registry import load_phantom
from rlaif.features import FeatureStore
from rlaif.models.encoders.build import new_encoder
from rlaif.models.new_policy import new_policy
from rlaif.models.policy import Policy, load_encoder
from rlaif.models.settings import PolicyError, PolicySettings
from rlaif.models.visual_input import RegionInput, VisualInput
from rlaif.records import Candidate, Case, Ingested, Pair, Study
from rlaif.reports.prompts import findings_case, image_case, region_case
from rlaif.tables import Table
from rlaif.vision import StoredFeatures, StudyVoxels

if TYPE_CHECKING:
    from rlaif.config import Config

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
GPT2 = ("policy=reg2rg", "+policy.language_model.architecture=gpt2", "+policy.language_model.tied=true")
POLICIES = {
    "ct_gpt_pp": ("policy=ct_gpt_pp",),
    "argus": ("policy=argus",),
    "m3d": ("policy=m3d",),
    "radfm": ("policy=radfm",),
    # Input and output embeddings are one, as in the paper's Llama 3.2 of 1B: on a CPU vLLM packs them twice.
    "mu2": ("policy=mu2", "+policy.language_model.tied=true"),
    "reg2rg": ("policy=reg2rg",),
    "reg2rg with gpt2": GPT2,
    "rgro": ("policy=rgro",),
}
REGIONS = ("heart", "lung", "trachea and bronchie")
STUDIES = tuple(
    Study(
        f"s{number}",
        f"p{number}",
        "test",
        "sft",
        volume="ct.nii.gz",
        findings=" ".join(sentences),
        impression="Cardiomegaly.",
        region_reports=dict(zip(REGIONS, sentences, strict=True)),
    )
    for number, sentences in enumerate(
        (
            ("The heart is enlarged.", "The lungs are clear.", "The airways are patent."),
            ("The heart is of normal size.", "There is a 12 mm nodule in the right upper lobe.", "No stenosis."),
            ("No pericardial effusion.", "Consolidation in the right lower lobe.", "Secretions in the trachea."),
        )
    )
)
# More positions than the fixture's: regions, and the prompts' words.
LONGER = ("sampler.max_tokens=24", "sampler.max_length=512")


def case_of(settings: PolicySettings, study: Study, key: str) -> Case:
    match settings.reads:
        case "findings":
            return findings_case(study, "impression")
        case "scan":
            return image_case(study, "findings", key)
        case "regions":
            return region_case(study, "findings", key, REGIONS)


def made(config: "Config", folder: Path, seed: int) -> Policy:
    """The configuration's policy with weights that matter, loud enough to speak; the folder holds it."""
    choice = config.policy
    assert choice.language_model is not None
    settings = choice.settings()
    texts = [text for study in STUDIES for text in (study.findings or "", case_of(settings, study, "key").prompt)]
    policy = new_policy(settings, choice.language_model, texts, seed=seed)
    encoder, file = None, folder.parent / f"{folder.name}.encoder.safetensors"
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        if settings.encoder is not None:
            encoder = new_encoder(settings.encoder)
        # What begins at zero keeps gradients from what lies before it.
        for part in (policy, encoder):
            for parameter in part.parameters() if part is not None else ():
                parameter.add_(torch.randn_like(parameter) * 0.05)
        policy.language_model.get_output_embeddings().weight.mul_(2)
    if encoder is not None:
        save_file(encoder.state_dict(), file)
    policy.save_pretrained(folder, file if encoder is not None else None)
    return Policy.from_pretrained(folder)


def features_of(settings: PolicySettings, seed: int) -> VisualInput:
    """Encoder features of a study that was never scanned, with its regions where the policy reads them."""
    encoder = settings.encoder
    assert encoder is not None
    generator = torch.Generator().manual_seed(seed)

    def image() -> Tensor:
        # What the store holds is float16.
        return torch.randn(encoder.tokens, encoder.hidden, generator=generator).half()

    def mask() -> Tensor:
        return (torch.rand(encoder.volume, generator=generator) * 255).to(torch.uint8)

    return VisualInput(image(), {name: RegionInput(image(), mask()) for name in REGIONS if settings.region_tokens})


def sample(sampler: Any, cases: Sequence[Case]) -> list[Candidate]:
    requests = [Request(case, case.feature_key, 6, 1.0) for case in cases]
    return [one for item in sampler.sample.remote(requests, 0) for one in ray.get(item, timeout=120)]


def gap(policy: Policy, candidates: Sequence[Candidate], visual: Callable[[str], VisualInput] | None) -> float:
    """The mean difference between the candidates' log-probs and the policy's own."""
    tokens = policy.collate([policy.prompt(one.prompt) for one in candidates], [list(c.token_ids) for c in candidates])
    seen = None if visual is None else [visual(str(one.feature_key)) for one in candidates]
    with torch.inference_mode():
        ours = policy(tokens, seen)[tokens.answer]
    theirs = torch.tensor([value for one in candidates for value in one.logprobs])
    return float((ours - theirs).abs().mean())


@pytest.fixture(scope="module")
def learner(cluster: None, small: Any) -> Iterator[LearnerGroup]:
    """A learner of one rank, which `told` gives other settings."""
    config = small.config("learner.ranks=1")
    group = LearnerGroup(config, StoredFeatures(small.features), Placement(config), Outages())
    yield group
    for rank in group.ranks:
        ray.kill(rank)


def told(group: LearnerGroup, config: "Config", vision: StoredFeatures | StudyVoxels) -> None:
    """The learner as if it had been started with these settings, and on what is in the store by now."""
    settings = config.learner

    def take(one: Any) -> None:
        one.settings, one.with_encoder, one.vision = settings, vision.with_encoder, vision.open()

    ray.get([rank.__ray_call__.remote(take) for rank in group.ranks], timeout=60)


@pytest.mark.parametrize("name", POLICIES)
def test_sampler_and_learner_agree_and_a_sync_reaches_every_part(
    learner: LearnerGroup, small: Any, name: str, tmp_path: Path
) -> None:
    config = small.config(*POLICIES[name], *LONGER)
    first, second = (made(config, tmp_path / f"policy-{seed}", seed) for seed in (1, 2))
    settings, vision = first.settings, None
    cases = [case_of(settings, study, f"f{number}") for number, study in enumerate(STUDIES[:2])]
    visual = others = None
    if settings.encoder is not None:
        vision = StoredFeatures(tmp_path / "features")
        store = vision.open()
        store.write({f"f{number}": features_of(settings, number) for number in range(4)})
        visual, others = store.get, lambda key: other(store, key)

    sampler = Fleet(config, vision).samplers(tmp_path / "policy-1", 0).actors[0]
    try:
        before = sample(sampler, cases)
        sent = learner.ranks[0].weights.remote(str(tmp_path / "policy-2"), 1)
        assert ray.get(sampler.load.remote(sent), timeout=60) == (1, ray.get(sent).checksum)
        after = sample(sampler, cases)
    finally:
        ray.kill(sampler)
    assert len(before) == len(after) == 12 and len({one.text for one in before + after}) > 20
    agreed = gap(first, before, visual), gap(second, after, visual)
    stale = {"all": (gap(second, before, visual), gap(first, after, visual))}
    if visual is not None:
        for part in ("connector", "language_model"):
            half = Policy.from_pretrained(tmp_path / "policy-2")
            getattr(half, part).load_state_dict(getattr(first, part).state_dict())
            stale[part] = (gap(half, before, visual), gap(half, after, visual))
        stale["features"] = (gap(first, before, others), gap(second, after, others))
    assert max(agreed) < 1e-4
    assert min(value for pair in stale.values() for value in pair) > 1e-2


def other(store: FeatureStore, key: str) -> VisualInput:
    """A study's features with the scan of another one or, where it has regions, with one region of another one."""
    own, strange = store.get(key), store.get(f"f{int(key[1:]) + 2}")
    if not own.regions:
        return replace(own, image=strange.image)
    return replace(own, regions={**own.regions, "lung": strange.regions["lung"]})


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> list[Study]:
    """Two phantom studies with regions."""
    root = tmp_path_factory.mktemp("phantom")
    settings = PhantomDataSettings(name="phantom", sft=2, align=0, heldout=0, seed=3, regions=True)
    phantom.generate(root, settings, workers=1)
    return load_phantom(settings, root).studies


@pytest.mark.parametrize("name", ["ct_gpt_pp", "reg2rg"])
def test_an_encoder_that_trains_is_saved_and_reaches_the_sampler(
    learner: LearnerGroup, small: Any, name: str, studies: list[Study], tmp_path: Path
) -> None:
    one_step = ("learner.ranks=1", "learner.sft.batch=2", "learner.sft.epochs=1", "learner.sft.lr=3e-3")
    trains = "learner.sft.train=[encoder,connector,language_model]"
    config = small.config(*POLICIES[name], *LONGER, *one_step, trains)
    assert config.trains_encoder
    run, base, trained = (tmp_path / folder for folder in ("run", "base", "trained"))
    settings = made(config, base, 1).settings
    Table(run / "studies", Study).append(studies)
    Table(run / "features", Ingested).append([Ingested(one.study_id, f"k{one.study_id}") for one in studies])
    vision = StudyVoxels(run, str(settings.recipe), "canonical", settings.reads == "regions")
    asked = [replace(one, region_reports=dict.fromkeys(REGIONS, "Normal.")) for one in studies]
    cases = [case_of(settings, one, f"k{one.study_id}") for one in asked]

    told(learner, config, vision)
    steps = list(learner.train("train_sft", str(base), cases, str(trained), config.learner.sft))
    assert [step["of"] for step in steps] == [1]
    before, after = (load_file(folder / "encoder.safetensors") for folder in (base, trained))
    names = {key for key, _ in load_encoder(base).named_parameters()}
    assert {key for key in before if not torch.equal(before[key], after[key])} == names

    sampler = Fleet(config, vision).samplers(base, 0).actors[0]
    try:
        sent = learner.ranks[0].weights.remote(str(trained), 1)
        assert ray.get(sampler.load.remote(sent), timeout=60) == (1, ray.get(sent).checksum)
        weights = ray.get(sent).tensors
        candidates = sample(sampler, cases)
    finally:
        ray.kill(sampler)
    assert {f"encoder.{key}" for key in after} == {key for key in weights if key.startswith("encoder.")}
    assert all(torch.equal(weights[f"encoder.{key}"], tensor) for key, tensor in after.items())
    Table(run / "round-000" / "candidates", Candidate).append(candidates)
    agreed = learner.logprob_gap(str(trained), str(run), 0)
    # With the old encoder alone, all else being new, the log-probs are others: a stale one would be seen.
    Policy.from_pretrained(trained).save_pretrained(tmp_path / "stale", base / "encoder.safetensors")
    stale = learner.logprob_gap(str(tmp_path / "stale"), str(run), 0)
    assert agreed["mean"] < 1e-4 and agreed["tokens"] == sum(len(one.token_ids) for one in candidates)
    assert stale["mean"] > 1e-3


PROMPT = "<image>\nDescribe the findings of this chest CT."
REPORTS = (
    "The lungs are clear. There is no pleural effusion.",
    "There is a 12 mm nodule in the right upper lobe.",
    "Moderate cardiomegaly. Small left pleural effusion.",
    "Consolidation in the right lower lobe.",
)
DPO = ("learner.ranks=1", "learner.dpo.batch=4", "learner.dpo.epochs=1", "learner.dpo.lr=1e-3")


def cases_of(reports: Sequence[str]) -> list[Case]:
    return [
        Case(f"case-{number}", f"study-{number}", f"patient-{number}", PROMPT, text, text, f"f{number}")
        for number, text in enumerate(reports)
    ]


def candidate(policy: Policy, number: int, index: int, text: str, visual: VisualInput) -> Candidate:
    """A report as the policy would have sampled it."""
    ids = policy.answer(text)
    tokens = policy.collate([policy.prompt(PROMPT)], [ids])
    with torch.inference_mode():
        logprobs = policy(tokens, [visual])[tokens.answer].tolist()
    return Candidate(
        candidate_id=f"case-{number}.0.{index}",
        case_id=f"case-{number}",
        study_id=f"study-{number}",
        round=0,
        index=index,
        attempt=0,
        prompt=PROMPT,
        text=text,
        token_ids=tuple(ids),
        logprobs=tuple(logprobs),
        finish_reason="stop",
        usable=True,
        policy_version=0,
        weights_checksum="",
        feature_key=f"f{number}",
        seed=6 * number + index,
        sampled_at=datetime.now(UTC),
    )


def paired(run: Path, folder: Path, features: Path, reports: Sequence[str] = REPORTS) -> Path:
    """A run folder whose round 0 prefers each report to the next one."""
    policy, store = Policy.from_pretrained(folder), FeatureStore(features)
    candidates, pairs = [], []
    for number in range(len(reports) - 1):
        texts = reports[number], reports[number + 1]
        visual = store.get(f"f{number}")
        candidates += [candidate(policy, number, index, text, visual) for index, text in enumerate(texts)]
        pairs.append(
            Pair(
                pair_id=f"case-{number}.0",
                case_id=f"case-{number}",
                round=0,
                strategy="strategy2",
                prompt=PROMPT,
                chosen=texts[0],
                rejected=texts[1],
                chosen_candidate_id=f"case-{number}.0.0",
                rejected_candidate_id=f"case-{number}.0.1",
                chosen_score=0.8,
                rejected_score=0.2,
                margin=0.6,
                judge="rules",
            )
        )
    Table(run / "round-000" / "candidates", Candidate).append(candidates)
    Table(run / "round-000" / "pairs", Pair).append(pairs)
    return run


def test_policy_and_reference_read_the_same_features(learner: LearnerGroup, small: Any, tmp_path: Path) -> None:
    features, config = tmp_path / "features", small.config(*DPO)
    vision, kept = StoredFeatures(features), FeatureStore(small.features)
    own = {key: kept.get(key) for key in ("f0", "f1", "f2")}
    FeatureStore(features).write(own)
    runs = {folder: paired(tmp_path / folder.name, folder, features) for folder in (small.first, small.second)}

    def seen() -> tuple[float, float, list[float]]:
        """The gap of policy and of reference to what they gave at first, and the rewards of the first step."""
        told(learner, config, vision)
        gaps = [learner.logprob_gap(str(folder), str(run), 0)["mean"] for folder, run in runs.items()]
        (same, *_), (differ, *_) = (
            learner.train("train_dpo", str(folder), *[str(small.second)] * 2, str(runs[small.first]), 0, str(target))
            for folder, target in ((small.second, tmp_path / "same"), (small.first, tmp_path / "differ"))
        )
        # Policy and reference are one here: did only one of them see the new features, the rewards would tell.
        assert same["chosen_reward"] == pytest.approx(0, abs=1e-4) == same["rejected_reward"]
        return gaps[0], gaps[1], [differ["chosen_reward"], differ["rejected_reward"]]

    before = seen()
    assert max(before[:2]) < 1e-5
    for shard in features.glob("shard-*"):
        shard.unlink()
    FeatureStore(features).write({key: VisualInput(one.image.float().flip(0) * 1.5) for key, one in own.items()})
    after = seen()
    assert min(after[:2]) > 1e-3
    assert all(abs(one - two) > 1e-3 for one, two in zip(before[2], after[2], strict=True))


def test_a_sampler_that_needs_more_positions_than_there_are_is_refused(small: Any) -> None:
    settings = small.config("sampler.max_length=257").sampler
    with pytest.raises(PolicyError, match=r"sampler\.max_length=257 is more than the 256 positions .* lower it"):
        Sampler(str(small.first), 0, StoredFeatures(small.features), settings, 0)


def test_reports_longer_than_the_positions_are_left_out_and_counted(
    learner: LearnerGroup, small: Any, tmp_path: Path
) -> None:
    config = small.config(*DPO, "learner.sft.batch=4", "learner.sft.epochs=1")
    told(learner, config, StoredFeatures(small.features))
    long = "Moderate cardiomegaly. " * 60
    start, sft = str(small.first), config.learner.sft
    cases = cases_of([*REPORTS, long])
    steps = list(learner.train("train_sft", start, cases, str(tmp_path / "some"), sft))
    assert [(step["of"], step["left_out"]) for step in steps] == [(1, 1.0)]
    alone = list(learner.train("train_sft", start, cases_of(REPORTS), str(tmp_path / "none"), sft))
    assert [step["left_out"] for step in alone] == [0.0] and alone[0]["loss"] == pytest.approx(steps[0]["loss"])
    with pytest.raises(RayTaskError, match=r"every prompt with its report is longer than .* 256 positions") as caught:
        list(learner.train("train_sft", start, cases[-1:], str(tmp_path / "all"), sft))
    assert isinstance(caught.value.cause, PolicyError) and not (tmp_path / "all").exists()


def test_adapters_on_both_parts_are_written_as_product_and_go_on(
    learner: LearnerGroup, small: Any, tmp_path: Path
) -> None:
    lora = "learner.lora={rank: 2, alpha: 6, dropout: 0.0, targets: all-linear, parts: [language_model, connector]}"
    told(
        learner,
        small.config(*DPO, lora, "learner.dpo.train=[language_model,connector]", "learner.dpo.epochs=3"),
        StoredFeatures(small.features),
    )
    run = paired(tmp_path / "run", small.first, small.features)
    start, first, second = small.first, tmp_path / "first", tmp_path / "second"
    steps = [
        list(learner.train("train_dpo", str(policy), *[str(start)] * 2, str(run), 0, str(target)))
        for policy, target in ((start, first), (first, second))
    ]
    base = Policy.from_pretrained(start).weights()
    for folder in (first, second):
        written, adapters = Policy.from_pretrained(folder).weights(), load_file(folder / "adapters.safetensors")
        layers = {key.partition(".lora_")[0] for key in adapters}
        assert {layer.partition(".")[0] for layer in layers} == {"language_model", "connector"}
        assert {f"{layer}.weight" for layer in layers} == {
            key for key in base if not torch.equal(base[key], written[key])
        }
        for layer in layers:
            product = adapters[f"{layer}.lora_B.default.weight"] @ adapters[f"{layer}.lora_A.default.weight"]
            assert torch.allclose(written[f"{layer}.weight"], base[f"{layer}.weight"] + 6 / 2 * product, atol=1e-6)
    assert steps[0][0]["margin"] == pytest.approx(0, abs=1e-4)
    assert steps[1][0]["margin"] > steps[0][-1]["margin"] > 1e-3, "the second round should begin where the first ended"
