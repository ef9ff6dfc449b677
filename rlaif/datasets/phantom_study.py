"""One phantom patient: planned from the seed, then drawn."""

from dataclasses import dataclass

import numpy as np

from rlaif.datasets.phantom_anatomy import Anatomy, Structures, sample_anatomy
from rlaif.datasets.phantom_drawing import draw_chest
from rlaif.datasets.phantom_findings import PlacedFinding, place_findings, sample_names
from rlaif.datasets.phantom_settings import PhantomSettings, split_of
from rlaif.datasets.phantom_shapes import Array, Grid, rotation_matrix
from rlaif.datasets.phantom_wording import PhantomReport, write_report


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
