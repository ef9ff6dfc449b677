"""The rows of a CSV file that people wrote or saved, read strictly: in bounds, whole, each with its place."""

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

MAX_BYTES = 2**28

Rows = Iterator[tuple[str, dict[str, str]]]


def csv_rows(
    path: Path, what: str, error: type[ValueError], *, most: int, delimiters: str = ",", spreadsheet: bool = False
) -> tuple[list[str], Rows]:
    """The header of a CSV file in UTF-8, and its rows, each with its place (`WHAT FILE, line 3`) and its cells by name.

    Rows without any text are left out. The columns are parted by the first of `delimiters` that the first line has.
    Of what a `spreadsheet` saved, cells missing at a row's end are empty, and empty columns right of the table are no
    columns.
    Raises `error`, when the rows are read too, for what is no file of at most MAX_BYTES, no UTF-8, no CSV, has more
    than `most` rows, or a row of other columns than the header.
    """
    if not path.is_file():
        raise error(f"{what} {path}: there is no such file")
    if path.stat().st_size > MAX_BYTES:
        raise error(f"{what} {path}: larger than {MAX_BYTES} bytes; give fewer rows")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        raise error(f"{what} {path}: not UTF-8 text ({fault.reason}); save it as CSV in UTF-8") from fault
    first = re.split(r"[\r\n]", text, maxsplit=1)[0]
    delimiter = next((mark for mark in delimiters if mark in first), delimiters[0])
    lines = _lines(path, what, error, text, delimiter)
    header = next(lines, ("", []))[1]
    if spreadsheet:
        header = _fitted(header, 0)
        lines = ((place, _fitted(cells, len(header))) for place, cells in lines)
    return header, _rows(header, lines, error, most)


def _lines(
    path: Path, what: str, error: type[ValueError], text: str, delimiter: str
) -> Iterator[tuple[str, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    last = 0
    try:
        for cells in reader:
            yield f"{what} {path}, line {last + 1}", cells
            last = reader.line_num
    except csv.Error as fault:
        raise error(f"{what} {path}, line {last + 1}: not valid CSV ({fault}); is a quote left open?") from fault


def _fitted(cells: list[str], width: int) -> list[str]:
    # Excel saves blocks of 16 rows, and leaves out the last columns of a block where all its cells are empty; a blank
    # somewhere right of the table widens a block.
    filled = next((place for place in range(len(cells), width, -1) if cells[place - 1].strip()), width)
    return cells[:filled] + [""] * (width - len(cells))


def _rows(header: list[str], lines: Iterator[tuple[str, list[str]]], error: type[ValueError], most: int) -> Rows:
    for number, (place, cells) in enumerate(lines, 1):
        if number > most:
            raise error(f"{place}: more than {most} rows; give fewer")
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(header):
            raise error(
                f"{place}: {len(cells)} cells under a header of {len(header)}; text with commas needs quotes, and "
                "nothing may stand right of the table"
            )
        yield place, dict(zip(header, cells, strict=True))
