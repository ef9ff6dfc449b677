"""The tables of the report page as text: results, rounds, times, provenance."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from rlaif.metrics.display import Judges, column_label, display_of, interval_text, ordered, policy_columns, verdict_of
from rlaif.metrics.page.run_tables import bounded
from rlaif.metrics.page.sentences import duration, typographic


def facts(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The run in a few numbers, as far as the summary has them."""
    studies: Mapping[str, Any] = summary.get("studies") or {}
    rounds = summary.get("rounds") or []
    names = {"sft": "SFT studies", "align": "Alignment studies", "heldout": "Held-out studies"}
    facts = [(label, f"{studies[key]:,}") for key, label in names.items() if key in studies]
    if "features" in summary:
        facts.append(("Encoder features", str(summary["features"])))
    facts.append(("Rounds", f"{len(rounds)}"))
    for key, label in (("candidates", "Candidates"), ("pairs", "Preference pairs"), ("reports", "Reports learnt from")):
        if any(key in one for one in rounds):
            facts.append((label, f"{sum(one.get(key) or 0 for one in rounds):,}"))
    if told := _judging_cost(summary):
        facts.append(("Judging", told))
    timed = [summary.get("seconds") or {}, *(one.get("seconds") or {} for one in rounds)]
    total = sum(value for stage in timed for value in stage.values())
    return [*facts, ("Time in stages", duration(total))] if total else facts


def _judging_cost(summary: Mapping[str, Any]) -> str:
    """What all judging cost, in money or else in tokens; empty where no service was asked."""
    asked = [(one.get("judging") or {}).get("judges") or {} for one in summary.get("rounds") or []]
    asked += [judges or {} for judges in (summary.get("heldout_judging") or {}).values()]
    accounts = [one or {} for judges in asked for one in judges.values()]
    cost = sum(one.get("cost_usd") or 0.0 for one in accounts)
    tokens = sum((one.get("prompt_tokens") or 0) + (one.get("completion_tokens") or 0) for one in accounts)
    return f"US$ {cost:,.2f}" if cost else f"{tokens:,} tokens" if tokens else ""


def results(summary: Mapping[str, Any], judges: Judges | None = None) -> dict[str, Any]:
    """The result table: column labels, and rows of label, direction, cells, gain and verdict."""
    heldout: Mapping[str, Any] = summary.get("heldout") or {}
    gain: Mapping[str, Any] = summary.get("gain") or {}
    columns = policy_columns(heldout)
    rows = []
    for metric in ordered([*(name for column in columns for name in heldout[column] or {}), *gain]):
        display = display_of(metric, judges)
        cells = [typographic(interval_text((heldout[column] or {}).get(metric), display)) for column in columns]
        difference = gain.get(metric)
        rows.append(
            {
                "display": display,
                "cells": cells,
                "gain": typographic(interval_text(difference, display, signed=True)) if difference else "",
                "verdict": verdict_of(difference, display),
            }
        )
    sizes = {one["n"] for key in columns for one in (heldout[key] or {}).values() if one and one.get("n") is not None}
    size = "" if not sizes else f"{min(sizes)}" if len(sizes) == 1 else f"{min(sizes)} to {max(sizes)}"
    return {"columns": [column_label(key) for key in columns], "rows": rows, "size": size, "with_gain": bool(gain)}


def reasons(counts: Mapping[str, int] | None) -> list[str]:
    """Reasons with their counts, a line each, without those that did not occur."""
    return [f"{reason.replace('_', ' ')} {count:,}" for reason, count in sorted((counts or {}).items()) if count]


def _weights(weights: Mapping[str, Any]) -> list[str]:
    return [f"version {weights['version']}", str(weights.get("checksum", ""))[:12]] if "version" in weights else []


def _given(given: Mapping[str, Any] | None) -> list[str]:
    """What a round started from, where the policy did not sample it: the file, its rows, and those left out."""
    if given is None:
        return []
    left_out = [f"left out: {line}" for line in reasons(given.get("left_out"))]
    return [bounded(str(given["file"]), 80), f"{given['rows']:,} rows", *left_out]


def rounds_table(summary: Mapping[str, Any]) -> dict[str, Any]:
    """One column a round; each row is a label with a list of lines for each round."""
    rounds: list[Mapping[str, Any]] = summary.get("rounds") or []

    def count(key: str) -> list[list[str]]:
        return [[f"{one[key]:,}"] if one.get(key) is not None else [] for one in rounds]

    timed = list(dict.fromkeys(stage for one in rounds for stage in one.get("seconds") or {}))
    gaps = [one.get("logprob_gap") or {} for one in rounds]
    dropped = [reasons(one["dropped"]) or ["none"] if "dropped" in one else [] for one in rounds]
    rows = [
        ("Given, in the place of samples", [_given(one.get("given")) for one in rounds]),
        ("Candidates", count("candidates")),
        ("Judgements", count("judgements")),
        ("Judge failures, by reason", [reasons(one.get("judge_failures")) or ["none"] for one in rounds]),
        ("Pairs", count("pairs")),
        ("Cases dropped, by reason", dropped),
        ("Reports learnt from", count("reports")),
        *((f"Time: {stage}", [[duration((one.get("seconds") or {}).get(stage))] for one in rounds]) for stage in timed),
        ("KL from the base, nats a report", [_divergence(one) for one in rounds]),
        ("Log-prob gap, sampler to learner", [_gap(one) for one in gaps]),
        ("Weights", [_weights(one.get("weights") or {}) for one in rounds]),
        ("Repeated calls", count("repeated_calls")),
    ]
    labels = [f"Round {one.get('round', index)}" for index, one in enumerate(rounds)]
    return {"columns": labels, "rows": [row for row in rows if any(row[1])] if rounds else []}


def _divergence(round_: Mapping[str, Any]) -> list[str]:
    """How far PPO's policy was from the base as it sampled and when it had learnt, and what a nat cost."""
    kl = round_.get("kl")
    if not kl:
        return []
    told = (f"sampled {kl['sampled']:.2f}", f"learnt {kl['learnt']:.2f}", f"weight {round_['kl_weight']:.3g}")
    return [typographic(one) for one in told]


def _gap(gap: Mapping[str, float]) -> list[str]:
    return [typographic(f"{name} {gap[name]:.1e}") for name in ("mean", "max") if name in gap]


def stages(summary: Mapping[str, Any]) -> list[tuple[str, str, float]]:
    """Where the time went: stage, duration and share of the longest in per cent, the rounds' stages summed."""
    total = {key: float(value) for key, value in (summary.get("seconds") or {}).items()}
    for one in summary.get("rounds") or []:
        for stage, seconds in (one.get("seconds") or {}).items():
            total[f"rounds: {stage}"] = total.get(f"rounds: {stage}", 0.0) + float(seconds)
    longest_first = sorted(total.items(), key=lambda item: -item[1])
    longest = max(total.values(), default=0.0) or 1.0
    return [(stage, duration(value), round(100 * value / longest, 1)) for stage, value in longest_first[:16]]


def flattened(value: Any, name: str = "") -> Iterable[tuple[str, str]]:
    """The leaves of nested JSON as (dotted name, text)."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from flattened(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, bounded(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), 400)
