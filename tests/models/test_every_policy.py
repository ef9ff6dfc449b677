"""What holds for every policy of the configuration in its tiny size: where gradients go, what reports depend on."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from rlaif.models.encoders.build import new_encoder
from rlaif.models.new_policy import new_policy
from rlaif.models.policy import Policy
from rlaif.models.prompt import Tokens
from rlaif.models.settings import LoraSettings, PolicyError
from rlaif.models.visual_input import RegionInput, VisualInput
from rlaif.records import Study
from rlaif.reports.prompts import findings_case, image_case, region_case

if TYPE_CHECKING:
    from rlaif.config import Config

POLICIES = ("ct_gpt_pp", "argus", "m3d", "radfm", "mu2", "reg2rg", "rgro")
WITH_IMAGES = POLICIES[:-1]
REGIONS = ("heart", "lung", "trachea and bronchie")
STUDY = Study(
    "s1",
    "p1",
    "test",
    "sft",
    volume="ct.nii.gz",
    findings="The heart is enlarged. Clear lungs.",
    impression="Cardiomegaly.",
    region_reports={"heart": "The heart is enlarged.", "lung": "Clear lungs.", "trachea and bronchie": "Patent."},
)


@pytest.fixture(scope="module")
def configs(configured: Callable[..., "Config"]) -> "dict[str, Config]":
    return {name: configured(f"policy={name}") for name in POLICIES}


def made(config: "Config", seed: int = 0, *, with_encoder: bool = False) -> Policy:
    """The configuration's policy with weights large enough to matter."""
    choice = config.policy
    assert choice.language_model is not None
    settings = choice.settings()
    policy = new_policy(settings, choice.language_model, [str(STUDY.findings), "Patent. Cardiomegaly."], seed=seed)
    generator = torch.Generator().manual_seed(seed)
    if with_encoder and settings.encoder is not None:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            policy.encoder = new_encoder(settings.encoder)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return policy.eval()


def given(policy: Policy, seed: int = 0) -> list[VisualInput] | None:
    """What the policy sees of two studies: features, or voxels where its encoder is on board."""
    encoder = policy.settings.encoder
    if encoder is None:
        return None
    generator = torch.Generator().manual_seed(seed)

    def image() -> Tensor:
        if policy.encoder is not None:
            return torch.rand(1, *encoder.volume, generator=generator) * 2 - 1
        return torch.randn(encoder.tokens, encoder.hidden, generator=generator)

    def study() -> VisualInput:
        if not policy.settings.region_tokens:
            return VisualInput(image())
        masks = (torch.rand(len(REGIONS), *encoder.volume, generator=generator) * 255).to(torch.uint8)
        return VisualInput(image(), {name: RegionInput(image(), masks[n]) for n, name in enumerate(REGIONS)})

    return [study(), study()]


def batch(policy: Policy) -> Tokens:
    """Two rows of one case: its own answer, and a shorter one."""
    case = {
        "findings": lambda: findings_case(STUDY, "impression"),
        "scan": lambda: image_case(STUDY, "findings", "key"),
        "regions": lambda: region_case(STUDY, "findings", "key", REGIONS),
    }[policy.settings.reads]()
    assert case.answer is not None
    return policy.collate([policy.prompt(case.prompt)] * 2, [policy.answer(case.answer), policy.answer("Patent.")])


def sums(policy: Policy, visual: list[VisualInput] | None) -> Tensor:
    with torch.inference_mode():
        return policy(batch(policy), visual).sum(dim=1)


@pytest.mark.parametrize("name", POLICIES)
def test_gradient_reaches_what_trains_and_nothing_else(configs: "dict[str, Config]", name: str) -> None:
    policy = made(configs[name], with_encoder=True)
    parts = ["language_model", "connector", "encoder"] if policy.connector is not None else ["language_model"]
    for trained in (parts, parts[:1], parts[1:2] or parts, parts[-1:]):
        policy.train_only(trained)
        policy.zero_grad()
        policy(batch(policy), given(policy)).sum().backward()
        reached = {key for key, one in policy.named_parameters() if one.grad is not None and bool(one.grad.any())}
        assert reached == {key for key, _ in policy.named_parameters() if key.partition(".")[0] in trained}


@pytest.mark.parametrize("name", POLICIES)
def test_adapters_train_alone_and_are_merged(configs: "dict[str, Config]", name: str, tmp_path: Path) -> None:
    policy = made(configs[name])
    names, before = policy.weights().keys(), sums(policy, given(policy))
    policy.add_adapters(
        LoraSettings(rank=2, alpha=4, dropout=0.0, targets="all-linear", parts=("language_model", "connector"))
    )
    assert torch.allclose(sums(policy, given(policy)), before, atol=1e-5)
    policy.train_only(["language_model", "connector"])
    policy(batch(policy), given(policy)).sum().backward()
    trained = {key for key, one in policy.named_parameters() if one.requires_grad}
    assert trained == {key for key, one in policy.named_parameters() if one.grad is not None}
    assert trained and all(".lora_" in key for key in trained)
    parts = {"language_model"} if policy.connector is None else {"language_model", "connector"}
    assert {key.partition(".")[0] for key in trained} == parts
    with torch.no_grad():
        for key, one in policy.named_parameters():
            if ".lora_B." in key:
                one.normal_(std=0.1, generator=torch.Generator().manual_seed(1))
    adapted = sums(policy, given(policy))
    assert (adapted - before).abs().max() > 1e-3 and policy.weights().keys() == names
    policy.save_pretrained(tmp_path, None)
    assert torch.allclose(sums(Policy.from_pretrained(tmp_path), given(policy)), adapted, atol=1e-4)


@pytest.mark.parametrize("name", WITH_IMAGES)
def test_policy_and_reference_see_the_same_features(configs: "dict[str, Config]", name: str) -> None:
    policy, reference = made(configs[name]), made(configs[name])
    with torch.no_grad():
        for parameter in policy.language_model.parameters():
            parameter.mul_(1.01)
    tokens, visual, others = batch(policy), given(policy), given(policy, seed=1)
    # Their connectors are the same, so what the language models see of a study is too, to the bit.
    places = (tokens.ids == policy.writer.image_token_id) & ~tokens.answer
    assert not torch.equal(*(one.language_model.get_input_embeddings().weight for one in (policy, reference)))
    if name != "mu2":  # its visual tokens follow the question's words
        assert torch.equal(policy.embed(tokens, visual)[places], reference.embed(tokens, visual)[places])
    for one in (policy, reference):
        assert (sums(one, visual) - sums(one, others)).abs().min() > 1e-3


@pytest.mark.parametrize("name", POLICIES)
def test_rows_do_not_change_each_other(configs: "dict[str, Config]", name: str) -> None:
    policy = made(configs[name])
    tokens, visual = batch(policy), given(policy)
    with torch.inference_mode():
        together = policy(tokens, visual)
        for row, prompt in enumerate(tokens.prompts):
            answer = tokens.ids[row][tokens.answer[row]].tolist()
            alone = policy(policy.collate([prompt], [answer]), None if visual is None else [visual[row]])[0]
            assert torch.allclose(together[row, : len(alone)], alone, atol=2e-5)


@pytest.mark.parametrize("name", WITH_IMAGES)
def test_an_encoder_on_board_gives_what_its_stored_features_give(
    configs: "dict[str, Config]", name: str, tmp_path: Path
) -> None:
    policy = made(configs[name], with_encoder=True)
    assert policy.encoder is not None
    voxels = given(policy)
    assert voxels is not None
    with torch.inference_mode():
        encoder = policy.encoder
        features = [
            VisualInput(
                encoder(one.image[None])[0],
                {key: RegionInput(encoder(part.image[None])[0], part.mask) for key, part in one.regions.items()},
            )
            for one in voxels
        ]
    policy.save_pretrained(tmp_path, None)
    stored, on_board = Policy.from_pretrained(tmp_path), Policy.from_pretrained(tmp_path, with_encoder=True)
    assert stored.encoder is None and "encoder" in {key.partition(".")[0] for key in on_board.weights()}
    assert torch.allclose(sums(stored, features), sums(on_board, voxels), atol=1e-4)
    assert voxels[0] is not voxels[1]
    calls: list[int] = []
    assert on_board.encoder is not None
    on_board.encoder.register_forward_hook(lambda *_: calls.append(1))
    # The two sides of a pair see one study.
    sums(on_board, [voxels[0], voxels[0]])
    assert len(calls) == 1 + len(voxels[0].regions)
    half = Policy.from_pretrained(tmp_path, dtype=torch.bfloat16, with_encoder=True)
    assert torch.allclose(sums(half, voxels), sums(on_board, voxels), rtol=0.1)
    with pytest.raises(PolicyError, match=r"the encoder trains, so it needs voxels \[1, depth, height, width\]"):
        sums(on_board, features)
    with pytest.raises(PolicyError, match=r"the connector takes features \[tokens, 96\], got \[1, 32, 48, 48\]"):
        sums(stored, voxels)


def test_regions_that_a_prompt_names_must_be_there(configs: "dict[str, Config]") -> None:
    policy = made(configs["reg2rg"])
    visual = given(policy)
    assert visual is not None
    lacking = [VisualInput(one.image, {"lung": one.regions["lung"]}) for one in visual]
    with pytest.raises(PolicyError, match=r"names the region '.*', and the study's features have lung"):
        sums(policy, lacking)
    with pytest.raises(PolicyError, match="names a region twice"):
        policy.prompt("<image> <region:lung> <region:lung>")


def test_a_part_of_another_width_is_refused_before_anything_runs(configs: "dict[str, Config]", tmp_path: Path) -> None:
    policy = made(configs["ct_gpt_pp"])
    policy.save_pretrained(tmp_path, None)
    assert policy.connector is not None
    cut = {
        name: one[:, :5].contiguous() if one.dim() == 2 else one for name, one in policy.connector.state_dict().items()
    }
    save_file(cut, tmp_path / "connector.safetensors")
    with pytest.raises(PolicyError, match=r"connector\.safetensors does not hold what policy\.json says .*96 to 128"):
        Policy.from_pretrained(tmp_path)
    with pytest.raises(PolicyError, match="no parameter of the policy is called conector; its parts are"):
        policy.train_only(["conector"])


def test_adapters_of_named_layers_stand_beside_those_of_the_connector(configs: "dict[str, Config]") -> None:
    policy = made(configs["reg2rg"])
    lora = LoraSettings(
        rank=2, alpha=4, dropout=0.0, targets=["q_proj", "v_proj"], parts=("language_model", "connector")
    )
    policy.add_adapters(lora)
    adapted = {key.rpartition(".lora_")[0] for key in policy.adapters()}
    language = {key for key in adapted if key.startswith("language_model.")}
    assert {key.rpartition(".")[2] for key in language} == {"q_proj", "v_proj"}
    assert {"connector.mask_fc", "connector.perceiver.fc"} <= adapted
    with pytest.raises(PolicyError, match="embed_tokens stays frozen: the language_model bears adapters"):
        policy.train_only(["language_model.model.embed_tokens", "connector"])
    with pytest.raises(PolicyError, match=r"no parameter of the policy is called \*norm\*"):
        policy.train_only(["*norm*"])
    # Its encoder is not on board.
    policy.train_only(["encoder.blocks.0", "connector"])


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_other_language_models_serve_too(configs: "dict[str, Config]", architecture: str, tmp_path: Path) -> None:
    config = configs["reg2rg"]
    assert config.policy.language_model is not None
    language = config.policy.language_model.model_copy(update={"architecture": architecture, "tied": True})
    policy = new_policy(config.policy.settings(), language, ["Patent."], seed=0).eval()
    visual, before = given(policy), sums(policy, given(policy))
    policy.save_pretrained(tmp_path, None)
    stock = AutoModelForCausalLM.from_pretrained(tmp_path / "language_model", local_files_only=True)
    assert type(stock) is type(policy.language_model)
    assert stock.config.architectures == [type(policy.language_model).__name__]
    again = Policy.from_pretrained(tmp_path)
    assert torch.equal(sums(again, visual), before)
    again.load_weights(policy.weights())
    assert torch.equal(sums(again, visual), before)
