"""The section of the report page on radiologists: what they said of reports, and how far judges agree with them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rlaif.files import RunError
from rlaif.metrics.display import column_label
from rlaif.metrics.page.judges import figure_text, shown_name
from rlaif.metrics.review.human import human_summary
from rlaif.metrics.review.table import AGREEMENT, between

_KINDS = ("choices", "scores")


def radiologists_section(run: Path) -> list[dict[str, Any]]:
    """A part for each kind of review whose answers were taken in; none where nobody was asked.

    Raises ValueError where `human.json` is damaged.
    """
    try:
        summary = human_summary(run) or {}
        return [_part(kind, summary[kind]) for kind in _KINDS if kind in summary]
    except RunError as error:
        raise ValueError(str(error)) from error
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{run / 'human.json'} is damaged ({error!r}): take the answers in again with jobs/review.py"
        ) from error


def _part(kind: str, told: Mapping[str, Any]) -> dict[str, Any]:
    value, unit = ("score", "reports") if kind == "scores" else ("win_rate", "pairs")
    columns = AGREEMENT[kind]
    return {
        "review": shown_name(told["review"]),
        "cases": told["cases"],
        "raters": len(told["raters"]),
        "value": "Mean score, 1 to 5" if kind == "scores" else "Win rate, a tie is half",
        "unit": unit.capitalize(),
        "systems": [(column_label(name), *_figure(own[value])) for name, own in told["systems"].items()],
        "between": [(words, *_figure(interval)) for words, interval in between(told, kind, column_label)],
        "chose_first": figure_text(told["chose_first"]) if kind == "choices" else None,
        "columns": [*columns.values()],
        "against": "the raters' mean" if kind == "scores" else "what most raters chose",
        "agreement": [*_agreement(told["agreement"], columns, unit)],
    }


def _figure(interval: Mapping[str, Any] | None) -> tuple[str, int]:
    return figure_text(interval), interval["n"] if interval else 0


def _agreement(
    agreement: Mapping[str, Any], columns: Mapping[str, str], unit: str
) -> Iterator[tuple[str, list[tuple[str, list[str], int, int]]]]:
    """The judges, and the raters against each other, each with figures, what both rated and what lacks a score."""
    for label, part in (("Judges", "judges"), ("A rater against the others", "raters")):
        rows = [
            (shown_name(name), [figure_text(own[column]) for column in columns], own[unit], own["failures"])
            for name, own in agreement[part].items()
        ]
        if rows:
            yield label, rows
