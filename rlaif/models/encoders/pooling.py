"""The average pooling that closes an encoder: it has no weights, so the feature store holds what comes after it."""

from torch import Tensor

from rlaif.models.encoders.settings import Size


def pooled(tokens: Tensor, grid: Size, pool: int) -> Tensor:
    """The means of neighbouring tokens: `[volumes, tokens, hidden]` over depth, height, width, the last fastest.

    `grid` is the tokens' along those axes, each a multiple of `pool`.
    """
    if pool == 1:
        return tokens
    depth, height, width = (side // pool for side in grid)
    # torch's own average pooling knows no bfloat16 on a CPU.
    cells = tokens.reshape(len(tokens), depth, pool, height, pool, width, pool, tokens.shape[-1])
    return cells.mean(dim=(2, 4, 6)).flatten(1, 3)
