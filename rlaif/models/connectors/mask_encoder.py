"""Reg2RG's mask encoder: what a region's mask says of its place, size and shape."""

from torch import Tensor, nn

from rlaif.models.connectors.settings import MaskEncoderSettings
from rlaif.models.encoders.radfm_layers import Block, PatchEmbedding, TablePositions


class MaskEncoder(nn.Module):
    """A small vision transformer as RadFM's, with one channel and the mean over its tokens (Reg2RG,
    src/Model/my_embedding_layer.py): masks `[regions, depth, height, width]`, 0 to 1, to `[regions, settings.hidden]`.

    Each patch is normalised over its own voxels, so one wholly within the region looks like one wholly outside of it:
    the patches that the region's surface crosses tell where it lies. Raises ValueError for masks of another size.
    """

    def __init__(self, settings: MaskEncoderSettings) -> None:
        super().__init__()
        self.settings = settings
        self.patch_embedding = PatchEmbedding(1, settings.patch, settings.hidden)
        # Its tables are just as large as its grid.
        self.positions = TablePositions(settings.hidden, settings.grid)
        self.blocks = nn.ModuleList(
            Block(settings.hidden, settings.heads, settings.head_size, settings.intermediate)
            for _ in range(settings.layers)
        )

    def forward(self, masks: Tensor) -> Tensor:
        if tuple(masks.shape[1:]) != self.settings.volume:
            raise ValueError(
                f"the mask encoder takes masks [regions, {', '.join(map(str, self.settings.volume))}], got "
                f"{list(masks.shape)}: use the recipe that the policy names"
            )
        tokens = self.patch_embedding(masks[:, None]) + self.positions(self.settings.grid)
        for block in self.blocks:
            tokens = block(tokens)
        return tokens.mean(dim=1)
