"""RadGraph-XL F1 through the package, with a small model of fixed random weights in the layout of the published one."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertTokenizerFast

from rlaif.metrics.measures import radgraph as metric
from rlaif.metrics.measures.measured import Measured, ReportPair
from rlaif.metrics.measures.radgraph import measure
from rlaif.metrics.measures.settings import MetricError, MetricSettings, NotAvailable

NOTHING = dict.fromkeys(MetricSettings.model_fields)
WORDS = [
    "no",
    "pleural",
    "effusion",
    "small",
    "nodule",
    "in",
    "the",
    "left",
    "lung",
    ".",
    "heart",
    "is",
    "large",
    "right",
]
MODULES = {
    "coref": {"spans_per_word": 0.3, "max_antecedents": 10, "coref_prop": 0},
    "ner": {},
    "relation": {"spans_per_word": 0.5},
    "events": {
        "trigger_spans_per_word": 0.3, "argument_spans_per_word": 0.8,
        "loss_weights": {"trigger": 1.0, "arguments": 1.0},
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("radgraph-xl")
    encoder, vocabulary = place / "encoder", place / "vocabulary"
    encoder.mkdir()
    vocabulary.mkdir()
    (encoder / "vocab.txt").write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "1", "2", *WORDS])
    )
    BertTokenizerFast(vocab=str(encoder / "vocab.txt")).save_pretrained(encoder)
    BertConfig(
        vocab_size=len(WORDS) + 9, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=64,
    ).save_pretrained(encoder)  # fmt: skip
    (vocabulary / "non_padded_namespaces.txt").write_text("*labels\n*tags\n")
    for kind, names in (
        (
            "ner",
            ["", "Observation::definitely present", "Observation::definitely absent", "Anatomy::definitely present"],
        ),
        ("relation", ["", "located_at", "modify"]),
    ):
        (vocabulary / f"radgraph-xl__{kind}_labels.txt").write_text("\n".join(names))
    bert = {"type": "pretrained_transformer_mismatched", "model_name": "an-owner/a-model-of-the-hub", "max_length": 64}
    config = {
        "dataset_reader": {"token_indexers": {"bert": bert}, "max_span_width": 2},
        "model": {
            "type": "dygie", "embedder": {"token_embedders": {"bert": bert}},
            "initializer": {}, "module_initializer": {},
            "loss_weights": {"ner": 1.0, "relation": 1.0, "coref": 0.0, "events": 0.0}, "feature_size": 4,
            "max_span_width": 2, "target_task": "relation", "modules": MODULES,
            "feedforward_params": {"num_layers": 1, "hidden_dims": 8, "dropout": 0.0},
        },
    }  # fmt: skip
    (place / "config.json").write_text(json.dumps(config))
    torch.save(weights_of(place), place / "weights.th")
    return place


def weights_of(place: Path) -> dict[str, torch.Tensor]:
    """Random weights under the names that the package looks for, which it tells where it misses them."""
    from radgraph.allennlp.data import Vocabulary
    from radgraph.allennlp.modules import text_field_embedders, token_embedders
    from radgraph.dygie.models import dygie

    metric._prepare_tokenizers(str(place / "encoder"))
    torch.manual_seed(2)
    embedder = token_embedders.PretrainedTransformerMismatchedEmbedder(str(place / "encoder"), max_length=64)
    settings = json.loads((place / "config.json").read_text())["model"]
    model = dygie.DyGIE(
        vocab=Vocabulary.from_files(str(place / "vocabulary"), None, None),
        embedder=text_field_embedders.BasicTextFieldEmbedder({"bert": embedder}),
        **{
            name: settings[name]
            for name in settings
            if name not in ("type", "embedder", "initializer", "module_initializer")
        },
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    weights = model.state_dict()
    # A start with which some relations outdo none.
    torch.manual_seed(4)
    for name in (name for name in weights if "_relation" in name):
        torch.nn.init.normal_(weights[name], std=1.0)
        if name.endswith("bias"):
            weights[name].abs_()
    return weights


def measured(folder: Path, *pairs: tuple[str, str]) -> dict[str, Measured]:
    settings = MetricSettings(**NOTHING | {"radgraph": folder})
    return {one.name: one for one in measure(settings)([ReportPair(*pair) for pair in pairs])}


@pytest.mark.slow
def test_scores_are_the_packages_and_reports_at_the_edges_keep_their_places(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = [
        ("Small nodule in the left lung. No pleural effusion.", "Large nodule in the right lung. Pleural effusion."),
        ("Heart is large.", ""),
        ("", "Heart is large."),
        ("The heart is large.", "The heart is large."),
        ("Heart", "Lung"),
        ("Größe 心臓 heart is large.", "\u200b heart is large"),
        ("Heart is large. " * 60, "Heart is large. " * 60),
        (" \n", "  "),
        ("The lung. The heart.", "No effusion in the left lung."),
    ]
    found = measured(folder, *pairs)
    assert list(found) == ["radgraph_partial", "radgraph_simple", "radgraph_complete"]
    values = np.stack([found[f"radgraph_{level}"].values for level in metric.LEVELS], axis=1)
    plain = [place for place, pair in enumerate(pairs) if all(text.strip() for text in pair)]
    assert values[plain] == pytest.approx(np.array(package(folder, [pairs[place] for place in plain])), abs=1e-9)
    assert values[[3, 6]].tolist() == [[1.0] * 3] * 2 and values[1].tolist() == [0.0] * 3
    assert np.isnan(values[[2, 7]]).all() and found["radgraph_partial"].n == 7
    assert len(set(values[0])) == 3 and ((values[0] > 0) & (values[0] < 1)).all()
    signature = str(found["radgraph_partial"].signature)
    assert signature.startswith("radgraph 0.1.18, radgraph-xl") and "0 where the candidate is empty" in signature
    assert "Using device" not in capsys.readouterr().out

    none = metric._annotations(metric._loaded(folder), ["", " "])
    assert none == {}


def package(folder: Path, pairs: list[tuple[str, str]]) -> list[tuple[float, float, float]]:
    """The package's own F1s, of one call for all pairs."""
    from radgraph import F1RadGraph

    scorer = F1RadGraph.__new__(F1RadGraph)
    torch.nn.Module.__init__(scorer)
    scorer.reward_level, scorer.radgraph = "all", metric._loaded(folder)
    _, levels, _, _ = scorer(refs=[reference for reference, _ in pairs], hyps=[candidate for _, candidate in pairs])
    return list(zip(*levels, strict=True))


def test_a_text_that_the_package_leaves_out_is_an_error() -> None:
    def annotator(texts: list[str]) -> dict[str, Any]:
        return {str(place): {"entities": {}} for place, text in enumerate(texts) if text != "b"}

    assert set(metric._annotations(annotator, ["a", "a", "c"])) == {"a", "c"}
    with pytest.raises(MetricError, match=r"could not annotate 1 of 3 texts"):
        metric._annotations(annotator, ["a", "b", "c"])


def test_texts_are_cut_at_a_number_of_words() -> None:
    assert metric._cut("one  two\n" * 1000) == "one  two\n" * 1000
    assert metric._cut("one  two\n" * 1001) == " ".join(["one two"] * 1000)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotAvailable, match=r"set score\.metrics\.radgraph to a folder with RadGraph-XL as the package"):
        measure(MetricSettings(**NOTHING))
    (tmp_path / "config.json").write_text("{}")
    settings = MetricSettings(**NOTHING | {"radgraph": tmp_path})
    with pytest.raises(
        NotAvailable, match=r"lacks weights\.th, vocabulary, encoder/config\.json, encoder/tokenizer\.json or"
    ):
        measure(settings)
    with pytest.raises(
        MetricError, match=r"score\.metrics\.radgraph=.*config\.json is not RadGraph-XL's: it has no 'dataset_reader'"
    ):
        metric._with_local_encoder(tmp_path)
