"""Measured rows beside a published table: for the terminal, as Markdown and as CSV."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from rlaif.datasets.settings import Ct3drrgSettings, DataSettings
from rlaif.ledger import RunFolder
from rlaif.metrics.display import ABSENT, is_number, number_text
from rlaif.metrics.published import PublishedColumn, PublishedRow, PublishedTable

NOT_MEASURED = "not measured"
_NO_VALUE = "-"
_MEASURED = "Measured here"
_BROAD_COLUMNS = 3
_CSV_HEADER = (
    "table", "origin", "section", "row", "column", "metric", "value", "low", "high", "n", "kind", "reason",
)  # fmt: skip


@dataclass(frozen=True)
class MeasuredRow:
    """What was measured of one policy: `metrics` holds {mean, low, high, n} by the metrics' names, in their own units.

    `data` is the data set it was measured on, by its name here, for tables with several data sets side by side; None
    where it is several of them, or none that a table names.
    """

    label: str
    metrics: Mapping[str, Mapping[str, Any]]
    data: str | None = None


@dataclass(frozen=True)
class _Cell:
    """A measured value in the units of its column, with its interval, which one patient has not, and how many reports
    count.
    """

    mean: float
    low: float | None
    high: float | None
    n: int | None


def measured_data(data: DataSettings) -> str | None:
    """The data set whose columns of a table the reports of these settings fill: a merge of several fills none."""
    if isinstance(data, Ct3drrgSettings):
        names = list(data.sources)
        return names[0] if len(names) == 1 else None
    return data.name


def write_table(folder: RunFolder, table: PublishedTable, measured: Sequence[MeasuredRow]) -> Table:
    """Writes `table.md` and `table.csv` into a run folder; returns the same for the terminal."""
    folder.write_text("table.md", markdown(table, measured))
    folder.write_text("table.csv", comma_separated(table, measured))
    return terminal_table(table, measured)


def terminal_table(table: PublishedTable, measured: Sequence[MeasuredRow]) -> Table:
    """The published rows and, below them, the measured ones as mean [95 % interval]; marked values have a footnote.

    Of a table with several data sets side by side it has the columns of those that were measured.
    """
    columns = _columns_at_hand(table, measured)
    shown = Table(title=Text(_title(table)), title_justify="left", caption_justify="left", header_style="bold")
    shown.add_column("", overflow="fold")
    for column in columns:
        shown.add_column(Text(column.label), justify="right")
    for section, rows in _sections(table):
        if section:
            shown.add_section()
            shown.add_row(Text(section, style="italic"))
        for row in rows:
            cells = (
                Text(_printed(table, row, column), style="yellow" if table.marks_of(row, column) else "")
                for column in columns
            )
            shown.add_row(Text(row.label), *cells)
    shown.add_section()
    shown.add_row(Text(_MEASURED, style="italic"))
    for one in measured:
        texts = (_text(_measured(one, column), column) for column in columns)
        narrow = len(columns) > _BROAD_COLUMNS
        cells = (Text(text.replace(" [", "\n[") if narrow else text, style=_style(text)) for text in texts)
        shown.add_row(Text(_named(one)), *cells)
    shown.caption = Text("\n".join(_notes(table)))
    return shown


def markdown(table: PublishedTable, measured: Sequence[MeasuredRow]) -> str:
    """The same as Markdown, ending in a newline."""
    columns = table.columns
    lines = [f"### {_escaped(_title(table))}", ""]
    lines.append(_line(["", *(column.label for column in columns)]))
    lines.append("| --- |" + " ---: |" * len(columns))
    for section, rows in _sections(table):
        if section:
            lines.append(_line([section, *[""] * len(columns)]))
        lines += [_line([row.label, *(_printed(table, row, column) for column in columns)]) for row in rows]
    lines.append(_line([_MEASURED, *[""] * len(columns)]))
    for one in measured:
        lines.append(_line([_named(one), *(_text(_measured(one, column), column) for column in columns)]))
    return "\n".join([*lines, "", *(f"- {_escaped(note)}" for note in _notes(table))]) + "\n"


def comma_separated(table: PublishedTable, measured: Sequence[MeasuredRow]) -> str:
    """Every value as a line of CSV, in the units of its column; a text that a spreadsheet would take for a formula has
    an apostrophe before it.
    """
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(_CSV_HEADER)
    for row in table.rows:
        for column, value in zip(table.columns, row.values, strict=True):
            marks = [table.marks[number - 1] for number in table.marks_of(row, column)]
            number = "" if value is None else number_text(value, column.digits)
            kinds, reasons = " ".join(one.kind for one in marks), " ".join(one.reason for one in marks)
            place = (table.name, "published", row.section, row.label, column.label, column.metric or "")
            writer.writerow([*map(_plain, place), number, "", "", "", kinds, reasons])
    for one in measured:
        for column in table.columns:
            cell = _measured(one, column)
            place = (table.name, "measured", one.data or "", one.label, column.label, column.metric or "")
            values = (None, None, None, None) if cell is None else (cell.mean, cell.low, cell.high, cell.n)
            numbers = ["" if value is None else repr(value) for value in values]
            writer.writerow([*map(_plain, place), *numbers, "" if cell else NOT_MEASURED, ""])
    return written.getvalue()


def _columns_at_hand(table: PublishedTable, measured: Sequence[MeasuredRow]) -> list[PublishedColumn]:
    """The columns of the measured data sets, or all where a table has none of them: twelve do not fit a terminal."""
    measured_on = {one.data for one in measured}
    found = [column for column in table.columns if column.data is None or column.data in measured_on]
    return found or list(table.columns)


def _measured(row: MeasuredRow, column: PublishedColumn) -> _Cell | None:
    """A measured value in the units of a column; None where there is none."""
    if column.data is not None and column.data != row.data:
        return None
    scale, interval = column.scale, row.metrics.get(column.metric or "")
    if interval is None or not is_number(interval.get("mean")):
        return None
    n, ends = interval.get("n"), (interval.get(key) for key in ("low", "high"))
    low, high = (end * scale if is_number(end) else None for end in ends)
    return _Cell(interval["mean"] * scale, low, high, n if isinstance(n, int) else None)


def _text(cell: _Cell | None, column: PublishedColumn) -> str:
    if cell is None:
        return NOT_MEASURED
    mean, *ends = (number_text(value, column.digits) for value in (cell.mean, cell.low, cell.high))
    return mean if ABSENT in ends else f"{mean} [{', '.join(ends)}]"


def _style(text: str) -> str:
    return "dim" if text == NOT_MEASURED else ""


def _printed(table: PublishedTable, row: PublishedRow, column: PublishedColumn) -> str:
    """A printed value with the numbers of its footnotes: `61.43 *1,3`."""
    value = row.values[table.columns.index(column)]
    if value is None:
        return _NO_VALUE
    numbers = ",".join(str(number) for number in table.marks_of(row, column))
    return number_text(value, column.digits) + (f" *{numbers}" if numbers else "")


def _named(row: MeasuredRow) -> str:
    """A measured row's label, with what it was measured on and how many reports count."""
    sizes = {n for interval in row.metrics.values() if isinstance(n := interval.get("n"), int)}
    told = [*([row.data] if row.data else []), *([f"n = {max(sizes):,}"] if sizes else [])]
    return f"{row.label} ({', '.join(told)})" if told else row.label


def _title(table: PublishedTable) -> str:
    return f"{table.name}: {table.title}"


def _sections(table: PublishedTable) -> Iterator[tuple[str, list[PublishedRow]]]:
    names = dict.fromkeys(row.section for row in table.rows)
    for name in names:
        yield name, [row for row in table.rows if row.section == name]


def _notes(table: PublishedTable) -> list[str]:
    """What stands below a table: where it is from, its footnotes, claims that its values do not bear out, remarks."""
    notes = [f"Printed values: {table.source}. Measured on: {table.data}. Ours: mean [95 % interval] by patient."]
    notes += [f"*{number} {mark.kind}: {mark.reason}" for number, mark in enumerate(table.marks, 1)]
    for claim in table.claims:
        if not table.holds(claim):
            unit = " %" if claim.unit == "percent" else ""
            digits = max(claim.digits, 1 if claim.unit == "percent" else 3)
            given = number_text(table.given_by_values(claim), digits, signed=True)
            where = f", {claim.section}" if claim.section is not None else ""
            said = number_text(claim.said, claim.digits, signed=True)
            notes.append(f"{claim.text}{where}: said {said}{unit}, by the table {given}{unit}.")
    return [*notes, *table.remarks]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(_escaped, cells)) + " |"


def _escaped(text: str) -> str:
    """Text that Markdown takes for nothing but text: no column, no markup, no line of its own."""
    text = " ".join(text.split()).replace("\\", "\\\\").replace("&", "&amp;").replace("<", "&lt;")
    for sign in ("|", "*", "`", "]("):
        text = text.replace(sign, f"\\{sign}" if len(sign) == 1 else "]\\(")
    return text


def _plain(text: str) -> str:
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
