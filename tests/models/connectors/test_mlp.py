"""The connector: two layers on the features' last axis."""

import torch
from torch.nn import functional

from rlaif.models.connectors.mlp import Mlp


def test_it_is_two_linear_layers_with_a_gelu_between() -> None:
    torch.manual_seed(0)
    connector = Mlp(6, 4)
    features = torch.randn(2, 3, 6)
    state = connector.state_dict()
    assert list(state) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    inner = functional.gelu(features @ state["0.weight"].T + state["0.bias"])
    assert torch.allclose(connector(features), inner @ state["2.weight"].T + state["2.bias"], atol=1e-6)


def test_tokens_do_not_mix() -> None:
    torch.manual_seed(0)
    connector = Mlp(6, 4)
    features = torch.randn(1, 3, 6)
    touched = features.clone()
    touched[0, 1] += 1.0
    same = (connector(features) == connector(touched)).all(dim=-1)[0]
    assert same.tolist() == [True, False, True]
