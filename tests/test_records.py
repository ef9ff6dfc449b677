"""Records to tables and back, whatever is null."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlaif.records import (
    Candidate,
    Case,
    Comparison,
    Dropped,
    HeldoutReport,
    Ingested,
    Judgement,
    Pair,
    Quarantined,
    Study,
    records_of,
    schema_of,
    table_of,
)

STUDY = Study(
    "s1",
    "p1",
    "test",
    "align",
    "a.nii",
    "Clear — no «effusion».",
    None,
    {"lung": ("m.nii", "t.nii#1,2")},
    ("nodule", "effusion/left"),
    {"lung": "Clear."},
    (1.0, -1024.0),
    (1.5, 0.7, 0.7),
)
CANDIDATE = Candidate(
    "c1.0.0", "c1", "s1", 0, 0, 1, "Describe.", "Clear.\nNo effusion.", (5, 70_000, 2), (-0.25, -1.5, -1e-7), "stop",
    True, 3, "abc", "key", 2**31, datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
)  # fmt: skip
JUDGEMENT = Judgement(
    "c1.0.0.rules", "c1.0.0", "c1", 0, "rules", "1", 0.5, 0.0, 1.0, None, "one of two", {"matched": 1, "omitted": 1},
    {"official": 0.25}, None, False, 0.01, 0, 0, 0.0,
)  # fmt: skip
RECORDS: list[Any] = [
    STUDY,
    Study("s2", "p2", "test", "sft"),
    Quarantined("s3", "b.nii", "ingest", "torn"),
    Ingested("s1", "key"),
    Case("c1", "s1", "p1", "Describe.", None, None, None),
    Case("c1", "s1", "p1", "Describe.", "Clear.", "Clear.", "key", ()),
    CANDIDATE,
    replace(CANDIDATE, token_ids=(), logprobs=(), feature_key=None, usable=False),
    JUDGEMENT,
    replace(JUDGEMENT, score=None, failure="no_reference", counts=None, scores=None),
    Comparison("k", "c1", 0, "llm_parser", "c1.0.0", "c1.0.1", "ab", "tie", None, "Better: tie"),
    Comparison("l", "c1", 0, "llm_parser", "c1.0.0", "c1.0.1", "ba", None, "parse", None),
    Pair("p", "c1", 0, "strategy1", "Describe.", "good", "bad", None, "c1.0.1", None, 0.25, None, "rules"),
    Dropped("c2", 0, "all good"),
    HeldoutReport("c1", "s1", "p1", True, None, "Clear.", "stop", 1, {"report_words": 1.0}),
    HeldoutReport("c1", "s1", "p1", False, "Clear.", "", "length", 1, {}),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_comes_back_from_parquet_as_it_was(tmp_path: Path, record: Any) -> None:
    pq.write_table(table_of(type(record), [record]), tmp_path / "t.parquet")
    assert records_of(type(record), pq.read_table(tmp_path / "t.parquet")) == [record]


def test_the_schema_is_that_of_the_design() -> None:
    schema = schema_of(Candidate)
    assert " ".join(schema.names) == (
        "candidate_id case_id study_id round index attempt prompt text token_ids logprobs finish_reason usable "
        "policy_version weights_checksum feature_key seed sampled_at"
    )
    assert schema.field("sampled_at").type == pa.timestamp("us", tz="UTC")
    assert schema.field("feature_key").nullable and not schema.field("text").nullable
    assert " ".join(schema_of(Judgement).names) == (
        "judgement_id candidate_id case_id round judge judge_version score scale_low scale_high failure explanation "
        "counts scores raw cached latency_s prompt_tokens completion_tokens cost_usd"
    )
    assert {"prompt", "chosen", "rejected"} <= set(schema_of(Pair).names)


def test_no_records_are_an_empty_table_with_all_columns() -> None:
    table = table_of(Study, [])
    assert table.num_rows == 0 and table.schema == schema_of(Study)
    assert records_of(Study, table) == []


def test_a_column_that_the_record_lacks_is_an_error() -> None:
    table = table_of(Dropped, [Dropped("c", 0, "x")]).append_column("extra", pa.array([1]))
    with pytest.raises(KeyError, match="extra"):
        records_of(Dropped, table)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": None}, "exactly one of score and failure must be set"),
        ({"failure": "parse"}, "exactly one of score and failure must be set"),
        ({"score": 1.5}, r"score 1\.5 is outside 0\.0 to 1\.0"),
        ({"score": float("nan")}, "score nan is outside"),
    ],
)
def test_a_judgement_has_a_score_on_its_scale_or_a_failure(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"judgement c1.0.0.rules: {message}"):
        replace(JUDGEMENT, **change)
