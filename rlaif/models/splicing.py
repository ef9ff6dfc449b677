"""The visual tokens of a batch, in the order of its prompts' placeholders.

Shape letters: B batch, V visual tokens, T encoder tokens, F encoder hidden, D language hidden, Q words of a question.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from rlaif.models.connectors.build import Connector
from rlaif.models.connectors.mu2 import Mu2Tokenizer
from rlaif.models.connectors.regions import RegionConnector
from rlaif.models.prompt import Prompt
from rlaif.models.settings import PolicyError
from rlaif.models.visual_input import RegionInput, VisualInput


def encoded(encoder: nn.Module, visual: Sequence[VisualInput]) -> list[VisualInput]:
    """Studies given as voxels, as encoder features; a study that stands twice is encoded once.

    One volume at a time, for activations are what takes memory.
    """
    dtype = next(encoder.parameters()).dtype
    done: dict[int, VisualInput] = {}

    def features(image: Tensor) -> Tensor:
        if image.dim() != 4:
            shape = list(image.shape)
            raise PolicyError(f"the encoder trains, so it needs voxels [1, depth, height, width], got {shape}")
        return encoder(image[None].to(dtype))[0]

    for one in visual:
        if id(one) not in done:
            regions = {name: RegionInput(features(region.image), region.mask) for name, region in one.regions.items()}
            done[id(one)] = VisualInput(features(one.image), regions)
    return [done[id(one)] for one in visual]


def visual_tokens(
    connector: Connector, prompts: Sequence[Prompt], visual: Sequence[VisualInput], width: int, words: nn.Module
) -> Tensor:
    """The visual tokens `[V, D]` of all rows, one after the other, each row's in the order of its slots.

    `visual` holds each row's encoder features of the given width, `words` is the language model's embedding. Raises
    PolicyError where features are of another width, or a region that a prompt names has none.
    """
    for one in visual:
        if one.image.dim() != 2 or one.image.shape[1] != width:
            raise PolicyError(f"the connector takes features [tokens, {width}], got {list(one.image.shape)}")
    dtype = next(words.parameters()).dtype
    scans = torch.stack([one.image for one in visual]).to(dtype)
    if isinstance(connector, Mu2Tokenizer):
        question, mask = _questions(prompts, words)
        return connector(scans, question, mask).flatten(0, 1)
    tokens = connector(scans)
    if not isinstance(connector, RegionConnector):
        return tokens.flatten(0, 1)
    named = [_region(one, slot) for prompt, one in zip(prompts, visual, strict=True) for slot in prompt.slots if slot]
    regions: list[Tensor] = []
    if named:
        images = torch.stack([region.image for region in named]).to(dtype)
        masks = torch.stack([region.mask for region in named]).to(dtype) / 255
        regions = list(connector.regions(images, masks))
    waiting = iter(regions)
    spliced = [
        scan if slot is None else next(waiting)
        for prompt, scan in zip(prompts, tokens, strict=True)
        for slot in prompt.slots
    ]
    return torch.cat(spliced)


def _questions(prompts: Sequence[Prompt], words: nn.Module) -> tuple[Tensor, Tensor]:
    """The questions' embeddings `[B, Q, D]` and the mask `[B, Q]` of what is no padding."""
    device = next(words.parameters()).device
    ids = [torch.tensor(prompt.question, dtype=torch.long, device=device) for prompt in prompts]
    mask = pad_sequence([torch.ones_like(one, dtype=torch.bool) for one in ids], batch_first=True)
    return words(pad_sequence(ids, batch_first=True)), mask


def _region(visual: VisualInput, name: str) -> RegionInput:
    if name not in visual.regions:
        raise PolicyError(
            f"the prompt names the region {name!r}, and the study's features have {', '.join(visual.regions) or 'none'}"
        )
    return visual.regions[name]
