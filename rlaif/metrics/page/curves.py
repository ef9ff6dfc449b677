"""The figures of the report page as geometry: positions in per cent of a plot area, ready for inline SVG."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from rlaif.metrics.display import is_number

_MOST_POINTS = 300
_FEWEST_TO_SMOOTH = 20


@dataclass(frozen=True)
class Tick:
    """A labelled position on an axis, in per cent from the left or from the top."""

    position: float
    label: str


@dataclass(frozen=True)
class Line:
    """One curve: its legend label, colour slot, and SVG points in a square of 100 by 100."""

    label: str
    slot: str
    points: tuple[str, ...]
    faint: bool = False


@dataclass(frozen=True)
class Bar:
    """One bar of a histogram: left, width and height in per cent, with its words."""

    left: float
    width: float
    height: float
    words: str


@dataclass(frozen=True)
class Chart:
    """A plot with its axes; `reference` is a horizontal line with a meaning, `dividers` part the rounds."""

    title: str
    x_label: str
    y_label: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Line, ...] = ()
    bars: tuple[Bar, ...] = ()
    dividers: tuple[Tick, ...] = ()
    reference: Tick | None = None
    marker: Tick | None = None
    words: str = ""


def nice_ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round values (1, 2 or 5 times a power of ten apart) within `low` to `high`."""
    span = high - low
    if not span > 0:
        return [low]
    raw = span / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    if last - first < 1 and about < 16:
        return nice_ticks(low, high, about * 2)
    return [round(index * step, 12) + 0.0 for index in range(first, last + 1)]


def tick_labels(values: Sequence[float], signed: bool = False) -> list[str]:
    """The labels of evenly spaced ticks, all with the digits that their distance needs."""
    step = min((b - a for a, b in pairwise(values)), default=0.0)
    if not 1e-4 <= step < 1e6:
        return [f"{value:.3g}" for value in values]
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return [f"{value:+,.{digits}f}" if signed and value else f"{value:,.{digits}f}" for value in values]


def ticks(low: float, high: float, place: Callable[[float], float], about: int = 4, signed: bool = False) -> list[Tick]:
    """Labelled ticks at round values within `low` to `high`; `place` gives a value's position in per cent."""
    values = nice_ticks(low, high, about)
    return [Tick(place(value), label) for value, label in zip(values, tick_labels(values, signed), strict=True)]


def _thinned(values: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most a few hundred points, each the mean of its neighbours, with the ends in place."""
    stride = math.ceil(len(values) / _MOST_POINTS)
    if stride <= 1:
        return list(values)
    blocks = [values[start : start + stride] for start in range(0, len(values), stride)]
    return [(sum(x for x, _ in block) / len(block), sum(y for _, y in block) / len(block)) for block in blocks]


def _smoothed(values: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """A centred running mean over about a twentieth of the curve; a curve of few steps stays as it is."""
    if len(values) < _FEWEST_TO_SMOOTH:
        return list(values)
    half = max(3, len(values) // 40)
    result = []
    for index, (x, _) in enumerate(values):
        window = values[max(0, index - half) : index + half + 1]
        result.append((x, sum(y for _, y in window) / len(window)))
    return result


def line_chart(
    title: str,
    y_label: str,
    curves: Mapping[str, Sequence[Sequence[tuple[float, float]]]],
    x_label: str,
    dividers: Sequence[tuple[float, str]] = (),
    reference: tuple[float, str] | None = None,
) -> Chart | None:
    """A chart of named curves, each in segments (one a round); None where no curve has a point."""
    points = [point for segments in curves.values() for segment in segments for point in segment]
    if not points:
        return None
    x_low, x_high = min(x for x, _ in points), max(x for x, _ in points)
    heights = [y for _, y in points] + ([reference[0]] if reference else [])
    y_low, y_high = min(heights), max(heights)
    margin = (y_high - y_low) * 0.06 or max(abs(y_high) * 0.1, 0.01)
    y_low, y_high = y_low - margin, y_high + margin

    def across(value: float) -> float:
        return round(100 * (value - x_low) / (x_high - x_low), 2) if x_high > x_low else 50.0

    def down(value: float) -> float:
        return round(100 * (y_high - value) / (y_high - y_low), 2)

    def drawn(segments: Sequence[Sequence[tuple[float, float]]]) -> tuple[str, ...]:
        thinned = (_thinned(segment) for segment in segments if segment)
        return tuple(" ".join(f"{across(x)},{down(y)}" for x, y in _widened(part, x_low, x_high)) for part in thinned)

    lines = [Line(name, str(slot), drawn(segments), faint=True) for slot, (name, segments) in enumerate(curves.items())]
    lines += [
        Line(name, str(slot), drawn([_smoothed(segment) for segment in segments]))
        for slot, (name, segments) in enumerate(curves.items())
    ]
    return Chart(
        title=title,
        x_label=x_label,
        y_label=y_label,
        x_ticks=tuple(ticks(x_low, x_high, across)),
        y_ticks=tuple(ticks(y_low, y_high, down)),
        lines=tuple(lines),
        dividers=tuple(Tick(across(value), label) for value, label in dividers),
        reference=Tick(down(reference[0]), reference[1]) if reference else None,
        words=_described(curves),
    )


def _widened(part: Sequence[tuple[float, float]], x_low: float, x_high: float) -> list[tuple[float, float]]:
    """A lone point as a short dash, since a line of one point cannot be seen."""
    if len(part) > 1:
        return list(part)
    (x, y), reach = part[0], max((x_high - x_low) * 0.01, 0.01)
    return [(max(x - reach, x_low), y), (min(x + reach, x_high), y)]


def _described(curves: Mapping[str, Sequence[Sequence[tuple[float, float]]]]) -> str:
    """Where the running mean of each curve begins and ends, for readers who do not see the figure too."""
    parts = []
    for name, segments in curves.items():
        joined = [point for segment in segments for point in _smoothed(segment)]
        if joined:
            parts.append(f"{name.lower()} from {joined[0][1]:.3g} to {joined[-1][1]:.3g}")
    return "; ".join(parts)


def _values(steps: Sequence[Mapping[str, Any]], key: str, offset: int = 0) -> list[tuple[float, float]]:
    """The (step, value) points of a key; steps without a finite value are left out."""
    return [(step["step"] + offset, float(step[key])) for step in steps if is_number(step.get(key))]


def sft_chart(steps: Sequence[Mapping[str, Any]]) -> Chart | None:
    """The supervised fine-tuning loss of the base policy, in nats per token."""
    return line_chart("Base policy: SFT loss", "nats per token", {"Loss": [_values(steps, "loss")]}, "optimiser step")


def alignment_charts(rounds: Sequence[tuple[str, Sequence[Mapping[str, Any]]]]) -> list[Chart]:
    """What a loop's learning shows, with the rounds one after another on the step axis: DPO's loss, rewards with their
    margin, and accuracy; or PPO's loss, the KL divergence from the reference, and the share of clipped tokens.

    `rounds` gives each round's label with its steps. A chart without a value is left out.
    """
    offsets: list[int] = []
    total = 0
    for _, steps in rounds:
        offsets.append(total)
        total += max((int(step["step"]) for step in steps), default=-1) + 1
    dividers = [(float(offset), label) for (label, steps), offset in zip(rounds, offsets, strict=True) if steps]

    def curve(key: str) -> list[list[tuple[float, float]]]:
        return [_values(steps, key, offset) for (_, steps), offset in zip(rounds, offsets, strict=True)]

    rewards = {"Margin": curve("margin"), "Chosen": curve("chosen_reward"), "Rejected": curve("rejected_reward")}
    axis = "optimiser step, all rounds"
    divergence = {"KL": curve("kl")}
    if any(divergence["KL"]):
        reinforced = (
            line_chart("PPO loss", "policy and value", {"Loss": curve("loss")}, axis, dividers, (0.0, "")),
            line_chart("KL from the base policy", "nats per report", divergence, axis, dividers),
            line_chart("Clipped", "share of tokens", {"Clipped": curve("clipped")}, axis, dividers),
        )
        return [chart for chart in reinforced if chart is not None]
    charts = (
        line_chart("DPO loss", "nats per pair", {"Loss": curve("loss")}, axis, dividers, (math.log(2), "ln 2")),
        line_chart("Implicit rewards", "nats, times beta", rewards, axis, dividers, (0.0, "")),
        line_chart("Accuracy", "share of pairs", {"Accuracy": curve("accuracy")}, axis, dividers, (0.5, "even")),
    )
    return [chart for chart in charts if chart is not None]


def histogram(title: str, scores: Sequence[float], low: float, high: float, y_high: float | None = None) -> Chart:
    """The distribution of scores on the scale `low` to `high` as shares, with the mean marked.

    `y_high` is the share at the top of the axis (default: the largest bar's), so that rounds can be compared.
    """
    shares, edges = score_shares(scores, low, high)
    top = y_high or max(shares, default=0.0) or 1.0
    span = edges[-1] - edges[0]

    def across(value: float) -> float:
        return round(100 * (value - edges[0]) / span, 2)

    bars = tuple(
        Bar(
            across(left),
            across(right) - across(left),
            round(100 * share / top, 2),
            f"{left:.3g} to {right:.3g}: {share:.1%} of candidates",
        )
        for left, right, share in zip(edges[:-1], edges[1:], shares, strict=True)
        if share > 0
    )
    mean = sum(scores) / len(scores) if scores else None
    return Chart(
        title=title,
        x_label="score",
        y_label="share of candidates",
        x_ticks=tuple(ticks(low, high, across)),
        y_ticks=tuple(Tick(100 - 100 * value / top, f"{value:.0%}") for value in nice_ticks(0, top, 3)),
        bars=bars,
        marker=None if mean is None else Tick(across(mean), f"mean {mean:.3g}"),
        words=f"{len(scores):,} scores" + ("" if mean is None else f", mean {mean:.3g}"),
    )


def score_shares(scores: Sequence[float], low: float, high: float) -> tuple[list[float], list[float]]:
    """The share of scores in each bin and the bins' edges: one bin a grade on a scale of whole grades, else 20."""
    whole = high - low >= 2 and all(score == round(score) for score in scores)
    count = round(high - low) + 1 if whole else 20
    first, last = (low - 0.5, high + 0.5) if whole else (low, high if high > low else low + 1)
    width = (last - first) / count
    edges = [first + width * index for index in range(count + 1)]
    counts = [0] * count
    for score in scores:
        counts[min(max(int((score - first) / width + 1e-9), 0), count - 1)] += 1
    return [number / max(len(scores), 1) for number in counts], edges
