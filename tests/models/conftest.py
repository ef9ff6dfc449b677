"""Tiny policies that the tests of the models share."""

from collections.abc import Callable

import pytest
import torch

from rlaif.models.connectors.settings import MlpSettings
from rlaif.models.encoders.settings import CTViTSettings
from rlaif.models.new_policy import new_policy
from rlaif.models.policy import Policy
from rlaif.models.settings import LanguageModelSettings, PolicySettings

TEXTS = ["Describe the findings of this chest CT.", "A small left pleural effusion.", "No pleural effusion. Normal."]


@pytest.fixture
def make_policy() -> Callable[..., Policy]:
    """Builds a policy with 8 visual tokens, or a text-only one; weights are large enough to matter."""

    def make(*, image: bool = True, seed: int = 0) -> Policy:
        encoder = CTViTSettings(
            volume=(8, 8, 8), patch=(2, 2, 2), hidden=16, spatial_depth=1, slice_depth=1, heads=2, head_size=8
        )
        settings = PolicySettings(
            name="test",
            size="tiny",
            recipe="phantom" if image else None,
            encoder=encoder if image else None,
            connector=MlpSettings() if image else None,
        )
        language = LanguageModelSettings(hidden=32, layers=2, heads=2, intermediate=64, vocabulary=300, positions=128)
        policy = new_policy(settings, language, TEXTS, seed=seed)
        generator = torch.Generator().manual_seed(seed + 1)
        with torch.no_grad():
            for parameter in policy.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
        return policy.eval()

    return make
