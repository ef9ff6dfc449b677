"""The records of a run: frozen dataclasses and the Arrow schemas derived from them.

Each record is one row of a Parquet table of the run folder. `schema_of` gives the table's
schema, `table_of` and `records_of` go from records to a table and back.
"""

import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cache
from typing import Any, Literal, TypeVar

import pyarrow as pa

Record = TypeVar("Record")
Split = Literal["sft", "align", "heldout"]
Failure = Literal[
    "transport",
    "rate_limit",
    "timeout",
    "refusal",
    "parse",
    "budget",
    "no_reference",
    "invalid_candidate",
    "abstained",
    "blocked",
]


@dataclass(frozen=True)
class Study:
    """One CT examination with its report, or a report alone for text-only policies.

    `volume` is where it lies: a path or an `s3://` address of a file (NIfTI, NRRD, MHA) or of the folder of a DICOM
    series, with `#SeriesInstanceUID` behind it where the folder holds several. `rescale` (slope, intercept to HU) and
    `spacing_mm` (z, y, x) are what the data set's tables say where its files do not. `regions` maps a region's name to
    its masks, each a file, or `file#1,2` for these labels of a label map; `region_reports` to its sentences. `labels`
    are the findings known to be present, written as `name` or `name/side`; None where nobody labelled the study.
    """

    study_id: str
    patient_id: str
    source: str
    split: Split
    volume: str | None = None
    findings: str | None = None
    impression: str | None = None
    regions: dict[str, tuple[str, ...]] | None = None
    labels: tuple[str, ...] | None = None
    region_reports: dict[str, str] | None = None
    rescale: tuple[float, float] | None = None
    spacing_mm: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Quarantined:
    """A study that could not be read or encoded, with the stage and the reason."""

    study_id: str
    path: str
    stage: str
    reason: str


@dataclass(frozen=True)
class Ingested:
    """A study whose encoder features are in the feature store under `feature_key`.

    The key is None where volumes were only read and put through the recipe. `remarks` are what a person should know
    of a volume that is usable; the times are seconds of reading, recipe and encoding, 0 for what was there before.
    `regions` are those that a region-guided policy can be asked for; None where none were read.
    """

    study_id: str
    feature_key: str | None
    remarks: tuple[str, ...] = ()
    read_s: float = 0.0
    recipe_s: float = 0.0
    encode_s: float = 0.0
    regions: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Case:
    """A study with the prompt that is put to the policy, and its target text (None: no reference).

    `answer` is the target as the policy should write it, with the structure that its reports have.
    """

    case_id: str
    study_id: str
    patient_id: str
    prompt: str
    target: str | None
    answer: str | None
    feature_key: str | None
    labels: tuple[str, ...] | None = None


# The `finish_reason` of a report without tokens: its prompt left no room for any.
NOT_WRITTEN = "prompt_too_long"


@dataclass(frozen=True)
class Candidate:
    """One report sampled by the policy for a case; `logprobs[i]` belongs to `token_ids[i]`."""

    candidate_id: str
    case_id: str
    study_id: str
    round: int
    index: int
    attempt: int
    prompt: str
    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish_reason: str
    usable: bool
    policy_version: int
    weights_checksum: str
    feature_key: str | None
    seed: int
    sampled_at: datetime


@dataclass(frozen=True)
class Judgement:
    """One judge's verdict on one candidate: a score within its scale, or a named failure.

    `scores` are further scores by name, such as the official one of GREEN beside the strict one.
    """

    judgement_id: str
    candidate_id: str
    case_id: str
    round: int
    judge: str
    judge_version: str
    score: float | None
    scale_low: float
    scale_high: float
    failure: Failure | None
    explanation: str
    counts: dict[str, int] | None
    scores: dict[str, float] | None
    raw: str | None
    cached: bool
    latency_s: float
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float

    def __post_init__(self) -> None:
        if (self.score is None) == (self.failure is None):
            raise ValueError(f"judgement {self.judgement_id}: exactly one of score and failure must be set")
        if self.score is not None and not self.scale_low <= self.score <= self.scale_high:
            raise ValueError(
                f"judgement {self.judgement_id}: score {self.score} is outside {self.scale_low} to {self.scale_high}"
            )


@dataclass(frozen=True)
class Comparison:
    """What a pairwise judge said of two candidates in one order, or the named failure.

    `order` is `ab` where candidate_a was shown first; `verdict` names the better of the two, whatever the order.
    """

    comparison_id: str
    case_id: str
    round: int
    judge: str
    candidate_a: str
    candidate_b: str
    order: Literal["ab", "ba"]
    verdict: Literal["a", "b", "tie"] | None
    failure: Failure | None
    raw: str | None

    def __post_init__(self) -> None:
        if (self.verdict is None) == (self.failure is None):
            raise ValueError(f"comparison {self.comparison_id}: exactly one of verdict and failure must be set")


@dataclass(frozen=True)
class Pair:
    """A case with a chosen and a rejected report; a null candidate id stands for the reference report."""

    pair_id: str
    case_id: str
    round: int
    strategy: str
    prompt: str
    chosen: str
    rejected: str
    chosen_candidate_id: str | None
    rejected_candidate_id: str | None
    chosen_score: float | None
    rejected_score: float | None
    margin: float | None
    judge: str


@dataclass(frozen=True)
class Dropped:
    """A case that gave no pair, with the reason."""

    case_id: str
    round: int
    reason: str


@dataclass(frozen=True)
class HeldoutReport:
    """One greedy report on a held-out case with its metrics.

    `control` marks the blind control: the report was written from another patient's features.
    A metric that does not apply to the case is absent from `metrics`.
    """

    case_id: str
    study_id: str
    patient_id: str
    control: bool
    reference: str | None
    text: str
    finish_reason: str
    policy_version: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class Outage:
    """A process or a node that was lost while a run went on, and what that cost.

    `repeated` are the units of work that had been begun and were done again; `seconds` went by until the place was
    filled again, and for learners those of the work that was thrown away too. Null: nobody knows, as of a node, whose
    processes have rows of their own.
    """

    what: Literal["node", "sampler", "judge", "learners", "encoder"]
    name: str
    reason: str
    repeated: int | None
    unit: str
    seconds: float | None
    at: datetime


def _arrow_type(annotation: Any) -> tuple[pa.DataType, bool]:
    """The Arrow type of a field's annotation, and whether it may be null."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (types.UnionType, typing.Union):
        inner = [argument for argument in arguments if argument is not type(None)]
        return _arrow_type(inner[0])[0], True
    if origin is Literal:
        return pa.string(), False
    if origin is tuple:
        return pa.list_(_arrow_type(arguments[0])[0]), False
    if origin is dict:
        return pa.map_(_arrow_type(arguments[0])[0], _arrow_type(arguments[1])[0]), False
    plain = {
        str: pa.string(),
        int: pa.int64(),
        float: pa.float64(),
        bool: pa.bool_(),
        datetime: pa.timestamp("us", tz="UTC"),
    }
    return plain[annotation], False


@cache
def schema_of(record: type) -> pa.Schema:
    """The Arrow schema of a record class."""
    hints = typing.get_type_hints(record)
    columns = []
    for field in fields(record):
        arrow_type, nullable = _arrow_type(hints[field.name])
        columns.append(pa.field(field.name, arrow_type, nullable=nullable))
    return pa.schema(columns)


def table_of(record: type, records: Iterable[Any]) -> pa.Table:
    """A table with one row for each record, in the record class's schema."""
    names = schema_of(record).names
    # `asdict` would copy every token: half a millisecond for one candidate.
    rows = [{name: getattr(one, name) for name in names} for one in records]
    return pa.Table.from_pylist(rows, schema=schema_of(record))


def records_of(record: type[Record], table: pa.Table) -> list[Record]:
    """The records of a table; columns that the class lacks are an error."""
    hints = typing.get_type_hints(record)

    def restore(name: str, value: Any) -> Any:
        if value is None:
            return None
        text = str(hints[name])
        if "dict[" in text:
            return {key: tuple(one) if isinstance(one, list) else one for key, one in value}
        return tuple(value) if "tuple[" in text else value

    return [record(**{name: restore(name, value) for name, value in row.items()}) for row in table.to_pylist()]
