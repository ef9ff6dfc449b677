"""RaTEScore through the package, with small models of fixed random weights.

medspacy, of which the package uses the sentence splitter alone, is not among the pinned packages: where it is not
installed, a distribution that splits at full stops stands in its place.
"""

import importlib.util
import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForTokenClassification, BertModel, BertTokenizerFast

from rlaif.metrics.measures.measured import Measured, ReportPair
from rlaif.metrics.measures.ratescore import TYPES, measure
from rlaif.metrics.measures.settings import MetricError, MetricSettings, NotAvailable

NOTHING = dict.fromkeys(MetricSettings.model_fields)
# What the recogniser of the tests finds: one type for each word, nothing in the others.
ENTITIES = {
    "effusion": "ABNORMALITY", "pneumonia": "DISEASE", "clear": "NON-ABNORMALITY", "healthy": "NON-DISEASE",
    "lung": "ANATOMY", "heart": "ANATOMY", "nodule": "ABNORMALITY",
}  # fmt: skip
LABELS = ["O", *(f"{start}-{kind}" for kind in sorted(TYPES) for start in "BI")]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *ENTITIES, "the", "is", "seen", "today", "."]
SPLITTER = '''
"""Sentences end at full stops."""
from types import SimpleNamespace


def load(medspacy_enable):
    return lambda text: SimpleNamespace(sents=[part + "." for part in text.split(".") if part.strip()])
'''
FIRST = ("Effusion is seen. Lung is clear.", "Nodule is seen. Heart is clear.")
SECOND = ("Pneumonia in lung.", "Healthy lung.")


@pytest.fixture(scope="module", autouse=True)
def _medspacy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    if importlib.util.find_spec("medspacy") is None:
        place = tmp_path_factory.mktemp("stand_in")
        (place / "medspacy.py").write_text(SPLITTER)
        (place / "medspacy-0.dist-info").mkdir()
        (place / "medspacy-0.dist-info" / "METADATA").write_text("Name: medspacy\nVersion: 0\n")
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(place)
            yield
    else:
        yield


def saved(place: Path, kind: type, config: BertConfig, weights: dict[str, torch.Tensor]) -> None:
    place.mkdir()
    (place / "vocab.txt").write_text("\n".join(VOCABULARY))
    BertTokenizerFast(vocab=str(place / "vocab.txt")).save_pretrained(place)
    torch.manual_seed(5)
    model = kind(config)
    assert model.load_state_dict(weights, strict=False).unexpected_keys == []
    model.save_pretrained(place)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("ratescore")
    # No layers and an embedding for each word: the recogniser knows its words, the other one tells them apart.
    size = len(VOCABULARY)
    plain = {
        "vocab_size": size, "hidden_size": size + size % 2, "num_hidden_layers": 0, "num_attention_heads": 1,
        "intermediate_size": 4, "max_position_embeddings": 512,
    }  # fmt: skip
    width = plain["hidden_size"]
    words = torch.eye(size, width) * 20
    head = torch.zeros(len(LABELS), width)
    for number, word in enumerate(VOCABULARY):
        head[LABELS.index(f"B-{ENTITIES[word]}") if word in ENTITIES else 0, number] = 1.0
    names = dict(enumerate(LABELS))
    saved(
        place / "ner",
        BertForTokenClassification,
        BertConfig(**plain, id2label=names, label2id={label: number for number, label in names.items()}),
        {
            "bert.embeddings.word_embeddings.weight": words,
            "bert.embeddings.position_embeddings.weight": torch.zeros(512, width),
            "bert.embeddings.token_type_embeddings.weight": torch.zeros(2, width),
            "classifier.weight": head,
            "classifier.bias": torch.zeros(len(LABELS)),
        },
    )
    # The first token's last state is what is compared: it must see the others, so one layer.
    saved(place / "embeddings", BertModel, BertConfig(**plain | {"num_hidden_layers": 1, "initializer_range": 1.0}), {})
    return place


def measured(folder: Path, *pairs: tuple[str, str]) -> Measured:
    settings = MetricSettings(**NOTHING | {"ratescore": folder})
    (found,) = measure(settings)([ReportPair(*pair) for pair in pairs])
    return found


@cache
def scorer(folder: Path) -> Any:
    from RaTEScore import RaTEScore

    return RaTEScore(bert_model=str(folder / "ner"), eval_model=str(folder / "embeddings"), use_gpu=False)


def package(folder: Path, *pairs: tuple[str, str]) -> list[float]:
    """The package's own scores of (reference, candidate) pairs."""
    return scorer(folder).compute_score([said for _, said in pairs], [reference for reference, _ in pairs])


def test_scores_are_the_packages_where_both_sides_name_something(folder: Path) -> None:
    pairs = [FIRST, SECOND, ("Effusion.", "Effusion."), ("Lung is clear. Heart is clear.", "Nodule in the lung.")]
    found = measured(folder, *pairs)
    assert found.values is not None and found.values == pytest.approx(package(folder, *pairs), abs=1e-6)
    assert found.values[2] == pytest.approx(1.0, abs=1e-6) and len(set(found.values.round(4))) == 4
    assert str(found.signature).startswith("RaTEScore 0.6.0, medspacy ")
    assert "affinities for long reports; without entities no value" in str(found.signature)


@pytest.mark.parametrize("empty", ["", "  ", ".", "ok"])
def test_a_report_without_sentences_does_not_shift_the_scores_of_others(folder: Path, empty: str) -> None:
    """The package drops such a report from one list and not from the other: here it shows that it still does."""
    pairs = [(SECOND[0], empty), FIRST, SECOND]
    expected = package(folder, FIRST, SECOND)
    if len(empty.strip()) < 2:
        shifted = package(folder, *pairs)
        assert len(shifted) == 2 and shifted != pytest.approx(expected, abs=1e-3)
    found = measured(folder, *pairs)
    assert found.values is not None and math.isnan(found.values[0]) and found.n == 2
    assert found.values[1:] == pytest.approx(expected, abs=1e-6)
    assert found.over(np.ones((1, 3)))[0] == pytest.approx(np.mean(expected), abs=1e-6)


def test_a_report_that_names_nothing_has_no_value_where_the_package_gives_a_half(folder: Path) -> None:
    nothing = "It is seen today."
    assert package(folder, (SECOND[0], nothing), (nothing, SECOND[0])) == [0.5, 0.5]
    found = measured(folder, (SECOND[0], nothing), (nothing, SECOND[0]), (nothing, nothing), ("", ""))
    assert found.values is not None and np.isnan(found.values).all() and found.n == 0


def test_one_word_other_scripts_and_long_reports(folder: Path) -> None:
    long = "Effusion is seen. Lung is clear. " * 150
    found = measured(folder, ("Nodule", "Nodule"), ("Größe 心臓 nodule.", "Nodule."), (long, long), ("Nodule", "心臓"))
    assert found.values is not None and found.values[[0, 1, 2]] == pytest.approx([1.0, 1.0, 1.0], abs=1e-6)
    assert math.isnan(found.values[3]) and found.n == 3


def test_what_is_missing_or_unlike_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(NotAvailable, match=r"set score\.metrics\.ratescore to a folder with `ner`"):
        measure(MetricSettings(**NOTHING))
    (tmp_path / "ner").mkdir()
    with pytest.raises(
        NotAvailable, match=r"lacks ner/config\.json, ner/tokenizer_config\.json, ner/model\.safetensors or"
    ):
        measure(MetricSettings(**NOTHING | {"ratescore": tmp_path}))
    for part in ("ner", "embeddings"):
        (tmp_path / part).mkdir(exist_ok=True)
        for file in (folder / part).iterdir():
            (tmp_path / part / file.name).write_bytes(file.read_bytes())
    config = BertConfig.from_pretrained(folder / "ner")
    config.id2label = {number: "B-PERSON" for number in config.id2label}
    config.save_pretrained(tmp_path / "ner")
    with pytest.raises(MetricError, match=r"finds entities of the types PERSON, RaTEScore's are ABNORMALITY, ANATOMY"):
        measured(tmp_path, FIRST)
