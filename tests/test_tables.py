import threading
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlaif.files import RunError
from rlaif.records import Candidate, Dropped, Judgement, Study
from rlaif.tables import PART, SegmentWriter, Table


def rows(first: int, count: int) -> list[Dropped]:
    return [Dropped(f"case-{number}", 0, "too few") for number in range(first, first + count)]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_every_kind_of_record_comes_back_as_it_was(tmp_path: Path) -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    candidate = Candidate(
        "c-1", "case-1", "study-1", 0, 2, 1, "Describe.", "Kein Erguss, größer.", (5, 6), (-0.5, -1.25),
        "stop", True, 3, "abc", None, 2**40, at,
    )  # fmt: skip
    failed = Judgement(
        "j-1", "c-1", "case-1", 0, "gpt4", "1", None, 1.0, 5.0, "timeout", "", None, None, None, False, 30.0, 0, 0, 0.0
    )
    scored = Judgement(
        "j-2",
        "c-1",
        "case-1",
        0,
        "rules",
        "1",
        0.5,
        0.0,
        1.0,
        None,
        "",
        {"a": 2, "b": 0},
        {},
        "raw",
        True,
        0.1,
        0,
        0,
        0.0,
    )
    study = Study("study-1", "p", "phantom", "align", "ct.nii.gz", "f", None, {"lung": ("m.nii.gz",)}, ("Emphysema",))
    bare = Study("study-2", "p", "openi", "sft")
    for name, record, records in (
        ("candidates", Candidate, [candidate]),
        ("judgements", Judgement, [failed, scored]),
        ("studies", Study, [study, bare]),
    ):
        table = Table(tmp_path / name, record)
        table.append(records)
        assert table.read() == list(table.iterate()) == records
        table.compact(next(iter(vars(records[0]))))
        assert table.read() == list(table.iterate()) == records


def test_an_absent_table_is_empty_and_an_empty_append_writes_nothing(tmp_path: Path) -> None:
    table = Table(tmp_path / "dropped", Dropped)
    table.append([])
    assert table.read() == [] and table.arrow(["reason"]).column_names == ["reason"]
    assert not (tmp_path / "dropped").exists()
    assert table.compact("case_id") == 0
    assert pq.read_table(tmp_path / "dropped" / PART).column_names == ["case_id", "round", "reason"]


def test_segments_bear_number_and_attempt_and_compact_into_one_file(tmp_path: Path) -> None:
    Table(tmp_path, Dropped, attempt=1).append(rows(0, 2))
    table = Table(tmp_path, Dropped, attempt=2)
    table.append(rows(2, 3))
    assert names(tmp_path) == ["segment-000000-1.parquet", "segment-000001-2.parquet"]
    assert table.compact("case_id") == 5
    assert names(tmp_path) == [PART]
    table.append(rows(5, 1))
    assert names(tmp_path) == [PART, "segment-000002-2.parquet"]
    assert Table(tmp_path, Dropped).compact(("round", "case_id")) == 6
    assert table.read() == rows(0, 6)
    assert table.arrow(["case_id"]).num_columns == 1


def test_numbers_go_on_after_compaction_so_that_no_segment_takes_a_held_name(tmp_path: Path) -> None:
    table = Table(tmp_path, Dropped, attempt=1)
    table.append(rows(0, 2))
    table.compact("case_id")
    Table(tmp_path, Dropped, attempt=1).append(rows(2, 1))
    assert names(tmp_path) == [PART, "segment-000001-1.parquet"]
    assert table.read() == rows(0, 3)


def test_compaction_that_has_nothing_to_do_leaves_the_file_alone(tmp_path: Path) -> None:
    table = Table(tmp_path, Dropped)
    table.append(rows(0, 2))
    table.compact("case_id")
    before = (tmp_path / PART).stat().st_ino
    assert table.compact("case_id") == 2
    assert (tmp_path / PART).stat().st_ino == before


def test_small_segments_become_large_row_groups(tmp_path: Path) -> None:
    table = Table(tmp_path, Dropped)
    for first in range(0, 20_000, 2_000):
        table.append(rows(first, 2_000))
    assert table.compact("case_id") == 20_000
    assert pq.ParquetFile(tmp_path / PART).num_row_groups == 3
    assert [row.case_id for row in table.iterate()] == [f"case-{number}" for number in range(20_000)]


def test_a_repeated_key_is_named_and_nothing_changes(tmp_path: Path) -> None:
    table = Table(tmp_path, Dropped)
    table.append(rows(0, 3))
    table.append(rows(2, 1))
    before = names(tmp_path)
    with pytest.raises(RunError, match=r"1 keys stand in more than one row, the first is case_id='case-2' \(2 rows\)"):
        table.compact("case_id")
    assert names(tmp_path) == before


def test_replace_takes_the_place_of_segments_and_file(tmp_path: Path) -> None:
    table = Table(tmp_path, Dropped)
    table.append(rows(0, 3))
    table.compact("case_id")
    table.append(rows(3, 1))
    table.replace(rows(10, 2))
    assert table.read() == rows(10, 2) and names(tmp_path) == [PART]
    table.append(rows(12, 1))
    assert Table(tmp_path, Dropped).read() == rows(10, 3)


def test_temporary_and_foreign_files_are_not_read(tmp_path: Path) -> None:
    table = Table(tmp_path, Dropped)
    table.append(rows(0, 1))
    for name in (".rlaif-new-00.segment-000001-1.parquet", "segment-x.parquet", "notes.txt", "part-000.parquet.bak"):
        (tmp_path / name).write_bytes(b"PAR1 torn")
    assert table.read() == rows(0, 1)


def test_a_damaged_file_and_one_of_another_record_are_loud(tmp_path: Path) -> None:
    Table(tmp_path, Dropped).append(rows(0, 1))
    with pytest.raises(RunError, match=r"does not hold Study records.*case_id, round, reason"):
        Table(tmp_path, Study).read()
    segment = tmp_path / names(tmp_path)[0]
    segment.write_bytes(segment.read_bytes()[:-10])
    with pytest.raises(RunError, match=r"segment-000000-0\.parquet is damaged"):
        Table(tmp_path, Dropped).read()


def test_a_reader_beside_a_writer_sees_every_acknowledged_row_once(tmp_path: Path) -> None:
    table, acknowledged, failures = Table(tmp_path, Dropped), [0], []

    def write() -> None:
        for number in range(120):
            table.append(rows(number, 1))
            acknowledged[0] = number + 1
            if number % 4 == 3:
                table.compact("case_id")

    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive():
        least = acknowledged[0]
        seen = [row.case_id for row in Table(tmp_path, Dropped).read()]
        if len(seen) != len(set(seen)) or len(seen) < least:
            failures.append((least, seen))
    writer.join()
    assert failures == []


def test_threads_may_append_to_one_table(tmp_path: Path) -> None:
    table = Table(tmp_path, Dropped)
    threads = [
        threading.Thread(target=lambda first=first: [table.append(rows(n, 1)) for n in range(first, first + 10)])
        for first in (0, 10, 20, 30)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {row.case_id for row in table.read()} == {row.case_id for row in rows(0, 40)}
    assert table.compact("case_id") == 40


def test_a_segment_writer_is_bounded_by_rows_and_by_time(tmp_path: Path) -> None:
    table = Table(tmp_path, Dropped)
    with SegmentWriter(table, rows=3, seconds=60.0) as writer:
        writer.add(*rows(0, 2))
        assert table.read() == []
        writer.add(*rows(2, 5))
        assert table.read() == rows(0, 6)
        writer.flush()
        assert table.read() == rows(0, 7)
        writer.flush()
    assert len(names(tmp_path)) == 3
    with SegmentWriter(table, rows=100, seconds=0.0) as writer:
        writer.add(*rows(7, 1))
        assert table.read() == rows(0, 8)


def test_a_segment_writer_keeps_what_it_has_when_an_error_passes(tmp_path: Path) -> None:
    table = Table(tmp_path, Dropped)
    with pytest.raises(KeyError), SegmentWriter(table) as writer:
        writer.add(*rows(0, 2))
        raise KeyError("judge")
    assert table.read() == rows(0, 2)


@settings(max_examples=25)
@given(st.lists(st.one_of(st.integers(0, 4), st.sampled_from(["compact", "replace", "reopen"])), max_size=10))
def test_any_order_of_appends_compactions_and_replacements_keeps_the_rows(steps: list[int | str]) -> None:
    with TemporaryDirectory() as folder:
        expected: list[Dropped] = []
        made = 0
        table = Table(Path(folder), Dropped)
        for step in steps:
            if step == "compact":
                assert table.compact("case_id") == len(expected)
            elif step == "replace":
                expected = expected[::2]
                table.replace(expected)
            elif step == "reopen":
                table = Table(Path(folder), Dropped)
            else:
                fresh = rows(made, int(step))
                made += int(step)
                expected = expected + fresh
                table.append(fresh)
            assert table.read() == expected
        assert table.compact("case_id") == len(expected)
        assert len(names(Path(folder))) == 1
