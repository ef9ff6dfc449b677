"""MHA files: those of another writer, hostile headers, truncation."""

import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from rlaif.volumes.grid import read_grid
from rlaif.volumes.volume import VolumeError, read_volume

BODY = np.random.default_rng(4).integers(-1000, 1000, (6, 5, 4), dtype=np.int16)
HEADER = """ObjectType = Image
NDims = 3
BinaryData = True
BinaryDataByteOrderMSB = False
CompressedData = False
TransformMatrix = 1 0 0 0 1 0 0 0 1
Offset = 0 0 0
ElementSpacing = 0.7 0.9 2.5
DimSize = 4 5 6
ElementType = MET_SHORT
ElementDataFile = LOCAL
"""
VOXELS = BODY.tobytes()


def write(path: Path, *changes: tuple[str, str], voxels: bytes = VOXELS) -> Path:
    header = HEADER
    for old, new in changes:
        assert old in header
        header = header.replace(old, new)
    path.write_bytes(header.encode() + voxels)
    return path


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "float32", "float64"])
def test_what_itk_writes_is_read_as_written(tmp_path: Path, dtype: str, compressed: bool) -> None:
    values = (BODY % 100).astype(dtype)
    image = SimpleITK.GetImageFromArray(values)
    image.SetSpacing((0.7, 0.9, 2.5))
    SimpleITK.WriteImage(image, tmp_path / "ct.mha", compressed)
    volume = read_volume(tmp_path / "ct.mha")
    np.testing.assert_array_equal(volume.voxels, values)
    assert volume.voxels.dtype == (np.float32 if dtype.startswith("float") else np.int16)
    assert volume.spacing_mm == pytest.approx((2.5, 0.9, 0.7))


def test_directions_are_those_that_itk_gives_a_nifti_file(tmp_path: Path) -> None:
    image = SimpleITK.GetImageFromArray(BODY)
    image.SetSpacing((0.7, 0.9, 2.5))
    turn = np.radians(8)
    cosine, sine = np.cos(turn), np.sin(turn)
    for direction in ((0, 0, -1, -1, 0, 0, 0, 1, 0), (cosine, sine, 0, -sine, cosine, 0, 0, 0, 1)):
        image.SetDirection(direction)
        SimpleITK.WriteImage(image, tmp_path / "ct.nii.gz")
        SimpleITK.WriteImage(image, tmp_path / "ct.mha", True)
        SimpleITK.WriteImage(image, tmp_path / "ct.nrrd", True)
        nifti, mha, nrrd = (read_volume(tmp_path / f"ct.{end}") for end in ("nii.gz", "mha", "nrrd"))
        for other in (mha, nrrd):
            np.testing.assert_array_equal(other.voxels, nifti.voxels)
            assert other.spacing_mm == pytest.approx(nifti.spacing_mm)
            assert other.remarks == nifti.remarks
        assert read_volume(tmp_path / "ct.mha", orientation="stored").voxels.shape == (6, 5, 4)
    assert "oblique by 8.0 degrees" in nifti.remarks[0]


@pytest.mark.parametrize(
    ("changes", "seen"),
    [
        ((), BODY),
        ((("1 0 0 0 1 0 0 0 1", "-1 0 0 0 1 0 0 0 -1"),), BODY[::-1, :, ::-1]),
        ((("MSB = False", "MSB = True"),), BODY.byteswap()),
        ((("\n", "\r\n"),), BODY),
        ((("ObjectType = Image\n", ""),), BODY),
    ],
)
def test_headers_are_followed(tmp_path: Path, changes: tuple[tuple[str, str], ...], seen: np.ndarray) -> None:
    volume = read_volume(write(tmp_path / "ct.dat", *changes))
    np.testing.assert_array_equal(volume.voxels, seen)
    assert volume.spacing_mm == pytest.approx((2.5, 0.9, 0.7))


def test_the_origin_has_three_names(tmp_path: Path) -> None:
    below = ""
    # Each one is put before those of the names that give way to it.
    for x, name in enumerate(("Position", "Offset", "Origin")):
        below = f"{name} = {x} 2 3\n{below}"
        path = write(tmp_path / "ct.mha", ("Offset = 0 0 0\n", below))
        assert tuple(read_grid(path).affine[:3, 3]) == (-x, -2, 3)
        assert SimpleITK.ReadImage(str(path)).GetOrigin() == (x, 2, 3)


def test_without_orientation_it_is_read_as_stored_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "ct.mha", ("TransformMatrix = 1 0 0 0 1 0 0 0 1\n", ""))
    with pytest.raises(VolumeError, match="no orientation"):
        read_volume(path)
    volume = read_volume(path, orientation="stored")
    np.testing.assert_array_equal(volume.voxels, BODY)
    assert volume.spacing_mm == pytest.approx((2.5, 0.9, 0.7))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("LOCAL", "../../secret.raw", "voxels in another file"),
        ("LOCAL", "LIST", "voxels in another file"),
        ("ElementDataFile = LOCAL", "", "does not end"),
        ("ObjectType = Image", "ObjectType = Mesh", "ObjectType is 'Mesh'"),
        ("BinaryData = True\n", "", "voxels as text"),
        ("NDims = 3", "NDims = 1000000", "where a CT has 3 axes"),
        ("NDims = 3\n", "", "without NDims"),
        ("Offset", "ElementNumberOfChannels = 3\nOffset", "ElementNumberOfChannels is '3'"),
        ("Offset", "ElementToIntensityFunctionSlope = 2\nOffset", "ElementToIntensityFunctionSlope is '2'"),
        ("Offset", "HeaderSize = -1\nOffset", "HeaderSize is '-1'"),
        ("Offset", "DistanceUnits = cm\nOffset", "DistanceUnits is 'cm'"),
        ("MET_SHORT", "MET_LONG", "voxels are MET_LONG"),
        ("4 5 6", "4 5", "2 numbers where 3"),
        ("4 5 6", "4 5 -6", "empty"),
        ("4 5 6", "4 5 1", "single slice"),
        ("4 5 6", "1000 1000 1600", "larger than the limit"),
        ("4 5 6", "4 5 7", "announces 280 bytes"),
        ("2.5", "0", "is zero"),
        ("2.5", "-2.5", "is negative"),
        ("2.5", "nan", "not finite"),
        ("2.5", "900", "outside 0.05 to 50"),
        ("ElementSpacing = 0.7 0.9 2.5\n", "", "gives no spacing"),
        ("0 0 0 1\n", "0 0 0 nan\n", "not finite"),
        ("0 0 0 1\n", "0 0 0 2\n", "no unit vectors"),
        ("1 0 0 0 1 0", "1 0 0 1 0 0", "no volume"),
    ],
)
def test_bad_headers_say_what_is_wrong(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(VolumeError, match=message):
        read_volume(write(tmp_path / "ct.mha", (old, new)))


def test_other_numbers_of_axes(tmp_path: Path) -> None:
    flat = ("NDims = 3", "NDims = 2"), ("4 5 6", "4 30")
    with pytest.raises(VolumeError, match="2 axes where a CT has 3"):
        read_volume(write(tmp_path / "ct.mha", *flat))
    matrix = ("1 0 0 0 1 0 0 0 1", " ".join(str(value) for value in np.eye(4, dtype=int).ravel()))
    spacing, four = ("2.5", "2.5 1"), ("NDims = 3", "NDims = 4")
    with pytest.raises(VolumeError, match="4 axes where a CT has 3"):
        read_volume(write(tmp_path / "ct.mha", four, ("4 5 6", "4 5 3 2"), matrix, spacing))
    path = write(tmp_path / "ct.mha", four, ("4 5 6", "4 5 6 1"), matrix, spacing)
    np.testing.assert_array_equal(read_volume(path).voxels, BODY)
    path = write(tmp_path / "ct.mha", four, ("4 5 6", "4 5 6 1"), matrix, spacing, ("0 0 0\nEl", "1 2 3 4\nEl"))
    assert read_grid(path).shape == (4, 5, 6) and tuple(read_grid(path).affine[:3, 3]) == (-1, -2, 3)


def test_truncated_and_damaged_voxels_are_no_zeros(tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match="announces 240 bytes where 236"):
        read_volume(write(tmp_path / "ct.mha", voxels=VOXELS[:-4]))
    compressed = ("CompressedData = False", "CompressedData = True")
    whole = zlib.compress(VOXELS)
    np.testing.assert_array_equal(read_volume(write(tmp_path / "ct.mha", compressed, voxels=whole)).voxels, BODY)
    for cut in (1, 30, len(whole) // 2, len(whole) - 2):
        with pytest.raises(VolumeError, match="truncated"):
            read_volume(write(tmp_path / "ct.mha", compressed, voxels=whole[:cut]))
    with pytest.raises(VolumeError, match="ends 4 bytes before"):
        read_volume(write(tmp_path / "ct.mha", compressed, voxels=zlib.compress(VOXELS[:-4])))
    for place in (10, -2):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        with pytest.raises(VolumeError, match=r"damaged|truncated"):
            read_volume(write(tmp_path / "ct.mha", compressed, voxels=bytes(damaged)))
    noise = np.random.default_rng(0).integers(0, 1000, (50, 60, 70), dtype=np.int16)
    path = write(tmp_path / "ct.mha", compressed, ("4 5 6", "70 60 50"), voxels=zlib.compress(noise.tobytes()))
    np.testing.assert_array_equal(read_volume(path).voxels, noise)


def test_voxels_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    for bad, message in ((np.nan, "NaN"), (np.inf, "infinite")):
        voxels = BODY.astype(np.float32)
        voxels[3, 2, 1] = bad
        with pytest.raises(VolumeError, match=message):
            read_volume(write(tmp_path / "ct.mha", ("MET_SHORT", "MET_FLOAT"), voxels=voxels.tobytes()))
