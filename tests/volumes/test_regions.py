"""Masks of a CT's regions: the segmenters' structures, the CT's voxels, and the steps of Reg2RG."""

import itertools
import os
import tarfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK
import torch
from monai.transforms import CropForeground, CropForegroundd, Resize, Resized
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from scipy.spatial.transform import Rotation

from rlaif.datasets.phantom import generate
from rlaif.datasets.phantom_settings import PhantomSettings
from rlaif.datasets.registry import load
from rlaif.datasets.settings import FolderSettings, RadgenomeSettings
from rlaif.reports.regions import REGIONS
from rlaif.storage import local_copy
from rlaif.volumes.grid import Grid, read_grid
from rlaif.volumes.recipes import RECIPES, Window
from rlaif.volumes.region_labels import TOTALSEGMENTATOR, Segmenter, UnknownStructures, by_region
from rlaif.volumes.regions import RegionMasks, crop_to_region, mask_remarks, masked_to_region, region_inputs
from rlaif.volumes.volume import Orientation, Volume, VolumeError, read_volume

SHARED = Path(os.environ.get("RLAIF_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
needs_shared = pytest.mark.skipif(not (SHARED / "ct").is_dir(), reason=f"no real CTs at {SHARED}")
LIDC = SHARED / "ct" / "lidc_idri_0314_ct_1p5mm.nii.gz"
LIDC_LUNGS = SHARED / "masks" / "lidc_idri_0314_ct_1p5mm_lungmask_LR.nii.gz"
ABDOMEN = SHARED / "ct" / "totalseg_abdomen_ct.nii.gz"
ABDOMEN_LABELS = SHARED / "masks" / "totalseg_abdomen_ct_seg117.nii.gz"

# The CT's array runs along the patient's left, posterior and superior: [i, j, k] is [x, y, z].
LPS = np.array([[-0.8, 0, 0, 40.0], [0, -0.7, 0, 30.0], [0, 0, 2.5, -200.0], [0, 0, 0, 1]])
LABELS = (np.arange(6 * 5 * 4).reshape(6, 5, 4) % 7).astype(np.uint8)


def write(path: Path, values: npt.NDArray[Any], affine: npt.NDArray[np.float64] = LPS) -> str:
    nibabel.Nifti1Image(values, affine).to_filename(path)
    return str(path)


def write_turned(path: Path, values: npt.NDArray[Any], codes: str, affine: npt.NDArray[np.float64] = LPS) -> str:
    """The same voxels in the same places of the patient, stored in another order."""
    turn = ornt_transform(io_orientation(affine), axcodes2ornt(tuple(codes)))
    turned = np.ascontiguousarray(apply_orientation(values, turn))
    return write(path, turned, affine @ inv_ornt_aff(turn, values.shape))


def ct_grid(tmp_path: Path) -> Grid:
    return read_grid(Path(write(tmp_path / "ct.nii.gz", np.zeros((6, 5, 4), np.int16))))


def test_totalsegmentators_classes_are_numbered_as_its_task_numbers_them() -> None:
    assert len(TOTALSEGMENTATOR) == len(set(TOTALSEGMENTATOR)) == 117
    numbered = {1: "spleen", 2: "kidney_right", 5: "liver", 14: "lung_lower_lobe_right", 17: "thyroid_gland"}
    numbered |= {26: "vertebrae_S1", 27: "vertebrae_L5", 32: "vertebrae_T12", 50: "vertebrae_C1", 51: "heart"}
    numbered |= {52: "aorta", 63: "inferior_vena_cava", 75: "femur_left", 91: "skull", 92: "rib_left_1"}
    numbered |= {104: "rib_right_1", 116: "sternum", 117: "costal_cartilages"}
    assert {number: TOTALSEGMENTATOR[number - 1] for number in numbered} == numbered


def test_every_class_of_totalsegmentator_lies_in_a_region_or_in_none() -> None:
    labels = by_region(dict(enumerate(TOTALSEGMENTATOR, start=1)), "totalsegmentator")
    assert set(REGIONS) - set(labels) == {"breast", "pleura"}
    assert labels["lung"] == (10, 11, 12, 13, 14)
    assert labels["heart"] == (51, 61)
    assert labels["mediastinum"] == (*range(52, 61), 62)
    assert labels["thyroid"] == (17,)
    assert set(labels["abdomen"]) == {*range(1, 10), 18, 19, 20, 23, 24, 63, 64}
    assert set(labels["bone"]) == {*range(25, 51), *range(69, 79), *range(91, 118)}
    placed = [label for found in labels.values() for label in found]
    assert len(placed) == len(set(placed)) == 99


@pytest.mark.parametrize(
    ("name", "region"),
    [
        ("left lung upper lobe", "lung"),
        ("heart atrium left", "heart"),
        ("Left Auricle of Heart", "heart"),
        ("thoracic vertebrae 12 (t12)", "bone"),
        ("right rib 10", "bone"),
        ("rib cartilage", "bone"),
        ("left brachiocephalic vein", "mediastinum"),
        ("mediastinal tissue", "mediastinum"),
        ("right posterior inferior segment of liver", "abdomen"),
        ("lung effusion", "pleura"),
        ("left thyroid", "thyroid"),
        ("right breast", "breast"),
        ("bronchie", "trachea and bronchie"),
        ("trachea and bronchie", "trachea and bronchie"),
        ("thoracic cavity", None),
        ("spinal cord", None),
    ],
)
def test_sats_structures_lie_in_their_regions(name: str, region: str | None) -> None:
    assert by_region({7: name}, "sat") == ({} if region is None else {region: (7,)})


@pytest.mark.parametrize(
    ("segmenter", "names"),
    [
        ("sat", ["left wing", "rib 100", "kidney 3"]),
        ("radgenome", ["trachea", "aorta"]),
        ("totalsegmentator", ["lungs"]),
    ],
)
def test_unknown_structures_are_named_and_not_guessed(segmenter: Segmenter, names: list[str]) -> None:
    with pytest.raises(UnknownStructures) as caught:
        by_region(dict(enumerate([*names, "lung"])), segmenter)
    assert caught.value.names == names
    assert by_region(dict(enumerate(names)), segmenter, dict.fromkeys(names, "bone")) == {
        "bone": (0, 1, 2)[: len(names)]
    }


@needs_shared
def test_the_labels_of_a_real_map_have_the_density_and_the_side_of_their_names() -> None:
    ct, organs = read_volume(ABDOMEN), read_volume(ABDOMEN_LABELS).voxels
    number = {name: label for label, name in enumerate(TOTALSEGMENTATOR, start=1)}

    def hounsfield(name: str) -> float:
        return float(ct.voxels[organs == number[name]].mean())

    def centre(name: str) -> npt.NDArray[np.float64]:
        return np.argwhere(organs == number[name]).mean(axis=0) * ct.spacing_mm

    for name in ("liver", "spleen", "aorta", "kidney_left", "kidney_right", "portal_vein_and_splenic_vein"):
        assert 0 < hounsfield(name) < 80, name
    for name in ("vertebrae_L1", "vertebrae_T11", "rib_left_8", "rib_right_9", "hip_left", "femur_right"):
        assert hounsfield(name) > 150, name
    for name in ("lung_lower_lobe_left", "lung_upper_lobe_left", "lung_lower_lobe_right"):
        assert hounsfield(name) < -700, name
    # x grows to the patient's left, y to the posterior, z to the superior side.
    for name in ("kidney", "lung_lower_lobe", "hip", "femur", "iliopsoas", "autochthon"):
        assert centre(f"{name}_left")[2] > centre(f"{name}_right")[2] + 50, name
    assert centre("liver")[2] + 100 < centre("spleen")[2]
    assert centre("aorta")[1] + 20 < centre("vertebrae_L1")[1]
    spine = [centre(f"vertebrae_{name}")[0] for name in ("L5", "L4", "L3", "L2", "L1", "T12", "T11")]
    assert spine == sorted(spine)


def test_a_mask_stored_in_another_order_comes_to_lie_on_the_cts_voxels(tmp_path: Path) -> None:
    grid = ct_grid(tmp_path)
    canonical = LABELS.transpose(2, 1, 0) == 3
    for codes in ("LPS", "RAS", "SAL", "IRP"):
        mask = RegionMasks(grid).read([write_turned(tmp_path / f"{codes}.nii.gz", LABELS, codes) + "#3"])
        assert mask.dtype == np.bool_ and mask.flags.c_contiguous
        assert np.array_equal(mask, canonical), codes


@pytest.mark.parametrize("codes", ["LPS", "RAS", "SLA", "PIR"])
@pytest.mark.parametrize("orientation", ["canonical", "stored"])
def test_a_mask_turns_with_its_ct_whatever_the_two_orders(tmp_path: Path, codes: str, orientation: Orientation) -> None:
    oblique = LPS @ np.block([[_rotation(0.2), np.zeros((3, 1))], [np.zeros((1, 3)), 1.0]])
    ct = Path(write_turned(tmp_path / "ct.nii.gz", LABELS.astype(np.int16), codes, oblique))
    label_map = write_turned(tmp_path / "labels.nii.gz", LABELS, "ARI", oblique)
    mask = RegionMasks(read_grid(ct), orientation).read([f"{label_map}#2,5"])
    assert np.array_equal(mask, np.isin(read_volume(ct, orientation=orientation).voxels, (2, 5)))


def _rotation(angle: float) -> npt.NDArray[np.float64]:
    sine, cosine = np.sin(angle), np.cos(angle)
    return np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])


def test_the_sources_of_a_region_are_united(tmp_path: Path) -> None:
    label_map = write(tmp_path / "labels.nii.gz", LABELS)
    other = np.zeros((6, 5, 4))
    other[5, 4, 3] = 1.0
    masks = RegionMasks(ct_grid(tmp_path))
    expected = np.isin(LABELS, (2, 4)) | (other > 0)
    sources = [f"{label_map}#2,4", write(tmp_path / "mask#1.nii.gz", other)]
    assert np.array_equal(masks.read(sources), expected.transpose(2, 1, 0))
    named = dict(masks.read_all({"lung": [f"{label_map}#1"], "heart": [f"{label_map}#2"], "bone": [label_map]}))
    assert {region: int(mask.sum()) for region, mask in named.items()} == {
        "lung": int((LABELS == 1).sum()),
        "heart": int((LABELS == 2).sum()),
        "bone": int((LABELS > 0).sum()),
    }


def test_nrrd_and_mha_masks_lie_where_their_headers_say(tmp_path: Path) -> None:
    image = SimpleITK.GetImageFromArray(LABELS.transpose(2, 1, 0))
    image.SetSpacing((0.8, 0.7, 2.5))
    # LPS directions: the CT's affine is in RAS.
    image.SetOrigin((-40.0, -30.0, -200.0))
    for name in ("mask.nrrd", "mask.mha"):
        SimpleITK.WriteImage(image, str(tmp_path / name))
        mask = RegionMasks(ct_grid(tmp_path)).read([f"{tmp_path / name}#6"])
        assert np.array_equal(mask, LABELS.transpose(2, 1, 0) == 6)


def _turned_image() -> SimpleITK.Image:
    """An oblique body, whose axes have lengths and spacings of their own."""
    image = SimpleITK.GetImageFromArray(LABELS.transpose(2, 1, 0).astype(np.int16))
    image.SetSpacing((0.8, 0.7, 2.5))
    image.SetOrigin((-120.5, 87.25, -431.75))
    turn = Rotation.from_euler("zx", (-160, 25), degrees=True).as_matrix()
    image.SetDirection(np.round(turn, 10).ravel())
    return image


def _write_series(folder: Path, image: SimpleITK.Image) -> SimpleITK.Image:
    """The image as a DICOM series; returns what ITK reads of it."""
    folder.mkdir()
    writer = SimpleITK.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    along = np.reshape(image.GetDirection(), (3, 3)).T[:2].ravel()
    for index in range(image.GetDepth()):
        plane, origin = image[:, :, index : index + 1], image.TransformIndexToPhysicalPoint((0, 0, index))
        tags = {"0008|0060": "CT", "0020|000e": "1.2.3", "0028|1052": "0", "0028|1053": "1"}
        tags["0020|0032"] = "\\".join(f"{value:.10g}" for value in origin)
        tags["0020|0037"] = "\\".join(f"{value:.10g}" for value in along)
        for tag, value in tags.items():
            plane.SetMetaData(tag, value)
        # Names run against the order of the slices.
        writer.Execute(plane, str(folder / f"{9 - index}.dcm"), False, -1)
    return SimpleITK.ReadImage(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))


def test_the_grids_of_a_body_in_every_format_are_those_that_itk_gives_them(tmp_path: Path) -> None:
    body = _turned_image()
    as_read = {tmp_path / "series": _write_series(tmp_path / "series", body)}
    for name in ("body.nii.gz", "body.nrrd", "body.mha"):
        SimpleITK.WriteImage(body, str(tmp_path / name))
        as_read[tmp_path / name] = SimpleITK.ReadImage(str(tmp_path / name))
    grids = {path: read_grid(path) for path in as_read}
    for path, image in as_read.items():
        assert grids[path].shape == image.GetSize() == (6, 5, 4)
        corners = list(itertools.product((0, 5), (0, 4), (0, 3)))
        in_lps = np.array([image.TransformIndexToPhysicalPoint(corner) for corner in corners])
        in_ras = np.array([grids[path].affine @ (*corner, 1) for corner in corners])[:, :3]
        assert np.abs(in_ras * (-1, -1, 1) - in_lps).max() < 1e-4, path
    # So that each format's masks lie on each format's CT.
    for ct, mask in itertools.product(as_read, [path for path in as_read if path.is_file()]):
        read = RegionMasks(grids[ct]).read([f"{mask}#3"])
        assert np.array_equal(read, read_volume(ct).voxels == 3) and read.sum() == (LABELS == 3).sum()


@pytest.mark.parametrize(
    ("ending", "old", "new", "reason"),
    [
        ("mha", b"NDims = 3", b"NDims = 1000000", "where a CT has 3 axes"),
        ("mha", b" 2.5\n", b" nan\n", "spacing .* is not finite"),
        ("mha", b"TransformMatrix =", b"Other =", "gives no orientation"),
        ("mha", b"Offset =", b"Other =", r"gives no origin \(Offset\)"),
        ("mha", b"Offset = -120.5", b"Offset = nan", "not finite"),
        ("mha", b"Offset = -120.5", b"Offset =", "2 numbers where 3"),
        ("mha", b"Offset = -120.5", b"Offset = 1e308", "origin lies more than"),
        ("nrrd", b"dimension: 3", b"dimension: 1000000", "where a CT has 3 axes"),
        ("nrrd", b"space directions: (", b"space directions: (nan,0,0) (", "not three vectors"),
        ("nrrd", b"space directions:", b"space directions: none #", "not three vectors"),
        ("nrrd", b"left-posterior-superior", b"scanner-xyz", "gives no orientation"),
        ("nrrd", b"space origin:", b"other:", "gives no origin"),
        ("nrrd", b"space origin:", b"space origin: none", "gives no origin"),
        ("nrrd", b"space origin: (-120.5", b"space origin: (nan", "not finite"),
        ("nrrd", b"space origin: (-120.5,", b"space origin: (", "2 numbers where 3"),
    ],
)
def test_masks_with_hostile_headers_are_refused_with_their_reason(
    tmp_path: Path, ending: str, old: bytes, new: bytes, reason: str
) -> None:
    path = tmp_path / f"mask.{ending}"
    SimpleITK.WriteImage(_turned_image(), str(path))
    content = path.read_bytes()
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, new))
    with pytest.raises(VolumeError, match=reason):
        RegionMasks(ct_grid(tmp_path)).read([str(path)])
    with pytest.raises(VolumeError, match=rf"mask\.{ending}: .*({reason})"):
        read_grid(path)


def _shifted(mm: tuple[float, float, float]) -> npt.NDArray[np.float64]:
    affine = LPS.copy()
    affine[:3, 3] += mm
    return affine


def test_headers_that_round_are_on_the_cts_grid(tmp_path: Path) -> None:
    masks = RegionMasks(ct_grid(tmp_path))
    rounded = write(tmp_path / "rounded.nii.gz", LABELS, _shifted((0.004, -0.03, 0.2)))
    assert masks.read([rounded]).sum() == (LABELS > 0).sum()


@pytest.mark.parametrize(
    ("values", "affine", "reason"),
    [
        (LABELS, _shifted((0.4, 0.0, 0.0)), "lies up to 0.4 mm off the voxels of the CT: resample it"),
        (LABELS, _shifted((0.0, 0.0, 2.5)), "lies up to 2.5 mm off"),
        (LABELS[:5], LPS, "has 5 x 5 x 4 voxels of 0.8 x 0.7 x 2.5 mm where the CT has 6 x 5 x 4 voxels"),
        (LABELS, LPS @ np.diag([1.0, 1.0, 2.0, 1.0]), "of 0.8 x 0.7 x 5 mm where the CT has"),
        (LABELS, LPS @ np.diag([1.03, 1.0, 1.0, 1.0]), "lies up to 0.12 mm off"),
        (LABELS, np.eye(4), "its header has lost its place"),
        (LABELS[..., None].repeat(2, 3), LPS, "has 4 axes where a CT has 3"),
        (LABELS * np.float32(0.5), LPS, "is no mask but a soft one"),
    ],
)
def test_masks_that_do_not_fit_are_refused_with_their_reason(
    tmp_path: Path, values: npt.NDArray[Any], affine: npt.NDArray[np.float64], reason: str
) -> None:
    masks = RegionMasks(ct_grid(tmp_path))
    with pytest.raises(VolumeError, match=reason) as caught:
        masks.read([write(tmp_path / "mask.nii.gz", values, affine) + "#1"])
    assert str(tmp_path / "mask.nii.gz") in str(caught.value)


def test_a_mask_without_orientation_has_no_place(tmp_path: Path) -> None:
    nibabel.Nifti1Image(LABELS, None).to_filename(tmp_path / "mask.nii")
    with pytest.raises(VolumeError, match="gives no orientation"):
        RegionMasks(ct_grid(tmp_path)).read([str(tmp_path / "mask.nii")])
    mask = RegionMasks(ct_grid(tmp_path), placement="by_index").read([str(tmp_path / "mask.nii")])
    assert np.array_equal(mask, (LABELS > 0).transpose(2, 1, 0))


def test_absent_masks_folders_and_files_of_other_kinds_are_refused(tmp_path: Path) -> None:
    masks = RegionMasks(ct_grid(tmp_path))
    (tmp_path / "text.nii").write_text("no mask " * 100)
    for source, reason in (("gone.nii", "does not exist"), ("", "is a folder"), ("text.nii", "is not a NIfTI file")):
        with pytest.raises(VolumeError, match=reason):
            masks.read([str(tmp_path / source)])
    with pytest.raises(VolumeError, match=r"text\.nii: is not a NIfTI file"):
        read_grid(tmp_path / "text.nii")
    with pytest.raises(VolumeError, match="holds no DICOM files"):
        read_grid(tmp_path)
    with pytest.raises(ValueError, match="without sources"):
        masks.read([])


def test_masks_without_a_place_can_be_taken_by_index(tmp_path: Path) -> None:
    placeless = write(tmp_path / "mask.nii.gz", LABELS.astype(np.float64), np.eye(4))
    grid = read_grid(Path(write_turned(tmp_path / "ct.nii.gz", np.zeros((6, 5, 4), np.int16), "RAS")))
    mask = RegionMasks(grid, placement="by_index").read([f"{placeless}#2"])
    # Both are stored towards right, anterior and superior.
    assert np.array_equal(mask, (LABELS == 2)[::-1, ::-1].transpose(2, 1, 0))
    short = write(tmp_path / "short.nii.gz", LABELS[:, :, :3])
    with pytest.raises(VolumeError, match=r"has \(6, 5, 3\) voxels where the CT has \(6, 5, 4\)"):
        RegionMasks(grid, placement="by_index").read([short])


def test_a_table_in_remote_storage_leads_to_the_masks_of_its_studies(tmp_path: Path, bucket: Any) -> None:
    (tmp_path / "seg").mkdir()
    for name in ("a", "b"):
        write(tmp_path / f"{name}.nii.gz", np.zeros((6, 5, 4), np.int16))
    write(tmp_path / "map.nii.gz", LABELS)
    write_turned(tmp_path / "seg" / "left lung.nii.gz", (LABELS == 1).astype(np.float64), "RAS")
    write_turned(tmp_path / "seg" / "right lung.nii.gz", (LABELS == 4).astype(np.float64), "RAS")
    rows = ("study_id,path,patient_id,mask", "a,a.nii.gz,a,map.nii.gz", "b,b.nii.gz,b,seg")
    (tmp_path / "studies.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "names.csv").write_text("number,name\n1,left lung\n4,right lung\n2,aorta\n")
    columns = {"findings": None, "impression": None, "segmentation": "mask"}
    settings = {"path": bucket.upload(tmp_path, "segmented"), "segmenter": "sat", "label_names": "names.csv"}
    table = load(FolderSettings.model_validate({**settings, "columns": columns}))
    assert table.quarantined == []
    expected = np.isin(LABELS, (1, 4)).transpose(2, 1, 0)
    for study in table.studies:
        assert study.volume is not None and study.regions is not None
        with local_copy(study.volume) as path:
            masks = dict(RegionMasks(read_grid(path)).read_all(study.regions))
        assert list(masks) == (["lung", "mediastinum"] if study.study_id == "a" else ["lung"])
        assert np.array_equal(masks["lung"], expected)


def test_the_phantoms_regions_become_inputs_by_way_of_radgenomes_layout(tmp_path: Path) -> None:
    generate(tmp_path, PhantomSettings(sft=1, align=1, heldout=1, regions=True), workers=1)
    for study in load(RadgenomeSettings(path=str(tmp_path))).studies:
        assert study.volume is not None and study.regions is not None
        volume, masks = read_volume(Path(study.volume)), RegionMasks(read_grid(Path(study.volume)))
        assert np.median(volume.voxels[masks.read(study.regions["lung"])]) < -500
        assert np.median(volume.voxels[masks.read(study.regions["heart"])]) > 0
        inputs = region_inputs(RECIPES["phantom"], volume, masks.read_all(study.regions))
        assert list(inputs.images) == list(study.regions) and inputs.absent == {}
        image, geometry = inputs.images["heart"], inputs.geometry["heart"]
        assert (image[geometry == 0] == -1.0).all() and image[geometry > 0.5].mean() > 0.1


BLOCK = np.zeros((8, 10, 12), np.bool_)
BLOCK[2:5, 3:9, 4:6] = True
SCAN = Volume(np.full(BLOCK.shape, 40, np.int16), (3.0, 1.0, 2.0))


def test_outside_of_the_region_is_left_below_air() -> None:
    masked = masked_to_region(SCAN, BLOCK)
    assert masked.voxels.dtype == np.int16
    assert (masked.voxels[BLOCK] == 40).all() and (masked.voxels[~BLOCK] == -1024).all()
    assert (SCAN.voxels == 40).all()
    with pytest.raises(ValueError, match=r"bool \(1, 10, 12\) is none of the volume's \(8, 10, 12\) voxels"):
        masked_to_region(SCAN, BLOCK[:1])


@pytest.mark.parametrize(
    ("margin_mm", "shape"), [(0.0, (3, 6, 2)), (2.0, (5, 9, 4)), (3.1, (7, 10, 6)), (100.0, (8, 10, 12))]
)
def test_a_crop_holds_the_region_and_its_margin(margin_mm: float, shape: tuple[int, int, int]) -> None:
    assert crop_to_region(SCAN, BLOCK, margin_mm).voxels.shape == shape
    assert crop_to_region(SCAN, BLOCK).spacing_mm == (3.0, 1.0, 2.0)


def test_an_empty_mask_has_nothing_to_crop_to() -> None:
    with pytest.raises(VolumeError, match="mask is empty"):
        crop_to_region(SCAN, np.zeros_like(BLOCK))


def test_regions_without_a_voxel_or_with_air_alone_are_absent_with_the_reason(tmp_path: Path) -> None:
    label_map = write(tmp_path / "labels.nii.gz", LABELS)
    voxels = np.full((4, 5, 6), 40, np.int16)
    voxels[LABELS.transpose(2, 1, 0) == 2] = -1000
    sources = {"bone": [f"{label_map}#99"], "trachea and bronchie": [f"{label_map}#2"], "heart": [f"{label_map}#3"]}
    recipe = replace(RECIPES["reg2rg"], size=(4, 4, 4))
    inputs = region_inputs(recipe, Volume(voxels, (2.5, 0.7, 0.8)), RegionMasks(ct_grid(tmp_path)).read_all(sources))
    assert list(inputs.images) == list(inputs.geometry) == ["heart"]
    assert inputs.absent == {
        "bone": "its mask is empty",
        "trachea and bronchie": "nothing in its mask is above -1000 HU",
    }


def test_a_region_is_zoomed_to_and_its_mask_lies_within_the_scan() -> None:
    voxels = np.full((8, 10, 12), -1000, np.int16)
    voxels[0:8, 2:10, 0:12] = 40
    recipe = replace(RECIPES["reg2rg"], size=(4, 4, 4), in_plane="yx")
    inputs = region_inputs(recipe, Volume(voxels, (3.0, 1.0, 2.0)), [("heart", BLOCK)])
    image, geometry = inputs.images["heart"], inputs.geometry["heart"]
    # The crop is the block alone: tissue everywhere, (40 + 400) / 600.
    assert image.shape == (1, 4, 4, 4) and np.allclose(image, 440 / 600)
    # The scan's foreground is 8 x 8 x 12; each soft voxel is the mean over 2 x 2 x 3 of the mask.
    expected = BLOCK[:, 2:].reshape(4, 2, 4, 2, 4, 3).mean(axis=(1, 3, 5))
    assert np.allclose(geometry[0], expected) and 0 < expected.max() < 1


def test_recipes_without_a_fixed_window_are_refused() -> None:
    with pytest.raises(ValueError, match="recipe m3d takes its range from each volume"):
        region_inputs(RECIPES["m3d"], SCAN, [("heart", BLOCK)])


def test_recipes_without_a_foreground_crop_keep_the_scans_frame() -> None:
    recipe = replace(RECIPES["phantom"], size=(8, 10, 12), spacing_mm=None, fit="stretch", intensity=Window(-1000, 400))
    inputs = region_inputs(recipe, SCAN, [("heart", BLOCK)])
    assert np.array_equal(inputs.geometry["heart"][0], BLOCK)
    assert np.allclose(inputs.images["heart"][0], np.where(BLOCK, 2 * 1040 / 1400 - 1, -1.0), atol=1e-6)


@needs_shared
def test_the_right_lung_of_a_real_mask_lies_on_the_patients_right() -> None:
    masks = dict(RegionMasks(read_grid(LIDC)).read_all({"right": [f"{LIDC_LUNGS}#1"], "left": [f"{LIDC_LUNGS}#2"]}))
    ct = read_volume(LIDC)
    assert masks["right"].shape == ct.voxels.shape
    assert np.argwhere(masks["right"])[:, 2].mean() + 50 < np.argwhere(masks["left"])[:, 2].mean()
    assert all(ct.voxels[mask].mean() < -700 for mask in masks.values())


@needs_shared
def test_a_real_dicom_series_and_a_mask_of_its_conversion_share_their_voxels(tmp_path: Path) -> None:
    with tarfile.open(SHARED / "ct" / "totalseg_dicom20_jpeg2000.tar") as archive:
        archive.extractall(tmp_path / "series", filter="data")
    folder = next(path for path in (tmp_path / "series").rglob("*") if path.is_file()).parent
    converted = SimpleITK.ReadImage(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    SimpleITK.WriteImage(SimpleITK.Cast(converted > 200, SimpleITK.sitkUInt8), str(tmp_path / "bone.nii.gz"))
    mask = RegionMasks(read_grid(folder)).read([str(tmp_path / "bone.nii.gz")])
    assert mask.any() and np.array_equal(mask, read_volume(folder).voxels > 200)


def _published(ct: Path, mask: npt.NDArray[np.float64]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Reg2RG's steps for one region, with MONAI, on arrays as nibabel gives them: the region, its soft mask."""
    image = np.asanyarray(nibabel.load(ct).get_fdata())  # type: ignore[attr-defined]
    alone = image * mask
    alone[mask == 0] = -1024

    def above(voxels: Any) -> Any:
        return voxels > -1000

    size = (256, 256, 64)
    zoomed = Resize(spatial_size=size)(CropForeground(select_fn=above)(alone[None]))
    zoomed = (torch.clamp(torch.as_tensor(zoomed), -1000, 200) + 400) / 600
    both = {"img": image[None], "seg": mask[None]}
    both = CropForegroundd(keys=["img", "seg"], source_key="img", select_fn=above)(both)
    both = Resized(keys=["img", "seg"], spatial_size=size)(both)
    return zoomed.numpy()[0], np.asarray(both["seg"])[0]


def _as_published(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """An input `[1, depth, height, width]` in the order that Reg2RG's arrays have in LPS: `[x, y, z]`."""
    return np.asarray(RECIPES["reg2rg"].published(np.ascontiguousarray(values))[0])


def _in_lps(path: Path, folder: Path) -> Path:
    """A file's copy whose array runs along x, y and z of a canonical volume: what the published code then reads."""
    image = nibabel.load(path)
    turned = image.as_reoriented(ornt_transform(io_orientation(image.affine), axcodes2ornt(("L", "P", "S"))))  # type: ignore[attr-defined]
    turned.to_filename(folder / path.name)
    return folder / path.name


@needs_shared
@pytest.mark.parametrize(
    ("ct", "label_map", "labels"),
    [
        pytest.param(LIDC, LIDC_LUNGS, (1, 2), id="lidc-lung", marks=pytest.mark.slow),
        pytest.param(LIDC, LIDC_LUNGS, (1,), id="lidc-right-lung", marks=pytest.mark.slow),
        pytest.param(ABDOMEN, ABDOMEN_LABELS, (5, 1, 2, 3), id="abdomen-organs"),
        pytest.param(ABDOMEN, ABDOMEN_LABELS, (10, 11, 12, 13, 14), id="abdomen-lung"),
    ],
)
def test_a_regions_inputs_are_those_of_reg2rgs_steps(
    tmp_path: Path, ct: Path, label_map: Path, labels: Iterable[int]
) -> None:
    source = f"{label_map}#{','.join(map(str, labels))}"
    inputs = region_inputs(
        RECIPES["reg2rg"], read_volume(ct), RegionMasks(read_grid(ct)).read_all({"region": [source]})
    )
    stored = nibabel.load(_in_lps(label_map, tmp_path)).get_fdata()  # type: ignore[attr-defined]
    image, geometry = _published(_in_lps(ct, tmp_path), np.isin(stored, list(labels)).astype(np.float64))
    assert np.abs(_as_published(inputs.images["region"]) - image).max() < 1e-3 * 2.0
    assert np.abs(_as_published(inputs.geometry["region"]) - geometry).max() < 1e-3
    assert 0 < geometry.mean() < 1


def test_masks_of_a_ct_without_a_place_are_a_remark_and_no_error(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((4, 5, 6), np.int16), None)
    image.header["sform_code"], image.header["qform_code"] = 0, 0
    nibabel.save(image, tmp_path / "ct.nii")
    (remark,) = mask_remarks(tmp_path / "ct.nii", None, [str(tmp_path / "mask.nii")])
    assert remark.startswith("its regions' masks cannot be placed") and "gives no orientation" in remark
