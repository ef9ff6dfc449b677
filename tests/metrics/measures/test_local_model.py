"""Where the models of metrics lie: what is missing is named, and a model is known by its content."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from rlaif.metrics.measures.local_model import installed, model_folder, model_name, token_limit
from rlaif.metrics.measures.settings import NotAvailable


def test_what_is_missing_is_one_line_that_names_the_key_or_the_files(tmp_path: Path) -> None:
    with pytest.raises(
        NotAvailable, match=r"^BERTScore needs weights: set score\.metrics\.bert_score to a folder with a model$"
    ):
        model_folder(None, "bert_score", "BERTScore", "a model", ("config.json",))
    (tmp_path / "config.json").write_text("{}")
    needed = ("config.json", "tokenizer.json", ("model.safetensors", "pytorch_model.bin"))
    with pytest.raises(
        NotAvailable, match=r"lacks tokenizer\.json, model\.safetensors or pytorch_model\.bin: it must be"
    ):
        model_folder(tmp_path, "bert_score", "BERTScore", "a model", needed)
    assert model_folder(tmp_path, "bert_score", "BERTScore", "a model", ("config.json",)) == tmp_path
    with pytest.raises(NotAvailable, match=r"^X needs the package no-such-package: pip install it$"):
        installed("no-such-package", "X", "pip install it")
    assert installed("numpy", "X", "").startswith("numpy 2.")


def test_a_model_is_known_by_its_folder_and_its_content(tmp_path: Path) -> None:
    for place in ("first", "second"):
        folder = tmp_path / place / "roberta"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(b"weights")
    first, second = (model_name(tmp_path / place / "roberta") for place in ("first", "second"))
    assert first == second and first.startswith("roberta (xxh3 ")
    (tmp_path / "second" / "roberta" / "model.safetensors").write_bytes(b"Weights")
    assert model_name(tmp_path / "second" / "roberta") != first


@pytest.mark.parametrize(
    ("kind", "said", "positions", "limit"),
    [("bert", 512, 512, 512), ("bert", int(1e30), 512, 512), ("roberta", 512, 514, 512), ("roberta", 10**30, 130, 128)],
)
def test_the_limit_of_tokens_is_that_of_the_positions(kind: str, said: int, positions: int, limit: int) -> None:
    config = SimpleNamespace(model_type=kind, max_position_embeddings=positions, pad_token_id=1)
    assert token_limit(SimpleNamespace(model_max_length=said), config) == limit
