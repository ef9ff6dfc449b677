"""Our DPO loss against numbers by hand and against TRL's own trainer, gradients included."""

import copy
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from rlaif.learner_settings import DpoLossName
from rlaif.models.new_policy import new_policy
from rlaif.models.policy import Policy
from rlaif.models.settings import LanguageModelSettings, PolicySettings
from rlaif.objectives.dpo import dpo_loss, robust_loss, sigmoid_loss

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


@dataclass(frozen=True)
class Kind:
    """A loss as our settings name it, and as TRL does."""

    trl_losses: tuple[str, ...]
    beta: float = 0.1
    loss: DpoLossName = "sigmoid"
    label_smoothing: float = 0.0
    length_normalised: bool = False
    sft_weight: float = 0.0
    rows: int = len(ROWS)


KINDS = {
    "sigmoid": Kind(("sigmoid",)),
    # TRL smooths the labels of its loss for unpaired data, which is the one for pairs where there is one pair alone.
    "smoothed": Kind(("aot",), label_smoothing=0.2, rows=1),
    "length_normalised": Kind(("sigmoid_norm",), beta=2.0, length_normalised=True),
    "robust": Kind(("robust",), loss="robust", label_smoothing=0.2),
    "hinge": Kind(("hinge",), loss="hinge"),
    "ipo": Kind(("ipo",), loss="ipo", beta=0.5),
    "sft_term": Kind(("sigmoid", "sft"), sft_weight=0.3),
    "ipo_with_sft_term": Kind(("ipo", "sft"), loss="ipo", sft_weight=0.3),
}


def trl_trainer(policy: Policy, reference: Policy, kind: Kind, folder: Path) -> DPOTrainer:
    bos = policy.tokenizer.bos_token
    rows = [{"prompt": bos + prompt, "chosen": chosen, "rejected": rejected} for prompt, chosen, rejected in ROWS]
    settings = DPOConfig(
        output_dir=str(folder),
        beta=kind.beta,
        loss_type=list(kind.trl_losses),
        loss_weights=[1.0, kind.sft_weight] if kind.sft_weight else None,
        label_smoothing=kind.label_smoothing,
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
        train_dataset=Dataset.from_list(rows[: kind.rows]),
        processing_class=policy.tokenizer,
    )


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_loss_and_every_gradient_equal_trls(kind: Kind, tmp_path: Path) -> None:
    policy, reference = policy_of(1), policy_of(2)
    trainer = trl_trainer(policy, reference, kind, tmp_path)
    trainer.model.train().zero_grad()
    theirs = trainer.compute_loss(trainer.model, next(iter(trainer.get_train_dataloader())))
    theirs.backward()

    rows = ROWS[: kind.rows]
    prompts = [policy.prompt(prompt) for prompt, _, _ in rows]
    chosen = [policy.answer(text) for _, text, _ in rows]
    rejected = [policy.answer(text) for _, _, text in rows]
    assert [tuple(row["prompt_ids"]) for row in trainer.train_dataset] == [one.ids for one in prompts]
    assert [row["chosen_ids"] for row in trainer.train_dataset] == chosen
    assert [row["rejected_ids"] for row in trainer.train_dataset] == rejected

    tokens = policy.collate(prompts * 2, chosen + rejected)
    ours_chosen, ours_rejected = policy(tokens, None).sum(dim=1).chunk(2)
    with torch.no_grad():
        frozen_chosen, frozen_rejected = reference(tokens, None).sum(dim=1).chunk(2)
    lengths = tokens.answer.sum(dim=1)
    ours = dpo_loss(
        ours_chosen,
        ours_rejected,
        frozen_chosen,
        frozen_rejected,
        beta=kind.beta,
        loss=kind.loss,
        label_smoothing=kind.label_smoothing,
        length_normalised=kind.length_normalised,
        sft_weight=kind.sft_weight,
        chosen_lengths=lengths[: len(rows)],
        rejected_lengths=lengths[len(rows) :],
        mean_chosen_length=float(lengths[: len(rows)].float().mean()),
    )
    ours.loss.mean().backward()

    assert len(set(lengths.tolist())) > 1
    assert ours.loss.mean().item() == pytest.approx(theirs.item(), abs=1e-5)
    of_trl = dict(trainer.model.named_parameters())
    of_ours = dict(policy.language_model.named_parameters())
    assert of_trl.keys() == of_ours.keys()
    # A batch on which something is at stake.
    assert max(float(parameter.grad.abs().max()) for parameter in of_trl.values()) > 1e-2
    for name, parameter in of_ours.items():
        assert parameter.grad is not None, name
        torch.testing.assert_close(parameter.grad, of_trl[name].grad, atol=1e-5, rtol=0, msg=name)

    logged = trainer._metrics["train"]
    if not kind.length_normalised and kind.loss != "ipo":  # TRL logs sums, whatever the loss compares.
        assert ours.chosen_reward.mean().item() == pytest.approx(logged["rewards/chosen"][0], abs=1e-5)
        assert ours.rejected_reward.mean().item() == pytest.approx(logged["rewards/rejected"][0], abs=1e-5)
        assert ours.margin.mean().item() == pytest.approx(logged["rewards/margins"][0], abs=1e-5)


# Rewards of chosen and rejected are 0.5 and -0.5, 0 and 0, and -2 and 2: margins 1, 0 and -4.
LOGPROBS = ([-10.0, -10.0, -40.0], [-20.0, -10.0, -20.0], [-15.0, -10.0, -20.0], [-15.0, -10.0, -40.0])
CHOSEN_LENGTHS, REJECTED_LENGTHS = torch.tensor([5, 4, 10]), torch.tensor([2, 0, 5])


def losses(**settings: Any) -> list[float]:
    return dpo_loss(*(torch.tensor(one) for one in LOGPROBS), **settings).loss.tolist()


def softplus(value: float) -> float:
    return math.log1p(math.exp(value))


def test_numbers_by_hand() -> None:
    result = dpo_loss(*(torch.tensor(one) for one in LOGPROBS), beta=0.1)
    assert result.chosen_reward.tolist() == pytest.approx([0.5, 0.0, -2.0])
    assert result.rejected_reward.tolist() == pytest.approx([-0.5, 0.0, 2.0])
    assert result.margin.tolist() == pytest.approx([1.0, 0.0, -4.0])
    assert result.loss.tolist() == pytest.approx([math.log1p(math.exp(-1)), math.log(2), math.log1p(math.exp(4))])


def test_smoothed_labels_by_hand() -> None:
    # A quarter of the pairs is swapped: three quarters of the loss of a margin, a quarter of that of its opposite.
    expected = [0.75 * softplus(-margin) + 0.25 * softplus(margin) for margin in (1.0, 0.0, -4.0)]
    assert losses(beta=0.1, label_smoothing=0.25) == pytest.approx(expected)


def test_robust_by_hand() -> None:
    expected = [(0.75 * softplus(-margin) - 0.25 * softplus(margin)) / 0.5 for margin in (1.0, 0.0, -4.0)]
    assert losses(beta=0.1, loss="robust", label_smoothing=0.25) == pytest.approx(expected)
    assert losses(beta=0.1, loss="robust") == pytest.approx(losses(beta=0.1))


def test_robust_is_unbiased() -> None:
    # Where a quarter of the pairs is swapped, its mean is the plain loss of the pairs as they should be.
    margin = torch.tensor([-3.0, 0.5, 2.0])
    mean = 0.75 * robust_loss(margin, 0.25) + 0.25 * robust_loss(-margin, 0.25)
    torch.testing.assert_close(mean, sigmoid_loss(margin))


def test_hinge_by_hand() -> None:
    assert losses(beta=0.1, loss="hinge") == pytest.approx([0.0, 1.0, 5.0])
    assert losses(beta=0.05, loss="hinge") == pytest.approx([0.5, 1.0, 3.0])


def test_ipo_by_hand() -> None:
    # Log-ratios a token: 5/5 and -5/2, 0 and 0, -20/10 and 20/5; an empty answer counts as one token.
    lengths = {"chosen_lengths": CHOSEN_LENGTHS, "rejected_lengths": REJECTED_LENGTHS}
    assert losses(beta=0.25, loss="ipo", **lengths) == pytest.approx([(3.5 - 2) ** 2, (0 - 2) ** 2, (-6 - 2) ** 2])


def test_length_normalised_by_hand() -> None:
    lengths = {"chosen_lengths": CHOSEN_LENGTHS, "rejected_lengths": REJECTED_LENGTHS}
    expected = [softplus(-2 * difference) for difference in (3.5, 0.0, -6.0)]
    assert losses(beta=2.0, length_normalised=True, **lengths) == pytest.approx(expected)
    assert losses(beta=0.1, loss="hinge", length_normalised=True, **lengths) == pytest.approx([0.65, 1.0, 1.6])
    result = dpo_loss(*(torch.tensor(one) for one in LOGPROBS), beta=2.0, length_normalised=True, **lengths)
    assert result.chosen_reward.tolist() == pytest.approx([2.0, 0.0, -4.0])
    assert result.margin.tolist() == pytest.approx([7.0, 0.0, -12.0])


def test_the_sft_term_by_hand() -> None:
    mean = float(CHOSEN_LENGTHS.float().mean())
    added = [
        with_term - without
        for with_term, without in zip(
            losses(beta=0.1, sft_weight=0.5, mean_chosen_length=mean), losses(beta=0.1), strict=True
        )
    ]
    # Its mean over pairs is that over the 19 chosen tokens.
    assert sum(added) / 3 == pytest.approx(0.5 * 60 / 19)
    assert added == pytest.approx([0.5 * 10 * 3 / 19, 0.5 * 10 * 3 / 19, 0.5 * 40 * 3 / 19])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"loss": "hinge", "label_smoothing": 0.1}, "for the losses sigmoid and robust, not for hinge"),
        ({"loss": "ipo", "label_smoothing": 0.1}, "for the losses sigmoid and robust, not for ipo"),
        ({"loss": "robust", "label_smoothing": 0.5}, "below 0.5"),
        ({"label_smoothing": -0.1}, "at least 0"),
        ({"loss": "ipo"}, "needs chosen_lengths and rejected_lengths"),
        ({"length_normalised": True, "chosen_lengths": CHOSEN_LENGTHS}, "needs chosen_lengths and rejected_lengths"),
        ({"sft_weight": 0.1}, "needs mean_chosen_length"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        losses(beta=0.1, **settings)


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
