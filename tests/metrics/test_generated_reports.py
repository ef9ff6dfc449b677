"""Files of other people's reports: what is read, and what is refused with its line."""

from pathlib import Path

import pytest

from rlaif.metrics.generated_reports import GeneratedReportsError, read_generated_reports


def test_texts_stand_by_study_in_order_and_an_empty_one_is_a_report(tmp_path: Path) -> None:
    file = tmp_path / "theirs.csv"
    file.write_text('\ufefftext,study_id\r\n"Clear, both lungs.\r\nNo effusion.",a\r\n,b\r\nClear.,a\r\n', "utf-8")
    assert read_generated_reports(file) == {"a": ["Clear, both lungs.\r\nNo effusion.", "Clear."], "b": [""]}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "line 1: the header lacks 'study_id', lacks 'text'; it must be study_id,text"),
        (b"study,text\na,T.\n", r"lacks 'study_id', has 'study' \(meant: 'study_id'\?\)"),
        (b"study_id,text,text\n", "has a column twice"),
        (b"study_id,text\n", "there are no rows below the header"),
        (b"study_id,text\n\na,T.,U.\n", "line 3: 3 cells under a header of 2; text with commas needs quotes"),
        (b"study_id,text\n ,T.\n", "line 2, column study_id: '' is no id of a study"),
        (b"study_id,text\na," + b"x" * 100_001 + b"\n", "line 2, column text: 100001 characters, and at most 100000"),
        (b"study_id,text\na,T\0.\n", "line 2, column text: a zero byte stands in it; take it out"),
        (b"study_id,text\na,\xff\n", "not UTF-8 text .*; save it as CSV in UTF-8"),
        (b'study_id,text\na,"T\n', "not valid CSV"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, content: bytes, told: str) -> None:
    file = tmp_path / "theirs.csv"
    file.write_bytes(content)
    with pytest.raises(GeneratedReportsError, match=told):
        read_generated_reports(file)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(GeneratedReportsError, match=r"absent\.csv: there is no such file"):
        read_generated_reports(tmp_path / "absent.csv")
