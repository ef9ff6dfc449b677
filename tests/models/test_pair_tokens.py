"""Pairs that share their prompt: the same log-probs and gradients as separate rows, and answers that stay apart."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, MistralConfig, PretrainedConfig, Qwen2Config, Qwen3Config

from rlaif.models.new_policy import new_policy
from rlaif.models.pair_attention import pair_attention
from rlaif.models.pair_tokens import PairTokens, pair_logprobs
from rlaif.models.policy import Policy
from rlaif.models.prompt import Prompt
from rlaif.models.settings import LanguageModelSettings, LoraSettings, PolicyError, PolicySettings
from rlaif.models.visual_input import RegionInput, VisualInput

if TYPE_CHECKING:
    from rlaif.config import Config

Answers = list[list[int]]
POLICIES = ("ct_gpt_pp", "argus", "m3d", "radfm", "mu2", "reg2rg", "rgro")
REGIONS = ("heart", "lung")
QUESTIONS = ("Describe this CT.", "Is the heart of normal size? Describe the lungs.", "Impression:")
CHOSEN = ("Clear lungs. The heart is enlarged.", "Normal.", "Patent.")
REJECTED = ("Cardiomegaly.", "The heart is enlarged. No effusion.", "Clear lungs.")
SMALL = LanguageModelSettings(hidden=32, layers=2, heads=4, intermediate=64, vocabulary=300, positions=160)

FAMILY = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 300,
    "max_position_embeddings": 160,
}


def configured_policy(config: "Config", architecture: str = "llama") -> Policy:
    choice = config.policy
    assert choice.language_model is not None
    language = choice.language_model.model_copy(update={"architecture": architecture})
    return moved(new_policy(choice.settings(), language, [*QUESTIONS, *CHOSEN, *REJECTED], seed=0))


def text_policy(configuration: PretrainedConfig | None = None) -> Policy:
    """A policy without images around a language model of the given family, or a Llama."""
    settings = PolicySettings(name="test", size="tiny", recipe=None, encoder=None, connector=None)
    policy = new_policy(settings, SMALL, [*QUESTIONS, *CHOSEN, *REJECTED], seed=0)
    if configuration is None:
        return moved(policy)
    return moved(Policy(settings, AutoModelForCausalLM.from_config(configuration), policy.tokenizer, None))


def moved(policy: Policy) -> Policy:
    """The policy with weights large enough to matter."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return policy.eval()


def pairs_of(policy: Policy) -> tuple[list[Prompt], Answers, Answers]:
    """Three pairs with unequal prompts and answers, one of them of a single token."""
    image = "<image>\n" if policy.settings.image_tokens else ""
    regions = [" <region:heart> <region:lung>", "", " <region:lung>"] if policy.settings.region_tokens else [""] * 3
    prompts = [policy.prompt(f"{image}{text}{region}") for text, region in zip(QUESTIONS, regions, strict=True)]
    chosen, rejected = [[policy.answer(text) for text in texts] for texts in (CHOSEN, REJECTED)]
    return prompts, chosen, [*rejected[:2], rejected[2][-1:]]


def studies(policy: Policy) -> list[VisualInput] | None:
    encoder = policy.settings.encoder
    if encoder is None:
        return None
    generator = torch.Generator().manual_seed(2)

    def image() -> Tensor:
        return torch.randn(encoder.tokens, encoder.hidden, generator=generator)

    def region() -> RegionInput:
        return RegionInput(image(), (torch.rand(encoder.volume, generator=generator) * 255).to(torch.uint8))

    return [VisualInput(image(), {name: region() for name in REGIONS}) for _ in QUESTIONS]


def as_separate_rows(policy: Policy) -> tuple[Tensor, Tensor]:
    """The log-probs of all chosen tokens, then of all rejected ones, and each answer's sum."""
    prompts, chosen, rejected = pairs_of(policy)
    visual = studies(policy)
    tokens = policy.collate([*prompts, *prompts], [*chosen, *rejected])
    logprobs = policy(tokens, None if visual is None else [*visual, *visual])
    return logprobs[tokens.answer], logprobs.sum(dim=1)


def as_pairs(policy: Policy) -> tuple[Tensor, Tensor]:
    """The same as `as_separate_rows`, from rows that share their prompt."""
    tokens = policy.collate_pairs(*pairs_of(policy))
    logprobs = policy(tokens, studies(policy))
    found = pair_logprobs(logprobs, tokens)
    parts = [
        row[start : start + length]
        for answer in (1, 2)
        for row, lengths in zip(logprobs, tokens.parts, strict=True)
        for start, length in [(sum(lengths[:answer]), lengths[answer])]
    ]
    assert torch.equal(logprobs[~tokens.answer], torch.zeros(int((~tokens.answer).sum())))
    return torch.cat(parts), torch.cat([found.chosen, found.rejected])


def gradients(policy: Policy, run: Callable[[Policy], tuple[Tensor, Tensor]]) -> tuple[Tensor, dict[str, Tensor]]:
    """The token log-probs, and the gradient of a loss in which every answer has another weight."""
    policy.zero_grad()
    logprobs, sums = run(policy)
    (sums @ torch.tensor([0.3, -0.2, 0.1, -0.25, 0.15, -0.05])).backward()
    found = {name: one.grad.clone() for name, one in policy.named_parameters() if one.grad is not None}
    return logprobs.detach(), found


def assert_same_as_separate_rows(policy: Policy) -> None:
    (ours, our_gradients), (plain, plain_gradients) = gradients(policy, as_pairs), gradients(policy, as_separate_rows)
    assert torch.allclose(ours, plain, atol=1e-5, rtol=0)
    trained = {name for name, one in policy.named_parameters() if one.requires_grad}
    assert our_gradients.keys() == plain_gradients.keys() == trained
    for name, gradient in our_gradients.items():
        assert torch.allclose(gradient, plain_gradients[name], atol=1e-5, rtol=1e-5), name
    assert sum(float(one.abs().sum()) for one in our_gradients.values()) > 1


@pytest.mark.parametrize("name", POLICIES)
def test_a_shared_prompt_gives_the_log_probs_and_gradients_of_separate_rows(
    configured: Callable[..., "Config"], name: str
) -> None:
    assert_same_as_separate_rows(configured_policy(configured(f"policy={name}")))


@pytest.mark.parametrize("name", ["mu2", "reg2rg"])
def test_absolute_positions_begin_again_after_the_prompt(configured: Callable[..., "Config"], name: str) -> None:
    assert_same_as_separate_rows(configured_policy(configured(f"policy={name}"), "gpt2"))


@pytest.mark.parametrize("family", [Qwen2Config, Qwen3Config, MistralConfig])
def test_other_families_and_fewer_key_heads(family: type[PretrainedConfig]) -> None:
    assert_same_as_separate_rows(text_policy(family.from_dict(FAMILY)))


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_adapters_and_gradient_checkpointing_while_training(
    configured: Callable[..., "Config"], architecture: str
) -> None:
    policy = configured_policy(configured("policy=reg2rg"), architecture)
    policy.add_adapters(
        LoraSettings(rank=2, alpha=4, dropout=0.0, targets="all-linear", parts=("language_model", "connector"))
    )
    moved(policy)
    policy.train()
    without = gradients(policy, as_pairs)
    policy.language_model.gradient_checkpointing_enable()
    assert_same_as_separate_rows(policy)
    logprobs, found = gradients(policy, as_pairs)
    assert torch.equal(logprobs, without[0])
    assert all(torch.allclose(one, without[1][name], atol=1e-6) for name, one in found.items())


def test_answers_do_not_see_each_other() -> None:
    policy = text_policy()
    prompts, chosen, rejected = pairs_of(policy)
    other = [[*answer[:-1], answer[-1] + 7, 5] for answer in rejected]
    with torch.inference_mode():
        first, second, third = [
            pair_logprobs(policy(tokens, None), tokens)
            for tokens in (
                policy.collate_pairs(prompts, chosen, rejected),
                policy.collate_pairs(prompts, chosen, other),
                policy.collate_pairs(prompts, other, rejected),
            )
        ]
    assert torch.allclose(first.chosen, second.chosen, atol=1e-5)
    assert torch.allclose(first.rejected, third.rejected, atol=1e-5)
    assert (first.rejected - second.rejected).abs().min() > 1e-2
    assert torch.allclose(second.rejected, third.chosen, atol=1e-5)


def test_prompts_and_images_go_through_once_and_the_vocabulary_only_where_answers_stand(
    configured: Callable[..., "Config"],
) -> None:
    policy = configured_policy(configured("policy=ct_gpt_pp"))
    seen: dict[str, list[int]] = {}

    def watch(name: str, module: torch.nn.Module) -> None:
        module.register_forward_hook(lambda _module, _inputs, output: seen.update({name: list(output.shape)}))

    assert policy.connector is not None
    watch("connector", policy.connector)
    watch("layers", policy.language_model.get_submodule("model.norm"))
    watch("head", policy.language_model.get_output_embeddings())
    prompts, chosen, rejected = pairs_of(policy)
    as_pairs(policy)
    answered = sum(map(len, [*chosen, *rejected]))
    assert seen["connector"][0] == len(prompts)
    assert seen["layers"][:2] == [1, sum(len(prompt.ids) for prompt in prompts) + answered]
    assert seen["head"][0] == answered


def test_a_row_holds_the_prompt_and_both_answers() -> None:
    policy = text_policy()
    prompts = [Prompt((5, 6, 7)), Prompt((8,))]
    tokens = policy.collate_pairs(prompts, [[9, 10], [11]], [[12], [13, 14, 15]])
    assert tokens.ids.tolist() == [[5, 6, 7, 9, 10, 12], [8, 11, 13, 14, 15, 0]]
    assert tokens.parts == ((3, 2, 1), (1, 1, 3)) and tokens.prompts == tuple(prompts)
    assert tokens.mask.sum(dim=1).tolist() == [6, 5] and tokens.answer.sum(dim=1).tolist() == [3, 4]
    assert tokens.positions().tolist() == [0, 1, 2, 3, 4, 3, 0, 1, 1, 2, 3]
    assert tokens.before().tolist() == [2, 3, 2, 6, 6, 8, 9]
    assert isinstance(tokens.to(torch.device("cpu")), PairTokens)
    found = pair_logprobs(torch.tensor([[0.0, 0, 0, -1, -2, -4], [0, -1, -2, -3, -5, 0]]), tokens)
    assert found.chosen.tolist() == [-3, -1] and found.rejected.tolist() == [-4, -10]
    assert found.chosen_length.tolist() == [2, 1] and found.rejected_length.tolist() == [1, 3]


def test_a_pair_needs_room_for_its_longer_answer_alone() -> None:
    policy = text_policy()
    prompt, long, short = Prompt(tuple([5] * 60)), [6] * 100, [7] * 90
    tokens = policy.collate_pairs([prompt], [long], [short])
    assert tokens.ids.shape == (1, 250) and torch.isfinite(policy(tokens, None)).all()
    with pytest.raises(PolicyError, match="prompt and report take 161 positions, the language model has 160"):
        policy.collate_pairs([prompt], [short], [[*long, 6]])
    with pytest.raises(PolicyError, match="a rejected answer has no tokens"):
        policy.collate_pairs([prompt], [long], [[]])


def test_a_pair_longer_than_the_models_attention_window_is_refused() -> None:
    policy = text_policy(MistralConfig.from_dict({**FAMILY, "sliding_window": 20}))
    with pytest.raises(PolicyError, match="30 positions, and the language model's attention reaches over 20"):
        policy.collate_pairs([Prompt((5,) * 10)], [[6] * 20], [[7]])


def test_a_language_model_that_would_mix_the_answers_is_refused() -> None:
    policy = text_policy()
    query = torch.zeros(1, 2, 5, 8)
    with pytest.raises(PolicyError, match="Linear does not hand on how its pairs stand"):
        pair_attention(torch.nn.Linear(1, 1), query, query, query, torch.zeros(1, 1, 1, 1))
    policy.language_model.set_attn_implementation("sdpa")
    with pytest.raises(PolicyError, match="does not let its attention be chosen"):
        as_pairs(policy)


def test_a_saved_policy_says_nothing_of_pairs(tmp_path: Path) -> None:
    policy = text_policy()
    policy.save_pretrained(tmp_path, None)
    assert "pairs" not in json.loads((tmp_path / "language_model" / "config.json").read_text(encoding="utf-8")).values()
    stock = AutoModelForCausalLM.from_pretrained(tmp_path / "language_model", local_files_only=True)
    assert stock.config._attn_implementation == "sdpa"


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_kernels_of_a_gpu_give_what_the_cpu_gives(dtype: torch.dtype) -> None:
    policy = text_policy()
    expected, expected_gradients = gradients(policy, as_pairs)
    policy.to("cuda", dtype)
    tokens = policy.collate_pairs(*pairs_of(policy)).to(torch.device("cuda"))
    found = pair_logprobs(policy(tokens, None), tokens)
    sums = torch.cat([found.chosen, found.rejected])
    policy.zero_grad()
    (sums @ torch.tensor([0.3, -0.2, 0.1, -0.25, 0.15, -0.05], device="cuda")).backward()
    close = 1e-3 if dtype == torch.float32 else 0.1
    assert torch.allclose(sums.sum().cpu(), expected.sum(), atol=close, rtol=close)
    for name, one in policy.named_parameters():
        assert one.grad is not None
        assert torch.allclose(one.grad.float().cpu(), expected_gradients[name], atol=close, rtol=close), name
