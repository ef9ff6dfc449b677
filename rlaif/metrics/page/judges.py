"""The section of the report page on the judges: what each did and took, and how far they agree."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rlaif.metrics.display import (
    ABSENT,
    Interval,
    Judges,
    MetricDisplay,
    column_label,
    interval_text,
    is_number,
    number_text,
    policy_columns,
    scale_text,
)
from rlaif.metrics.page.run_tables import bounded
from rlaif.metrics.page.sentences import typographic
from rlaif.metrics.page.tables import reasons

NONE = "\N{EN DASH}"
_NAME_LIMIT = 48
_FIGURES = (("spearman", "Spearman"), ("kendall", "Kendall"), ("kappa", "Kappa"), ("order", "Same order"))
# The least correlation, how a reader may call it, and the shade of its cell.
_STRENGTHS = (
    (0.8, "strong", "s4"),
    (0.6, "good", "s3"),
    (0.4, "moderate", "s2"),
    (0.2, "weak", "s1"),
    (-0.2, "hardly any", "s0"),
    (-1.0, "opposite", "against"),
)


def figure_text(interval: Interval | None, digits: int = 2, signed: bool = False) -> str:
    """A figure without a metric of its own (a correlation, a share) as `mean [low, high]`."""
    return typographic(interval_text(interval, MetricDisplay("", "", "", digits, None), signed))


def shown_name(name: Any) -> str:
    """A judge's name as it stands in the run, bounded."""
    return bounded(str(name), _NAME_LIMIT)


def judges_section(summary: Mapping[str, Any], judges: Judges) -> dict[str, Any] | None:
    """What the page shows of the judges: accounts by round, held-out accounts, pairwise judges and agreement.

    None where the rules judged alone: they take nothing, and there is nobody to compare them with.
    """
    rounds = [
        (_round_label(one, index), (one.get("judging") or {}).get("judges") or {})
        for index, one in enumerate(summary.get("rounds") or [])
    ]
    heldout: Mapping[str, Any] = summary.get("heldout_judging") or {}
    reports = [(column_label(key), heldout[key] or {}) for key in policy_columns(heldout)]
    everyone = {name for _, asked in (*rounds, *reports) for name in asked}
    if not everyone - {"rules"}:
        return None
    agreement = [
        (_round_label(one, index), (one.get("judging") or {}).get("agreement") or [])
        for index, one in enumerate(summary.get("rounds") or [])
    ]
    measured = [(label, entries) for label, entries in agreement if entries]
    return {
        "total": _total([asked for _, asked in (*rounds, *reports)]),
        "rounds": _accounts(rounds, judges),
        "heldout": _accounts(reports, judges),
        "pairwise": [
            *_pairwise(rounds),
            *((f"Held-out, {label.lower()}", rows) for label, rows in _pairwise(reports)),
        ],
        "matrix": {"label": measured[-1][0], **_matrix(measured[-1][1])} if measured else None,
        "agreement": [(label, [_agreement_row(entry) for entry in entries]) for label, entries in measured],
    }


def _round_label(one: Mapping[str, Any], index: int) -> str:
    return f"Round {one.get('round', index)}"


def _count(value: Any) -> str:
    return f"{value:,}" if is_number(value) else NONE


def _dollars(value: Any) -> str:
    if not is_number(value):
        return NONE
    return f"{value:,.2f}" if not value or value >= 0.1 else f"{value:.4f}"


def _summed(all_asked: Iterable[Mapping[str, Any]], key: str) -> float:
    values = ((accounts or {}).get(key) for asked in all_asked for accounts in asked.values())
    return sum(value for value in values if is_number(value))


def _total(all_asked: Sequence[Mapping[str, Any]]) -> str:
    """What all judging took, in a sentence."""
    told, written = (round(_summed(all_asked, key)) for key in ("prompt_tokens", "completion_tokens"))
    cost = _dollars(_summed(all_asked, "cost_usd"))
    return f"All judging took {told:,} tokens of prompts and {written:,} of replies, and cost US$ {cost}."


def _accounts(groups: Sequence[tuple[str, Mapping[str, Any]]], judges: Judges) -> list[tuple[str, list[Any]]]:
    """For each round or policy a row a judge: name, versions, then the cells in the table's order."""
    return [
        (label, [_account_row(name, accounts or {}, judges) for name, accounts in asked.items()])
        for label, asked in groups
        if asked
    ]


def _account_row(name: str, accounts: Mapping[str, Any], judges: Judges) -> dict[str, Any]:
    scale = scale_text(judges[name].scale) if name in judges else ""
    mean, latency = accounts.get("mean_score"), accounts.get("mean_latency_s")
    tokens = [accounts.get(key) for key in ("prompt_tokens", "completion_tokens")]
    cost = accounts.get("cost_usd")
    return {
        "name": shown_name(name),
        "versions": bounded(", ".join(map(str, accounts.get("versions") or [])), 160),
        "judgements": _count(accounts.get("judgements")),
        "scored": _count(accounts.get("scored")),
        "mean": typographic(number_text(mean, 3)) if is_number(mean) else NONE,
        "scale": f"on {scale}" if scale and is_number(mean) else "",
        "failures": reasons(accounts.get("failures")) or ["none"],
        "cached": _count(accounts.get("cached")),
        "tokens": " + ".join(map(_count, tokens)) if any(tokens) else NONE,
        "cost": _dollars(cost) if cost or any(tokens) else NONE,
        "latency": f"{latency:.2f}" if is_number(latency) else NONE,
    }


def _pairwise(groups: Sequence[tuple[str, Mapping[str, Any]]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """For each round a row for every judge that compares: its questions, places, orders, ties and failures."""
    found = []
    for label, asked in groups:
        rows = [
            {
                "name": shown_name(name),
                "comparisons": _count(bias.get("comparisons")),
                "first_place": _told(bias.get("first_place"), "no decided verdict"),
                "orders_agree": _told(bias.get("orders_agree"), "no pair in both orders"),
                "ties": _count(bias.get("ties")),
                "failures": reasons(bias.get("failures")) or ["none"],
            }
            for name, accounts in asked.items()
            if (bias := (accounts or {}).get("comparisons"))
        ]
        if rows:
            found.append((label, rows))
    return found


def _told(interval: Interval | None, otherwise: str) -> str:
    text = figure_text(interval)
    return otherwise if text == ABSENT else text


def _matrix(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The judges of a round against each other, each two once: columns, and rows of a name and cells."""
    pairs = {frozenset(entry["judges"]): entry for entry in entries}
    names = sorted({name for pair in pairs for name in pair})
    rows = [
        (shown_name(name), [_matrix_cell(pairs.get(frozenset((name, other)))) for other in names[:place]])
        for place, name in enumerate(names[1:], start=1)
    ]
    return {"columns": [shown_name(name) for name in names[:-1]], "rows": rows}


def _matrix_cell(entry: Mapping[str, Any] | None) -> dict[str, str]:
    """The word and shade of Spearman's correlation, and the figures."""
    found = entry or {}
    mean = (found.get("spearman") or {}).get("mean")
    word, shade = ("cannot be told", "")
    if is_number(mean):
        word, shade = next(((word, shade) for least, word, shade in _STRENGTHS if mean >= least), _STRENGTHS[-1][1:])
    figures = {key: figure_text(found.get(key)) for key in ("spearman", "kappa", "order")}
    return {"word": word, "shade": shade, **figures}


def _agreement_row(entry: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Two judges of a round: their names, and their figures with the number of candidates that both scored."""
    pair = " and ".join(shown_name(name) for name in entry["judges"])
    return pair, [*(figure_text(entry.get(key)) for key, _ in _FIGURES), _count(entry.get("candidates"))]
