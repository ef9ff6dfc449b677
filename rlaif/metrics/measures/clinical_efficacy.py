"""Clinical efficacy: whether reports name the right ones of CT-RATE's 18 findings."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rlaif.judges.rules import VERSION
from rlaif.metrics.measures.local_model import model_name
from rlaif.metrics.measures.measured import Aggregation, Measure, Measured, ReportPair, Signature, from_sums
from rlaif.metrics.measures.radbert import RadBert, radbert_folder
from rlaif.metrics.measures.settings import MetricSettings
from rlaif.reports.extraction import extract
from rlaif.reports.language import is_english
from rlaif.reports.lexicon import CT_RATE_NAMES
from rlaif.reports.region_reports import without_region_prefixes

FIGURES = ("precision", "recall", "f1")
_LABELS = len(CT_RATE_NAMES)
_PLACES = {name: place for place, name in enumerate(CT_RATE_NAMES)}

Labeler = Callable[[Sequence[str]], NDArray[np.bool_]]


@dataclass(frozen=True)
class Labelled:
    """What reports say and what is true: float64 `[reports, 18]` of 0 and 1, in the order of `CT_RATE_NAMES`.

    `truth` is NaN throughout for a report that nothing can be held against.
    """

    said: NDArray[np.float64]
    truth: NDArray[np.float64]
    labeler: str
    truth_from: str


def measure(settings: MetricSettings) -> Measure:
    """`ce_micro_precision`, `ce_micro_recall`, `ce_micro_f1`, and the same with `ce_macro_`, over the 18 labels.

    Micro is over all findings of all reports (Reg2RG, table II), macro the mean over the labels that some report of
    the set has or says. Each set of reports has its own sums. Raises NotAvailable where `score.metrics.radbert` is
    set and lacks a file.
    """
    labelling = labeling(settings)

    def clinical_efficacy(pairs: Sequence[ReportPair]) -> list[Measured]:
        found = labelling(pairs)
        counted = np.isfinite(found.truth[:, 0])
        rows = counts(found)
        return [
            from_sums(
                f"ce_{kind}_{figure}",
                _signature(found, kind),
                rows,
                partial(_figure, kind, place),
                counted=counted,
            )
            for kind in ("micro", "macro")
            for place, figure in enumerate(FIGURES)
        ]

    return clinical_efficacy


def labeling(settings: MetricSettings) -> Callable[[Sequence[ReportPair]], Labelled]:
    """Reads reports with RadBERT where `score.metrics.radbert` is set, else with the rules; one labeler for all.

    True is what the data set's labels say (CT-RATE's are RadBERT's reading of its reports), and reports without them
    do not count; where no report has any, it is what the same labeler reads in the references, as in Reg2RG. An empty
    candidate says nothing; an empty reference is no truth, nor for the rules one that is not in English.
    """
    folder = None if settings.radbert is None else radbert_folder(settings.radbert)
    labeler = cache(lambda: _read_by_rules if folder is None else RadBert(folder))
    name = cache(lambda: _labeler_name(folder))

    def labelled(pairs: Sequence[ReportPair]) -> Labelled:
        said = _read(labeler(), [_text(pair, pair.candidate) for pair in pairs])
        if any(pair.labels is not None for pair in pairs):
            return Labelled(said, np.stack([_by_labels(pair.labels) for pair in pairs]), name(), "data set's labels")
        references = [_text(pair, pair.reference) for pair in pairs]
        truth = _read(labeler(), references)
        for place, reference in enumerate(references):
            if not reference.strip() or (folder is None and not is_english(reference)):
                truth[place] = np.nan
        return Labelled(said, truth, name(), "references, same labeler")

    return labelled


def counts(found: Labelled) -> NDArray[np.float64]:
    """True positives, false positives and false negatives of each label, float64 `[reports, 3 * 18]`.

    All are 0 for a report without truth.
    """
    known = np.isfinite(found.truth)
    said, truth = np.where(known, found.said, 0.0), np.where(known, found.truth, 0.0)
    return np.concatenate([said * truth, said * (1 - truth), (1 - said) * truth], axis=1)


def _figures(
    right: NDArray[np.float64], wrong: NDArray[np.float64], missed: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Precision, recall and F1 of counts of one shape; 0 for one that has nothing below the line, NaN without any."""
    none = right + wrong + missed == 0

    def share(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
        value = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
        value[none] = np.nan
        return value

    return share(right, right + wrong), share(right, right + missed), share(2 * right, 2 * right + wrong + missed)


def _figure(kind: Aggregation, figure: int, sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """One figure of sums float64 `[sets, 3 * 18]`, float64 `[sets]`."""
    right, wrong, missed = sums.reshape(-1, 3, _LABELS).transpose(1, 0, 2)
    if kind == "micro":
        return _figures(right.sum(axis=1), wrong.sum(axis=1), missed.sum(axis=1))[figure]
    values = _figures(right, wrong, missed)[figure]
    occurs = np.isfinite(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean: NDArray[np.float64] = np.where(occurs, values, 0.0).sum(axis=1) / occurs.sum(axis=1)
    return mean


def _text(pair: ReportPair, text: str) -> str:
    return without_region_prefixes(text) if pair.regions else text


def _read(labeler: Labeler, texts: Sequence[str]) -> NDArray[np.float64]:
    """What the labeler reads, each text once: float64 `[texts, 18]` of 0 and 1; nothing in an empty text."""
    unique = list(dict.fromkeys(text for text in texts if text.strip()))
    read = dict(zip(unique, labeler(unique).astype(np.float64), strict=True)) if unique else {}
    nothing = np.zeros(_LABELS)
    return np.array([read.get(text, nothing) for text in texts]).reshape(len(texts), _LABELS)


def _read_by_rules(texts: Sequence[str]) -> NDArray[np.bool_]:
    """The labels that the rules find present in each text, for certain or as a possibility, bool `[texts, 18]`."""
    found = np.zeros((len(texts), _LABELS), dtype=bool)
    for place, text in enumerate(texts):
        found[place, [_PLACES[one.name] for one in extract(text) if one.present and one.name in _PLACES]] = True
    return found


def _by_labels(labels: Sequence[str] | None) -> NDArray[np.float64]:
    """A study's labels, `name` or `name/side`, as 0 and 1, float64 `[18]`; names that CT-RATE lacks do not count.

    NaN throughout where nobody labelled the study.
    """
    if labels is None:
        return np.full(_LABELS, np.nan)
    true = np.zeros(_LABELS)
    names = [label.partition("/")[0].strip().lower() for label in labels]
    true[[_PLACES[name] for name in names if name in _PLACES]] = 1.0
    return true


def _labeler_name(folder: Path | None) -> str:
    return "labeler rules" if folder is None else f"labeler radbert, {model_name(folder)}, first 512 tokens"


def _signature(found: Labelled, kind: Aggregation) -> Signature:
    library = VERSION if found.labeler == "labeler rules" else "rlaif"
    tokens = "rlaif.reports" if found.labeler == "labeler rules" else "the labeler's own"
    settings = f"{found.labeler}; truth: {found.truth_from}; 18 CT-RATE labels"
    if kind == "macro":
        settings += "; over labels that occur or are said"
    return Signature(library, tokens, kind, settings)
