"""Other people's generated reports: a CSV file of study_id and text, to be held against a data set's own reports."""

import difflib
from pathlib import Path

from rlaif.metrics.csv_rows import csv_rows
from rlaif.metrics.ratings import MAX_NAME_CHARACTERS, MAX_ROWS, MAX_TEXT_CHARACTERS

COLUMNS = ("study_id", "text")


class GeneratedReportsError(ValueError):
    """A file of generated reports that cannot be used: the message says the file, line and column, and what to do."""


def read_generated_reports(path: Path) -> dict[str, list[str]]:
    """The texts by study id, in the file's order; several of a study are its samples, and an empty text is a report.

    The file is CSV in UTF-8 with the columns of COLUMNS. Raises GeneratedReportsError for anything else.
    """
    columns, rows = csv_rows(path, "reports", GeneratedReportsError, most=MAX_ROWS)
    _check_header(path, [name.strip() for name in columns])
    reports: dict[str, list[str]] = {}
    for place, cells in rows:
        row = {name.strip(): cell for name, cell in cells.items()}
        study = row["study_id"].strip()
        if not study or len(study) > MAX_NAME_CHARACTERS or not study.isprintable():
            raise GeneratedReportsError(f"{place}, column study_id: {study[:40]!r} is no id of a study")
        if "\0" in row["text"]:
            raise GeneratedReportsError(f"{place}, column text: a zero byte stands in it; take it out")
        if len(row["text"]) > MAX_TEXT_CHARACTERS:
            raise GeneratedReportsError(
                f"{place}, column text: {len(row['text'])} characters, and at most {MAX_TEXT_CHARACTERS} can be"
            )
        reports.setdefault(study, []).append(row["text"].strip())
    if not reports:
        raise GeneratedReportsError(f"reports {path}: there are no rows below the header")
    return reports


def _check_header(path: Path, header: list[str]) -> None:
    missing = [name for name in COLUMNS if name not in header]
    unknown = [name for name in header if name not in COLUMNS]
    if not missing and not unknown and len(header) == len(COLUMNS):
        return
    near = [
        f"{name[:40]!r} (meant: {found[0]!r}?)" if (found := difflib.get_close_matches(name, COLUMNS, n=1)) else
        repr(name[:40])
        for name in unknown[:5]
    ]  # fmt: skip
    told = [*(f"lacks {name!r}" for name in missing), *(f"has {name}" for name in near)]
    raise GeneratedReportsError(
        f"reports {path}, line 1: the header {', '.join(told) or 'has a column twice'}; it must be study_id,text"
    )
