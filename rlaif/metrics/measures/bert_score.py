"""BERTScore of reports, by the bert-score package with a model that lies on this machine."""

from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlaif.metrics.measures.local_model import WEIGHTS, installed, model_folder, model_name, token_limit
from rlaif.metrics.measures.measured import Measure, Measured, ReportPair, Signature, from_values
from rlaif.metrics.measures.settings import MetricError, MetricSettings

NAMES = ("bert_score_precision", "bert_score_recall", "bert_score_f1")
BATCH = 32
_HOLDS = "a Hugging Face encoder: config.json, its tokenizer and its weights"


class _Encoder(NamedTuple):
    model: Any
    tokenizer: Any
    tokens: int
    layer: int
    layers: int


def measure(settings: MetricSettings) -> Measure:
    """`bert_score_f1`, `bert_score_precision` and `bert_score_recall` (Zhang et al. 2020): means over reports.

    Without idf weights and without rescaling by a baseline. An empty candidate has 0, as in the package; reports
    without reference do not count. Raises NotAvailable without the package or the model, and MetricError for a layer
    that the model does not have.
    """
    library = installed("bert-score", "BERTScore", "pip install bert-score==0.3.13")
    folder = model_folder(
        settings.bert_score, "bert_score", "BERTScore", _HOLDS, ("config.json", "tokenizer_config.json", WEIGHTS)
    )
    layer = settings.bert_score_layer
    encoder = cache(lambda: _loaded(folder, layer))
    name = cache(lambda: model_name(folder))

    def bert_score(pairs: Sequence[ReportPair]) -> list[Measured]:
        scores = _scores(encoder(), pairs)
        signature = _signature(library, name(), encoder())
        return [from_values(NAMES[place], signature, scores[:, place]) for place in (2, 0, 1)]

    return bert_score


def _loaded(folder: Path, layer: int | None) -> _Encoder:
    """The model up to the layer; the package's own loader would take any path with `t5` in it for a T5."""
    import torch
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    layers = int(config.num_hidden_layers)
    if layer is None:
        layer = _usual_layer(folder.name) or layers
    if not 1 <= layer <= layers:
        raise MetricError(
            f"score.metrics.bert_score_layer={layer}: {folder} has layers 1 to {layers}: name one of them"
        )
    model = AutoModel.from_pretrained(
        folder, num_hidden_layers=layer, local_files_only=True, trust_remote_code=False, dtype=torch.float32
    )
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    tokenizer.model_max_length = token_limit(tokenizer, config)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return _Encoder(model.eval().to(device), tokenizer, tokenizer.model_max_length, layer, layers)


def _usual_layer(name: str) -> int | None:
    """The layer that the package takes for a model of this name, without its owner's."""
    from bert_score.utils import model2layers

    return next((layer for known, layer in model2layers.items() if known.rpartition("/")[2] == name), None)


def _scores(encoder: _Encoder, pairs: Sequence[ReportPair]) -> NDArray[np.float64]:
    """Precision, recall and F1 of each pair, float64 `[pairs, 3]`."""
    from bert_score.utils import bert_cos_score_idf

    scores = np.full((len(pairs), 3), np.nan)
    referenced = np.array([bool(pair.reference.strip()) for pair in pairs], dtype=bool)
    said = np.array([bool(pair.candidate.strip()) for pair in pairs], dtype=bool)
    scores[referenced & ~said] = 0.0
    places = np.flatnonzero(referenced & said)
    if len(places):
        # As the package weighs without idf: the tokens that only frame a text count nothing.
        weights: defaultdict[int, float] = defaultdict(lambda: 1.0)
        weights.update({encoder.tokenizer.sep_token_id: 0.0, encoder.tokenizer.cls_token_id: 0.0})
        scores[places] = bert_cos_score_idf(
            encoder.model,
            [pairs[place].reference for place in places],
            [pairs[place].candidate for place in places],
            encoder.tokenizer,
            weights,
            batch_size=BATCH,
            device=encoder.model.device,
        ).numpy()
    return scores


def _signature(library: str, model: str, encoder: _Encoder) -> Signature:
    return Signature(
        f"{library}, {model}",
        f"the model's own, the first {encoder.tokens} of a text",
        "sample_mean",
        f"layer {encoder.layer} of {encoder.layers}; no idf; no baseline, so of no language; an empty candidate has 0",
    )
