"""Reading the CSV tables of data sets: columns checked, sentinels of absent text removed."""

import csv
import difflib
import io
from collections.abc import Iterable, Iterator

from rlaif.datasets.data_folder import DataFolder
from rlaif.datasets.study_table import DatasetError

MAX_TABLE_BYTES = 2**30
_ABSENT = frozenset({"", "nan", "none", "null", "n/a", "not given", "not given."})


def text_or_none(value: str | None) -> str | None:
    """The text with its white space made plain; None for empty cells, NaN and "Not given."."""
    text = " ".join((value or "").split())
    return None if text.lower() in _ABSENT else text


def read_rows(folder: DataFolder, table: str, required: Iterable[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a CSV file of the folder with their line numbers, as dictionaries by column; tabs part a `.tsv`.

    Raises DatasetError, naming the file, where it is absent, too large, not UTF-8 text or not CSV,
    or where a required column is missing (with the nearest name that is there).
    """
    if not folder.is_file(table):
        raise DatasetError(f"table {folder.locate(table)} does not exist")
    place = f"table {folder.locate(table)}"
    if folder.size(table) > MAX_TABLE_BYTES:
        raise DatasetError(f"{place} is larger than {MAX_TABLE_BYTES} bytes, which no report table is")
    try:
        with io.TextIOWrapper(folder.open(table), encoding="utf-8-sig", newline="") as file:
            delimiter = "\t" if table.lower().endswith(".tsv") else ","
            reader = csv.DictReader(file, restval="", strict=True, delimiter=delimiter)
            _check_columns(place, list(required), list(reader.fieldnames or []))
            for row in reader:
                # Cells beyond the header stand under None.
                if None in row:
                    raise DatasetError(f"{place}, line {reader.line_num}: more cells than the header has columns")
                yield reader.line_num, row
    except UnicodeDecodeError as error:
        raise DatasetError(f"{place} is not UTF-8 text ({error.reason}); save it as UTF-8") from error
    except csv.Error as error:
        raise DatasetError(f"{place}, line {reader.line_num}: not valid CSV ({error})") from error


def _check_columns(place: str, required: list[str], present: list[str]) -> None:
    repeated = sorted({name for name in present if present.count(name) > 1})
    if repeated:
        raise DatasetError(f"{place} has the column {repeated[0]!r} more than once: remove or rename all but one")
    missing = [name for name in required if name not in present]
    if not missing:
        return
    hints = []
    lower = {name.lower(): name for name in present}
    for name in missing:
        near = difflib.get_close_matches(name.lower(), list(lower), n=1)
        hints.append(f"{name!r} (nearest: {lower[near[0]]!r})" if near else repr(name))
    raise DatasetError(
        f"{place} lacks the column {', '.join(hints)}; it has {present or 'no columns'}. "
        "Rename it there, or say its name in data.columns"
    )
