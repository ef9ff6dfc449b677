"""RadGraph-XL F1 of reports, by the radgraph package with a model that lies on this machine."""

import contextlib
import io
import json
import os
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from rlaif.metrics.measures.local_model import installed, model_folder, model_name
from rlaif.metrics.measures.measured import Measure, Measured, ReportPair, Signature, from_values
from rlaif.metrics.measures.settings import MetricError, MetricSettings

# The order in which the package gives them.
LEVELS = ("simple", "partial", "complete")
# The name by which the package knows the model.
MODEL = "radgraph-xl"
# Memory grows with the square of a report's words: relations are sought between all spans that are kept.
WORDS = 2000
_HOLDS = (
    "RadGraph-XL as the package unpacks it (config.json, weights.th, vocabulary) and, in `encoder`, config.json and "
    "tokenizer of the encoder that its config.json names"
)
_NEEDED = (
    "config.json",
    "weights.th",
    "vocabulary",
    "encoder/config.json",
    ("encoder/tokenizer.json", "encoder/vocab.txt"),
)


def measure(settings: MetricSettings) -> Measure:
    """`radgraph_partial`, `radgraph_simple` and `radgraph_complete` (Delbrouck et al. 2024): means over reports.

    F1 of entities with their labels (simple), with whether they have relations as well (partial), with the relations
    (complete). As in the package, a report has 0 where its candidate is empty or either side has no entity; reports
    without reference do not count. Raises NotAvailable without the package or the model, and MetricError for a model of
    another layout and for texts that the package leaves out.
    """
    library = installed("radgraph", "RadGraph F1", "pip install radgraph==0.1.18")
    folder = model_folder(settings.radgraph, "radgraph", "RadGraph F1", _HOLDS, _NEEDED)
    annotator = cache(lambda: _loaded(folder))
    signature = cache(lambda: _signature(library, folder))

    def radgraph_f1(pairs: Sequence[ReportPair]) -> list[Measured]:
        scores = np.full((len(pairs), len(LEVELS)), np.nan)
        found = _annotations(annotator(), [text for pair in pairs for text in (pair.reference, pair.candidate)])
        from radgraph.rewards import compute_reward

        for place, pair in enumerate(pairs):
            if pair.candidate in found and pair.reference in found:
                scores[place] = compute_reward(found[pair.candidate], found[pair.reference], "all")
            elif pair.reference in found:
                scores[place] = 0.0
        return [from_values(f"radgraph_{LEVELS[level]}", signature(), scores[:, level]) for level in (1, 0, 2)]

    return radgraph_f1


def _loaded(folder: Path) -> Any:
    """The package's model; its encoder's configuration and tokenizer come from the folder, not from the hub."""
    with warnings.catch_warnings():
        # The package changes the filters of the process when it is imported.
        from radgraph import RadGraph

    with tempfile.TemporaryDirectory() as cache_folder, contextlib.redirect_stdout(io.StringIO()):
        place = Path(cache_folder) / MODEL
        place.mkdir()
        for name in ("weights.th", "vocabulary"):
            os.symlink(folder / name, place / name)
        (place / "config.json").write_text(json.dumps(_with_local_encoder(folder)), encoding="utf-8")
        _prepare_tokenizers(str(folder / "encoder"))
        return RadGraph(model_type=MODEL, model_cache_dir=cache_folder)


def _with_local_encoder(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    try:
        parts = (
            config["dataset_reader"]["token_indexers"]["bert"],
            config["model"]["embedder"]["token_embedders"]["bert"],
        )
        for part in parts:
            part["model_name"] = str(folder / "encoder")
    except (KeyError, TypeError) as error:
        raise MetricError(
            f"score.metrics.radgraph={folder}: its config.json is not RadGraph-XL's: it has no {error}; unpack the "
            "model anew"
        ) from error
    return config


def _prepare_tokenizers(encoder: str) -> None:
    """Gives the tokenizers that the package remembers two methods that it calls and transformers 5 has no more."""
    from radgraph.allennlp.common.cached_transformers import get_tokenizer

    # One for its indexer and one for its embedder, by the arguments with which each asks for it.
    for arguments in ({"use_fast": True, "cache_dir": None}, {"use_fast": True}):
        tokenizer = get_tokenizer(encoder, **arguments)
        tokenizer.encode_plus = tokenizer.__call__
        tokenizer.build_inputs_with_special_tokens = partial(_framed, tokenizer.cls_token_id, tokenizer.sep_token_id)


def _framed(start: int, end: int, tokens: list[int]) -> list[int]:
    return [start, *tokens, end]


def _annotations(annotator: Any, texts: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """Entities and relations of each text that is not empty, each text once, cut at `WORDS` words."""
    unique = [text for text in dict.fromkeys(texts) if text.strip()]
    if not unique:
        return {}
    found = annotator([_cut(text) for text in unique])
    # The package prints what went wrong with a text, and goes on without it.
    lost = sum(str(place) not in found for place in range(len(unique)))
    if lost:
        raise MetricError(
            f"radgraph could not annotate {lost} of {len(unique)} texts: its own message stands above; mend that, or "
            "leave radgraph out of score.metrics.names"
        )
    return {text: found[str(place)] for place, text in enumerate(unique)}


def _cut(text: str) -> str:
    words = text.split(maxsplit=WORDS)
    return text if len(words) <= WORDS else " ".join(words[:WORDS])


def _signature(library: str, folder: Path) -> Signature:
    return Signature(
        f"{library}, {model_name(folder)}",
        f"the package's, the first {WORDS} words, in segments of the encoder's length",
        "sample_mean",
        "RadGraph-XL; 0 where the candidate is empty or a side has no entity",
    )
