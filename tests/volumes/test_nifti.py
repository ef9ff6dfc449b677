"""NIfTI files: one anatomy in every storage order, damaged and hostile files."""

import gzip
import itertools
import os
import struct
import tracemalloc
from pathlib import Path

import nibabel
import numpy as np
import pytest

from rlaif.volumes.grid import read_grid
from rlaif.volumes.volume import Volume, VolumeError, check_hounsfield, read_volume

SHARED = Path(os.environ.get("RLAIF_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
needs_shared = pytest.mark.skipif(not (SHARED / "ct").is_dir(), reason=f"no real CTs at {SHARED}")

# Canonical: [z, y, x] with x to the left, y to the posterior, z to the superior side.
BODY = np.arange(3 * 4 * 5, dtype=np.int16).reshape(3, 4, 5) - 30
SPACING = (5.0, 0.9, 0.7)
# Maps (z, y, x) to RAS millimetres.
CANONICAL_AFFINE = np.array([[0, 0, -0.7, 9], [0, -0.9, 0, 8], [5.0, 0, 0, 7], [0, 0, 0, 1]], dtype=float)


def save(path: Path, voxels: np.ndarray, affine: np.ndarray = CANONICAL_AFFINE, dtype: str | None = None) -> Path:
    nibabel.save(nibabel.Nifti1Image(voxels, affine, dtype=dtype), path)
    return path


def stored(order: tuple[int, ...], flips: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The body with its axes in another order and direction, and the affine that says so."""
    matrix = CANONICAL_AFFINE[:3, list(order)] * flips
    origin = CANONICAL_AFFINE[:3, 3].copy()
    voxels = BODY.transpose(order)
    for axis, flip in enumerate(flips):
        if flip < 0:
            origin -= matrix[:, axis] * (voxels.shape[axis] - 1)
            voxels = np.flip(voxels, axis)
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = matrix, origin
    return np.ascontiguousarray(voxels), affine


def test_the_same_anatomy_in_all_48_storage_orders_gives_the_same_volume(tmp_path: Path) -> None:
    for order in itertools.permutations(range(3)):
        for flips in itertools.product((1, -1), repeat=3):
            voxels, affine = stored(order, flips)
            volume = read_volume(save(tmp_path / "ct.nii", voxels, affine))
            np.testing.assert_array_equal(volume.voxels, BODY)
            assert volume.voxels.dtype == np.int16
            assert volume.voxels.flags.c_contiguous
            assert volume.spacing_mm == pytest.approx(SPACING)


def test_an_oblique_scan_takes_its_nearest_axes_and_keeps_its_voxels(tmp_path: Path) -> None:
    turn = np.radians(20)
    rotation = np.eye(4)
    rotation[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    voxels, affine = stored((2, 1, 0), (-1, -1, 1))
    volume = read_volume(save(tmp_path / "ct.nii.gz", voxels, rotation @ affine))
    np.testing.assert_array_equal(volume.voxels, BODY)
    assert volume.spacing_mm == pytest.approx(SPACING)


@pytest.mark.parametrize(
    ("dtype", "slope", "intercept", "becomes"),
    [
        ("int16", 1, -1024, "int16"),
        ("uint16", 1, -1024, "int16"),
        ("uint8", 1, 0, "int16"),
        ("int32", 1, 0, "int16"),
        (">i2", 1, -1000, "int16"),
        ("int16", 0.5, 10, "float32"),
        ("float32", 1, 0, "float32"),
        ("float64", 2, -3, "float32"),
    ],
)
def test_stored_values_become_hu(tmp_path: Path, dtype: str, slope: float, intercept: float, becomes: str) -> None:
    values = np.arange(60).reshape(5, 4, 3).astype(dtype)
    path = tmp_path / "ct.nii"
    header = nibabel.Nifti1Header(endianness=">" if dtype.startswith(">") else "<")
    header.set_data_dtype(np.dtype(dtype))
    header.set_data_shape(values.shape)
    header.set_sform(np.diag([-1.0, -1.0, 1.0, 1.0]), 1)
    header["vox_offset"], header["scl_slope"], header["scl_inter"] = 352, slope, intercept
    path.write_bytes(header.binaryblock + bytes(4) + values.tobytes(order="F"))
    volume = read_volume(path)
    assert volume.voxels.dtype == np.dtype(becomes)
    np.testing.assert_allclose(volume.voxels, np.arange(60).reshape(5, 4, 3).transpose(2, 1, 0) * slope + intercept)


def test_integers_beyond_int16_become_float32_without_wrapping(tmp_path: Path) -> None:
    for dtype, large in (("uint16", 65_535), ("int32", 2**31 - 1), ("int32", -(2**31)), ("int64", 2**40)):
        values = np.zeros((2, 3, 4), dtype)
        values[1, 2, 3], values[0, 0, 0] = large, -5 if dtype != "uint16" else 5
        volume = read_volume(save(tmp_path / "ct.nii", values, np.diag([-1.0, -1, 1, 1]), dtype=dtype))
        assert volume.voxels.dtype == np.float32
        np.testing.assert_array_equal(volume.voxels, values.transpose(2, 1, 0).astype(np.float32))


def test_slopes_that_stand_for_none_leave_the_values_as_they_are(tmp_path: Path) -> None:
    for slope in (0.0, float("nan")):
        path = corrupted(tmp_path, 112, struct.pack("<2f", slope, 5.0))
        np.testing.assert_array_equal(read_volume(path).voxels, BODY)


def test_the_axes_can_be_left_as_stored(tmp_path: Path) -> None:
    for order in itertools.permutations(range(3)):
        for flips in itertools.product((1, -1), repeat=3):
            voxels, affine = stored(order, flips)
            volume = read_volume(save(tmp_path / "ct.nii", voxels, affine), orientation="stored")
            np.testing.assert_array_equal(volume.voxels, voxels.transpose(2, 1, 0))
            assert volume.spacing_mm == pytest.approx([SPACING[axis] for axis in order[::-1]])
    unknown = corrupted(tmp_path, 252, struct.pack("<2h", 0, 0))
    as_stored = read_volume(unknown, orientation="stored")
    np.testing.assert_array_equal(as_stored.voxels, BODY.transpose(2, 1, 0))
    assert as_stored.spacing_mm == pytest.approx(SPACING[::-1])


def test_a_trailing_axis_of_one_is_no_fourth_axis(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_volume(save(tmp_path / "ct.nii.gz", BODY[..., None])).voxels, BODY)


def test_axes_off_the_patient_or_off_the_perpendicular_are_remarked(tmp_path: Path) -> None:
    turn = np.radians(7)
    rotation, shear = np.eye(4), np.eye(4)
    rotation[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    shear[1, 2] = np.tan(turn)
    assert read_volume(save(tmp_path / "ct.nii", BODY)).remarks == ()
    (oblique,) = read_volume(save(tmp_path / "ct.nii", BODY, rotation @ CANONICAL_AFFINE)).remarks
    assert oblique == "oblique by 7.0 degrees: taken along its nearest axes, not rotated"
    (sheared,) = read_volume(save(tmp_path / "ct.nii", BODY, shear @ CANONICAL_AFFINE)).remarks
    assert sheared.startswith("the axes are 7.0 degrees off the perpendicular")


def test_units_of_metres_are_converted(tmp_path: Path) -> None:
    voxels, affine = stored((2, 1, 0), (1, 1, 1))
    affine[:3] /= 1000
    image = nibabel.Nifti1Image(voxels, affine)
    image.header.set_xyzt_units("meter")
    nibabel.save(image, tmp_path / "ct.nii")
    assert read_volume(tmp_path / "ct.nii").spacing_mm == pytest.approx(SPACING)
    affine[:3] *= 1000
    np.testing.assert_allclose(read_grid(tmp_path / "ct.nii").affine, affine, rtol=1e-6)


def test_a_truncated_gzip_is_named_as_such(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(-1000, 1000, (40, 40, 40), dtype=np.int16)
    whole = save(tmp_path / "ct.nii.gz", noise).read_bytes()
    for length in (200, 400, len(whole) // 2, len(whole) - 4):
        (tmp_path / "cut.nii.gz").write_bytes(whole[:length])
        with pytest.raises(VolumeError, match=r"cut\.nii\.gz: .*truncated"):
            read_volume(tmp_path / "cut.nii.gz")


def test_a_damaged_gzip_is_found_by_its_checksum(tmp_path: Path) -> None:
    content = bytearray(save(tmp_path / "ct.nii.gz", np.zeros((9, 9, 9), np.int16)).read_bytes())
    content[-6] ^= 0xFF
    (tmp_path / "ct.nii.gz").write_bytes(content)
    with pytest.raises(VolumeError, match="damaged"):
        read_volume(tmp_path / "ct.nii.gz")


def test_no_more_is_decompressed_than_the_header_announces(tmp_path: Path) -> None:
    plain = save(tmp_path / "ct.nii", BODY).read_bytes()
    (tmp_path / "bomb.nii.gz").write_bytes(gzip.compress(plain + bytes(2**28), 1))
    volume = read_volume(tmp_path / "bomb.nii.gz")
    np.testing.assert_array_equal(volume.voxels, BODY)


def corrupted(tmp_path: Path, offset: int, content: bytes) -> Path:
    plain = bytearray(save(tmp_path / "ct.nii", BODY).read_bytes())
    plain[offset : offset + len(content)] = content
    (tmp_path / "ct.nii").write_bytes(plain)
    return tmp_path / "ct.nii"


@pytest.mark.parametrize(
    ("offset", "content", "message"),
    [
        (42, struct.pack("<3h", 30000, 30000, 30000), "larger than the limit"),
        (42, struct.pack("<h", 0), "empty"),
        (40, struct.pack("<h", 2), "2 axes where a CT has 3"),
        (40, struct.pack("<5h", 4, 3, 4, 5, 2), "4 axes where a CT has 3"),
        (46, struct.pack("<h", 1), "single slice"),
        (42, struct.pack("<h", 1), "single slice"),
        (80, struct.pack("<f", 0.0), r"spacing \(0, .*zero"),
        (88, struct.pack("<f", -0.7), r"-0\.7\) is negative"),
        (84, struct.pack("<f", float("inf")), "not finite"),
        (112, struct.pack("<f", float("inf")), "scl_slope is infinite"),
        (112, struct.pack("<2f", 1.0, float("nan")), "scl_inter is not finite"),
        (112, struct.pack("<2f", 3e38, 0.0), "overflow when the header's slope"),
        (344, b"nii\0", "wrong magic"),
        (344, b"ni1\0", "hdr/.img pair"),
        (252, struct.pack("<2h", 0, 0), "left and right are unknown"),
        (280, struct.pack("<f", float("nan")), "affine holds values that are not finite"),
        (280, struct.pack("<12f", *([0.0] * 12)), "spacing"),
        (280, struct.pack("<4f", 900, 0, 0, 0), "spacing"),
        (70, struct.pack("<h", 9999), "damaged"),
        (70, struct.pack("<h", 32) + struct.pack("<h", 64), "no CT is"),
        (108, struct.pack("<f", 1e9), "voxel data begin"),
        (108, struct.pack("<f", float("nan")), "voxel data begin"),
        (0, b"hello", "not a NIfTI file"),
    ],
)
def test_bad_headers_say_what_is_wrong(tmp_path: Path, offset: int, content: bytes, message: str) -> None:
    with pytest.raises(VolumeError, match=message):
        read_volume(corrupted(tmp_path, offset, content))


@pytest.mark.parametrize(
    ("offset", "content", "message"),
    [
        (40, struct.pack("<5h", 4, 3, 4, 5, 2), "4 axes where a CT has 3"),
        (80, struct.pack("<f", float("nan")), "not finite"),
        (252, struct.pack("<2h", 0, 0), "gives no orientation"),
        (280, struct.pack("<12f", *([0.0] * 12)), "spacing"),
        (292, struct.pack("<f", float("inf")), "affine holds values that are not finite"),
        (292, struct.pack("<f", 1e38), "origin lies more than"),
    ],
)
def test_bad_headers_give_no_grid(tmp_path: Path, offset: int, content: bytes, message: str) -> None:
    with pytest.raises(VolumeError, match=rf"ct\.nii: .*{message}"):
        read_grid(corrupted(tmp_path, offset, content))


def test_voxels_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    for bad, message in ((np.nan, "voxels that are NaN"), (np.inf, "are infinite"), (-np.inf, "are infinite")):
        voxels = np.zeros((3, 3, 3), np.float32)
        voxels[1, 2, 0] = bad
        with pytest.raises(VolumeError, match=message):
            read_volume(save(tmp_path / "ct.nii.gz", voxels))
    with pytest.raises(VolumeError, match="overflow"):
        read_volume(save(tmp_path / "ct.nii.gz", np.full((3, 3, 3), 1e300)))


def test_claims_that_the_file_cannot_hold_take_no_memory(tmp_path: Path) -> None:
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_sform(CANONICAL_AFFINE, 1)
    header["vox_offset"] = 352
    for shape, message in (((1000, 1000, 1600), "larger than the limit"), ((512, 512, 2000), "announces 1048576000")):
        header.set_data_shape(shape)
        content = header.binaryblock + bytes(4 + 2000)
        (tmp_path / "ct.nii").write_bytes(content)
        (tmp_path / "ct.nii.gz").write_bytes(gzip.compress(content))
        for name in ("ct.nii", "ct.nii.gz"):
            tracemalloc.start()
            with pytest.raises(VolumeError, match=message):
                read_volume(tmp_path / name)
            assert tracemalloc.get_traced_memory()[1] < 2**20
            tracemalloc.stop()


@pytest.mark.parametrize("order", [(2, 1, 0), (0, 1, 2)])
def test_reading_takes_little_memory_beside_the_volume(tmp_path: Path, order: tuple[int, ...]) -> None:
    noise = np.random.default_rng(0).integers(-1000, 1000, (160, 160, 160), dtype=np.int16)
    path = save(tmp_path / "ct.nii.gz", noise, CANONICAL_AFFINE[:, [*order, 3]])
    tracemalloc.start()
    volume = read_volume(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < volume.voxels.nbytes + 3 * 2**20


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (b"\xfd7zXZ\x00", "xz archive; unpack it"),
        (b"PK\x03\x04", "zip archive; unpack it"),
        (bytes(257) + b"ustar", "tar archive; unpack it"),
        (bytes(128) + b"DICM", "one DICOM file; name the folder"),
        (b"", "empty file"),
    ],
)
def test_other_kinds_of_files_are_named_with_what_to_do(tmp_path: Path, head: bytes, message: str) -> None:
    (tmp_path / "ct.bin").write_bytes(head + (bytes(600) if head else b""))
    with pytest.raises(VolumeError, match=message):
        read_volume(tmp_path / "ct.bin")
    with pytest.raises(VolumeError, match="does not exist"):
        read_volume(tmp_path / "absent.nii.gz")
    with pytest.raises(VolumeError, match="is one file, of which no series"):
        read_volume(save(tmp_path / "ct.nii", BODY), series="1.2.3")


def test_values_that_are_not_hu_are_told() -> None:
    body = np.full((20, 40, 40), 40, np.int16)
    body[:, :10] = -1000
    check_hounsfield(Volume(body, SPACING))
    with pytest.raises(VolumeError, match="apply the rescale slope and intercept"):
        check_hounsfield(Volume(body + np.int16(1024), SPACING))
    with pytest.raises(VolumeError, match="applied twice"):
        check_hounsfield(Volume(body - np.int16(1024), SPACING))


@pytest.mark.parametrize(("offset", "padding"), [(1024, -2000), (1000, -1024), (1024, 0)])
def test_padding_does_not_hide_values_that_are_not_hu(offset: int, padding: int) -> None:
    body = np.full((20, 40, 40), -1000, np.int16)
    body[:, 8:32, 8:32] = np.random.default_rng(1).normal(40, 20, (20, 24, 24))
    body[:, 10:20, 10:20] = -850
    outside = np.zeros((40, 40), bool)
    outside[:4], outside[-4:], outside[:, :4] = True, True, True
    check_hounsfield(Volume(np.where(outside, np.int16(-2000), body), SPACING))
    stored = np.where(outside, np.int16(padding), body + np.int16(offset))
    with pytest.raises(VolumeError, match="so they are not HU"):
        check_hounsfield(Volume(stored, SPACING))


def test_air_that_was_clipped_to_one_value_is_air(tmp_path: Path) -> None:
    # An abdomen without lung: fat, muscle, contrast and bone above clipped air.
    values = np.repeat(np.array([-1024, -100, 40, 180, 900], np.int16), (3000, 800, 3000, 1000, 200))
    check_hounsfield(Volume(values.reshape(20, 20, 20), SPACING))


def test_a_sform_and_a_qform_that_name_other_sides_are_refused(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(BODY, CANONICAL_AFFINE)
    mirrored = CANONICAL_AFFINE @ np.diag([1.0, 1.0, -1.0, 1.0])
    image.set_sform(CANONICAL_AFFINE, code=1)
    image.set_qform(mirrored, code=1)
    nibabel.save(image, tmp_path / "ct.nii")
    with pytest.raises(VolumeError, match=r"sform and qform contradict each other \(SPL, SPR\)"):
        read_volume(tmp_path / "ct.nii")
    assert read_volume(tmp_path / "ct.nii", orientation="stored").voxels.size == BODY.size


def test_storage_that_is_away_is_no_fault_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "ct.nii", BODY)

    def stale(*_: object, **__: object) -> None:
        raise OSError(116, os.strerror(116))

    monkeypatch.setattr(Path, "open", stale)
    with pytest.raises(OSError, match="Stale file handle"):
        read_volume(path)


@needs_shared
def test_the_right_lung_lies_at_smaller_x_and_the_liver_is_right_and_anterior_to_the_spine() -> None:
    masks = read_volume(SHARED / "masks" / "lidc_idri_0314_ct_1p5mm_lungmask_LR.nii.gz").voxels
    ct = read_volume(SHARED / "ct" / "lidc_idri_0314_ct_1p5mm.nii.gz")
    check_hounsfield(ct)
    right, left = masks == 1, masks == 2
    assert np.nonzero(right)[2].mean() + 50 < np.nonzero(left)[2].mean()
    assert ct.voxels[right].mean() < -700
    assert ct.voxels[left].mean() < -700
    organs = read_volume(SHARED / "masks" / "totalseg_abdomen_ct_seg117.nii.gz").voxels
    liver, spleen = np.argwhere(organs == 5).mean(axis=0), np.argwhere(organs == 1).mean(axis=0)
    assert liver[2] < spleen[2]
    aorta = np.argwhere(organs == 52)
    assert liver[1] < aorta[:, 1].mean()
    assert aorta[:, 0].mean() < liver[0]
