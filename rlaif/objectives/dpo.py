"""Direct preference optimisation: its losses on the answers' summed log-probs (3D-CT-GPT++, Algorithm 3).

A log-ratio is an answer's log-prob under the policy minus that under the reference; a reward is beta times that.
"""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from rlaif.learner_settings import DpoLossName


@dataclass(frozen=True)
class DpoLoss:
    """The loss of each pair `[pairs]`, and what is worth watching beside it; rewards carry no gradients."""

    loss: Tensor
    chosen_reward: Tensor
    rejected_reward: Tensor

    @property
    def margin(self) -> Tensor:
        """Chosen reward minus rejected reward `[pairs]`."""
        return self.chosen_reward - self.rejected_reward


def dpo_loss(
    chosen_logprobs: Tensor,
    rejected_logprobs: Tensor,
    reference_chosen_logprobs: Tensor,
    reference_rejected_logprobs: Tensor,
    *,
    beta: float,
    loss: DpoLossName = "sigmoid",
    label_smoothing: float = 0.0,
    length_normalised: bool = False,
    sft_weight: float = 0.0,
    chosen_lengths: Tensor | None = None,
    rejected_lengths: Tensor | None = None,
    mean_chosen_length: float | None = None,
) -> DpoLoss:
    """The loss of pairs from the summed answer log-probs `[pairs]` float32 of policy and reference.

    `label_smoothing` is the share of pairs taken to be the wrong way round, for `sigmoid` and `robust`, below 0.5.
    `length_normalised` takes log-ratios a token (Lambert et al. 2024, Tulu 3), which `ipo` always does. Such losses
    need both answers' lengths in tokens `[pairs]`; `sft_weight` needs the mean chosen length of the optimizer's step
    (of all its micro-batches and ranks, so that the split changes nothing). Raises ValueError for what does not fit.
    """
    if label_smoothing and loss not in ("sigmoid", "robust"):
        raise ValueError(f"label_smoothing={label_smoothing} is for the losses sigmoid and robust, not for {loss}")
    if not 0 <= label_smoothing < 0.5:
        raise ValueError(f"label_smoothing={label_smoothing}: it must be at least 0 and below 0.5")
    chosen = chosen_logprobs - reference_chosen_logprobs
    rejected = rejected_logprobs - reference_rejected_logprobs
    if length_normalised or loss == "ipo":
        if chosen_lengths is None or rejected_lengths is None:
            raise ValueError(f"loss {loss} a token needs chosen_lengths and rejected_lengths")
        chosen, rejected = chosen / chosen_lengths.clamp(min=1), rejected / rejected_lengths.clamp(min=1)
    margin = beta * (chosen - rejected)
    match loss:
        case "sigmoid":
            losses = sigmoid_loss(margin, label_smoothing)
        case "robust":
            losses = robust_loss(margin, label_smoothing)
        case "hinge":
            losses = hinge_loss(margin)
        case "ipo":
            losses = ipo_loss(chosen - rejected, beta)
    if sft_weight:
        if mean_chosen_length is None:
            raise ValueError("sft_weight needs mean_chosen_length, the mean chosen length of the optimizer's step")
        losses = losses + sft_weight * sft_term(chosen_logprobs, mean_chosen_length)
    return DpoLoss(losses, beta * chosen.detach(), beta * rejected.detach())


def sigmoid_loss(margin: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """DPO's loss from reward margins `[pairs]` (Rafailov et al. 2023, equation 7).

    With label smoothing it is the expected loss where a share of the pairs is swapped (Mitchell 2023, "A note on DPO
    with noisy preferences").
    """
    right = -functional.logsigmoid(margin)
    if not label_smoothing:
        return right
    return (1 - label_smoothing) * right - label_smoothing * functional.logsigmoid(-margin)


def robust_loss(margin: Tensor, label_smoothing: float) -> Tensor:
    """An unbiased estimate of `sigmoid_loss` on clean pairs, from pairs of which a share below 0.5 is swapped.

    Chowdhury et al. 2024, "Provably robust DPO". It may be negative.
    """
    right, swapped = -functional.logsigmoid(margin), -functional.logsigmoid(-margin)
    return ((1 - label_smoothing) * right - label_smoothing * swapped) / (1 - 2 * label_smoothing)


def hinge_loss(margin: Tensor) -> Tensor:
    """The calibration loss of SLiC-HF (Zhao et al. 2023) with a target of 1, on reward margins `[pairs]`."""
    return functional.relu(1 - margin)


def ipo_loss(log_ratio_margin: Tensor, beta: float) -> Tensor:
    """IPO (Azar et al. 2023, equation 17, beta being its tau) from differences of log-ratios a token `[pairs]`.

    Without a bound to pull away to, it drives the difference to 1 / (2 beta).
    """
    return (log_ratio_margin - 1 / (2 * beta)) ** 2


def sft_term(chosen_logprobs: Tensor, mean_length: float) -> Tensor:
    """What `[pairs]` has as its mean the mean negative log-prob of all chosen tokens, however long each answer is."""
    return -chosen_logprobs / mean_length
