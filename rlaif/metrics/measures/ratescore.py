"""RaTEScore of reports, by the RaTEScore package with models that lie on this machine."""

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rlaif.metrics.measures.local_model import WEIGHTS, installed, model_folder, model_name
from rlaif.metrics.measures.measured import Measure, Measured, ReportPair, Signature, from_values
from rlaif.metrics.measures.settings import MetricError, MetricSettings

TYPES = frozenset({"ABNORMALITY", "NON-ABNORMALITY", "DISEASE", "NON-DISEASE", "ANATOMY"})
# Sentences whose entities are found at once.
BATCH = 16
_HOLDS = "`ner` (RaTE-NER-Deberta) and `embeddings` (BioLORD-2023-C)"
_HOW_MEDSPACY = "RaTEScore splits sentences with it; see docs/evaluation.md for versions that work beside numpy 2"


class _Entities(NamedTuple):
    """What a report names: embeddings float32 `[entities, width]` and a type for each."""

    embeddings: Any
    types: list[str]


def measure(settings: MetricSettings) -> Measure:
    """`ratescore` (Zhao et al. 2024): the mean over reports, with the affinities for long reports.

    A report has no value where its reference or its candidate names no entity: the package would give it 0.5, and a
    text without a sentence of 3 characters would shift all later scores to other reports. Raises NotAvailable without
    the packages or the models, and MetricError for a model with other types of entities.
    """
    library = installed("RaTEScore", "RaTEScore", "pip install --no-deps RaTEScore==0.6.0")
    splitter = installed("medspacy", "RaTEScore", _HOW_MEDSPACY)
    folder = model_folder(
        settings.ratescore,
        "ratescore",
        "RaTEScore",
        _HOLDS,
        tuple(
            f"{part}/{name}" if isinstance(name, str) else tuple(f"{part}/{one}" for one in name)
            for part in ("ner", "embeddings")
            for name in ("config.json", "tokenizer_config.json", WEIGHTS)
        ),
    )
    scorer = cache(lambda: _loaded(folder))
    signature = cache(lambda: _signature(library, splitter, folder))

    def ratescore(pairs: Sequence[ReportPair]) -> list[Measured]:
        named = cache(lambda text: _entities(scorer(), text))
        values = [_score(scorer(), named(pair.reference), named(pair.candidate)) for pair in pairs]
        return [from_values("ratescore", signature(), np.array(values, dtype=np.float64))]

    return ratescore


def _loaded(folder: Path) -> Any:
    import torch
    from RaTEScore import RaTEScore

    scorer = RaTEScore(
        bert_model=str(folder / "ner"),
        eval_model=str(folder / "embeddings"),
        batch_size=BATCH,
        use_gpu=torch.cuda.is_available(),
        affinity_matrix="long",
    )
    others = {label.partition("-")[2] for label in scorer.idx2label.values() if label != "O"} - TYPES
    if others:
        raise MetricError(
            f"score.metrics.ratescore={folder}: the model in `ner` finds entities of the types "
            f"{', '.join(sorted(others))[:200]}, RaTEScore's are {', '.join(sorted(TYPES))}: it must be a folder with "
            f"{_HOLDS}"
        )
    return scorer


def _entities(scorer: Any, text: str) -> _Entities | None:
    """What a text names; None where that is nothing. Alone, so that a text without entry cannot shift others."""
    from RaTEScore.score import process_embedding, run_ner
    from RaTEScore.utils import sentence_split

    # Given no sentence at all, the package's tokenizer call fails.
    if not text.strip() or not sentence_split([text])[0]:
        return None
    found = run_ner([text], scorer.idx2label, scorer.tokenizer, scorer.model, scorer.device, scorer.batch_size)
    if not found[0]:
        return None
    return _Entities(*process_embedding(found[0], scorer.eval_tokenizer, scorer.eval_model, scorer.device))


def _score(scorer: Any, reference: _Entities | None, candidate: _Entities | None) -> float:
    """F1 of both directions, as the package's `compute_score` takes it; NaN where one side names nothing."""
    from RaTEScore.utils import compute

    if reference is None or candidate is None:
        return math.nan
    first = compute(
        reference.embeddings, candidate.embeddings, reference.types, candidate.types, scorer.affinity_matrix
    )
    second = compute(
        candidate.embeddings, reference.embeddings, candidate.types, reference.types, scorer.affinity_matrix
    )
    return float(2 * first * second / (first + second)) if first + second else 0.0


def _signature(library: str, splitter: str, folder: Path) -> Signature:
    return Signature(
        f"{library}, {splitter}, {model_name(folder / 'ner')}, {model_name(folder / 'embeddings')}",
        "the models' own, the first 512 of a sentence and 30 of an entity",
        "sample_mean",
        "affinities for long reports; without entities no value",
    )
