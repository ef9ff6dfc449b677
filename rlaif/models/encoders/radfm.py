"""RadFM's ViT3D, which Reg2RG reads scans and regions with (src/Model/RadFM/vit_3d.py)."""

from torch import Tensor, nn

from rlaif.models.encoders.pooling import pooled
from rlaif.models.encoders.radfm_layers import Block, PatchEmbedding, TablePositions
from rlaif.models.encoders.settings import RadFMSettings

# RadFM was built for colour images as well: a CT's one channel is repeated.
CHANNELS = 3


class RadFMViT(nn.Module):
    """Volume `[B, 1, depth, height, width]` to features `[B, tokens, hidden]`.

    Features run over depth, height and width, the last fastest, as every encoder's here; RadFM's own run over height,
    width and depth, which its Perceiver cannot tell apart. Raises ValueError for a volume of another shape.
    """

    def __init__(self, settings: RadFMSettings) -> None:
        super().__init__()
        self.settings = settings
        self.patch_embedding = PatchEmbedding(CHANNELS, settings.patch, settings.hidden)
        self.positions = TablePositions(settings.hidden, settings.position_tables)
        self.blocks = nn.ModuleList(
            Block(settings.hidden, settings.heads, settings.head_size, settings.intermediate)
            for _ in range(settings.layers)
        )

    def forward(self, volume: Tensor) -> Tensor:
        settings = self.settings
        settings.check_shape(volume.shape)
        x = self.patch_embedding(volume.expand(-1, CHANNELS, -1, -1, -1)) + self.positions(settings.grid)
        for block in self.blocks:
            x = block(x)
        depth, height, width = settings.grid
        ordered = x.unflatten(1, (height, width, depth)).permute(0, 3, 1, 2, 4).flatten(1, 3)
        return pooled(ordered, settings.grid, settings.pool)
