"""The Perceiver: its values step by step, and what they do not depend on."""

import torch
from torch import Tensor

from rlaif.models.connectors.perceiver import Perceiver
from rlaif.models.connectors.settings import PerceiverSettings

SETTINGS = PerceiverSettings(latents=3, layers=2, heads=2, head_size=4)


def perceiver() -> Perceiver:
    """A Perceiver whose every weight matters."""
    torch.manual_seed(0)
    connector = Perceiver(SETTINGS, 6, 5)
    with torch.no_grad():
        for parameter in connector.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.3)
    return connector


def normed(x: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    centred = x - x.mean(dim=-1, keepdim=True)
    spread = (centred.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt()
    return centred / spread * state[f"{name}.weight"] + state[f"{name}.bias"]


def gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.erf(x / 2**0.5))


def stepped(state: dict[str, Tensor], media: Tensor) -> Tensor:
    """One study's visual tokens from `[tokens, features]`, head by head."""
    latents = state["latents"]
    for layer in (f"layers.{number}" for number in range(SETTINGS.layers)):
        queries_from = normed(latents, state, f"{layer}.norm_latents")
        both = torch.cat((normed(media, state, f"{layer}.norm_media"), queries_from))
        heads = []
        for head in range(SETTINGS.heads):
            rows = slice(4 * head, 4 * head + 4)
            query = queries_from @ state[f"{layer}.to_q.weight"][rows].T
            key = both @ state[f"{layer}.to_kv.weight"][:8][rows].T
            value = both @ state[f"{layer}.to_kv.weight"][8:][rows].T
            logits = query @ key.T / 4**0.5
            weights = logits.exp() / logits.exp().sum(dim=1, keepdim=True)
            heads.append(weights @ value)
        latents = latents + torch.cat(heads, dim=1) @ state[f"{layer}.to_out.weight"].T
        inner = normed(latents, state, f"{layer}.feed_forward.norm") @ state[f"{layer}.feed_forward.rise.weight"].T
        latents = latents + gelu(inner) @ state[f"{layer}.feed_forward.fall.weight"].T
    return normed(latents, state, "norm") @ state["fc.weight"].T + state["fc.bias"]


def test_values_equal_the_steps() -> None:
    connector = perceiver()
    features = torch.randn(2, 7, 6)
    with torch.no_grad():
        tokens = connector(features)
        for study in range(2):
            assert torch.allclose(tokens[study], stepped(connector.state_dict(), features[study]), atol=1e-5)


def test_any_number_of_tokens_in_any_order() -> None:
    connector = perceiver()
    features = torch.randn(1, 7, 6)
    with torch.no_grad():
        tokens = connector(features)
        assert torch.allclose(connector(features[:, torch.randperm(7)]), tokens, atol=1e-5)
        fewer = connector(features[:, :3])
    assert fewer.shape == tokens.shape == (1, 3, 5) and not torch.allclose(fewer, tokens, atol=1e-3)


def test_a_study_does_not_depend_on_the_others() -> None:
    connector = perceiver()
    features = torch.randn(3, 7, 6)
    with torch.no_grad():
        assert torch.allclose(connector(features)[1], connector(features[1:2])[0], atol=1e-5)


def test_radfm_has_32_latents_of_its_own_and_argus_ablation_64() -> None:
    with torch.device("meta"):
        radfm = Perceiver(PerceiverSettings(), 768, 5120)
        argus = Perceiver(PerceiverSettings(latents=64), 768, 4096)
        features = torch.empty(2, 1024, 768)
    assert radfm(features).shape == (2, 32, 5120) and argus(features).shape == (2, 64, 4096)
    attention = 768 * 512 * 4 + 4 * 768
    feed_forward = 2 * 768 * 3072 + 2 * 768
    total = sum(parameter.numel() for parameter in radfm.parameters())
    assert total == 32 * 768 + 6 * (attention + feed_forward) + 2 * 768 + 768 * 5120 + 5120
