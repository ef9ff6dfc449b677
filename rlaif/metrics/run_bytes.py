"""What a run of some size keeps on disk and sends over the wire, from what one unit took in a finished run: rows of its
tables, features, weights, messages.
"""

import json
import pickle
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from rlaif.features import feature_bytes
from rlaif.files import RunError
from rlaif.judges.case import JudgedCase, JudgedReport
from rlaif.metrics.run_rates import RunRates
from rlaif.metrics.scale import Actors, Counts, Measured
from rlaif.models.settings import read_settings
from rlaif.plan_needs import policy_folders
from rlaif.records import Candidate, Comparison, HeldoutReport, Ingested, Judgement, Pair, Study
from rlaif.reports.prompts import Target, target_text
from rlaif.tables import PART, Table

# Cases whose messages are measured: they differ little.
MESSAGES = 200
# A header of safetensors that claims more is damaged.
HEADER_BYTES = 2**28


@dataclass(frozen=True)
class ByteCount:
    """Bytes of one unit, and how many units there are; `when` says how often they come."""

    what: str
    unit: str
    each: Measured
    units: float
    when: str

    @property
    def total(self) -> float | None:
        """Bytes of all units; None where one was not measured."""
        return None if self.each.value is None else self.each.value * self.units


def kept(rates: RunRates, counts: Counts) -> tuple[ByteCount, ...]:
    """What such a run keeps on disk."""
    run, last = rates.path, rates.path / rates.last
    records = {"candidates": Candidate, "judgements": Judgement, "comparisons": Comparison, "pairs": Pair}
    rows = {name: row_bytes(last / name, record, name) for name, record in records.items()}
    studies = row_bytes(run / "studies", Study, "studies")
    heldout = row_bytes(run / "heldout" / rates.last, HeldoutReport, "held-out reports")
    checkpoint = sum(path.stat().st_size for path in (last / "checkpoint").rglob("*") if path.is_file())
    policy = Measured(checkpoint, f"files of {rates.last}/checkpoint")
    fine_tunes, pretrains = rates.config.policy.path is None, rates.config.learner.pretrain is not None
    policies = policy_folders(counts.rounds, fine_tunes=fine_tunes, pretrains=pretrains)
    told = [
        ByteCount("feature store", "a study", features_of(rates), counts.studies, "once"),
        ByteCount("studies", "a study", studies, counts.studies, "once"),
        ByteCount("candidates", "a candidate", rows["candidates"], counts.candidates, "a round"),
        ByteCount("judgements", "a candidate", rows["judgements"], counts.candidates, "a round, each judge"),
        ByteCount("pairs", "a pair", rows["pairs"], counts.learnt, "a round"),
        ByteCount("held-out", "a report", heldout, counts.reports, "an evaluation"),
        ByteCount("policies", "a policy", policy, policies, "at most at once"),
    ]
    if rates.config.reinforcement:
        told = [one for one in told if one.what != "pairs"]
    if rows["comparisons"].value is not None:
        asked = counts.align * sum(one.questions_a_case for one in rates.judges if one.pairwise)
        told.insert(4, ByteCount("comparisons", "a question", rows["comparisons"], asked, "a round"))
    return tuple(told)


def sent(rates: RunRates, counts: Counts, fleets: Sequence[Actors]) -> tuple[ByteCount, ...]:
    """What goes over the network in a round: features from the shared file system, the rest between actors."""
    told = messages(rates.path, rates.last, rates.config.run.target)
    features, weights = features_of(rates), weight_bytes(rates)
    return (
        ByteCount("features, samplers", "a case", features, counts.align, "a round"),
        ByteCount("features, learners", f"a {rates.learns_from}", features, counts.learnt * passes(rates), "a round"),
        ByteCount("features, evaluation", "a report", features, counts.reports, "a round"),
        ByteCount("candidates to the controller", "a candidate", told["candidate"], counts.candidates, "a round"),
        ByteCount("reports to each judge", "a case", told["reports"], counts.align, "a round"),
        ByteCount("judgements back", "a candidate", told["judgement"], counts.candidates, "a round, each judge"),
        *(ByteCount(f"weights, {one.name}", "an engine", weights, one.samplers, "a round") for one in fleets),
    )


def passes(rates: RunRates) -> int:
    """How often the learners read a pair, with PPO a report, in a round: in every epoch, and before or beside the first
    for the reference, with a value head for its values too.
    """
    reinforcement = rates.config.reinforcement
    return rates.alignment.epochs + 1 + int(reinforcement is not None and reinforcement.advantage == "gae")


def row_bytes(folder: Path, record: type[Any], unit: str) -> Measured:
    """Bytes of a row of a compacted table on disk; none for an absent or empty table. Raises RunError as `Table`."""
    part = folder / PART
    rows = Table(folder, record).arrow([]).num_rows if part.is_file() else 0
    if not rows:
        return Measured(None, f"this run has no {unit}")
    return Measured(part.stat().st_size / rows, f"{part.stat().st_size:,} bytes on disk / {rows:,} {unit}")


def features_of(rates: RunRates) -> Measured:
    """Bytes that a study of the run takes in the feature store; where the store is gone, as the policy's sizes say.

    Raises RunError for a shard that is damaged.
    """
    if rates.bypasses_store:
        return Measured(None, "the encoder trains: nothing is kept, actors read the CTs")
    settings = read_settings(rates.path / rates.last / "checkpoint")
    if (encoder := settings.encoder) is None:
        return Measured(None, "the policy reads no images")
    ingested = Table(rates.path / "features", Ingested).arrow(["feature_key"])
    keys = {key for key in ingested["feature_key"].to_pylist() if key}
    # A study may stand in two shards after a kill.
    held: dict[str, int] = {}
    for shard in sorted(rates.config.cache.root.glob("features/*/shard-*.safetensors")):
        held |= {key: size for key, size in _bytes_by_key(shard).items() if key in keys}
    if held:
        total = sum(held.values())
        return Measured(total / len(held), f"{total:,} bytes in the shards / {len(held):,} studies")
    made_of = f"policy.json, the store is gone: {encoder.tokens:,} tokens x {encoder.hidden:,} values x 2 bytes"
    views = f" x {settings.views} views" if settings.views > 1 else ""
    return Measured(feature_bytes(1, settings), made_of + views)


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


def weight_bytes(rates: RunRates) -> Measured:
    """Bytes of the tensors that a weight sync carries, of the dtype that the last checkpoint holds."""
    folder, with_encoder = rates.path / rates.last / "checkpoint", rates.bypasses_store
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
    by_case = groupby(Table(run / name / "candidates", Candidate).iterate(), key=lambda one: one.case_id)
    cases = [list(group) for _, group in islice(by_case, MESSAGES)]
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
