"""BERTScore through the package, with a small BERT of fixed random weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, BertTokenizerFast

from rlaif.metrics.measures.bert_score import measure
from rlaif.metrics.measures.measured import Measured, ReportPair
from rlaif.metrics.measures.settings import MetricError, MetricSettings, NotAvailable

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
    "right",
    ".",
    "heart",
    "is",
    "large",
]
NOTHING = dict.fromkeys(MetricSettings.model_fields)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two layers; "t5" in the path would make the package's own loader take it for a T5."""
    place = tmp_path_factory.mktemp("cohort5") / "tiny-bert"
    place.mkdir()
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (place / "vocab.txt").write_text("\n".join(vocabulary))
    BertTokenizerFast(vocab=str(place / "vocab.txt")).save_pretrained(place)
    torch.manual_seed(7)
    BertModel(
        BertConfig(
            vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=24, max_position_embeddings=24,
        )
    ).save_pretrained(place)  # fmt: skip
    return place


def measured(folder: Path, *pairs: tuple[str, str], layer: int | None = None) -> dict[str, Measured]:
    settings = MetricSettings(**NOTHING | {"bert_score": folder, "bert_score_layer": layer})
    return {one.name: one for one in measure(settings)([ReportPair(*pair) for pair in pairs])}


def by_hand(folder: Path, reference: str, candidate: str, layer: int) -> tuple[float, float, float]:
    """Greedy matching by the paper: each token's best cosine on the other side, without [CLS] and [SEP] in the mean."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    sides = []
    for text in (reference, candidate):
        with torch.no_grad():
            states = model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True).hidden_states[layer][0]
        sides.append(states / states.norm(dim=1, keepdim=True))
    similarity = sides[1] @ sides[0].T
    precision = similarity.max(dim=1).values[1:-1].mean().item()
    recall = similarity.max(dim=0).values[1:-1].mean().item()
    return precision, recall, 2 * precision * recall / (precision + recall)


@pytest.mark.parametrize("layer", [1, 2])
def test_the_scores_are_greedy_cosine_matching_of_the_layer(folder: Path, layer: int) -> None:
    reference, candidate = "Small nodule in the left lung. No pleural effusion.", "Nodule in the right lung"
    found = measured(folder, (reference, candidate), ("Heart is large.", "No effusion."), layer=layer)
    precision, recall, f1 = by_hand(folder, reference, candidate, layer)
    got = [found[f"bert_score_{name}"].values for name in ("precision", "recall", "f1")]
    assert [one[0] for one in got if one is not None] == pytest.approx([precision, recall, f1], abs=1e-5)
    assert precision != pytest.approx(recall, abs=1e-3)
    signature = str(found["bert_score_f1"].signature)
    assert signature.startswith("bert-score 0.3.13, tiny-bert (xxh3 ")
    assert f"the first 24 of a text; sample mean; layer {layer} of 2; no idf; no baseline" in signature


def test_reports_at_the_edges_keep_their_places(folder: Path) -> None:
    long = "small nodule in the left lung . " * 400
    pairs = [
        ("No pleural effusion.", "No pleural effusion."), ("No effusion.", " "), ("", "No effusion."),
        ("Heart", "Lung"), ("Große Läsion über dem Herzen, 心臓", "Heart is large."), (long, long), (" ", ""),
        ("No effusion.", "\u200b"),
    ]  # fmt: skip
    f1 = measured(folder, *pairs)["bert_score_f1"]
    values = f1.values
    assert values is not None and values[[0, 5]] == pytest.approx([1.0, 1.0], abs=1e-5)
    assert values[1] == 0.0 and np.isnan(values[[2, 6]]).all() and np.isfinite(values[[3, 4, 7]]).all()
    assert f1.n == 6 and f1.over(np.ones((1, 8)))[0] == pytest.approx(np.nanmean(values))
    alone = measured(folder, pairs[3])["bert_score_f1"].values
    assert alone is not None and alone[0] == pytest.approx(values[3], abs=1e-5)
    assert measured(folder, ("", "x"))["bert_score_f1"].n == 0 and measured(folder)["bert_score_f1"].n == 0


def test_a_missing_model_and_a_layer_that_is_not_there_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(NotAvailable, match=r"set score\.metrics\.bert_score to a folder"):
        measure(MetricSettings(**NOTHING))
    with pytest.raises(NotAvailable, match=r"lacks config\.json"):
        measure(MetricSettings(**NOTHING | {"bert_score": tmp_path}))
    with pytest.raises(MetricError, match=r"score\.metrics\.bert_score_layer=3: .* has layers 1 to 2"):
        measured(folder, ("Heart", "Lung"), layer=3)
