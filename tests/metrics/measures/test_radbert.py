"""RadBERT's labels, with a small RoBERTa of fixed random weights under the published names."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast, RobertaConfig, RobertaModel

from rlaif.metrics.measures.radbert import RadBert, radbert_folder
from rlaif.metrics.measures.settings import MetricError, NotAvailable
from rlaif.models.published.weight_table import PublishedWeightsError

WORDS = ["no", "pleural", "effusion", "small", "nodule", "in", "the", "left", "lung", ".", "heart", "is", "large"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("radbert")
    vocabulary = {word: number for number, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>",
        cls_token="<s>", sep_token="</s>",
    ).save_pretrained(place)  # fmt: skip
    config = RobertaConfig(
        vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
        max_position_embeddings=514, type_vocab_size=1, pad_token_id=1, bos_token_id=0, eos_token_id=2,
    )  # fmt: skip
    config.save_pretrained(place)
    torch.manual_seed(3)
    model, classifier = RobertaModel(config), torch.nn.Linear(16, 18)
    torch.nn.init.normal_(model.embeddings.word_embeddings.weight)
    torch.nn.init.normal_(model.pooler.dense.weight)
    torch.nn.init.normal_(classifier.weight)
    published = {f"model.{name}": value for name, value in model.state_dict().items()}
    published |= {f"classifier.{name}": value for name, value in classifier.state_dict().items()}
    # A buffer that files of older versions hold.
    published["model.embeddings.position_ids"] = torch.arange(514)[None]
    torch.save(published, place / "RadBertClassifier.pth")
    return place


def by_hand(folder: Path, texts: list[str]) -> list[np.ndarray]:
    """The published steps, one text at a time, without padding."""
    weights = torch.load(folder / "RadBertClassifier.pth", weights_only=True)
    model = RobertaModel(RobertaConfig.from_pretrained(folder)).eval()
    encoder = {name.removeprefix("model."): value for name, value in weights.items() if name.startswith("model.")}
    del encoder["embeddings.position_ids"]
    model.load_state_dict(encoder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    found = []
    for text in texts:
        tokens = tokenizer(text, truncation=True, max_length=512, return_tensors="pt")
        with torch.no_grad():
            states = model(tokens["input_ids"]).last_hidden_state[:, 0]
            pooled = torch.tanh(states @ weights["model.pooler.dense.weight"].T + weights["model.pooler.dense.bias"])
            logits = pooled @ weights["classifier.weight"].T + weights["classifier.bias"]
        found.append(torch.sigmoid(logits)[0].numpy())
    return found


def test_probabilities_are_those_of_the_published_steps_whatever_the_batch(folder: Path) -> None:
    texts = [
        "small nodule in the left lung .", "no pleural effusion", "heart", "", "heart is large . " * 300, "Größe 心臓",
        *(f"{'no ' * count}effusion" for count in range(1, 14)),
    ]  # fmt: skip
    radbert = RadBert(radbert_folder(folder))
    found = radbert.probabilities(texts)
    assert found.shape == (19, 18) and found.dtype == np.float32
    assert found == pytest.approx(np.stack(by_hand(folder, texts)), abs=1e-5)
    assert len(np.unique(found.round(4), axis=0)) > 10
    labels = radbert(texts)
    assert labels.dtype == bool and (labels == (found >= 0.5)).all() and 0 < labels.mean() < 1
    assert radbert([]).shape == (0, 18)


def test_safetensors_do_as_well(folder: Path, tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    weights = torch.load(folder / "RadBertClassifier.pth", weights_only=True)
    save_file(weights, tmp_path / "RadBertClassifier.safetensors")
    text = ["small nodule in the left lung"]
    assert (RadBert(tmp_path).probabilities(text) == RadBert(folder).probabilities(text)).all()

    del weights["classifier.bias"], weights["model.pooler.dense.weight"]
    save_file(weights | {"head.weight": torch.zeros(1)}, tmp_path / "RadBertClassifier.safetensors")
    with pytest.raises(
        PublishedWeightsError, match=r"2 missing: .*pooler\.dense\.weight.*classifier\.bias.*head\.weight"
    ):
        RadBert(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(MetricError, match=r"score\.metrics\.radbert=.*config\.json says bert, RadBERT is a roberta"):
        RadBert(tmp_path)


def test_a_folder_that_lacks_a_file_is_named_with_it(tmp_path: Path) -> None:
    with pytest.raises(NotAvailable, match=r"set score\.metrics\.radbert to a folder with RadBERT-RoBERTa-4m's"):
        radbert_folder(None)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(NotAvailable, match=r"lacks tokenizer\.json or vocab\.json, RadBertClassifier\.pth or "):
        radbert_folder(tmp_path)
