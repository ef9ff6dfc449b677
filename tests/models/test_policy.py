"""The policy: log-probs that do not depend on the batch, folders that stock transformers loads, adapters."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlaif.models.encoders.ctvit import CTViT
from rlaif.models.policy import Policy, load_encoder
from rlaif.models.prompt import Tokens
from rlaif.models.settings import LoraSettings, PolicyError, read_settings
from rlaif.models.visual_input import VisualInput
from rlaif.reports.placeholders import IMAGE_TOKEN

Make = Callable[..., Policy]
PROMPT = "<image>\nDescribe the findings of this chest CT."
ANSWERS = ["A small left pleural effusion.", "Normal.", "No pleural effusion. Normal."]
LORA = LoraSettings(rank=4, alpha=8, dropout=0.0, targets="all-linear")


def features(count: int, seed: int = 0) -> list[VisualInput]:
    return [VisualInput(one) for one in torch.randn(count, 8, 16, generator=torch.Generator().manual_seed(seed))]


def batch(policy: Policy, answers: list[str] = ANSWERS) -> Tokens:
    prompt = PROMPT if policy.connector is not None else PROMPT.removeprefix("<image>\n")
    return policy.collate([policy.prompt(prompt)] * len(answers), [policy.answer(text) for text in answers])


def logprobs(policy: Policy, tokens: Tokens, given: list[VisualInput] | None) -> Tensor:
    with torch.inference_mode():
        return policy(tokens, given)


def trained_adapters(policy: Policy) -> None:
    """Moves the adapters away from their start, as training would."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in policy.language_model.named_parameters():
            if "lora_B" in name:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)


def test_log_probs_are_those_of_the_language_model(make_policy: Make) -> None:
    policy = make_policy(image=False)
    tokens = batch(policy)
    with torch.inference_mode():
        whole = policy.language_model(input_ids=tokens.ids, attention_mask=tokens.mask.long()).logits.log_softmax(-1)
    expected = whole[:, :-1].gather(2, tokens.ids[:, 1:, None])[..., 0] * tokens.answer[:, 1:]
    ours = logprobs(policy, tokens, None)
    assert torch.allclose(ours[:, 1:], expected, atol=1e-6)
    assert torch.equal(ours[~tokens.answer], torch.zeros(int((~tokens.answer).sum())))
    assert (ours[tokens.answer] < 0).all()


def test_padding_and_neighbours_do_not_change_log_probs(make_policy: Make) -> None:
    policy, given = make_policy(), features(3)
    together = logprobs(policy, batch(policy), given)
    for row, answer in enumerate(ANSWERS):
        alone = logprobs(policy, batch(policy, [answer]), given[row : row + 1])[0]
        assert torch.allclose(together[row, : len(alone)], alone, atol=1e-5)


def test_the_report_depends_on_the_image(make_policy: Make) -> None:
    policy = make_policy()
    tokens = batch(policy)
    ours, others = logprobs(policy, tokens, features(3)), logprobs(policy, tokens, features(3, seed=1))
    assert (ours.sum(dim=1) - others.sum(dim=1)).abs().min() > 1e-3


def test_a_prompt_has_one_place_for_each_visual_token(make_policy: Make) -> None:
    policy = make_policy()
    prompt = policy.prompt(PROMPT)
    words = PROMPT.removeprefix("<image>\n")
    assert prompt.ids[0] == policy.tokenizer.bos_token_id and prompt.ids.count(policy.writer.image_token_id) == 8
    assert policy.tokenizer.decode(prompt.ids[9:]) == f"\n{words}" and prompt.slots == (None,)
    assert policy.tokenizer.decode(prompt.question) == words
    text_only = make_policy(image=False)
    assert text_only.tokenizer.decode(text_only.prompt(words).ids) == f"<s>{words}"


def test_prompts_that_do_not_fit_the_policy_are_refused(make_policy: Make) -> None:
    policy = make_policy()
    for text, reason in (
        ("What is this?", "has no <image>, where the scan goes once"),
        (f"{IMAGE_TOKEN} and {IMAGE_TOKEN}", "has 2 <image>"),
        (f"{IMAGE_TOKEN} and <region:lung>", r"asks for regions \['lung'\], which test does not read"),
    ):
        with pytest.raises(PolicyError, match=reason):
            policy.prompt(text)
    with pytest.raises(PolicyError, match=r"prompt and report take \d+ positions, the language model has 128"):
        policy.collate([policy.prompt(PROMPT)], [policy.answer("effusion " * 100)])


def test_a_chat_template_frames_the_prompt(make_policy: Make) -> None:
    policy = make_policy()
    policy.tokenizer.chat_template = (
        "{% for message in messages %}[{{ message.role }}] {{ message.content }}{% endfor %}"
        "{% if add_generation_prompt %} [say] {% endif %}"
    )
    ids = policy.prompt(PROMPT).ids
    assert ids.count(policy.writer.image_token_id) == 8
    shown = policy.tokenizer.decode([one for one in ids if one != policy.writer.image_token_id])
    assert shown == "[user] \nDescribe the findings of this chest CT. [say] "


def test_answers_end_with_the_end_token(make_policy: Make) -> None:
    policy = make_policy()
    assert policy.answer("Normal.")[-1] == policy.tokenizer.eos_token_id
    assert policy.tokenizer.decode(policy.answer("Normal.")) == "Normal.</s>"


def test_special_tokens_in_texts_from_outside_are_only_words(make_policy: Make) -> None:
    policy = make_policy()
    special = {0, 1, 2, 3}
    ids = policy.answer("Seen </s> and <image> and <pad>.")
    assert not special & set(ids[:-1]) and ids[-1] == policy.tokenizer.eos_token_id
    assert policy.tokenizer.decode(ids[:-1]) == "Seen < /s> and < image> and < pad>."
    asked = policy.prompt("<image>\nSay </s> and <s>.")
    assert asked.ids.count(policy.writer.image_token_id) == 8 and asked.ids.count(policy.tokenizer.eos_token_id) == 0
    assert make_policy(image=False).prompt("Findings: </s> <image>").ids.count(3) == 0


def test_language_models_that_cap_their_logits_are_refused(make_policy: Make, tmp_path: Path) -> None:
    make_policy(image=False).save_pretrained(tmp_path, None)
    file = tmp_path / "language_model" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"final_logit_softcapping": 30.0}))
    with pytest.raises(PolicyError, match=r"has final_logit_softcapping=30\.0: language models that scale or cap"):
        Policy.from_pretrained(tmp_path)


def test_an_image_token_sampled_into_an_answer_stays_a_word(make_policy: Make) -> None:
    policy, given = make_policy(), features(1)
    image = policy.writer.image_token_id
    answer = [*policy.answer("Normal.")[:-1], image, policy.tokenizer.eos_token_id]
    tokens = policy.collate([policy.prompt(PROMPT)], [answer])
    embeddings = policy.embed(tokens, given)[0]
    words = policy.language_model.get_input_embeddings().weight
    place = len(tokens.ids[0]) - 2
    assert torch.equal(embeddings[place], words[image])
    assert policy.connector is not None
    assert torch.allclose(embeddings[1:9], policy.connector(given[0].image[None])[0], atol=1e-6)
    assert torch.isfinite(logprobs(policy, tokens, given)).all()


def test_features_that_are_missing_or_too_few_are_refused(make_policy: Make) -> None:
    policy = make_policy()
    with pytest.raises(PolicyError, match="needs encoder features with every prompt"):
        policy(batch(policy), None)
    with pytest.raises(PolicyError, match="24 image tokens for 16 visual tokens"):
        policy(batch(policy), features(2))


@pytest.mark.parametrize("image", [True, False])
def test_a_saved_policy_gives_the_same_log_probs(make_policy: Make, tmp_path: Path, image: bool) -> None:
    policy = make_policy(image=image)
    given = features(3) if image else None
    policy.save_pretrained(tmp_path / "policy", None)
    loaded = Policy.from_pretrained(tmp_path / "policy")
    assert loaded.settings == policy.settings and not loaded.training
    assert loaded.prompt(PROMPT) == policy.prompt(PROMPT)
    assert torch.equal(logprobs(loaded, batch(loaded), given), logprobs(policy, batch(policy), given))
    assert {name: float(w.sum()) for name, w in loaded.weights().items()} == {
        name: float(w.sum()) for name, w in policy.weights().items()
    }


def test_stock_transformers_load_the_language_model(make_policy: Make, tmp_path: Path) -> None:
    policy = make_policy()
    policy.save_pretrained(tmp_path, None)
    stock = AutoModelForCausalLM.from_pretrained(tmp_path / "language_model", local_files_only=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "language_model", local_files_only=True)
    ids = tokenizer(ANSWERS[0], return_tensors="pt", add_special_tokens=False)["input_ids"]
    assert ids[0].tolist() == policy.answer(ANSWERS[0])[:-1]
    with torch.inference_mode():
        assert torch.equal(stock(input_ids=ids).logits, policy.language_model(input_ids=ids).logits)


def test_the_encoder_travels_with_the_policy(make_policy: Make, tmp_path: Path) -> None:
    policy = make_policy()
    assert policy.settings.encoder is not None
    torch.manual_seed(3)
    encoder = CTViT(policy.settings.encoder).eval()
    save_file(encoder.state_dict(), tmp_path / "trained.safetensors")
    policy.save_pretrained(tmp_path / "policy", tmp_path / "trained.safetensors")
    loaded = load_encoder(tmp_path / "policy")
    volume = torch.randn(1, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(loaded(volume), encoder(volume))
    assert not any(parameter.requires_grad for parameter in loaded.parameters()) and not loaded.training


def test_fresh_adapters_change_nothing(make_policy: Make) -> None:
    policy, given = make_policy(), features(3)
    before = logprobs(policy, batch(policy), given)
    policy.add_adapters(LORA)
    assert torch.equal(logprobs(policy, batch(policy), given), before)
    trainable = [name for name, one in policy.language_model.named_parameters() if one.requires_grad]
    assert trainable and all("lora_" in name for name in trainable)


def test_merged_weights_are_the_adapted_model(make_policy: Make, tmp_path: Path) -> None:
    policy, given = make_policy(), features(3)
    names, base = policy.weights().keys(), logprobs(policy, batch(policy), given)
    policy.add_adapters(LORA)
    trained_adapters(policy)
    adapted = logprobs(policy, batch(policy), given)
    assert (adapted - base).abs().max() > 1e-2

    merged = make_policy(seed=9)
    assert policy.weights().keys() == names
    merged.load_weights(policy.weights())
    assert torch.allclose(logprobs(merged, batch(policy), given), adapted, atol=1e-5)
    policy.save_pretrained(tmp_path / "policy", None)
    assert torch.allclose(
        logprobs(Policy.from_pretrained(tmp_path / "policy"), batch(policy), given), adapted, atol=1e-5
    )


def test_adapters_go_on_from_where_they_were(make_policy: Make, tmp_path: Path) -> None:
    policy, given = make_policy(), features(3)
    policy.add_adapters(LORA)
    trained_adapters(policy)
    policy.save_pretrained(tmp_path / "policy", None)
    again = make_policy()
    again.add_adapters(LORA)
    state = load_file(tmp_path / "policy" / "adapters.safetensors")
    assert state.keys() == policy.adapters().keys() == again.adapters().keys()
    again.load_state_dict(state, strict=False)
    assert torch.equal(logprobs(again, batch(again), given), logprobs(policy, batch(policy), given))


def test_weights_that_do_not_fit_are_refused(make_policy: Make) -> None:
    policy = make_policy()
    weights = policy.weights()
    weights.pop("connector.0.bias")
    with pytest.raises(PolicyError, match=r"do not fit this policy(.|\n)*connector\.0\.bias"):
        policy.load_weights(weights)


def test_a_folder_that_is_no_policy_is_refused(make_policy: Make, tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"is no policy: it has no policy\.json"):
        Policy.from_pretrained(tmp_path / "nowhere")
    make_policy(image=False).save_pretrained(tmp_path, None)
    assert read_settings(tmp_path).recipe is None
    with pytest.raises(PolicyError, match="has no vision encoder"):
        load_encoder(tmp_path)
    (tmp_path / "policy.json").write_text('{"name": "x"}')
    with pytest.raises(PolicyError, match=r"policy\.json .*size"):
        read_settings(tmp_path)
