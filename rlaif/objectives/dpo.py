"""Direct preference optimisation (Rafailov et al. 2023, equation 7; 3D-CT-GPT++, Algorithm 3)."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class DpoLoss:
    """The loss of each pair `[pairs]`, and what is worth watching beside it."""

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
) -> DpoLoss:
    """The DPO loss of pairs from the summed answer log-probs `[pairs]` of policy and reference.

    The rewards are detached: only the loss carries gradients.
    """
    chosen = beta * (chosen_logprobs - reference_chosen_logprobs)
    rejected = beta * (rejected_logprobs - reference_rejected_logprobs)
    return DpoLoss(-functional.logsigmoid(chosen - rejected), chosen.detach(), rejected.detach())
