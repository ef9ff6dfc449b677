"""What a finished run keeps and sends, in bytes of one unit: rows of its tables, features, weights, messages."""

import json
import pickle
from collections.abc import Iterable, Iterator
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from rlaif.files import RunError
from rlaif.judges.case import JudgedCase, JudgedReport
from rlaif.metrics.measured import Measured
from rlaif.models.settings import PolicySettings
from rlaif.records import Candidate, Comparison, HeldoutReport, Ingested, Judgement, Pair, Study
from rlaif.reports.prompts import Target, target_text
from rlaif.tables import PART, Table

# Cases whose messages are measured: they differ little.
MESSAGES = 200
# A header of safetensors that claims more is damaged.
HEADER_BYTES = 2**28


def row_bytes(folder: Path, record: type[Any], unit: str) -> Measured:
    """Bytes of a row of a compacted table on disk; none for an absent or empty table. Raises RunError as `Table`."""
    part = folder / PART
    rows = Table(folder, record).arrow([]).num_rows if part.is_file() else 0
    if not rows:
        return Measured(None, f"this run has no {unit}")
    return Measured(part.stat().st_size / rows, f"{part.stat().st_size:,} bytes on disk / {rows:,} {unit}")


def round_rows(folder: Path) -> dict[str, Measured]:
    """Bytes of the rows of a round's tables, by table."""
    records = {"candidates": Candidate, "judgements": Judgement, "comparisons": Comparison, "pairs": Pair}
    return {name: row_bytes(folder / name, record, name) for name, record in records.items()}


def heldout_rows(folder: Path) -> Measured:
    """Bytes of a row of an evaluation's table."""
    return row_bytes(folder, HeldoutReport, "held-out reports")


def feature_bytes_stored(run: Path, cache: Path, settings: PolicySettings) -> Measured:
    """Bytes that a study of the run takes in the feature store; where the store is gone, as the policy's sizes say.

    Raises RunError for a shard that is damaged.
    """
    encoder = settings.encoder
    if encoder is None:
        return Measured(None, "the policy reads no images")
    keys = {key for key in Table(run / "features", Ingested).arrow(["feature_key"])["feature_key"].to_pylist() if key}
    # A study may stand in two shards after a kill.
    held: dict[str, int] = {}
    for shard in sorted((cache / "features").glob("*/shard-*.safetensors")):
        held |= {key: size for key, size in _bytes_by_key(shard).items() if key in keys}
    if held:
        total = sum(held.values())
        return Measured(total / len(held), f"{total:,} bytes in the shards / {len(held):,} studies")
    made_of = f"policy.json, the store is gone: {encoder.tokens:,} tokens x {encoder.hidden:,} values x 2 bytes"
    views = settings.views
    return Measured(
        views * encoder.tokens * encoder.hidden * 2.0, f"{made_of} x {views} views" if views > 1 else made_of
    )


def _bytes_by_key(shard: Path) -> dict[str, int]:
    """The bytes of each study of a shard, its regions and their masks included; read from the header alone."""
    sizes: dict[str, int] = {}
    for name, told in header_of(shard).items():
        begin, end = told["data_offsets"]
        key = name.partition("/")[0]
        sizes[key] = sizes.get(key, 0) + end - begin
    return sizes


def header_of(path: Path) -> dict[str, Any]:
    """What a safetensors file says of its tensors, by name; raises RunError where it is damaged."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            if length > HEADER_BYTES:
                raise ValueError(f"a header of {length} bytes")
            header: dict[str, Any] = json.loads(file.read(length))
        except ValueError as error:
            raise RunError(
                f"{path} is damaged ({error}): remove it, and start its run again to have it made"
            ) from error
    header.pop("__metadata__", None)
    return header


def policy_bytes(folder: Path) -> Measured:
    """Bytes of a policy's folder."""
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return Measured(size, f"files of {folder.parent.name}/{folder.name}")


def weight_bytes(folder: Path, *, with_encoder: bool) -> Measured:
    """Bytes of the tensors that a weight sync carries, of the dtype that a policy's folder holds."""
    parts = ["connector.safetensors", *(["encoder.safetensors"] if with_encoder else [])]
    files = [*sorted((folder / "language_model").glob("*.safetensors")), *(folder / name for name in parts)]
    size = sum(
        told["data_offsets"][1] - told["data_offsets"][0]
        for path in files
        if path.is_file()
        for told in header_of(path).values()
    )
    return Measured(size, "tensors of language model, connector" + (", encoder" if with_encoder else ""))


def messages(run: Path, name: str, target: Target) -> dict[str, Measured]:
    """Bytes of what goes through Ray: `candidate` and `judgement` a row, `reports` of a case on their way to a judge.

    Pickled as Ray does it, without its envelopes; of the round's first cases.
    """
    texts = {one.study_id: target_text(one, target) for one in Table(run / "studies", Study).read()}
    cases = list(islice(_by_case(Table(run / name / "candidates", Candidate).iterate()), MESSAGES))
    candidates = sum(len(case) for case in cases)
    judgements = list(islice(Table(run / name / "judgements", Judgement).iterate(), candidates))
    asked = [
        JudgedCase(
            case[0].case_id,
            texts.get(case[0].study_id),
            tuple(JudgedReport(one.candidate_id, one.text) for one in case),
        )
        for case in cases
    ]
    return {
        "candidate": _pickled(cases, candidates, "candidates"),
        "reports": _pickled([asked], len(asked), "cases"),
        "judgement": _pickled([judgements], len(judgements), "judgements"),
    }


def _pickled(batches: Iterable[Any], number: int, unit: str) -> Measured:
    if not number:
        return Measured(None, f"this run has no {unit}")
    size = sum(len(pickle.dumps(batch, protocol=5)) for batch in batches)
    return Measured(size / number, f"{size:,} bytes pickled / {number:,} {unit}")


def _by_case(candidates: Iterable[Candidate]) -> Iterator[list[Candidate]]:
    return (list(group) for _, group in groupby(candidates, key=lambda one: one.case_id))
