"""Which findings a phantom patient has, and where: sides, lobes, sizes, severities and positions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from rlaif.datasets.phantom_anatomy import Anatomy, PatientSide, air_space_distance, sign_of
from rlaif.datasets.phantom_shapes import Point
from rlaif.reports.findings import CT_RATE_LABELS, Finding, Severity, Side

FINDING_NAMES = tuple(label.lower() for label in CT_RATE_LABELS)
Lobe = Literal["upper lobe", "middle lobe", "lower lobe"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)

GRADED = {
    "arterial wall calcification",
    "cardiomegaly",
    "coronary artery wall calcification",
    "emphysema",
    "interlobular septal thickening",
    "pericardial effusion",
    "pleural effusion",
}
"""Findings that have a severity."""

LOBES: dict[str, tuple[tuple[PatientSide, Lobe], ...]] = {
    "bronchiectasis": (("right", "lower lobe"), ("left", "lower lobe"), ("right", "middle lobe")),
    "atelectasis": (("right", "lower lobe"), ("left", "lower lobe"), ("right", "middle lobe")),
    **dict.fromkeys(
        ("consolidation", "lung opacity", "lung nodule"),
        (
            ("right", "upper lobe"),
            ("right", "middle lobe"),
            ("right", "lower lobe"),
            ("left", "upper lobe"),
            ("left", "lower lobe"),
        ),
    ),
}
"""Findings of one lobe, with the lobes that may bear them; one lobe bears one of these findings at most."""

PAIRED: dict[str, Lobe | None] = {
    "pleural effusion": "lower lobe",
    "pulmonary fibrotic sequela": "upper lobe",
    "peribronchial thickening": None,
}
"""Findings of one side or both, with the lobe that they take up."""

BILATERAL_FRACTION = 0.25
SIZES_MM = {"lung nodule": (8, 35), "lymphadenopathy": (16, 32), "hiatal hernia": (35, 70)}
BLOB_RADIUS_MM = {"consolidation": (24.0, 32.0), "lung opacity": (26.0, 34.0), "bronchiectasis": (20.0, 24.0)}

# Boxes (low, high) in mm of the patient's frame for x on the right, y and z, from which a lobe's findings are placed.
_LOBE_BOXES: dict[Lobe, tuple[Point, Point]] = {
    "upper lobe": ((35, -15, 48), (85, 40, 95)),
    "middle lobe": ((45, 20, -50), (90, 55, -15)),
    "lower lobe": ((40, -60, -60), (95, -30, -5)),
}


@dataclass(frozen=True)
class PlacedFinding:
    """A finding of a phantom patient, with its centre and radius in mm of the patient's frame.

    Where a finding is spread over an organ, `centre` is where it is seen best (on the right where it is on both
    sides), and `radius` is 0.
    """

    name: str
    centre: Point
    side: Side | None = None
    location: str | None = None
    size_mm: int | None = None
    severity: Severity | None = None
    radius: float = 0.0

    @property
    def sides(self) -> tuple[PatientSide, ...]:
        """The sides it is drawn on; both where it has no side."""
        return (self.side,) if self.side == "left" or self.side == "right" else ("right", "left")

    @property
    def grade(self) -> int:
        """0 for mild, 1 for moderate (and for findings without severity), 2 for severe."""
        return SEVERITIES.index(self.severity) if self.severity else 1

    @property
    def finding(self) -> Finding:
        """The finding as a report would name it."""
        size = None if self.size_mm is None else float(self.size_mm)
        return Finding(self.name, True, self.side, self.location, size, self.severity)


def sample_names(
    rng: np.random.Generator, names: Sequence[str], prevalence: float, normal_fraction: float
) -> list[str]:
    """The names of one patient's findings: none with probability `normal_fraction`, `prevalence` on average."""
    if rng.random() < normal_fraction:
        return []
    mean = prevalence / (1 - normal_fraction)
    most = min(len(names), max(5, int(np.ceil(2 * mean - 1))))
    chance = (mean - 1) / (most - 1) if most > 1 else 0.0
    count = 1 + int(rng.binomial(most - 1, float(np.clip(chance, 0, 1))))
    chosen = set(rng.permutation(len(names))[:count].tolist())
    return [name for index, name in enumerate(names) if index in chosen]


def place_findings(rng: np.random.Generator, names: Sequence[str], anatomy: Anatomy) -> list[PlacedFinding]:
    """Give each finding its side, lobe, size, severity and centre, so that none hides another.

    A finding for which no lobe is left is dropped.
    """
    if "cardiomegaly" in names:
        anatomy = anatomy.with_heart(HEART_SCALES[2])
    placed, taken = [], set[tuple[PatientSide, Lobe]]()
    crowding = [*PAIRED, *LOBES]
    for name in sorted(names, key=lambda one: crowding.index(one) if one in crowding else -1):
        finding = _place(rng, name, anatomy, taken)
        if finding is not None:
            placed.append(finding)
    return sorted(placed, key=lambda one: FINDING_NAMES.index(one.name))


HEART_SCALES = (1.2, 1.32, 1.45)
"""How much larger the heart is in mild, moderate and severe cardiomegaly."""


def _place(
    rng: np.random.Generator, name: str, anatomy: Anatomy, taken: set[tuple[PatientSide, Lobe]]
) -> PlacedFinding | None:
    severity = SEVERITIES[rng.integers(3)] if name in GRADED else None
    size = int(rng.integers(SIZES_MM[name][0], SIZES_MM[name][1] + 1)) if name in SIZES_MM else None
    if name in PAIRED:
        return _place_paired(rng, name, anatomy, severity, taken)
    if name in LOBES:
        free = [place for place in LOBES[name] if place not in taken]
        if not free:
            return None
        place = free[rng.integers(len(free))]
        taken.add(place)
        return _place_in_lobe(rng, name, anatomy, *place, size)
    if name == "medical material":
        side: PatientSide = ("right", "left")[rng.integers(2)]
        front = anatomy.cage_depth * float(np.sqrt(1 - (70 / anatomy.cage_width) ** 2)) + 15
        return PlacedFinding(name, (sign_of(side) * 70.0, front, 84.0), side, "chest wall", radius=22.0)
    if name == "hiatal hernia":
        assert size is not None
        return PlacedFinding(name, (-2.0, -22.0, -66.0), size_mm=size, radius=size / 2)
    if name == "lymphadenopathy":
        assert size is not None
        return _place_nodes(rng, anatomy, size)
    location = {"emphysema": "upper lobe", "arterial wall calcification": "aorta"}.get(name)
    return PlacedFinding(name, _typical_centre(name, "right", anatomy), location=location, severity=severity)


def _place_paired(
    rng: np.random.Generator,
    name: str,
    anatomy: Anatomy,
    severity: Severity | None,
    taken: set[tuple[PatientSide, Lobe]],
) -> PlacedFinding | None:
    lobe = PAIRED[name]
    both = rng.random() < BILATERAL_FRACTION
    single: PatientSide = ("right", "left")[rng.integers(2)]
    side: Side = "bilateral" if both else single
    centre = _typical_centre(name, "right" if both else single, anatomy)
    location = "upper lobe" if lobe == "upper lobe" else None
    finding = PlacedFinding(name, centre, side, location, severity=severity)
    if lobe is not None:
        taken.update((one, lobe) for one in finding.sides)
    return finding


def _typical_centre(name: str, side: PatientSide, anatomy: Anatomy) -> Point:
    """Where a finding that is spread over an organ is seen best."""
    sign, (x, y, z) = sign_of(side), anatomy.heart_centre
    centres: dict[str, Point] = {
        "arterial wall calcification": anatomy.aorta_path[3],
        "cardiomegaly": (x, y, z),
        "coronary artery wall calcification": (x - 20, y + anatomy.heart_radii[1] * 0.8, z + 5),
        "emphysema": (sign * 55, 0.0, 70.0),
        "interlobular septal thickening": (sign * 75, 0.0, 5.0),
        "mosaic attenuation pattern": (sign * 60, -10.0, 10.0),
        "peribronchial thickening": (sign * 50, 0.0, anatomy.carina - 10),
        "pericardial effusion": (x, y, z),
        "pleural effusion": (sign * 60, 22 - anatomy.cage_depth, -60.0),
        "pulmonary fibrotic sequela": (sign * 48, -8.0, anatomy.apex - 28),
    }
    return centres[name]


def _place_nodes(rng: np.random.Generator, anatomy: Anatomy, size: int) -> PlacedFinding:
    if rng.random() < 0.5:
        centre = (23.0, -6.0, anatomy.carina + 18)
        return PlacedFinding("lymphadenopathy", centre, None, "mediastinum", size, radius=size / 2)
    side: PatientSide = ("right", "left")[rng.integers(2)]
    x, y, z = anatomy.hilum(side)
    centre = (x + sign_of(side) * size / 2, y, z - 4)
    return PlacedFinding("lymphadenopathy", centre, side, "hilum", size, radius=size / 2)


def _place_in_lobe(
    rng: np.random.Generator, name: str, anatomy: Anatomy, side: PatientSide, lobe: Lobe, size: int | None
) -> PlacedFinding:
    """Place a finding where the lung is deepest enough; a nodule for which there is no room is made smaller."""
    low, high = _LOBE_BOXES[lobe]
    points = rng.uniform(low, high, size=(64, 3)).astype(np.float32)
    points[:, 0] *= sign_of(side)
    depth = -air_space_distance(anatomy, side, points[:, 0], points[:, 1], points[:, 2])
    radius = size / 2 if size else 22.0
    fitting = np.flatnonzero(depth >= radius + 1.5)
    best = int(fitting[0]) if fitting.size else int(depth.argmax())
    if size is not None and not fitting.size:
        size = max(6, int(2 * (float(depth[best]) - 1.5)))
        radius = size / 2
    if name in BLOB_RADIUS_MM:
        radius = rng.uniform(*BLOB_RADIUS_MM[name])
    x, y, z = (float(value) for value in points[best])
    return PlacedFinding(name, (x, y, z), side, lobe, size, radius=radius)
