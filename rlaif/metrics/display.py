"""How a metric is shown to a reader: its label, unit, digits, and which way is better."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeGuard

Interval = Mapping[str, Any]
Better = Literal["higher", "lower"]
Verdict = Literal["better", "worse", "changed", "unclear"]

ABSENT = "not available"


@dataclass(frozen=True)
class MetricDisplay:
    """The label, unit, number of digits and better direction (None: neither) of a metric."""

    name: str
    label: str
    unit: str
    digits: int
    better: Better | None

    @property
    def words(self) -> str:
        """The label within a sentence: without its capital, unless that belongs to a name (GPT-4, LLM)."""
        return self.label if self.label[1:2].isupper() else self.label[:1].lower() + self.label[1:]


@dataclass(frozen=True)
class JudgeDisplay:
    """What is known of a judge's scores: their scale, and whether it compares two reports rather than score one."""

    scale: tuple[float, float] | None = None
    pairwise: bool = False


Judges = Mapping[str, JudgeDisplay]

_KNOWN = (
    MetricDisplay("rules_score", "Rules score", "score, 0 to 1", 3, "higher"),
    MetricDisplay("finding_f1", "Finding F1", "score, 0 to 1", 3, "higher"),
    MetricDisplay("hallucinated", "Hallucinated findings", "findings per report", 2, "lower"),
    MetricDisplay("omitted", "Omitted findings", "findings per report", 2, "lower"),
    MetricDisplay("report_words", "Report length", "words per report", 1, None),
    MetricDisplay("region_recognition", "Regions recognised", "share of the regions asked for", 3, "higher"),
    *(MetricDisplay(f"bleu_{n}", f"BLEU-{n}", "of the corpus, 0 to 1", 3, "higher") for n in range(1, 5)),
    *(MetricDisplay(f"bleu_{n}_sample_mean", f"BLEU-{n}, mean of reports", "0 to 1", 3, "higher") for n in range(1, 5)),
    MetricDisplay("rouge1", "ROUGE-1", "F, 0 to 1", 3, "higher"),
    MetricDisplay("rouge2", "ROUGE-2", "F, 0 to 1", 3, "higher"),
    MetricDisplay("rougeL", "ROUGE-L", "F, 0 to 1", 3, "higher"),
    MetricDisplay("meteor", "METEOR", "0 to 1", 3, "higher"),
    MetricDisplay("cider", "CIDEr", "0 to 10", 3, "higher"),
    MetricDisplay("bert_score_precision", "BERTScore precision", "0 to 1", 3, "higher"),
    MetricDisplay("bert_score_recall", "BERTScore recall", "0 to 1", 3, "higher"),
    MetricDisplay("bert_score_f1", "BERTScore F1", "0 to 1", 3, "higher"),
    MetricDisplay("ratescore", "RaTEScore", "0 to 1", 3, "higher"),
    MetricDisplay("radgraph_partial", "RadGraph F1, partial", "0 to 1", 3, "higher"),
    MetricDisplay("radgraph_simple", "RadGraph F1, simple", "0 to 1", 3, "higher"),
    MetricDisplay("radgraph_complete", "RadGraph F1, complete", "0 to 1", 3, "higher"),
    *(
        MetricDisplay(f"ce_{average}_{one}", f"Clinical efficacy, {average} {words}", "0 to 1", 3, "higher")
        for average in ("micro", "macro")
        for one, words in (("precision", "precision"), ("recall", "recall"), ("f1", "F1"))
    ),
    MetricDisplay("length_kl", "Length divergence", "KL from the references, nats", 3, "lower"),
    *(MetricDisplay(f"distinct_{n}", f"Distinct {n}-grams", "share of all", 3, None) for n in range(1, 4)),
    MetricDisplay("same_report", "The most common report", "share of the reports", 3, "lower"),
)
_BY_NAME = {display.name: display for display in _KNOWN}
# By the names that judges have unless they are given others.
_JUDGE_LABELS = {"gpt4": "GPT-4", "llm_parser": "LLM parser", "green": "GREEN"}
_JUDGES = {"gpt4": (1.0, 5.0)} | dict.fromkeys(("rules", "llm_parser", "green", "ensemble"), (0.0, 1.0))


def judge_label(name: str) -> str:
    """A judge's name for a reader: `GPT-4` for gpt4, else its own words."""
    words = name.replace("_", " ")
    return _JUDGE_LABELS.get(name, words[:1].upper() + words[1:])


def judge_displays(summary: Mapping[str, Any], scales: Mapping[str, tuple[float, float]] | None = None) -> Judges:
    """The judges that a summary names, by name; their scales are those of `scales`, of the summary or the usual."""
    asked = [(one.get("judging") or {}).get("judges") or {} for one in summary.get("rounds") or []]
    asked += [judges or {} for judges in (summary.get("heldout_judging") or {}).values()]
    told = {name: scale for judges in asked for name, one in judges.items() if (scale := _scale_of(one or {}))}
    known = _JUDGES | told | dict(scales or {})
    pairwise = {name for judges in asked for name, accounts in judges.items() if (accounts or {}).get("comparisons")}
    return {
        name: JudgeDisplay(known.get(name), name in pairwise)
        for name in sorted(known.keys() | {name for judges in asked for name in judges})
    }


def _scale_of(accounts: Mapping[str, Any]) -> tuple[float, float] | None:
    """The scale of a judge's accounts; None where they say none, or none that can be."""
    scale = accounts.get("scale")
    if not isinstance(scale, list) or len(scale) != 2 or not all(map(is_number, scale)) or scale[0] >= scale[1]:
        return None
    return scale[0], scale[1]


def display_of(metric: str, judges: Judges | None = None) -> MetricDisplay:
    """The display of a metric; a name that is not known gets its own words, and `<judge>_score` is better higher.

    Of `judges` come scales that are not the usual, and which judges compare: their score of a held-out report is how
    often it wins against the base's.
    """
    if metric in _BY_NAME:
        return _BY_NAME[metric]
    if not metric.endswith("_score"):
        words = metric.replace("_", " ")
        return MetricDisplay(metric, words[:1].upper() + words[1:], words, 3, None)
    name = metric.removesuffix("_score")
    judge = (judges or {}).get(name) or JudgeDisplay(_JUDGES.get(name))
    if judge.pairwise:
        label = f"{judge_label(name)} win rate against base"
        return MetricDisplay(metric, label, "share won, a tie counts half", 3, "higher")
    unit = f"score, {scale_text(judge.scale)}" if judge.scale else "score"
    return MetricDisplay(metric, f"{judge_label(name)} score", unit, 3, "higher")


def scale_text(scale: tuple[float, float] | None) -> str:
    """A scale in words, `1 to 5`; empty where it is not known."""
    return f"{scale[0]:g} to {scale[1]:g}" if scale else ""


def ordered(metrics: Iterable[str]) -> list[str]:
    """Metric names without repeats: the rules' score, other judges' scores, the known others, then the rest."""
    known = list(_BY_NAME)

    def rank(metric: str) -> tuple[int, int, str]:
        if metric == known[0]:
            return 0, 0, metric
        if metric.endswith("_score"):
            return 1, 0, metric
        return (2, known.index(metric), metric) if metric in known else (3, 0, metric)

    return sorted(set(metrics), key=rank)


def main_metric(metrics: Iterable[str]) -> str | None:
    """The metric that leads a result, or None where there is none."""
    names = ordered(metrics)
    return names[0] if names else None


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value of a summary is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def number_text(value: Any, digits: int, signed: bool = False) -> str:
    """A number with fixed digits, with its sign where asked; no negative zero."""
    if not is_number(value):
        return ABSENT
    rounded = round(float(value), digits) + 0.0
    return f"{rounded:+.{digits}f}" if signed and rounded else f"{rounded:.{digits}f}"


def interval_text(interval: Interval | None, display: MetricDisplay, signed: bool = False) -> str:
    """`mean [low, high]`, or the mean alone where no interval could be computed."""
    if not interval or not is_number(interval.get("mean")):
        return ABSENT
    mean, low, high = (number_text(interval.get(key), display.digits, signed) for key in ("mean", "low", "high"))
    return mean if ABSENT in (low, high) else f"{mean} [{low}, {high}]"


def verdict_of(difference: Interval | None, display: MetricDisplay) -> Verdict:
    """What a difference and its interval say: better, worse, changed (no direction is better), or unclear."""
    if not difference or not all(is_number(difference.get(key)) for key in ("mean", "low", "high")):
        return "unclear"
    if difference["low"] <= 0 <= difference["high"]:
        return "unclear"
    if display.better is None:
        return "changed"
    return "better" if (difference["low"] > 0) == (display.better == "higher") else "worse"


def column_label(key: str) -> str:
    """The reader's words for a key of `heldout`: `base` or `round-001`."""
    prefix, _, number = key.partition("-")
    return f"Round {int(number)}" if prefix == "round" and number.isdigit() else key.capitalize()


def policy_columns(heldout: Mapping[str, Any]) -> list[str]:
    """The keys of `heldout` in the order of training: the base, then the rounds."""
    rounds = sorted((key for key in heldout if key != "base"), key=lambda key: (len(key), key))
    return (["base"] if "base" in heldout else []) + rounds
