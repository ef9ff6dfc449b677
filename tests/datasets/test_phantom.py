"""The phantom: true volumes, true reports, the same bytes every time."""

import csv
import hashlib
import json
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from pydantic import ValidationError

from rlaif.datasets.phantom import (
    PhantomSettings,
    fingerprint,
    generate,
    labels_of,
    plan_study,
    positions_of,
    split_of,
    study_ids,
    truth_of,
)
from rlaif.datasets.phantom_anatomy import Anatomy, sample_anatomy
from rlaif.datasets.phantom_drawing import draw_chest
from rlaif.datasets.phantom_findings import FINDING_NAMES, PlacedFinding, place_findings
from rlaif.datasets.phantom_shapes import Canvas, Grid, rotation_matrix
from rlaif.datasets.registry import load_phantom
from rlaif.datasets.settings import PhantomDataSettings
from rlaif.datasets.study_table import DatasetError
from rlaif.reports.findings import CT_RATE_LABELS
from rlaif.reports.phrases import sentences_of
from rlaif.reports.regions import REGIONS
from rlaif.volumes.volume import read_volume

SMALL = PhantomSettings(sft=5, align=4, heldout=3, seed=11)
GRID = Grid((32, 48, 48), (10.0, 7.0, 7.0), rotation_matrix(0.06, -0.04, 0.03), (5.0, -6.0, 4.0))
SIDED = (
    "medical material",
    "atelectasis",
    "lung nodule",
    "lung opacity",
    "pulmonary fibrotic sequela",
    "pleural effusion",
    "peribronchial thickening",
    "consolidation",
    "bronchiectasis",
    "lymphadenopathy",
)


def placed(name: str, seed: int) -> tuple[Anatomy, PlacedFinding]:
    rng = np.random.default_rng(seed)
    anatomy = sample_anatomy(rng)
    return anatomy, place_findings(rng, [name], anatomy)[0]


def with_and_without(grid: Grid, anatomy: Anatomy, finding: PlacedFinding) -> tuple[np.ndarray, np.ndarray]:
    return draw_chest(grid, anatomy, [finding], (7, 0, 1))[0], draw_chest(grid, anatomy, [], (7, 0, 1))[0]


def world_of(grid: Grid) -> np.ndarray:
    """RAS coordinates [depth, height, width, 3] by the affine that is written to files."""
    z, y, x = np.indices(grid.shape)
    return np.stack([x, y, z, np.ones_like(x)], axis=-1) @ grid.affine[:3].T


def hu_at(volume: np.ndarray, grid: Grid, point: tuple[float, float, float]) -> float:
    index = np.linalg.inv(grid.affine) @ [*grid.to_world(point), 1.0]
    x, y, z = np.rint(index[:3]).astype(int)
    return float(volume[z, y, x])


def files_of(root: Path) -> dict[str, str]:
    files = [path for path in sorted(root.rglob("*")) if path.is_file()]
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("phantom")
    generate(root, SMALL, workers=1)
    return root


@pytest.mark.parametrize("name", SIDED)
def test_a_finding_lies_on_the_side_that_its_report_names(name: str) -> None:
    sides = set()
    for seed in range(12):
        anatomy, finding = placed(name, seed)
        if finding.side not in ("left", "right") or finding.side in sides:
            continue
        sides.add(finding.side)
        present, absent = with_and_without(GRID, anatomy, finding)
        change = np.abs(present - absent)
        right = float((change * world_of(GRID)[..., 0]).sum() / change.sum())
        assert (right > 12) if finding.side == "right" else (right < -12)
    assert sides == {"left", "right"}


@pytest.mark.parametrize("name", FINDING_NAMES)
def test_every_finding_can_be_seen_at_demo_resolution(name: str) -> None:
    for seed in range(4):
        anatomy, finding = placed(name, seed)
        present, absent = with_and_without(GRID, anatomy, finding)
        # The sum of changes within a window of 1400 HU; a nodule of 8 mm fills half a voxel.
        shown = np.abs(np.clip(present, -1000, 400) - np.clip(absent, -1000, 400)).sum()
        assert shown > (500 if name == "lung nodule" else 4000), (seed, finding)


@pytest.mark.parametrize("name", ["lung nodule", "lung opacity", "consolidation", "atelectasis", "hiatal hernia"])
def test_the_truth_says_where_a_focal_finding_is(name: str) -> None:
    for seed in range(6):
        anatomy, finding = placed(name, seed)
        present, absent = with_and_without(GRID, anatomy, finding)
        change = np.abs(present - absent)[..., None]
        centre = (change * world_of(GRID)).sum((0, 1, 2)) / change.sum()
        assert np.linalg.norm(centre - GRID.to_world(finding.centre)) < 20, finding


def test_tissues_have_their_hounsfield_units() -> None:
    anatomy = replace(sample_anatomy(np.random.default_rng(0)), lung_hu=-850.0)
    volume, _ = draw_chest(GRID, anatomy, [], (1,))
    assert volume[16, 0, 0] == -1000
    assert hu_at(volume, GRID, (75.0, 0.0, 20.0)) == pytest.approx(-850, abs=30)
    assert hu_at(volume, GRID, anatomy.heart_centre) == pytest.approx(45, abs=2)
    assert hu_at(volume, GRID, (60.0, 10.0, -110.0)) == pytest.approx(60, abs=5)
    assert hu_at(volume, GRID, (0.0, anatomy.spine_y, 0.0)) > 200
    assert hu_at(volume, GRID, (0.0, -5.0, 90.0)) < -700


@pytest.mark.parametrize(
    ("name", "hu", "tolerance"), [("lung nodule", 50, 5), ("consolidation", 35, 25), ("lung opacity", -520, 60)]
)
def test_focal_findings_have_their_hounsfield_units(name: str, hu: float, tolerance: float) -> None:
    finding = PlacedFinding(name, (75.0, -20.0, 10.0), "right", "lower lobe", 30, radius=30.0)
    volume, _ = draw_chest(GRID, sample_anatomy(np.random.default_rng(0)), [finding], (1,))
    assert hu_at(volume, GRID, finding.centre) == pytest.approx(hu, abs=tolerance)


def test_an_effusion_is_fluid_at_the_back_and_grows_with_its_severity() -> None:
    anatomy = sample_anatomy(np.random.default_rng(3))
    volumes = []
    for severity in ("mild", "moderate", "severe"):
        finding = PlacedFinding("pleural effusion", (60.0, 22 - anatomy.cage_depth, -60.0), "right", severity=severity)
        present, absent = with_and_without(GRID, anatomy, finding)
        change = np.abs(present - absent)
        volumes.append(int((change > 400).sum()))
        assert hu_at(present, GRID, finding.centre) == pytest.approx(8, abs=25)
        _, anterior, superior = (change[..., None] * world_of(GRID)).sum((0, 1, 2)) / change.sum()
        assert anterior < -15 and superior < 0
    assert volumes[0] > 60
    assert volumes[1] > 1.4 * volumes[0] and volumes[2] > 1.3 * volumes[1]


@pytest.mark.parametrize("severity", ["mild", "severe"])
def test_cardiomegaly_scales_the_heart(severity: str) -> None:
    anatomy = sample_anatomy(np.random.default_rng(4))
    finding = PlacedFinding("cardiomegaly", anatomy.heart_centre, severity=severity)
    _, large = draw_chest(GRID, anatomy, [finding], (1,))
    _, normal = draw_chest(GRID, anatomy, [], (1,))
    # The diaphragm limits growth downwards, so less than the cube of the scale is reached.
    low, high = {"mild": (1.3, 1.73), "severe": (1.9, 3.05)}[severity]
    assert low < large.heart.sum() / normal.heart.sum() < high


@pytest.mark.parametrize("size", [8, 14, 35])
@pytest.mark.parametrize("spacing", [(10.0, 7.0, 7.0), (5.0, 3.5, 3.5), (2.0, 2.0, 2.0)])
def test_a_sphere_takes_up_its_volume_at_any_resolution(size: int, spacing: tuple[float, float, float]) -> None:
    shape = tuple(int(80 / one) for one in spacing)
    grid = Grid((shape[0], shape[1], shape[2]), spacing, rotation_matrix(0.1, 0.05, 0.02), (1.3, -2.1, 0.7))
    canvas = Canvas(grid, np.zeros(grid.shape, dtype=np.float32))
    canvas.ellipsoid((3.0, -4.0, 2.0), (size / 2, size / 2, size / 2), 1.0)
    # A ball with an edge of w mm has (1 + w²/d²) times the volume of a sharp one; w is 3.5 mm at most.
    sharp = np.pi / 6 * size**3
    assert canvas.volume.sum() * np.prod(spacing) == pytest.approx(sharp, rel=0.05 + (3.5 / size) ** 2)


def test_a_drawn_nodule_has_the_size_of_the_truth() -> None:
    grid = Grid((100, 105, 105), (3.2, 3.2, 3.2))
    checked = 0
    for seed in (1, 2, 5):
        anatomy, finding = placed("lung nodule", seed)
        assert finding.size_mm is not None
        present, absent = with_and_without(grid, anatomy, finding)
        contrast = 50.0 - anatomy.lung_hu
        diameter = np.cbrt(6 / np.pi * np.abs(present - absent).sum() / contrast * 3.2**3)
        assert diameter == pytest.approx(finding.size_mm, rel=0.08)
        checked += 1
    assert checked == 3


def test_the_folder_is_laid_out_as_ct_rate(data: Path) -> None:
    volume = data / "dataset/train/train_2/train_2_a/train_2_a_1.nii.gz"
    image = nibabel.load(volume)
    assert image.shape == (48, 48, 32) and image.get_data_dtype() == np.int16
    assert nibabel.aff2axcodes(image.affine) == ("L", "P", "S")
    assert image.header.get_zooms() == pytest.approx((7, 7, 10))
    assert (data / "dataset/valid/valid_3/valid_3_a/valid_3_a_1.nii.gz").is_file()
    reports = rows_of(data / "dataset/radiology_text_reports/train_reports.csv")
    assert [row["VolumeName"] for row in reports] == [f"train_{number}_a_1.nii.gz" for number in range(1, 10)]
    assert set(reports[0]) == {
        "VolumeName",
        "ClinicalInformation_EN",
        "Technique_EN",
        "Findings_EN",
        "Impressions_EN",
    }
    metadata = rows_of(data / "dataset/metadata/validation_metadata.csv")[0]
    assert metadata["XYSpacing"] == "[7.0, 7.0]" and metadata["ZSpacing"] == "10.0"
    assert (metadata["RescaleSlope"], metadata["RescaleIntercept"]) == ("1", "0")
    assert (metadata["Rows"], metadata["NumberofSlices"]) == ("48", "32")
    assert not [path for path in data.rglob(".*")]


def test_the_written_volume_reads_back_as_it_was_drawn(data: Path) -> None:
    volume = read_volume(data / "dataset/train/train_1/train_1_a/train_1_a_1.nii.gz")
    assert volume.voxels.shape == (32, 48, 48) and volume.spacing_mm == (10.0, 7.0, 7.0)
    study = plan_study(SMALL, "train_1_a_1")
    drawn, _ = draw_chest(study.grid, study.anatomy, study.findings, study.seed)
    difference = volume.voxels - np.clip(drawn, -1024, 3071)
    assert np.std(difference[drawn > -900]) == pytest.approx(20, rel=0.05)


def test_labels_and_truth_agree(data: Path) -> None:
    truth, labels = truth_of(data), labels_of(data)
    assert list(truth) == study_ids(SMALL)
    for name in ("train", "valid"):
        for row in rows_of(data / f"dataset/multi_abnormality_labels/{name}_predicted_labels.csv"):
            study_id = row.pop("VolumeName").removesuffix(".nii.gz")
            assert tuple(row) == CT_RATE_LABELS
            marked = {label.lower() for label, value in row.items() if value == "1"}
            assert marked == {finding.name for finding in truth[study_id]}
            assert labels[study_id] == tuple(finding.label for finding in truth[study_id])
    with_position = [(one, point) for study in truth for one, point in positions_of(data, study)]
    assert all(point[0] > 0 for one, point in with_position if one.side == "right")
    assert all(point[0] < 0 for one, point in with_position if one.side == "left")


def test_reports_state_size_severity_side_and_lobe_of_the_truth() -> None:
    settings = PhantomSettings(seed=3)
    words, vocabulary, counts, normal = [], set(), [], 0
    for study_id in study_ids(settings)[:400]:
        study = plan_study(settings, study_id)
        text = study.report.findings.lower()
        words.append(len(text.split()))
        vocabulary.update(re.findall(r"[a-z-]+", text + study.report.impression.lower()))
        counts.append(len(study.findings))
        normal += study.report.impression == "No acute cardiopulmonary abnormality."
        for finding in study.findings:
            assert finding.severity is None or finding.severity in text
            assert finding.side is None or ("both" if finding.side == "bilateral" else finding.side) in text.replace(
                "bilateral", "both"
            )
            assert (
                finding.size_mm is None or f"{finding.size_mm} mm" in text or f"{finding.size_mm / 10:.1f} cm" in text
            )
    assert min(words) >= 30 and max(words) <= 60 and 42 <= np.mean(words) <= 48
    assert len(vocabulary) < 400
    assert np.mean(counts) == pytest.approx(3.0, abs=0.2)
    assert normal / 400 == pytest.approx(0.12, abs=0.05)


def test_only_chosen_findings_occur_and_are_denied() -> None:
    settings = PhantomSettings(sft=60, findings=("Cardiomegaly", "Lung nodule", "Pleural effusion"), prevalence=1.5)
    assert settings.findings == ("cardiomegaly", "lung nodule", "pleural effusion")
    for number in range(1, 61):
        study = plan_study(settings, f"train_{number}_a_1")
        assert {finding.name for finding in study.findings} <= set(settings.findings)
        assert "emphysema" not in study.report.findings and "consolidation" not in study.report.findings


def test_the_same_seed_gives_the_same_bytes_whatever_the_workers(tmp_path: Path) -> None:
    settings = PhantomSettings(sft=40, align=20, heldout=10, seed=2, shape=(16, 24, 24), spacing_mm=(20, 14, 14))
    seen: list[tuple[int, int]] = []
    generate(tmp_path / "one", settings, workers=1)
    generate(tmp_path / "two", settings, progress=lambda done, total: seen.append((done, total)), workers=2)
    first = files_of(tmp_path / "one")
    assert first == files_of(tmp_path / "two") and len(first) == 70 + 6 + 2
    assert seen[-1] == (70, 70) and seen == sorted(seen)
    other = PhantomSettings(**{**settings.model_dump(), "seed": 3})
    generate(tmp_path / "three", other, workers=1)
    changed = files_of(tmp_path / "three")
    assert all(first[name] != changed[name] for name in first if name.endswith(".nii.gz"))


def test_a_torn_generation_is_finished(data: Path, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    whole, volume = files_of(data), Path("dataset/train/train_1/train_1_a/train_1_a_1.nii.gz")
    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path, SMALL, progress=stop, workers=1)
    with pytest.raises(FileNotFoundError, match="not complete; call generate again"):
        labels_of(tmp_path)
    kept = (tmp_path / volume).stat().st_mtime_ns
    (tmp_path / "dataset/valid/valid_2/valid_2_a/valid_2_a_1.nii.gz").unlink()
    generate(tmp_path, SMALL, workers=1)
    assert files_of(tmp_path) == whole
    assert (tmp_path / volume).stat().st_mtime_ns == kept


def test_a_folder_of_other_settings_is_refused(data: Path) -> None:
    with pytest.raises(ValueError, match="other settings"):
        generate(data, PhantomSettings(sft=5, align=4, heldout=3, seed=12))


def test_splits_are_by_patient_number() -> None:
    splits = {study_id: split_of(study_id, SMALL) for study_id in study_ids(SMALL)}
    assert [splits[f"train_{number}_a_1"] for number in (1, 5, 6, 9)] == ["sft", "sft", "align", "align"]
    assert splits["valid_3_a_1"] == "heldout" and len(splits) == 12
    for unknown in ("train_10_a_1", "valid_4_a_1", "train_0_a_1", "../train_1_a_1"):
        with pytest.raises(ValueError, match="not of this phantom set"):
            split_of(unknown, SMALL)


def test_the_fingerprint_depends_on_the_settings_alone() -> None:
    assert fingerprint(SMALL) == fingerprint(PhantomSettings(**json.loads(SMALL.model_dump_json())))
    assert fingerprint(SMALL) != fingerprint(PhantomSettings(sft=5, align=4, heldout=3, seed=12))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"findings": ("lung nodule", "broken heart")}, "unknown findings .*broken heart"),
        ({"shape": (8, 48, 48)}, "a chest needs 280 to 600 mm"),
        ({"prevalence": 0.1}, "must lie from 0.88 to 15.84"),
        ({"findings": ("lung nodule",)}, "must lie from 0.88 to 0.88"),
        ({"patients": 3}, "Extra inputs"),
        ({"sft": -1}, "greater than or equal to 0"),
        ({"noise_hu": float("nan")}, "noise_hu"),
    ],
)
def test_bad_settings_say_what_is_wrong(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PhantomSettings.model_validate(changes)


def test_region_masks_and_sentences_cover_the_report(tmp_path: Path) -> None:
    settings = PhantomSettings(sft=2, align=0, heldout=1, seed=5, regions=True)
    generate(tmp_path, settings, workers=1)
    folder = tmp_path / "dataset/train_region_mask/seg_train_1_a_1"
    volume = nibabel.load(tmp_path / "dataset/train/train_1/train_1_a/train_1_a_1.nii.gz")
    masks = {path.name.removesuffix(".nii.gz"): nibabel.load(path) for path in folder.iterdir()}
    for mask in masks.values():
        values = np.asarray(mask.dataobj)
        assert set(np.unique(values)) == {0, 1} and np.array_equal(mask.affine, volume.affine)
    hu = np.asarray(volume.dataobj)
    assert np.median(hu[np.asarray(masks["lung"].dataobj) == 1]) < -600
    assert np.median(hu[np.asarray(masks["bone"].dataobj) == 1]) > 150
    assert np.median(hu[np.asarray(masks["abdomen"].dataobj) == 1]) > 20
    rows = rows_of(tmp_path / "dataset/radgenome_files/train_region_report.csv")
    whole = {row["Volumename"]: row["Sentence"] for row in rows if not row["Anatomy"]}
    assert set(whole) == {"train_1_a_1.nii.gz", "train_2_a_1.nii.gz"}
    for row in rows:
        assert not row["Anatomy"] or row["Anatomy"] in masks
        assert set(row["Sentence"].split(". ")[0].split()) <= set(re.split(r"\s|\.", whole[row["Volumename"]])) | {
            row["Sentence"].split()[-1]
        }


REGIONAL = PhantomDataSettings(sft=3, align=2, heldout=2, seed=9, regions=True)


@pytest.fixture(scope="module")
def regional(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("regional")
    generate(root, REGIONAL.generator, workers=1)
    return root


def test_studies_with_regions_bring_masks_and_sentences(regional: Path) -> None:
    table = load_phantom(REGIONAL, regional)
    assert table.quarantined == [] and {one.study_id for one in table.studies} == set(study_ids(REGIONAL.generator))
    assert all(one.split == split_of(one.study_id, REGIONAL.generator) for one in table.studies)
    labels = labels_of(regional)
    for study in table.studies:
        assert study.source == "phantom" and study.labels == labels[study.study_id]
        assert study.regions is not None and study.region_reports is not None and study.volume is not None
        assert set(study.regions) == set(REGIONS) - {"breast", "thyroid"}
        shape = nibabel.load(study.volume).shape
        for (mask,) in study.regions.values():
            assert f"seg_{study.study_id}/" in mask and nibabel.load(mask).shape == shape
        # Every sentence is of a region that has a mask, and together they are the findings.
        assert set(study.region_reports) <= set(study.regions)
        plan = plan_study(REGIONAL.generator, study.study_id)
        assert study.findings == " ".join(sentence for _, sentence in plan.report.sentences)
        for region, said in study.region_reports.items():
            assert said == " ".join(sentence for one, sentence in plan.report.sentences if one == region)
        joined = " ".join(study.region_reports.values())
        assert Counter(joined.split()) == Counter(str(study.findings).split())
        assert Counter(sentences_of(joined)) == Counter(sentences_of(str(study.findings)))


def test_a_region_that_a_coarse_grid_loses_is_not_listed(tmp_path: Path) -> None:
    coarse = REGIONAL.model_copy(update={"shape": (8, 12, 12), "spacing_mm": (40.0, 28.0, 28.0)})
    generate(tmp_path, coarse.generator, workers=1)
    for study in load_phantom(coarse, tmp_path).studies:
        # A rind of 7 mm is less than half of any voxel of 28 mm.
        assert study.regions is not None and study.region_reports is not None
        assert {"heart", "lung", "bone"} <= set(study.regions) and "pleura" not in study.regions
        assert all(np.asarray(nibabel.load(mask).dataobj).any() for (mask,) in study.regions.values())
        assert Counter(" ".join(study.region_reports.values()).split()) == Counter(str(study.findings).split())


def test_the_same_studies_without_regions_have_none(regional: Path, tmp_path: Path) -> None:
    plain = PhantomDataSettings(**{**REGIONAL.model_dump(), "regions": False})
    assert plain.generator != REGIONAL.generator and fingerprint(plain.generator) != fingerprint(REGIONAL.generator)
    generate(tmp_path, plain.generator, workers=1)
    without, guided = load_phantom(plain, tmp_path).studies, load_phantom(REGIONAL, regional).studies
    assert all(one.regions is None and one.region_reports is None for one in without)
    shared = ("study_id", "patient_id", "split", "findings", "impression", "labels")
    assert [[getattr(one, name) for name in shared] for one in without] == [
        [getattr(one, name) for name in shared] for one in guided
    ]
    # Regions are written beside the same volumes.
    assert Path(str(without[0].volume)).read_bytes() == Path(str(guided[0].volume)).read_bytes()


def test_regions_that_a_folder_lacks_are_an_error_or_left_out(regional: Path, tmp_path: Path) -> None:
    shutil.copytree(regional, tmp_path / "data")
    folder = tmp_path / "data/dataset"
    shutil.rmtree(folder / "train_region_mask/seg_train_1_a_1")
    (folder / "train_region_mask/seg_train_2_a_1/heart.nii.gz").unlink()
    studies = {one.study_id: one for one in load_phantom(REGIONAL, tmp_path / "data").studies}
    assert studies["train_1_a_1"].regions is None and studies["train_1_a_1"].region_reports is not None
    assert "heart" not in (studies["train_2_a_1"].regions or {})
    table = folder / "radgenome_files/train_region_report.csv"
    rows = table.read_text(encoding="utf-8").splitlines(keepends=True)
    table.write_text("".join(row for row in rows if not row.startswith("train_3_a_1")), encoding="utf-8")
    with pytest.raises(DatasetError, match="patients, and there are 4"):
        load_phantom(REGIONAL, tmp_path / "data")
    table.unlink()
    with pytest.raises(DatasetError, match="lacks the region sentences of 5 studies, the first train_1_a_1"):
        load_phantom(REGIONAL, tmp_path / "data")
    (folder / "radgenome_files/validation_region_report.csv").unlink()
    with pytest.raises(DatasetError, match="holds no table of region sentences"):
        load_phantom(REGIONAL, tmp_path / "data")
