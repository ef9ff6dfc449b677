"""The built-in data: synthetic chest CTs with reports, in the CT-RATE folder layout.

`generate` writes NIfTI volumes, reports, metadata and labels as CT-RATE lays them out, and beside them
`truth.parquet`: what is in each volume, with side, place, size, severity and position.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from os import cpu_count
from pathlib import Path
from typing import Annotated, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from rlaif.datasets.phantom_anatomy import Anatomy, Structures, sample_anatomy
from rlaif.datasets.phantom_drawing import draw_chest
from rlaif.datasets.phantom_files import (
    volume_path,
    write_atomically,
    write_nifti,
    write_regions,
    write_settings,
    write_tables,
)
from rlaif.datasets.phantom_findings import FINDING_NAMES, PlacedFinding, place_findings, sample_names
from rlaif.datasets.phantom_regions import region_masks
from rlaif.datasets.phantom_shapes import Array, Grid, rotation_matrix
from rlaif.datasets.phantom_wording import PhantomReport, write_report
from rlaif.records import Split
from rlaif.reports.findings import Finding

GENERATOR_VERSION = 1
"""Part of the fingerprint: raised whenever the same settings would give other files."""

LEAST_FIELD_MM, MOST_FIELD_MM, MOST_VOXELS = 280.0, 600.0, 512**3
CHUNK = 16

Count = Annotated[int, Field(ge=0, le=1_000_000)]
Size = Annotated[int, Field(ge=8, le=1024)]
Spacing = Annotated[float, Field(gt=0.1, le=40)]


class PhantomSettings(BaseModel):
    """What to generate: patients for each split, the volumes' geometry (z, y, x), and which findings how often.

    `prevalence` is the mean number of findings of a study, `normal_fraction` the share of studies without any.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sft: Count = 1500
    align: Count = 1000
    heldout: Count = 500
    seed: int = Field(default=0, ge=0)
    shape: tuple[Size, Size, Size] = (32, 48, 48)
    spacing_mm: tuple[Spacing, Spacing, Spacing] = (10.0, 7.0, 7.0)
    findings: tuple[str, ...] = FINDING_NAMES
    prevalence: float = Field(default=3.0, ge=0)
    normal_fraction: float = Field(default=0.12, ge=0, le=1)
    noise_hu: float = Field(default=20.0, ge=0, le=500)
    regions: bool = False

    @field_validator("findings", mode="after")
    @classmethod
    def _known(cls, findings: tuple[str, ...]) -> tuple[str, ...]:
        lowered = tuple(name.lower() for name in findings)
        unknown = sorted(set(lowered) - set(FINDING_NAMES))
        if unknown:
            raise ValueError(f"unknown findings {unknown}; the phantom draws {list(FINDING_NAMES)}")
        return tuple(name for name in FINDING_NAMES if name in lowered)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        extents = [size * spacing for size, spacing in zip(self.shape, self.spacing_mm, strict=True)]
        if not all(LEAST_FIELD_MM <= extent <= MOST_FIELD_MM for extent in extents):
            raise ValueError(
                f"shape {self.shape} with spacing {self.spacing_mm} mm gives a field of {extents} mm (z, y, x); "
                f"a chest needs {LEAST_FIELD_MM:.0f} to {MOST_FIELD_MM:.0f} mm along each axis"
            )
        if int(np.prod(self.shape)) > MOST_VOXELS:
            raise ValueError(f"shape {self.shape} has more than {MOST_VOXELS} voxels")
        share = 1 - self.normal_fraction
        if self.normal_fraction < 1 and not share <= self.prevalence <= share * len(self.findings):
            raise ValueError(
                f"prevalence {self.prevalence} cannot be reached: with normal_fraction {self.normal_fraction} and "
                f"{len(self.findings)} findings it must lie from {share:.2f} to {share * len(self.findings):.2f}"
            )
        return self


def fingerprint(settings: PhantomSettings) -> str:
    """A short name for what these settings give, stable across processes and machines; 16 hex digits."""
    text = json.dumps({"generator": GENERATOR_VERSION, **settings.model_dump(mode="json")}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def study_ids(settings: PhantomSettings) -> list[str]:
    """The ids of all studies, in order: training patients first, then held-out ones."""
    train = [f"train_{number}_a_1" for number in range(1, settings.sft + settings.align + 1)]
    return train + [f"valid_{number}_a_1" for number in range(1, settings.heldout + 1)]


def split_of(study_id: str, settings: PhantomSettings) -> Split:
    """The split of a study, by its patient's number.

    Raises ValueError for an id that these settings do not generate.
    """
    match = re.fullmatch(r"(train|valid)_([1-9][0-9]*)_[a-z]+_[0-9]+", study_id)
    number = int(match[2]) if match else 0
    if match and match[1] == "valid" and number <= settings.heldout:
        return "heldout"
    if match and match[1] == "train" and number <= settings.sft + settings.align:
        return "sft" if number <= settings.sft else "align"
    raise ValueError(
        f"study {study_id!r} is not of this phantom set: it has train_1 to train_{settings.sft + settings.align} "
        f"and valid_1 to valid_{settings.heldout}"
    )


@dataclass(frozen=True)
class PhantomStudy:
    """One planned patient: everything about the study except its voxels."""

    study_id: str
    seed: tuple[int, ...]
    grid: Grid
    anatomy: Anatomy
    findings: tuple[PlacedFinding, ...]
    report: PhantomReport
    sex: str
    age: int


def plan_study(settings: PhantomSettings, study_id: str) -> PhantomStudy:
    """Decide a patient's anatomy, pose, findings and report from the seed and the study's id alone."""
    split_of(study_id, settings)
    prefix, number, *_ = study_id.split("_")
    seed = (settings.seed, int(prefix == "valid"), int(number))
    rng = np.random.default_rng(seed)
    angles, shift = rng.normal(0, (0.05, 0.03, 0.03)), rng.uniform((-6, -8, -6), (6, 8, 6))
    rotation = rotation_matrix(*np.clip(angles, -0.12, 0.12).tolist())
    grid = Grid(settings.shape, settings.spacing_mm, rotation, (float(shift[0]), float(shift[1]), float(shift[2])))
    anatomy = sample_anatomy(rng)
    names = sample_names(rng, settings.findings, settings.prevalence, settings.normal_fraction)
    findings = place_findings(rng, names, anatomy)
    return PhantomStudy(
        study_id=study_id,
        seed=seed,
        grid=grid,
        anatomy=anatomy,
        findings=tuple(findings),
        report=write_report(rng, findings, settings.findings),
        sex="FM"[rng.integers(2)],
        age=int(rng.integers(20, 90)),
    )


def draw_study(study: PhantomStudy, noise_hu: float) -> tuple[Array, Structures]:
    """Draw a planned patient: HU [depth, height, width] float32 with noise, and its structures."""
    volume, structures = draw_chest(study.grid, study.anatomy, study.findings, study.seed)
    noise = np.random.default_rng((*study.seed, 200)).standard_normal(volume.shape, dtype=np.float32)
    volume += noise * np.float32(noise_hu)
    return np.clip(volume, -1024, 3071), structures


def generate(
    root: Path,
    settings: PhantomSettings,
    progress: Callable[[int, int], None] | None = None,
    workers: int | None = None,
) -> None:
    """Write the whole data set under `root`, or what is missing of it; nothing where it is complete.

    `progress(done, total)` is called as studies are finished; `workers` processes draw (default: one for each
    CPU). The same settings give the same bytes whatever the number of workers. `truth.parquet` is written last.
    Raises ValueError where `root` holds data of other settings.
    """
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_settings(root, fingerprint(settings), settings.model_dump(mode="json"))
    if (root / "truth.parquet").is_file():
        return
    ids = study_ids(settings)
    chunks = [ids[start : start + CHUNK] for start in range(0, len(ids), CHUNK)]
    done = 0
    for finished in _draw_chunks(root, settings, chunks, workers or cpu_count() or 1):
        done += finished
        if progress is not None:
            progress(done, len(ids))
    studies = [plan_study(settings, study_id) for study_id in ids]
    write_tables(root, studies, settings)
    write_atomically(root / "truth.parquet", lambda path: pq.write_table(_truth_table(studies, settings), path))


def _draw_chunks(root: Path, settings: PhantomSettings, chunks: list[list[str]], workers: int) -> Iterator[int]:
    if workers == 1 or len(chunks) < 2 * workers:
        for chunk in chunks:
            yield _draw_chunk(root, settings, chunk)
        return
    with ProcessPoolExecutor(min(workers, len(chunks)), mp_context=get_context("spawn")) as pool:
        pending = [pool.submit(_draw_chunk, root, settings, chunk) for chunk in chunks]
        for future in as_completed(pending):
            yield future.result()


def _draw_chunk(root: Path, settings: PhantomSettings, ids: list[str]) -> int:
    """Draw and write the studies that are not there yet; returns how many the chunk has."""
    for study_id in ids:
        path = volume_path(root, study_id)
        if path.is_file():
            continue
        study = plan_study(settings, study_id)
        volume, structures = draw_study(study, settings.noise_hu)
        if settings.regions:
            write_regions(root, study, region_masks(study.grid, study.anatomy, structures))
        write_nifti(path, np.rint(volume).astype(np.int16), study.grid.affine)
    return len(ids)


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


def _truth_table(studies: list[PhantomStudy], settings: PhantomSettings) -> pa.Table:
    rows = []
    for study in studies:
        findings = [
            {
                "name": one.name,
                "side": one.side,
                "location": one.location,
                "size_mm": one.finding.size_mm,
                "severity": one.severity,
                "position_mm": None if one.centre is None else list(study.grid.to_world(one.centre)),
            }
            for one in study.findings
        ]
        patient = "_".join(study.study_id.split("_")[:2])
        split = split_of(study.study_id, settings)
        rows.append({"study_id": study.study_id, "patient_id": patient, "split": split, "findings": findings})
    return pa.Table.from_pylist(rows, schema=_TRUTH)


def truth_of(root: Path) -> dict[str, tuple[Finding, ...]]:
    """What is in each study of a generated set, by study id.

    Raises FileNotFoundError where `root` holds no complete phantom set.
    """
    path = root / "truth.parquet"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: the phantom set under {root} is not complete; call generate again")
    truth = {}
    for row in pq.read_table(path, schema=_TRUTH).to_pylist():
        truth[row["study_id"]] = tuple(
            Finding(one["name"], True, one["side"], one["location"], one["size_mm"], one["severity"])
            for one in row["findings"]
        )
    return truth


def labels_of(root: Path) -> dict[str, tuple[str, ...]]:
    """The labels of each study of a generated set by study id, as `name` or `name/side`."""
    return {study_id: tuple(one.label for one in findings) for study_id, findings in truth_of(root).items()}
