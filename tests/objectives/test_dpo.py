"""Our DPO loss against numbers by hand and against TRL's own trainer, gradients included."""

import copy
import math
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from rlaif.models.new_policy import new_policy
from rlaif.models.policy import Policy
from rlaif.models.settings import LanguageModelSettings, PolicySettings
from rlaif.objectives.dpo import dpo_loss

BETA = 0.1
ROWS = [
    ("Findings: a small left effusion.\n", "Left pleural effusion.", "The lungs are clear, no effusion."),
    ("Findings: clear lungs.\n", "No acute disease of the chest.", "Nodule."),
    ("Findings: cardiomegaly and a nodule.\n", "Enlarged heart. Lung nodule.", "Enlarged heart."),
    ("Findings: none.\n", "Normal.", "Large right effusion with atelectasis of the lower lobe."),
]
TEXTS = [text for row in ROWS for text in row]
LANGUAGE = LanguageModelSettings(hidden=32, layers=2, heads=2, intermediate=64, vocabulary=300, positions=128)


def policy_of(seed: int) -> Policy:
    settings = PolicySettings(name="text", size="tiny", recipe=None, encoder=None, connector=None)
    policy = new_policy(settings, LANGUAGE, TEXTS, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        # Larger weights than an untrained model's, so that policy and reference differ where it counts.
        for parameter in policy.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return policy.eval()


def trl_trainer(policy: Policy, reference: Policy, folder: Path) -> DPOTrainer:
    bos = policy.tokenizer.bos_token
    rows = [{"prompt": bos + prompt, "chosen": chosen, "rejected": rejected} for prompt, chosen, rejected in ROWS]
    settings = DPOConfig(
        output_dir=str(folder),
        beta=BETA,
        per_device_train_batch_size=len(ROWS),
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to=[],
        disable_tqdm=True,
    )
    return DPOTrainer(
        model=copy.deepcopy(policy.language_model),
        ref_model=copy.deepcopy(reference.language_model),
        args=settings,
        train_dataset=Dataset.from_list(rows),
        processing_class=policy.tokenizer,
    )


def test_loss_and_every_gradient_equal_trls(tmp_path: Path) -> None:
    policy, reference = policy_of(1), policy_of(2)
    trainer = trl_trainer(policy, reference, tmp_path)
    trainer.model.train().zero_grad()
    theirs = trainer.compute_loss(trainer.model, next(iter(trainer.get_train_dataloader())))
    theirs.backward()

    prompts = [policy.prompt(prompt) for prompt, _, _ in ROWS]
    chosen = [policy.answer(text) for _, text, _ in ROWS]
    rejected = [policy.answer(text) for _, _, text in ROWS]
    assert [tuple(row["prompt_ids"]) for row in trainer.train_dataset] == [one.ids for one in prompts]
    assert [row["chosen_ids"] for row in trainer.train_dataset] == chosen
    assert [row["rejected_ids"] for row in trainer.train_dataset] == rejected

    tokens = policy.collate(prompts * 2, chosen + rejected)
    ours_chosen, ours_rejected = policy(tokens, None).sum(dim=1).chunk(2)
    with torch.no_grad():
        frozen_chosen, frozen_rejected = reference(tokens, None).sum(dim=1).chunk(2)
    ours = dpo_loss(ours_chosen, ours_rejected, frozen_chosen, frozen_rejected, beta=BETA)
    ours.loss.mean().backward()

    assert abs(theirs.item() - math.log(2)) > 0.01  # a batch on which something is at stake
    assert ours.loss.mean().item() == pytest.approx(theirs.item(), abs=1e-5)
    of_trl = dict(trainer.model.named_parameters())
    of_ours = dict(policy.language_model.named_parameters())
    assert of_trl.keys() == of_ours.keys()
    assert max(float(parameter.grad.abs().max()) for parameter in of_trl.values()) > 1e-2
    for name, parameter in of_ours.items():
        assert parameter.grad is not None, name
        torch.testing.assert_close(parameter.grad, of_trl[name].grad, atol=1e-5, rtol=0, msg=name)

    logged = trainer._metrics["train"]
    assert ours.chosen_reward.mean().item() == pytest.approx(logged["rewards/chosen"][0], abs=1e-5)
    assert ours.rejected_reward.mean().item() == pytest.approx(logged["rewards/rejected"][0], abs=1e-5)
    assert ours.margin.mean().item() == pytest.approx(logged["rewards/margins"][0], abs=1e-5)


def test_numbers_by_hand() -> None:
    result = dpo_loss(
        torch.tensor([-10.0, -10.0, -40.0]),
        torch.tensor([-20.0, -10.0, -20.0]),
        torch.tensor([-15.0, -10.0, -20.0]),
        torch.tensor([-15.0, -10.0, -40.0]),
        beta=0.1,
    )
    assert result.chosen_reward.tolist() == pytest.approx([0.5, 0.0, -2.0])
    assert result.rejected_reward.tolist() == pytest.approx([-0.5, 0.0, 2.0])
    assert result.margin.tolist() == pytest.approx([1.0, 0.0, -4.0])
    assert result.loss.tolist() == pytest.approx([math.log1p(math.exp(-1)), math.log(2), math.log1p(math.exp(4))])


def test_a_pair_far_on_the_wrong_side_has_a_finite_loss() -> None:
    far = torch.tensor([-1e4], requires_grad=True)
    zero = torch.zeros(1)
    result = dpo_loss(far, zero, zero, zero, beta=1.0)
    result.loss.sum().backward()
    assert result.loss.tolist() == [1e4]
    assert far.grad is not None and far.grad.tolist() == [-1.0]


def test_rewards_carry_no_gradient() -> None:
    chosen = torch.tensor([-3.0], requires_grad=True)
    result = dpo_loss(chosen, torch.tensor([-2.0]), torch.tensor([-3.0]), torch.tensor([-3.0]), beta=0.1)
    assert result.loss.requires_grad
    assert not result.chosen_reward.requires_grad and not result.rejected_reward.requires_grad
    assert not result.margin.requires_grad
