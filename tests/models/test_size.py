"""The size of a policy, told without its weights, is that of the policy that is made."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from rlaif.models.encoders.ctvit import CTViT
from rlaif.models.policy import Policy
from rlaif.models.settings import LoraSettings, PolicyError
from rlaif.models.size import policy_size, saved_configuration


@pytest.mark.parametrize("image", [True, False])
def test_every_parameter_is_counted_once(make_policy: Callable[..., Policy], tmp_path: Path, image: bool) -> None:
    policy = make_policy(image=image)
    policy.save_pretrained(tmp_path, None)
    lora = LoraSettings(rank=4, alpha=8, dropout=0.0, targets="all-linear")
    size = policy_size(saved_configuration(tmp_path), policy.settings, lora)
    assert size.on_board(encoder=False) == sum(parameter.numel() for parameter in policy.parameters())
    assert size.on_board(encoder=False) == sum(tensor.numel() for tensor in policy.weights().values())
    assert size.on_board(encoder=True) == size.on_board(encoder=False) + size.encoder
    assert (size.hidden, size.layers, size.vocabulary) == (32, 2, len(policy.tokenizer))
    encoder = policy.settings.encoder
    assert size.encoder == (sum(one.numel() for one in CTViT(encoder).parameters()) if encoder else 0)
    policy.add_adapters(lora)
    assert size.adapters == sum(tensor.numel() for tensor in policy.adapters().values())


def test_nothing_is_allocated(make_policy: Callable[..., Policy]) -> None:
    policy = make_policy(image=False)
    configuration = policy.language_model.config
    configuration.update({"hidden_size": 8192, "num_hidden_layers": 80, "intermediate_size": 28672})
    assert policy_size(configuration, policy.settings, None).language_model > 5e10
    assert torch.get_default_device() == torch.device("cpu")


def test_a_folder_without_a_language_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="has no language_model that can be read"):
        saved_configuration(tmp_path)
