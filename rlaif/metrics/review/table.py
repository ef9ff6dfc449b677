"""What raters said, for the terminal."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from rlaif.metrics.display import ABSENT, MetricDisplay, interval_text

_DIGITS = MetricDisplay("", "", "", 2, None)
AGREEMENT = {
    "scores": {"spearman": "Spearman", "kendall": "Kendall", "kappa": "Kappa"},
    "choices": {"accuracy": "Accuracy", "kappa": "Kappa"},
}
"""The columns of agreement by kind of review, with their labels."""


def human_tables(summary: Mapping[str, Any], kind: str) -> list[Table]:
    """The systems, the agreement of judges and raters, and the raters, of one kind of `human.json`."""
    told = summary[kind]
    return [_systems(told, kind), _agreement(told, kind), _raters(told)]


def _systems(told: Mapping[str, Any], kind: str) -> Table:
    value = "score" if kind == "scores" else "win_rate"
    label = "Mean score, 1 to 5" if kind == "scores" else "Win rate, a tie is half"
    title = f"{told['review']}: {told['cases']} cases, mean [95 % interval over patients]"
    table = Table(title=Text(title), title_justify="left", header_style="bold", caption_justify="left")
    table.add_column("System")
    table.add_column(label, justify="right")
    table.add_column("Reports" if kind == "scores" else "Pairs", justify="right")
    for name, own in told["systems"].items():
        table.add_row(*map(Text, (name, _interval(own[value]), str(own[value]["n"] if own[value] else 0))))
    table.add_section()
    for words, interval in between(told, kind):
        table.add_row(*map(Text, (words, _interval(interval), str(interval["n"] if interval else 0))))
    if kind == "choices":
        table.caption = Text(
            f"The report shown first was chosen in {_interval(told['chose_first'])} of the choices that were no tie. "
            f"{told['same_text']} pairs of the same text were not shown. For research; not for clinical use."
        )
    else:
        table.caption = Text("For research; not for clinical use.")
    return table


def between(
    told: Mapping[str, Any], kind: str, label: Callable[[str], str] = str
) -> Iterator[tuple[str, Mapping[str, Any] | None]]:
    """Every two systems in words, by their labels, with the difference or the win rate of the second."""
    if kind == "scores":
        for one in told["differences"]:
            first, second = map(label, one["systems"])
            yield f"{second} less {first}", one["difference"]
        return
    for one in told["pairs"]:
        counts = f"votes: {one['wins']} won, {one['ties']} even, {one['losses']} lost"
        first, second = map(label, one["systems"])
        yield f"{second} against {first} ({counts})", one["win_rate"]


def _agreement(told: Mapping[str, Any], kind: str) -> Table:
    columns, unit = AGREEMENT[kind], "reports" if kind == "scores" else "pairs"
    against = "the raters' mean" if kind == "scores" else "what most raters chose"
    title = f"Judges against {against}, [95 % interval over cases]; each rater against the others is the ceiling"
    table = Table(title=Text(title), title_justify="left", header_style="bold")
    table.add_column("Judge")
    for label in (*columns.values(), unit.capitalize(), "Without a score"):
        table.add_column(label, justify="right")
    for part in ("judges", "raters"):
        for name, own in told["agreement"][part].items():
            cells = [_interval(own[column]) for column in columns]
            table.add_row(*map(Text, (name, *cells, str(own[unit]), str(own["failures"]))))
        table.add_section()
    return table


def _raters(told: Mapping[str, Any]) -> Table:
    table = Table(title=Text("Raters, and the items that they saw twice"), title_justify="left", header_style="bold")
    table.add_column("Rater")
    for label in ("Answered", "Missing", "Comments", "Seen twice", "Same answer", "Kappa"):
        table.add_column(label, justify="right")
    for name, own in told["raters"].items():
        counts = [str(own[column]) for column in ("answered", "missing", "comments", "repeated")]
        table.add_row(*map(Text, (name, *counts, _interval(own["same"]), _interval(own["kappa"]))))
    return table


def _interval(interval: Mapping[str, Any] | None) -> str:
    text = interval_text(interval, _DIGITS)
    return "-" if text == ABSENT else text
