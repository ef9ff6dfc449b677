"""A policy with a value head: beside every token's log-prob, what score the report is expected to get."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from rlaif.models.policy import Policy
from rlaif.models.prompt import Tokens
from rlaif.models.visual_input import VisualInput

VALUE_HEAD_FILE = "value_head.safetensors"


class PolicyWithValues(nn.Module):
    """A policy and a linear head on its last hidden states; a new head expects nothing of any report.

    `trains_policy` lets the gradient of the values through to the policy.
    """

    def __init__(self, policy: Policy, *, trains_policy: bool) -> None:
        super().__init__()
        self.policy, self.trains_policy = policy, trains_policy
        words = policy.language_model.get_input_embeddings().weight
        self.value_head = nn.Linear(policy.language_model.config.hidden_size, 1, dtype=words.dtype)
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)

    @property
    def language_model(self) -> PreTrainedModel:
        """The policy's language model."""
        return self.policy.language_model

    def forward(self, tokens: Tokens, visual: Sequence[VisualInput] | None) -> tuple[Tensor, Tensor]:
        """The log-probs and values of the answers' tokens, both `[B, L]` float32, zero elsewhere.

        A token's value is what is expected before it is written.
        """
        states = self.policy.states(tokens, visual)
        values = self.value_head(states if self.trains_policy else states.detach()).squeeze(-1).float()
        empty = torch.zeros(tokens.ids.shape, dtype=torch.float32, device=values.device)
        return self.policy.logprobs(states, tokens), empty.masked_scatter(tokens.answer, values)
