"""The SFT loss against the loss that transformers computes itself."""

import pytest
import torch

from rlaif.models.new_policy import new_policy
from rlaif.models.settings import LanguageModelSettings, PolicySettings
from rlaif.objectives.sft import sft_loss

PROMPTS = ["Findings: a nodule.\nImpression?", "Findings: none.\nImpression?"]
ANSWERS = ["Lung nodule in the right upper lobe.", "Normal."]


def test_loss_and_gradient_equal_transformers_on_the_same_labels() -> None:
    settings = PolicySettings(name="text", size="tiny", recipe=None, encoder=None, connector=None)
    language = LanguageModelSettings(hidden=32, layers=2, heads=2, intermediate=64, vocabulary=300, positions=128)
    policy = new_policy(settings, language, PROMPTS + ANSWERS, seed=3)
    prompts = [policy.prompt(prompt) for prompt in PROMPTS]
    answers = [policy.answer(answer) for answer in ANSWERS]
    assert len(answers[0]) != len(answers[1])

    theirs = []
    for prompt, answer in zip(prompts, answers, strict=True):
        labels = torch.tensor([[-100] * len(prompt.ids) + answer])
        theirs.append(policy.language_model(input_ids=torch.tensor([[*prompt.ids, *answer]]), labels=labels).loss)
    torch.stack(theirs).mean().backward()
    expected = {name: parameter.grad.clone() for name, parameter in policy.named_parameters()}
    policy.zero_grad()

    tokens = policy.collate(prompts, answers)
    ours = sft_loss(policy(tokens, None), tokens.answer)
    ours.mean().backward()
    assert ours.tolist() == pytest.approx([loss.item() for loss in theirs], abs=1e-5)
    for name, parameter in policy.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], atol=1e-6, rtol=1e-4, msg=name)


def test_numbers_by_hand() -> None:
    logprobs = torch.tensor([[0.0, -1.0, -3.0], [0.0, -0.5, 0.0], [0.0, 0.0, 0.0]])
    answer = torch.tensor([[False, True, True], [False, True, False], [False, False, False]])
    assert sft_loss(logprobs, answer).tolist() == [2.0, 0.5, 0.0]
