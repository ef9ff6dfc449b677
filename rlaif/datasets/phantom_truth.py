"""What is in each phantom study, as a table beside the data: findings with side, place, size and position."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rlaif.datasets.phantom_settings import PhantomSettings, split_of
from rlaif.datasets.phantom_study import PhantomStudy
from rlaif.reports.findings import Finding

TRUTH_FILE = "truth.parquet"
_TRUTH = pa.schema(
    {
        "study_id": pa.string(),
        "patient_id": pa.string(),
        "split": pa.string(),
        "findings": pa.list_(
            pa.struct(
                {
                    "name": pa.string(),
                    "side": pa.string(),
                    "location": pa.string(),
                    "size_mm": pa.float64(),
                    "severity": pa.string(),
                    "position_mm": pa.list_(pa.float64()),
                }
            )
        ),
    }
)


def truth_table(studies: Sequence[PhantomStudy], settings: PhantomSettings) -> pa.Table:
    """The truth of planned studies, a row for each."""
    rows = []
    for study in studies:
        findings = [
            {
                "name": one.name,
                "side": one.side,
                "location": one.location,
                "size_mm": one.finding.size_mm,
                "severity": one.severity,
                "position_mm": list(study.grid.to_world(one.centre)),
            }
            for one in study.findings
        ]
        patient = "_".join(study.study_id.split("_")[:2])
        split = split_of(study.study_id, settings)
        rows.append({"study_id": study.study_id, "patient_id": patient, "split": split, "findings": findings})
    return pa.Table.from_pylist(rows, schema=_TRUTH)


def positions_of(root: Path, study_id: str) -> list[tuple[Finding, tuple[float, float, float]]]:
    """The findings of one study with where each is seen best: mm in RAS, from the middle of the field.

    Raises FileNotFoundError where `root` holds no complete phantom set, and ValueError where it lacks the study.
    """
    for row in _read_truth(root):
        if row["study_id"] == study_id:
            return [(_finding(one), tuple(one["position_mm"])) for one in row["findings"]]
    raise ValueError(f"study {study_id!r} is not in {root / TRUTH_FILE}")


def truth_of(root: Path) -> dict[str, tuple[Finding, ...]]:
    """What is in each study of a generated set, by study id.

    Raises FileNotFoundError where `root` holds no complete phantom set.
    """
    return {row["study_id"]: tuple(_finding(one) for one in row["findings"]) for row in _read_truth(root)}


def _finding(row: dict[str, Any]) -> Finding:
    return Finding(row["name"], True, row["side"], row["location"], row["size_mm"], row["severity"])


def _read_truth(root: Path) -> list[dict[str, Any]]:
    path = root / TRUTH_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: the phantom set under {root} is not complete; call generate again")
    rows: list[dict[str, Any]] = pq.read_table(path, schema=_TRUTH).to_pylist()
    return rows


def labels_of(root: Path) -> dict[str, tuple[str, ...]]:
    """The labels of each study of a generated set by study id, as `name` or `name/side`."""
    return {study_id: tuple(one.label for one in findings) for study_id, findings in truth_of(root).items()}
