"""The rows of a CSV file that people wrote or saved, read strictly: in bounds, whole, each with its place."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

MAX_BYTES = 2**28

Rows = Iterator[tuple[str, dict[str, str]]]


def csv_rows(
    path: Path, what: str, error: type[ValueError], *, most: int, delimiters: str = ","
) -> tuple[list[str], Rows]:
    """The header of a CSV file in UTF-8, and its rows, each with its place (`WHAT FILE, line 3`) and its cells by name.

    Rows without any text are left out. The columns are parted by the first of `delimiters` that the first line has.
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
    first = text.partition("\n")[0]
    delimiter = next((mark for mark in delimiters if mark in first), delimiters[0])
    lines = _lines(path, what, error, text, delimiter)
    header = next(lines, ("", []))[1]
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


def _rows(header: list[str], lines: Iterator[tuple[str, list[str]]], error: type[ValueError], most: int) -> Rows:
    for number, (place, cells) in enumerate(lines, 1):
        if number > most:
            raise error(f"{place}: more than {most} rows; give fewer")
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(header):
            raise error(f"{place}: {len(cells)} cells under a header of {len(header)}; text with commas needs quotes")
        yield place, dict(zip(header, cells, strict=True))
