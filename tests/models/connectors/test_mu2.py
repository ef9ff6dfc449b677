"""The mu2 tokenizer: its values step by step with each part on and off, and what they do not depend on."""

from math import exp, prod
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from rlaif.models.connectors.mu2 import Mu2Tokenizer
from rlaif.models.connectors.mu2_selection import ScalePooling, select_tokens
from rlaif.models.connectors.settings import Mu2Settings
from rlaif.models.encoders.settings import ViTSettings

# Three frames of four tokens; six selected are no multiple of the scale 4, so that the gate matters.
ENCODER = ViTSettings(volume=(12, 8, 8), patch=(4, 4, 4), frames=3, hidden=6, layers=1, heads=2, intermediate=8)
SIZES: dict[str, Any] = {"queries": 5, "selected": 6, "layers": 2, "heads": 2, "positions": 7}
SOFT: dict[str, Any] = {"temperature": 0.7}
HIDDEN = 8
SWITCHES = {
    "published": SOFT,
    "no RPE": SOFT | {"relative_positions": False},
    "no DTS": {"differentiable_selection": False},
    "no DMTP": SOFT | {"dynamic_pooling": False},
    "no pooling": SOFT | {"multi_scale_pooling": False},
    "no text": SOFT | {"text_condition": False},
    "residual": SOFT | {"residual": True},
    "baseline": {"relative_positions": False, "differentiable_selection": False, "dynamic_pooling": False},
}
SETTINGS = {name: Mu2Settings(**SIZES, **switches) for name, switches in SWITCHES.items()}


def tokenizer(settings: Mu2Settings) -> Mu2Tokenizer:
    """A tokenizer whose every weight matters. Without residual connections tokens become alike from layer to layer, so
    its attention is made sharp.
    """
    torch.manual_seed(0)
    connector = Mu2Tokenizer(settings, ENCODER, HIDDEN).double()
    with torch.no_grad():
        for name, parameter in connector.named_parameters():
            sharp = name.endswith(("wq.weight", "wk.weight", "score_net.weight", "query_tokens", "relative_bias"))
            parameter.add_(torch.randn(parameter.shape) * (1.2 if sharp else 0.2))
    return connector


def inputs(studies: int = 2, words: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Features, a question, and its mask with the last study's last word as padding."""
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(studies, 12, 6, generator=generator, dtype=torch.double)
    question = torch.randn(studies, words, HIDDEN, generator=generator, dtype=torch.double)
    mask = torch.ones(studies, words, dtype=torch.bool)
    mask[-1, -1] = False
    return features, question, mask


def mapped(x: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    return x @ state[f"{name}.weight"].T + state.get(f"{name}.bias", torch.tensor(0.0))


def normed(x: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    centred = x - x.mean(dim=-1, keepdim=True)
    spread = (centred.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt()
    return centred / spread * state[f"{name}.weight"] + state[f"{name}.bias"]


def attended(queries: Tensor, others: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    """`[queries, hidden]` attend to `[others, hidden]`, one pair of positions at a time."""
    table = state.get(f"{name}.relative_bias")
    linear = f"{name}.wv.weight" not in state
    query, key = mapped(queries, state, f"{name}.wq"), mapped(others, state, f"{name}.wk")
    value = others if linear else mapped(others, state, f"{name}.wv")
    size = HIDDEN // SIZES["heads"]
    mixed = torch.zeros_like(queries)
    for head in range(SIZES["heads"]):
        part = slice(size * head, size * head + size)
        for i in range(len(queries)):
            weights = []
            for j in range(len(others)):
                bias = float(table[j - i + SIZES["positions"] - 1, head]) if table is not None else 0.0
                weights.append(exp(float(query[i, part] @ key[j, part]) / size**0.5 + bias))
            for j, weight in enumerate(weights):
                mixed[i, part] += weight / sum(weights) * value[j, part]
    return mixed if linear else mapped(mixed, state, f"{name}.dense")


def refined(frames: Tensor, state: dict[str, Tensor]) -> Tensor:
    """`[frames, tokens, hidden]` after attention within each frame, then across frames."""
    for layer in range(SIZES["layers"]):
        for kind, axis in (("spatial", 0), ("temporal", 1)):
            name = f"refiner.{layer}.{kind}_attention"
            rows = torch.stack([attended(row, row, state, name) for row in frames.unbind(axis)], dim=axis)
            norm = f"refiner.{layer}.norm_{kind}"
            frames = normed(frames + rows, state, norm) if f"{norm}.weight" in state else rows
    return frames


def selected(tokens: Tensor, state: dict[str, Tensor]) -> Tensor:
    """Soft tokens in a loop over the selection's rows, or the tokens of the highest scores."""
    if "selection.score" in state:
        scores = [float(token @ state["selection.score"]) for token in tokens]
        best = sorted(range(len(tokens)), key=lambda index: -scores[index])
        return torch.stack([tokens[index] for index in best[: SIZES["selected"]]])
    soft = []
    for row in state["selection.score_net.weight"]:
        weights = [exp(float(token @ row) / SOFT["temperature"]) for token in tokens]
        soft.append(sum(weight / sum(weights) * token for weight, token in zip(weights, tokens, strict=True)))
    return torch.stack(soft)


def pooled(tokens: Tensor, state: dict[str, Tensor], settings: Mu2Settings) -> Tensor:
    if not settings.multi_scale_pooling:
        return tokens
    scales = [
        torch.stack([tokens[start : start + scale].mean(dim=0) for start in range(0, len(tokens) - scale + 1, scale)])
        for scale in settings.scales
    ]
    if settings.dynamic_pooling:
        gates = [exp(float(scale.mean(dim=0) @ state["pooling.gate.weight"][0])) for scale in scales]
        scales = [gate / sum(gates) * scale for gate, scale in zip(gates, scales, strict=True)]
    return torch.cat(scales)


def stepped(state: dict[str, Tensor], settings: Mu2Settings, features: Tensor, words: Tensor) -> Tensor:
    """One study's visual tokens from `[12, 6]` and the question's words without padding."""
    inner = mapped(features, state, "projector.0")
    frames = mapped(0.5 * inner * (1 + torch.erf(inner / 2**0.5)), state, "projector.2").view(3, 4, HIDDEN)
    visual = pooled(selected(refined(frames, state).reshape(12, HIDDEN), state), state, settings)
    queries = state["query_tokens"][0]
    for layer in (f"aggregation.layers.{number}" for number in range(SIZES["layers"])):
        queries = normed(
            queries + attended(queries, queries, state, f"{layer}.self_attention"), state, f"{layer}.norm_self"
        )
        seen = attended(queries, visual, state, f"{layer}.visual_attention")
        queries = normed(queries + seen, state, f"{layer}.norm_visual")
        if settings.text_condition:
            heard = attended(queries, words, state, f"{layer}.text_attention")
            queries = normed(queries + heard, state, f"{layer}.norm_text")
    return attended(queries, visual, state, "aggregation.linear")


@pytest.mark.parametrize("name", SETTINGS)
def test_values_equal_the_steps(name: str) -> None:
    settings = SETTINGS[name]
    connector = tokenizer(settings)
    features, question, mask = inputs()
    with torch.no_grad():
        tokens = connector(features, question, mask)
        assert tokens.shape == (2, 5, HIDDEN)
        for study in range(2):
            expected = stepped(connector.state_dict(), settings, features[study], question[study][mask[study]])
            assert torch.allclose(tokens[study], expected, atol=1e-9)


def test_each_switch_takes_its_parameters_away() -> None:
    names = {name: {key for key, _ in tokenizer(settings).named_parameters()} for name, settings in SETTINGS.items()}
    published = names["published"]
    attention = {f"wq.{kind}" for kind in ("weight", "bias")} | {"wk.weight", "wv.weight", "wv.bias"}
    attention |= {"dense.weight", "dense.bias"}
    layers = ("aggregation.layers.0", "aggregation.layers.1")
    away = {
        "no RPE": {key for key in published if key.endswith("relative_bias")},
        "no DTS": {"selection.score_net.weight"},
        "no DMTP": {"pooling.gate.weight"},
        "no pooling": {"pooling.gate.weight"},
        "no text": {f"{layer}.text_attention.{key}" for layer in layers for key in attention}
        | {f"{layer}.norm_text.{key}" for layer in layers for key in ("weight", "bias")},
    }
    away["baseline"] = away["no RPE"] | away["no DTS"] | away["no DMTP"]
    assert len(away["no RPE"]) == 2 * 3  # within frames, across frames, and among the queries
    assert {name: published - names[name] for name in away} == away
    assert all(names[name] < published for name in away)
    added = names["residual"] - published
    norms = [f"refiner.{layer}.norm_{kind}" for layer in (0, 1) for kind in ("spatial", "temporal")]
    assert added == {f"{norm}.{key}" for norm in norms for key in ("weight", "bias")}


@pytest.mark.parametrize("name", [name for name in SETTINGS if name != "published"])
def test_each_switch_changes_the_values(name: str) -> None:
    published, other = tokenizer(SETTINGS["published"]), tokenizer(SETTINGS[name])
    other.load_state_dict(published.state_dict(), strict=False)
    with torch.no_grad():
        difference = (other(*inputs()) - published(*inputs())).abs().max()
    assert difference > 1e-2


@pytest.mark.parametrize("name", SETTINGS)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    # Biases that a softmax would take out again (of keys, scores and gates) and the weights of a hard selection, which
    # no gradient reaches, are no parameters here, though the publication has them.
    connector = tokenizer(SETTINGS[name])
    features, question, mask = inputs()
    tokens = connector(features, question, mask)
    (tokens * torch.randn(tokens.shape, generator=torch.Generator().manual_seed(2))).sum().backward()
    still = [key for key, one in connector.named_parameters() if one.grad is None or one.grad.abs().max() < 1e-9]
    assert not still


def test_a_gate_over_scales_that_all_divide_the_selection_weighs_them_equally() -> None:
    """As in the paper (1,024 by 1, 2 and 4): the means of all scales are one, so DMTP is pooling over three."""
    torch.manual_seed(0)
    gated = ScalePooling(Mu2Settings(selected=8), HIDDEN).double()
    equal = ScalePooling(Mu2Settings(selected=8, dynamic_pooling=False), HIDDEN)
    tokens = torch.randn(2, 8, HIDDEN, dtype=torch.double)
    out = gated(tokens)
    assert torch.allclose(out, equal(tokens) / 3, atol=1e-12)
    out.square().sum().backward()
    assert gated.gate is not None and gated.gate.weight.grad is not None
    assert gated.gate.weight.grad.abs().max() < 1e-12


def test_relative_positions_at_zero_equal_none() -> None:
    without = tokenizer(SETTINGS["no RPE"])
    torch.manual_seed(0)
    new = Mu2Tokenizer(SETTINGS["published"], ENCODER, HIDDEN).double()
    biases = [one for name, one in new.named_parameters() if name.endswith("relative_bias")]
    assert len(biases) == 6 and not any(one.any() for one in biases)  # as published, they begin at zero
    new.load_state_dict(without.state_dict(), strict=False)
    with torch.no_grad():
        assert torch.allclose(new(*inputs()), without(*inputs()), atol=1e-12)


def test_without_positions_the_order_of_frames_does_not_matter_and_with_them_it_does() -> None:
    features, question, mask = inputs()
    turned = features.view(2, 3, 4, 6)[:, [2, 0, 1]].reshape(2, 12, 6)
    with torch.no_grad():
        without, published = tokenizer(SETTINGS["no RPE"]), tokenizer(SETTINGS["published"])
        frames = torch.randn(2, 3, 4, HIDDEN, dtype=torch.double)
        for layer in without.refiner:
            assert torch.allclose(layer(frames[:, [2, 0, 1]]), layer(frames)[:, [2, 0, 1]], atol=1e-12)
        assert torch.allclose(without(turned, question, mask), without(features, question, mask), atol=1e-12)
        assert not torch.allclose(published(turned, question, mask), published(features, question, mask), atol=1e-3)


def test_padding_of_the_question_changes_nothing() -> None:
    connector = tokenizer(SETTINGS["published"])
    features, question, _ = inputs(words=3)
    longer = torch.cat((question, torch.full((2, 4, HIDDEN), 5.0, dtype=torch.double)), dim=1)
    mask = torch.arange(7).expand(2, 7) < 3
    with torch.no_grad():
        tokens = connector(features, question, torch.ones(2, 3, dtype=torch.bool))
        assert torch.allclose(connector(features, longer, mask), tokens, atol=1e-12)
        # The published code attends to it.
        assert not torch.allclose(connector(features, longer, torch.ones_like(mask)), tokens, atol=1e-3)


def test_the_question_matters_and_is_not_looked_at_without_text_condition() -> None:
    features, question, mask = inputs()
    with torch.no_grad():
        published, silent = tokenizer(SETTINGS["published"]), tokenizer(SETTINGS["no text"])
        other = published(features, question.flip(-1), mask)
        assert not torch.allclose(other, published(features, question, mask), atol=1e-3)
        assert torch.equal(silent(features), silent(features, question, mask))


def test_a_study_does_not_depend_on_the_others() -> None:
    connector = tokenizer(SETTINGS["published"])
    features, question, mask = inputs(studies=3)
    with torch.no_grad():
        together = connector(features, question, mask)
        for study in range(3):
            one = slice(study, study + 1)
            assert torch.allclose(together[one], connector(features[one], question[one], mask[one]), atol=1e-12)


def test_visual_tokens_are_averages_of_the_pooled_ones() -> None:
    """The linearity principle: values and outputs are not projected, so no channel leaves the range of its input."""
    aggregation = tokenizer(SETTINGS["no text"]).aggregation
    visual = torch.randn(2, 10, HIDDEN, dtype=torch.double)
    with torch.no_grad():
        tokens = aggregation(torch.randn(2, 5, HIDDEN, dtype=torch.double), visual, None, None)
        assert (tokens <= visual.amax(dim=1, keepdim=True)).all() and (tokens >= visual.amin(dim=1, keepdim=True)).all()
        scaled = aggregation.linear(torch.zeros(2, 5, HIDDEN, dtype=torch.double), 3 * visual.mean(1, keepdim=True))
        assert torch.allclose(scaled, 3 * visual.mean(dim=1, keepdim=True).expand(2, 5, HIDDEN), atol=1e-12)


def test_one_product_selects_what_a_loop_over_the_selected_does() -> None:
    torch.manual_seed(0)
    scores, tokens = torch.randn(2, 12, 6), torch.randn(2, 12, HIDDEN)
    for temperature in (1.0, 0.5):
        weights = torch.softmax(scores / temperature, dim=1)
        loop = torch.stack([(weights[:, :, row, None] * tokens).sum(dim=1) for row in range(6)], dim=1)
        assert torch.allclose(select_tokens(scores, tokens, temperature), loop, atol=1e-5)


def test_cold_soft_selection_is_a_hard_one() -> None:
    scores = torch.tensor([[[0.1, 3.0], [2.0, 0.0], [1.0, -1.0]]])
    tokens = torch.eye(3)[None]
    assert torch.allclose(select_tokens(scores, tokens, 1e-3)[0], torch.eye(3)[[1, 0]])


def test_a_scale_of_one_alone_gives_the_selected_tokens() -> None:
    tokens = torch.randn(2, 6, HIDDEN)
    pooling = ScalePooling(Mu2Settings(selected=6, scales=(1,)), HIDDEN)
    assert torch.equal(pooling(tokens), tokens)


def test_a_hard_selection_keeps_its_weights_in_the_state_dict() -> None:
    torch.manual_seed(1)
    first = Mu2Tokenizer(SETTINGS["no DTS"], ENCODER, HIDDEN)
    second = Mu2Tokenizer(SETTINGS["no DTS"], ENCODER, HIDDEN)
    second.load_state_dict(first.state_dict())
    features, question, mask = (one.float() if one.is_floating_point() else one for one in inputs())
    assert torch.equal(first(features, question, mask), second(features, question, mask))


def test_half_precision() -> None:
    connector = tokenizer(SETTINGS["published"])
    features, question, mask = inputs()
    with torch.no_grad():
        exact = connector(features, question, mask)
        rough = connector.bfloat16()(features.bfloat16(), question.bfloat16(), mask)
    assert rough.dtype == torch.bfloat16 and torch.allclose(rough.double(), exact, atol=0.03)


def test_paper_size() -> None:
    """Eight frames of 256 tokens, Llama 3.2 1B's 2,048 channels."""
    encoder = ViTSettings(volume=(256, 256, 256), patch=(4, 16, 16), frames=8, pool=2)
    assert encoder.frames == 8 and prod(encoder.pooled_grid) == 256
    with torch.device("meta"):
        connector = Mu2Tokenizer(Mu2Settings(), encoder, 2048)
        features, question = torch.empty(2, 2048, 768), torch.empty(2, 40, 2048)
        mask = torch.ones(2, 40, dtype=torch.bool)
    assert connector(features, question, mask).shape == (2, 256, 2048)
    square = 2048 * 2048
    attention = 4 * square + 3 * 2048  # queries, keys, values and output; keys without a bias
    relative = attention + 1023 * 8
    projector = 768 * 2048 + 2048 + square + 2048
    refiner = 4 * 2 * relative
    aggregation = 4 * (relative + 2 * attention + 3 * 2 * 2048) + 2 * square + 2048
    total = projector + refiner + 2048 * 1024 + 2048 + aggregation + 256 * 2048
    assert total == 352_599_968
    assert sum(parameter.numel() for parameter in connector.parameters()) == total


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"positions": 3, "queries": 2}, "4 tokens of a frame are more than the 3 positions"),
        ({"positions": 4, "queries": 5}, "5 queries are more than the 4 positions"),
        ({"differentiable_selection": False, "selected": 13}, "a hard selection of 13 tokens from 12"),
        ({"heads": 3}, "hidden 8 is no multiple of the mu2 tokenizer's heads 3"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Mu2Tokenizer(Mu2Settings(**SIZES | settings), ENCODER, HIDDEN)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"multi_scale_pooling": False, "scales": (1, 2)},
            r"scales \(1, 2\) has no effect without multi_scale_pooling",
        ),
        (
            {"multi_scale_pooling": False, "dynamic_pooling": False},
            "dynamic_pooling False has no effect without multi_",
        ),
        ({"differentiable_selection": False, "temperature": 0.1}, "temperature 0.1 has no effect without different"),
    ],
)
def test_settings_without_effect_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Mu2Settings(**given)


def test_frames_beyond_the_relative_positions_are_refused_and_none_without_them() -> None:
    many = ENCODER.model_copy(update={"volume": (20, 4, 4), "frames": 5})
    with pytest.raises(ValueError, match="5 frames are more than the 4 positions of the relative encoding"):
        Mu2Tokenizer(Mu2Settings(**SIZES | {"positions": 4, "queries": 2}), many, HIDDEN)
    free = Mu2Settings(**SIZES | {"positions": 1}, relative_positions=False)
    assert Mu2Tokenizer(free, many, HIDDEN)(torch.randn(1, 5, 6), *_words(1)).shape == (1, 5, HIDDEN)


@pytest.mark.parametrize(("scales", "said"), [((), "one or more"), ((0, 1), "or equal to 1"), ((1, 7), "selected 6")])
def test_scales_that_pool_nothing_are_refused(scales: tuple[int, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Mu2Settings(selected=6, scales=scales)


def _words(studies: int) -> tuple[Tensor, Tensor]:
    return torch.randn(studies, 3, HIDDEN), torch.ones(studies, 3, dtype=torch.bool)


def test_wrong_inputs_are_refused() -> None:
    torch.manual_seed(0)
    connector = Mu2Tokenizer(SETTINGS["published"], ENCODER, HIDDEN)
    features = torch.randn(2, 12, 6)
    question, mask = _words(2)
    for wrong in (features[:, :11], features[..., :5], features[0]):
        with pytest.raises(ValueError, match=r"takes features \[studies, 12, 6\], got"):
            connector(wrong, question, mask)
    for missing in ((), (question,), (None, mask)):
        with pytest.raises(ValueError, match="looks at the question: give its embeddings and mask"):
            connector(features, *missing)
    for wrong in (question[..., :7], question[:1], question[0]):
        with pytest.raises(ValueError, match=r"the question must be \[2, words, 8\], got"):
            connector(features, wrong, mask)
    for wrong in (mask.long(), mask[:, :2], mask[:1]):
        with pytest.raises(ValueError, match=r"mask must be bool \[2, 3\], got"):
            connector(features, question, wrong)
    mask[1] = False
    with pytest.raises(ValueError, match="a question has no words"):
        connector(features, question, mask)
    with pytest.raises(ValueError, match="a question has no words"):
        connector(features, question[:, :0], mask[:, :0])
