"""What of a published table cannot be, or most likely is not what its column says: found by arithmetic alone."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rlaif.metrics.published import Kind, PublishedTable

# Precision, recall and F1: of counts added up, where F1 is their harmonic mean; or each the mean over reports.
_POOLED = (
    ("ce_micro_precision", "ce_micro_recall", "ce_micro_f1"),
    ("region_precision", "region_recognition", "region_f1"),
)
_MEANS = (("bert_score_precision", "bert_score_recall", "bert_score_f1"),)
_RANGES = {"cider": (0.0, 10.0), "gpt4_score": (1.0, 5.0)}
# The share of a report's tokens that are punctuation, which BLEU counts and ROUGE does not; all are taken to match.
# A fifth of the phantom's reports is.
_PUNCTUATION = 0.25
# The smaller, the larger, and what it means where they are the other way round.
_ORDERS: tuple[tuple[str, str, Kind, str], ...] = (
    ("rougeL", "rouge1", "impossible", "a longest common subsequence has no more words than the words in common"),
    ("rouge2", "rouge1", "doubtful", "more pairs of words in common than words"),
    *(
        (f"bleu_{larger}{kind}", f"bleu_{smaller}{kind}", "doubtful", "more runs of words right than words")
        for kind in ("", "_sample_mean")
        for smaller in range(1, 4)
        for larger in range(smaller + 1, 5)
    ),
)


@dataclass(frozen=True)
class Fault:
    """A printed value that fails a check: its row (section and label), its column, and why."""

    section: str
    row: str
    column: str
    kind: Kind
    why: str


def faults(table: PublishedTable) -> list[Fault]:
    """Every printed value that fails a check, within the rounding of the printed digits.

    - Shares stand between 0 and 1, on the table's scale.
    - ROUGE-L and ROUGE-2 are no larger than ROUGE-1, a BLEU of longer runs no larger than one of shorter.
    - BLEU-1 is no larger than the F1 of the same tokens: where a candidate has r times the reference's tokens and
      precision p, F1 is 2pr / (1 + r), and BLEU-1 is p for r >= 1 and p exp(1 - 1/r) below, the smaller for every r.
    - METEOR is no larger than 10pr / (r + 9p), its mean of precision p and recall r: at METEOR m the F1 of the same
      words is least where r = 1, and then m / (5 - 4m).
    - F1 of counts is the harmonic mean of precision and recall. A mean F1 is at most the mean of mean precision and
      mean recall, and at least their sum less one, since 2pr / (p + r) >= p + r - 1 on [0, 1].
    """
    found = []
    for row in table.rows:
        # Values in our units, with the label of their column and half a unit of the last digit.
        cells: dict[str | None, dict[str, tuple[float, float, str]]] = {}
        for column, value in zip(table.columns, row.values, strict=True):
            if value is not None and column.metric is not None:
                half = 0.5 * 10**-column.digits / column.scale
                cells.setdefault(column.data, {})[column.metric] = (value / column.scale, half, column.label)
        for measured in cells.values():
            found += [Fault(row.section, row.label, *fault) for fault in _faults(measured)]
    return found


def _faults(cells: Mapping[str, tuple[float, float, str]]) -> Iterator[tuple[str, Kind, str]]:
    """The faults of one row's values on one data set: column, kind, why."""
    for metric, (value, half, label) in cells.items():
        low, high = _RANGES.get(metric, (0.0, 1.0))
        if not low - half <= value <= high + half and metric not in ("report_words", "length_kl"):
            yield label, "impossible", f"outside {low:g} to {high:g}"
    for small, large, kind, why in _ORDERS:
        if small in cells and large in cells:
            (value, half, label), (bound, bound_half, _) = cells[small], cells[large]
            if value - half > bound + bound_half:
                yield label, kind, why
    yield from _overlap_faults(cells)
    for names in _POOLED:
        if all(name in cells for name in names):
            (p, p_half, _), (r, r_half, _), (f1, half, label) = (cells[name] for name in names)
            least, most = _harmonic(p - p_half, r - r_half), _harmonic(p + p_half, r + r_half)
            if not least - half <= f1 <= most + half:
                yield label, "impossible", "not the harmonic mean of precision and recall"
    for names in _MEANS:
        if all(name in cells for name in names):
            (p, p_half, _), (r, r_half, _), (f1, half, label) = (cells[name] for name in names)
            if f1 - half > (p + p_half + r + r_half) / 2:
                yield label, "impossible", "above the mean of mean precision and mean recall"
            elif f1 + half < p - p_half + r - r_half - 1:
                yield label, "impossible", "below the sum of mean precision and mean recall less 1"
            elif f1 + half < min(p - p_half, r - r_half):
                yield label, "doubtful", "below both mean precision and mean recall"


def _overlap_faults(cells: Mapping[str, tuple[float, float, str]]) -> Iterator[tuple[str, Kind, str]]:
    """BLEU-1 and METEOR against the words in common that ROUGE-1 counts."""
    if "rouge1" not in cells:
        return
    words, words_half, _ = cells["rouge1"]
    if "meteor" in cells:
        value, half, label = cells["meteor"]
        least = min(value - half, 1.0)
        if least / (5 - 4 * least) > words + words_half:
            yield label, "doubtful", "so few words in common do not give it, whatever the lengths"
    if "bleu_1" in cells:
        value, half, label = cells["bleu_1"]
        if value - half > _PUNCTUATION + (1 - _PUNCTUATION) * (words + words_half):
            yield label, "doubtful", "BLEU-1 with its brevity penalty is no more than the F1 of the same tokens"


def _harmonic(one: float, other: float) -> float:
    return 2 * one * other / (one + other) if one > 0 and other > 0 else 0.0
