"""NRRD files: those of another writer, hostile headers, the same patient as DICOM."""

import gzip
import os
import tarfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from rlaif.volumes.grid import read_grid
from rlaif.volumes.volume import VolumeError, check_hounsfield, read_volume

SHARED = Path(os.environ.get("RLAIF_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
needs_shared = pytest.mark.skipif(not (SHARED / "ct").is_dir(), reason=f"no real CTs at {SHARED}")
BODY = np.random.default_rng(4).integers(-1000, 1000, (6, 5, 4), dtype=np.int16)
HEADER = """NRRD0004
# a comment: with a colon
type: short
dimension: 3
space: left-posterior-superior
sizes: 4 5 6
space directions: (0.7,0,0) (0,0.9,0) (0,0,2.5)
kinds: domain domain domain
endian: little
encoding: raw
space origin: (0,0,0)
patient:=data file: none
"""
VOXELS = BODY.tobytes()


def write(path: Path, *changes: tuple[str, str], voxels: bytes = VOXELS) -> Path:
    header = HEADER
    for old, new in changes:
        assert old in header
        header = header.replace(old, new)
    path.write_bytes(header.encode() + b"\n" + voxels)
    return path


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "float32", "float64"])
def test_what_itk_writes_is_read_as_written(tmp_path: Path, dtype: str, compressed: bool) -> None:
    values = (BODY % 100).astype(dtype)
    image = SimpleITK.GetImageFromArray(values)
    image.SetSpacing((0.7, 0.9, 2.5))
    SimpleITK.WriteImage(image, tmp_path / "ct.nrrd", compressed)
    volume = read_volume(tmp_path / "ct.nrrd")
    np.testing.assert_array_equal(volume.voxels, values)
    assert volume.voxels.dtype == (np.float32 if dtype.startswith("float") else np.int16)
    assert volume.spacing_mm == pytest.approx((2.5, 0.9, 0.7))


@pytest.mark.parametrize(
    ("changes", "seen"),
    [
        ((), BODY),
        ((("left-posterior-superior", "LPS"),), BODY),
        ((("left-posterior-superior", "right-anterior-superior"),), BODY[:, ::-1, ::-1]),
        ((("left-posterior-superior", "left-anterior-superior"),), BODY[:, ::-1]),
        ((("(0,0,2.5)", "(0,0,-2.5)"),), BODY[::-1]),
        ((("\n", "\r\n"),), BODY),
        ((("dimension: 3", "dimension: 4"), ("5 6", "5 6 1"), ("2.5)", "2.5) none"), ("n\nend", "n list\nend")), BODY),
    ],
)
def test_every_space_comes_out_canonical(
    tmp_path: Path, changes: tuple[tuple[str, str], ...], seen: np.ndarray
) -> None:
    volume = read_volume(write(tmp_path / "ct.dat", *changes))
    np.testing.assert_array_equal(volume.voxels, seen)
    assert volume.spacing_mm == pytest.approx((2.5, 0.9, 0.7))
    grid = read_grid(write(tmp_path / "ct.dat", *changes))
    assert np.array_equal(grid.oriented(BODY, "canonical"), seen)


def test_the_origin_is_given_in_the_files_own_space(tmp_path: Path) -> None:
    for space, expected in (("LPS", (-1, -2, 3)), ("LAS", (-1, 2, 3)), ("RAS", (1, 2, 3))):
        path = write(tmp_path / "ct.nrrd", ("left-posterior-superior", space), ("(0,0,0)", "(1, 2, 3)"))
        assert tuple(read_grid(path).affine[:3, 3]) == expected


def test_big_endian_and_gzip(tmp_path: Path) -> None:
    path = write(
        tmp_path / "ct.nrrd", ("little", "big"), ("raw", "gzip"), voxels=gzip.compress(BODY.byteswap().tobytes())
    )
    np.testing.assert_array_equal(read_volume(path).voxels, BODY)


def test_without_orientation_it_is_read_as_stored_alone(tmp_path: Path) -> None:
    plain = ("space: left-posterior-superior\n", "")
    directions = ("space directions: (0.7,0,0) (0,0.9,0) (0,0,2.5)", "spacings: 0.7 0.9 2.5")
    for changes in ([plain], [directions], [plain, directions], [("left-posterior-superior", "scanner-xyz")]):
        path = write(tmp_path / "ct.nrrd", *changes)
        with pytest.raises(VolumeError, match="no orientation"):
            read_volume(path)
        volume = read_volume(path, orientation="stored")
        np.testing.assert_array_equal(volume.voxels, BODY)
        assert volume.spacing_mm == pytest.approx((2.5, 0.9, 0.7))
    with pytest.raises(VolumeError, match="gives no spacing"):
        read_volume(write(tmp_path / "ct.nrrd", (directions[0] + "\n", "")), orientation="stored")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("NRRD0004", "NRRD9999", "wrong magic"),
        ("encoding: raw", "encoding: raw\ndata file: ../../secret.raw", "voxels in another file"),
        ("encoding: raw", "encoding: raw\nDataFile: LIST", "voxels in another file"),
        ("encoding: raw", "encoding: raw\nbyte skip: -1", "'byte skip' in its header"),
        ("encoding: raw", "encoding: raw\nold max: 3000", "'old max' in its header"),
        ("encoding: raw", "encoding: bzip2", "encoding is 'bzip2'"),
        ("encoding: raw\n", "", "without encoding"),
        ("type: short", "type: block", "voxels are 'block'"),
        ("endian: little\n", "", "endian"),
        ("dimension: 3", "dimension: 99999999", "'99999999' where a CT has 3 axes"),
        ("dimension: 3", "dimension: 2", "3 numbers where 2"),
        ("4 5 6", "4 5 six", "are no numbers"),
        ("4 5 6", "4 5 6.5", "no whole numbers"),
        ("4 5 6", "4 5 -6", "empty"),
        ("4 5 6", "4 5 1", "single slice"),
        ("4 5 6", "1000 1000 1600", "larger than the limit"),
        ("4 5 6", "4 5 7", "announces 280 bytes"),
        ("domain domain domain", "RGB-color domain domain", "kinds RGB-color"),
        ("(0,0,2.5)", "(0,0,0)", "is zero"),
        ("(0,0,2.5)", "(0,0,nan)", "not finite"),
        ("(0,0,2.5)", "(0,0,900)", "outside 0.05 to 50"),
        ("(0,0,2.5)", "none", "not three vectors"),
        ("(0,0,2.5)", "(0,0.9,0)", "no volume"),
        ("endian", 'space units: "cm" "cm" "cm"\nendian', "space units"),
    ],
)
def test_bad_headers_say_what_is_wrong(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(VolumeError, match=message):
        read_volume(write(tmp_path / "ct.nrrd", (old, new)))


def test_more_axes_than_a_volume_has_are_refused(tmp_path: Path) -> None:
    for dimension, sizes, kinds in (("2", "4 30", "domain domain"), ("4", "4 5 3 2", "domain domain domain list")):
        changes = ("dimension: 3", f"dimension: {dimension}"), ("4 5 6", sizes), ("domain domain domain", kinds)
        with pytest.raises(VolumeError, match=f"{dimension} axes where a CT has 3"):
            read_volume(write(tmp_path / "ct.nrrd", *changes))


def test_truncated_and_damaged_voxels_are_no_zeros(tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match="announces 240 bytes where 236"):
        read_volume(write(tmp_path / "ct.nrrd", voxels=VOXELS[:-4]))
    whole = gzip.compress(VOXELS)
    for cut in (5, 30, len(whole) // 2, len(whole) - 4):
        with pytest.raises(VolumeError, match="truncated"):
            read_volume(write(tmp_path / "ct.nrrd", ("raw", "gzip"), voxels=whole[:cut]))
    damaged = bytearray(whole)
    damaged[-6] ^= 0xFF
    with pytest.raises(VolumeError, match="damaged"):
        read_volume(write(tmp_path / "ct.nrrd", ("raw", "gzip"), voxels=bytes(damaged)))
    with pytest.raises(VolumeError, match="does not end"):
        (tmp_path / "ct.nrrd").write_bytes(HEADER.encode()[:-30])
        read_volume(tmp_path / "ct.nrrd")
    with pytest.raises(VolumeError, match="does not end"):
        write(tmp_path / "ct.nrrd", ("# a comment", "# " + "x" * 70_000))
        read_volume(tmp_path / "ct.nrrd")


def test_voxels_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    for bad, message in ((np.nan, "NaN"), (np.inf, "infinite")):
        voxels = BODY.astype(np.float32)
        voxels[3, 2, 1] = bad
        with pytest.raises(VolumeError, match=message):
            read_volume(write(tmp_path / "ct.nrrd", ("short", "float"), voxels=voxels.tobytes()))


def test_claims_that_the_file_cannot_hold_take_no_memory(tmp_path: Path) -> None:
    path = write(tmp_path / "ct.nrrd", ("4 5 6", "512 512 2000"), ("raw", "gzip"), voxels=gzip.compress(VOXELS))
    tracemalloc.start()
    with pytest.raises(VolumeError, match="announces 1048576000"):
        read_volume(path)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


@needs_shared
def test_a_patient_is_the_same_as_nrrd_and_as_dicom(tmp_path: Path) -> None:
    with tarfile.open(SHARED / "ct" / "cip_chest_ct64_dicom79.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    nrrd, dicom = read_volume(SHARED / "ct" / "cip_chest_ct64.nrrd"), read_volume(tmp_path)
    check_hounsfield(nrrd)
    np.testing.assert_array_equal(nrrd.voxels, dicom.voxels)
    assert nrrd.spacing_mm == pytest.approx(dicom.spacing_mm, rel=1e-4)
    # The region map's low byte: 9 to 11 are thirds of the left lung, 12 to 14 of the right one.
    regions = read_volume(SHARED / "masks" / "cip_chest_lm64.nrrd").voxels.astype(int) & 0xFF
    left, right = np.isin(regions, (9, 10, 11)), np.isin(regions, (12, 13, 14))
    assert np.nonzero(right)[2].mean() + 10 < np.nonzero(left)[2].mean()
    assert max(nrrd.voxels[left].mean(), nrrd.voxels[right].mean()) < -700


def test_a_field_that_stands_twice_is_refused(tmp_path: Path) -> None:
    sizes = next(line for line in HEADER.splitlines() if line.startswith("sizes"))
    with pytest.raises(VolumeError, match="has 'sizes' twice in its header"):
        read_volume(write(tmp_path / "ct.nrrd", (sizes, f"{sizes}\nsizes: 4 5 6")))
    commented = write(tmp_path / "comments.nrrd", (sizes, f"{sizes}\n# one\n# one\nkey:=1\nkey:=2"))
    assert read_volume(commented).voxels.size > 0
