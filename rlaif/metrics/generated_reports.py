"""Other people's generated reports: a CSV file of study_id and text, to be held against a data set's own reports."""

import csv
import difflib
from pathlib import Path

from rlaif.metrics.ratings import MAX_BYTES, MAX_NAME_CHARACTERS, MAX_ROWS, MAX_TEXT_CHARACTERS

COLUMNS = ("study_id", "text")


class GeneratedReportsError(ValueError):
    """A file of generated reports that cannot be used: the message says the file, line and column, and what to do."""


def read_generated_reports(path: Path) -> dict[str, list[str]]:
    """The texts by study id, in the file's order; several of a study are its samples, and an empty text is a report.

    The file is CSV in UTF-8 with the columns of COLUMNS. Raises GeneratedReportsError for anything else.
    """
    if not path.is_file():
        raise GeneratedReportsError(f"reports {path}: there is no such file")
    if path.stat().st_size > MAX_BYTES:
        raise GeneratedReportsError(f"reports {path}: larger than {MAX_BYTES} bytes; part the file")
    reports: dict[str, list[str]] = {}
    line = 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            _check_header(path, header)
            for number, cells in enumerate(reader, 1):
                line, place = reader.line_num, f"reports {path}, line {reader.line_num}"
                if not cells:
                    continue
                if number > MAX_ROWS:
                    raise GeneratedReportsError(f"{place}: more than {MAX_ROWS} rows; part the file")
                if len(cells) != len(header):
                    raise GeneratedReportsError(
                        f"{place}: {len(cells)} cells under a header of {len(header)}; text with commas needs quotes"
                    )
                row = dict(zip(header, cells, strict=True))
                study = row["study_id"].strip()
                if not study or len(study) > MAX_NAME_CHARACTERS or not study.isprintable():
                    raise GeneratedReportsError(f"{place}, column study_id: {study[:40]!r} is no id of a study")
                if "\0" in row["text"] or len(row["text"]) > MAX_TEXT_CHARACTERS:
                    raise GeneratedReportsError(
                        f"{place}, column text: a zero byte, or more than {MAX_TEXT_CHARACTERS} characters"
                    )
                reports.setdefault(study, []).append(row["text"].strip())
    except UnicodeDecodeError as error:
        raise GeneratedReportsError(f"reports {path}: not UTF-8 text ({error.reason}); save it as UTF-8") from error
    except csv.Error as error:
        raise GeneratedReportsError(f"reports {path}, after line {line}: not valid CSV ({error})") from error
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
