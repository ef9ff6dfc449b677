"""What a run's summary says, in sentences: the headline, the blind control, and times in words."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rlaif.metrics.display import (
    Interval,
    Judges,
    MetricDisplay,
    Verdict,
    column_label,
    display_of,
    interval_text,
    is_number,
    main_metric,
    number_text,
    policy_columns,
    verdict_of,
)

_MINUS = re.compile(r"(?:(?<![\w.-])|(?<=\de))-(?=\d)")


@dataclass(frozen=True)
class Headline:
    """The result in a sentence, the figure that stands beside it (may be empty), and what to know with it."""

    sentence: str
    figure: str
    caption: str
    verdict: str
    remarks: tuple[str, ...]


def typographic(text: str) -> str:
    """A text with true minus signs before its numbers and their exponents; hyphens within words and names stay."""
    return _MINUS.sub("\N{MINUS SIGN}", text)


def duration(seconds: Any) -> str:
    """Seconds in words: `0.4 s`, `41 s`, `1 min 41 s`, `2 h 5 min`."""
    if not is_number(seconds):
        return "not recorded"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _interval_words(interval: Interval, display: MetricDisplay) -> str:
    low, high = (number_text(interval.get(key), display.digits, signed=True) for key in ("low", "high"))
    return f"95 % interval {low} to {high}" if is_number(interval.get("low")) else "no interval could be computed"


def headline(summary: Mapping[str, Any], judges: Judges | None = None) -> Headline:
    """What was gained over the base policy, on which metric, and how sure that is.

    Also says why nothing can be said: no rounds, no held-out references, or a run that is not finished.
    """
    gain: Mapping[str, Any] = summary.get("gain") or {}
    heldout: Mapping[str, Any] = summary.get("heldout") or {}
    metric = main_metric(name for name, interval in gain.items() if interval and is_number(interval.get("mean")))
    rounds = [column for column in policy_columns(heldout) if column != "base"] or summary.get("rounds") or []
    if metric is None:
        reason = (
            "No alignment round has been evaluated, so there is no gain to report."
            if not rounds
            else "No gain can be stated: no held-out case was scored for both the base and the last round."
        )
        return Headline(reason, "", "", "unclear", ())
    interval, display = gain[metric], display_of(metric, judges)
    verdict = verdict_of(interval, display)
    count = f"{len(rounds)} round{'s' if len(rounds) != 1 else ''}"
    verb = {"better": "improved", "worse": "got worse", "changed": "changed", "unclear": "did not clearly change"}
    last_key = policy_columns(heldout)[-1] if heldout else ""
    base, last = ((heldout.get(key) or {}).get(metric) for key in ("base", last_key))
    ends = (
        f", from {number_text(base['mean'], display.digits)} to {number_text(last['mean'], display.digits)}"
        if base and last
        else ""
    )
    size = f", {interval['n']} held-out cases" if interval.get("n") is not None else ""
    sentence = (
        f"After {count} of alignment, the {display.words} {verb[verdict]}{ends}: a paired gain of "
        f"{number_text(interval['mean'], display.digits, signed=True)} ({_interval_words(interval, display)}{size})."
    )
    return Headline(
        sentence=typographic(sentence),
        figure=typographic(number_text(interval["mean"], display.digits, signed=True)),
        caption=f"{display.words}, last round minus base",
        verdict=verdict,
        remarks=tuple(typographic(remark) for remark in _remarks(summary, metric)),
    )


def _remarks(summary: Mapping[str, Any], metric: str) -> list[str]:
    """What keeps the headline honest: errors, length, and a judge that both trained and measured."""
    gain: Mapping[str, Any] = summary["gain"]
    remarks = []
    words_of = {"better": "fell", "worse": "rose", "changed": "changed", "unclear": "did not clearly change"}
    for display in (display_of("hallucinated"), display_of("omitted")):
        change = gain.get(display.name)
        if change:
            verdict = words_of[verdict_of(change, display)]
            remarks.append(f"{display.label} {verdict}: {interval_text(change, display, signed=True)} a report.")
    words = gain.get("report_words")
    if words and is_number(words.get("mean")):
        clear = verdict_of(words, display_of("report_words")) == "changed"
        became = ("longer" if words["mean"] > 0 else "shorter") if clear else "neither clearly longer nor shorter"
        remarks.append(f"Reports became {became}: {interval_text(words, display_of('report_words'), True)} words.")
    if metric == f"{summary.get('judge')}_score":
        remarks.append(
            "The judge behind this score also gave the training preferences: read it with the other metrics."
        )
    elif metric.removesuffix("_score") in training_judges(summary):
        remarks.append(
            "The judge behind this score took part in the training preferences: read it with the other metrics."
        )
    return remarks


def training_judges(summary: Mapping[str, Any]) -> set[str]:
    """The judges that were asked about candidates of any round: the training judge, and the members of an ensemble."""
    rounds = summary.get("rounds") or []
    return {name for one in rounds for name in (one.get("judging") or {}).get("judges") or {}}


def blind_words(summary: Mapping[str, Any], judges: Judges | None = None) -> str:
    """What the blind control says of the last policy: whether its reports depend on the patient's own CT.

    Differences are another patient's CT minus the own one. Empty where the run has no blind control.
    """
    control: Mapping[str, Any] = summary.get("blind_control") or {}
    difference: Mapping[str, Any] = control.get("difference") or {}
    columns = policy_columns(difference)
    metric = main_metric((difference.get(columns[-1]) or {}) if columns else ())
    if metric is None:
        return ""
    display, last = display_of(metric, judges), difference[columns[-1]][metric]
    verdict = verdict_of(last, display)
    amount = f"{interval_text(last, display, signed=True)} in {display.words}"
    policy = f"the policy of {column_label(columns[-1]).lower()}" if columns[-1] != "base" else "the base policy"
    conclusion = {
        "worse": f"The wrong patient's CT costs {policy} {amount}: its reports do depend on the images.",
        "better": f"The wrong patient's CT scores better ({amount}): something is wrong with {policy} or its features.",
        "changed": f"The wrong patient's CT changes the reports of {policy} ({amount}).",
        "unclear": f"The wrong CT makes no clear difference ({amount}): no proof that {policy} reads its images.",
    }[verdict]
    return typographic(conclusion)


def blind_rows(
    summary: Mapping[str, Any], judges: Judges | None = None
) -> list[tuple[str, list[tuple[str, str, str, str, Verdict]]]]:
    """For each policy: metric, with its own CT, with another patient's, the difference and its verdict, as text."""
    control: Mapping[str, Any] = summary.get("blind_control") or {}
    difference: Mapping[str, Any] = control.get("difference") or {}
    heldout: Mapping[str, Any] = summary.get("heldout") or {}
    groups = []
    shown = difference or {key: value for key, value in control.items() if key != "difference"}
    for column in policy_columns({key: value for key, value in control.items() if key in shown}):
        rows = []
        for metric, interval in (control[column] or {}).items():
            display = display_of(metric, judges)
            gap = (difference.get(column) or {}).get(metric)
            rows.append(
                (
                    display.label,
                    typographic(interval_text((heldout.get(column) or {}).get(metric), display)),
                    typographic(interval_text(interval, display)),
                    typographic(interval_text(gap, display, signed=True)),
                    verdict_of(gap, display),
                )
            )
        groups.append((column_label(column), rows))
    return groups
