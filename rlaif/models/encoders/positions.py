"""A vision transformer's learnt positions, taken from one grid of patches to another."""

from torch import Tensor
from torch.nn import functional

from rlaif.models.encoders.settings import Size


def interpolated_positions(positions: Tensor, found: Size, wanted: Size) -> Tensor:
    """Positions `[1, tokens, hidden]` of one grid (depth, height, width) for another, by trilinear interpolation.

    Argus trains at two resolutions; its positions of one begin the other. Raises ValueError where the positions are
    not those of the grid that is said to be theirs.
    """
    depth, height, width = found
    if positions.dim() != 3 or positions.shape[1] != depth * height * width:
        raise ValueError(f"positions of shape {list(positions.shape)} are not those of a grid of {found} patches")
    if found == wanted:
        return positions
    volume = positions.transpose(1, 2).unflatten(2, found)
    resized = functional.interpolate(volume.float(), size=wanted, mode="trilinear", align_corners=False)
    return resized.flatten(2).transpose(1, 2).to(positions.dtype)
