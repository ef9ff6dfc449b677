"""What the mu2 tokenizer keeps of a study's tokens: selection (DTS) and pooling at several scales (DMTP).

Shape letters: B batch, N all tokens of a study, S selected tokens, D hidden.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from rlaif.models.connectors.settings import Mu2Settings


def select_tokens(scores: Tensor, tokens: Tensor, temperature: float = 1.0) -> Tensor:
    """Soft tokens `[B, S, D]` from scores `[B, N, S]` and tokens `[B, N, D]`: each an average of all tokens, weighted
    by the softmax of its own scores.

    One batched matrix product does what the published code does in a loop over the S soft tokens.
    """
    return (scores / temperature).softmax(dim=1).transpose(1, 2) @ tokens


class SoftSelection(nn.Module):
    """Differentiable token selection (mu2, section 2.2): `[B, N, D]` to `[B, S, D]`."""

    def __init__(self, settings: Mu2Settings, hidden: int) -> None:
        super().__init__()
        self.temperature = settings.temperature
        # A bias, which the published layer has, adds the same to the scores of all tokens: the softmax takes it out.
        self.score_net = nn.Linear(hidden, settings.selected, bias=False)

    def forward(self, tokens_BND: Tensor) -> Tensor:
        return select_tokens(self.score_net(tokens_BND), tokens_BND, self.temperature)


class HardSelection(nn.Module):
    """The S tokens of the highest scores, highest first (the baseline that mu2 takes from LinVT): `[B, N, D]` to
    `[B, S, D]`.

    No gradient passes through a choice, so the scores' weights stay as they began, as in the published code; they are
    a buffer here, that no optimizer waits for them.
    """

    score: Tensor

    def __init__(self, settings: Mu2Settings, hidden: int) -> None:
        super().__init__()
        self.selected = settings.selected
        self.register_buffer("score", nn.Linear(hidden, 1, bias=False).weight.detach()[0].clone())

    def forward(self, tokens_BND: Tensor) -> Tensor:
        chosen = (tokens_BND @ self.score).topk(self.selected, dim=1).indices
        return tokens_BND.take_along_dim(chosen[:, :, None], dim=1)


class ScalePooling(nn.Module):
    """Averages of neighbouring selected tokens at each scale, joined: `[B, S, D]` to `[B, sum of S // scale, D]`.

    With `dynamic_pooling` (DMTP) each scale is weighted by the softmax, over the scales, of a gate on its mean. Where
    every scale divides S, as in the paper, all scales have the same mean: each weight is then one over the number of
    scales, whatever the gate, and the gate's gradient is zero.
    """

    def __init__(self, settings: Mu2Settings, hidden: int) -> None:
        super().__init__()
        self.scales = settings.scales
        # A bias, which the published layer has, would be the same for all scales: the softmax takes it out.
        self.gate = nn.Linear(hidden, 1, bias=False) if settings.dynamic_pooling else None

    def forward(self, tokens_BSD: Tensor) -> Tensor:
        along = tokens_BSD.transpose(1, 2)
        pooled = [functional.avg_pool1d(along, scale).transpose(1, 2) for scale in self.scales]
        if self.gate is not None:
            weights = torch.stack([self.gate(one.mean(dim=1)) for one in pooled]).softmax(dim=0)
            pooled = [one * weight[:, None] for one, weight in zip(pooled, weights, strict=True)]
        return torch.cat(pooled, dim=1)
