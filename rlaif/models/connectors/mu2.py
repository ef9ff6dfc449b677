"""The mu2 tokenizer: the connector of mu2LLM, which makes few visual tokens of many with an eye on the question.

Shape letters: B batch, F frames, T tokens of a frame, D hidden, W words of the question.
"""

import torch
from torch import Tensor, nn

from rlaif.models.connectors.mlp import Mlp
from rlaif.models.connectors.mu2_aggregation import TokenAggregation
from rlaif.models.connectors.mu2_attention import SpatialTemporalLayer
from rlaif.models.connectors.mu2_selection import HardSelection, ScalePooling, SoftSelection
from rlaif.models.connectors.settings import Mu2Settings
from rlaif.models.encoders.settings import EncoderSettings


class Mu2Tokenizer(nn.Module):
    """M3D's projector, then refining over space and time, selection, pooling and aggregation of the visual tokens
    (mu2, section 2.2; u2Tokenizer, src/model/u2tokenizer).

    Settings that do not fit the encoder or the language model's `hidden` are a ValueError.
    """

    # The rows of Table 2 switch one part on at a time, as the publication's training scripts show: "Baseline" is
    # relative_positions, differentiable_selection and dynamic_pooling all false (LinVT's hard selection and equal
    # scales), "+RPE", "+DTS" and "+DMTP" are each of these alone true, "mu2LLM-1B" all three. text_condition is true
    # in all rows; false is a row of ours. Baselines without RPE differ from what was run there: the paper names
    # LinVT's absolute positions, the code has none, and there its attention without RPE runs along the batch axis.

    def __init__(self, settings: Mu2Settings, encoder: EncoderSettings, hidden: int) -> None:
        super().__init__()
        queries = settings.tokens(encoder)
        if hidden % settings.heads:
            raise ValueError(f"hidden {hidden} is no multiple of the mu2 tokenizer's heads {settings.heads}")
        self.frames, self.tokens = encoder.frames, encoder.tokens
        self.features, self.hidden = encoder.hidden, hidden
        self.text_condition = settings.text_condition
        self.projector = Mlp(encoder.hidden, hidden)
        self.refiner = nn.ModuleList(SpatialTemporalLayer(settings, hidden) for _ in range(settings.layers))
        selection = SoftSelection if settings.differentiable_selection else HardSelection
        self.selection = selection(settings, hidden)
        self.pooling = ScalePooling(settings, hidden) if settings.multi_scale_pooling else nn.Identity()
        self.aggregation = TokenAggregation(settings, hidden)
        self.query_tokens = nn.Parameter(torch.empty(1, queries, hidden).normal_(std=0.02))

    def forward(self, features: Tensor, question: Tensor | None = None, question_mask: Tensor | None = None) -> Tensor:
        """Features `[B, F * T, features]` and the question's word embeddings `[B, W, D]` to visual tokens
        `[B, queries, D]`.

        `question_mask` `[B, W]` bool is true for words, false for padding: padding changes nothing here, while the
        published code attends to it too. Without `text_condition` the question is not looked at. Raises ValueError
        where the question is missing or empty, or a shape is another.
        """
        if features.dim() != 3 or features.shape[1:] != (self.tokens, self.features):
            raise ValueError(
                f"the mu2 tokenizer takes features [studies, {self.tokens}, {self.features}], got "
                f"{list(features.shape)}: use the features of the encoder that the policy names"
            )
        if self.text_condition:
            self._check(question, question_mask, len(features))
        x_BFTD = self.projector(features).unflatten(1, (self.frames, -1))
        for layer in self.refiner:
            x_BFTD = layer(x_BFTD)
        visual = self.pooling(self.selection(x_BFTD.flatten(1, 2)))
        queries = self.query_tokens.expand(len(features), -1, -1)
        return self.aggregation(queries, visual, question, question_mask)

    def _check(self, question: Tensor | None, mask: Tensor | None, batch: int) -> None:
        if question is None or mask is None:
            raise ValueError(
                "the mu2 tokenizer looks at the question: give its embeddings and mask, or set text_condition=false"
            )
        if question.dim() != 3 or question.shape[::2] != (batch, self.hidden):
            raise ValueError(f"the question must be [{batch}, words, {self.hidden}], got {list(question.shape)}")
        if mask.dtype != torch.bool or mask.shape != question.shape[:2]:
            raise ValueError(
                f"the question's mask must be bool {list(question.shape[:2])}, got {mask.dtype} {list(mask.shape)}"
            )
        if not mask.is_meta and not bool(mask.any(dim=1).all()):
            raise ValueError("a question has no words: attention over nothing has no value")
