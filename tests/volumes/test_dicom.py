"""DICOM series: order, gaps, several series in a folder, real scans."""

import os
import tarfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from rlaif.volumes.volume import VolumeError, check_hounsfield, read_volume

SHARED = Path(os.environ.get("RLAIF_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
needs_shared = pytest.mark.skipif(not (SHARED / "ct").is_dir(), reason=f"no real CTs at {SHARED}")
BODY = np.random.default_rng(5).integers(-1000, 1000, (6, 4, 5)).astype(np.int16)


def write_slice(folder: Path, name: str, hounsfield: np.ndarray, position: list[float], **tags: object) -> Path:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one = Dataset()
    one.file_meta = meta
    one.SOPClassUID, one.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    one.Modality, one.SeriesInstanceUID, one.ImageType = "CT", "1.2.3", ["ORIGINAL", "PRIMARY", "AXIAL"]
    one.Rows, one.Columns = hounsfield.shape
    one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
    one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 0
    one.PixelSpacing, one.ImageOrientationPatient = [0.9, 0.7], [1, 0, 0, 0, 1, 0]
    one.ImagePositionPatient = position
    one.RescaleSlope, one.RescaleIntercept = 1, -1024
    one.PixelData = (hounsfield + 1024).astype("<u2").tobytes()
    for tag, value in tags.items():
        if value is None:
            delattr(one, tag)
        else:
            setattr(one, tag, value)
    folder.mkdir(exist_ok=True, parents=True)
    pydicom.dcmwrite(folder / name, one, enforce_file_format=True)
    return folder / name


def write_series(folder: Path, skip: tuple[int, ...] = (), **tags: object) -> Path:
    """The body as a series whose file names are in another order than its slices."""
    for index in set(range(len(BODY))) - set(skip):
        write_slice(folder, f"{(index * 5) % 7}.dcm", BODY[index], [-10.0, -20.0, 100.0 + 2.5 * index], **tags)
    return folder


def test_slices_are_ordered_by_position_whatever_their_names(tmp_path: Path) -> None:
    volume = read_volume(write_series(tmp_path / "series"))
    np.testing.assert_array_equal(volume.voxels, BODY)
    assert volume.voxels.dtype == np.int16
    assert volume.spacing_mm == pytest.approx((2.5, 0.9, 0.7))


def test_a_feet_first_prone_series_comes_out_in_the_same_orientation(tmp_path: Path) -> None:
    turned = BODY[:, ::-1, ::-1]
    for index in range(len(BODY)):
        write_slice(
            tmp_path / "series",
            f"{index}",
            turned[index],
            [10.0, 20.0, 2.5 * index],
            ImageOrientationPatient=[-1, 0, 0, 0, -1, 0],
        )
    np.testing.assert_array_equal(read_volume(tmp_path / "series").voxels, BODY)


def test_a_coronal_series_comes_out_in_the_same_orientation(tmp_path: Path) -> None:
    for index in range(BODY.shape[1]):
        coronal = BODY[::-1, index]  # rows run downwards
        write_slice(
            tmp_path / "series",
            f"{index}",
            coronal,
            [0.0, 0.9 * index, 90.0],
            ImageOrientationPatient=[1, 0, 0, 0, 0, -1],
            PixelSpacing=[2.5, 0.7],
        )
    volume = read_volume(tmp_path / "series")
    np.testing.assert_array_equal(volume.voxels, BODY)
    assert volume.spacing_mm == pytest.approx((2.5, 0.9, 0.7))


def test_a_missing_slice_is_named(tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match=r"unevenly spaced: 3\.dcm and 6\.dcm lie 5\.00 mm apart where 2\.50"):
        read_volume(write_series(tmp_path / "series", skip=(3,)))


def test_localizers_and_foreign_files_are_passed_over_and_copies_read_once(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "series")
    write_slice(folder, "scout", BODY[0], [0.0, 0.0, 0.0], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    write_slice(folder, "dose", BODY[0], [0.0, 0.0, 0.0], Modality="SR")
    write_slice(folder, "screen", BODY[0], [0.0, 0.0, 0.0], ImagePositionPatient=None)
    (folder / "copy.dcm").write_bytes((folder / "3.dcm").read_bytes())
    (folder / "notes.txt").write_text("scanned twice")
    np.testing.assert_array_equal(read_volume(folder).voxels, BODY)


def test_two_phases_at_one_position_are_an_error(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "series")
    write_slice(folder, "late.dcm", BODY[1] + np.int16(1), [-10.0, -20.0, 102.5])
    with pytest.raises(VolumeError, match="two different slices lie at"):
        read_volume(folder)


def test_several_series_are_named_and_a_small_one_is_left_out(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "series")
    for index in range(4):
        write_slice(
            folder,
            f"other{index}",
            BODY[index],
            [0, 0, float(index)],
            SeriesInstanceUID="9.8",
            SeriesDescription="bone",
        )
    with pytest.raises(
        VolumeError, match=r"holds 2 CT series: 1\.2\.3 \(no description, 6 slices\); 9\.8 \(bone, 4 slices\)"
    ):
        read_volume(folder)
    many = tmp_path / "many"
    for index in range(20):
        write_slice(many, f"{index}", BODY[index % 6], [0, 0, float(index)])
    write_slice(many, "stray", BODY[0], [0, 0, 7.0], SeriesInstanceUID="9.8")
    assert read_volume(many).voxels.shape == (20, 4, 5)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"RescaleIntercept": None}, "no rescale slope and intercept"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "no pair of perpendicular unit vectors"),
        ({"PixelSpacing": [0.0, 0.7]}, "spacing"),
        ({"Modality": "MR"}, "no CT slices \\(found: 6 MR\\)"),
        ({"NumberOfFrames": 4}, "multi-frame CT"),
        ({"PixelData": b"12"}, "cannot be decoded"),
        ({"Rows": 60_000}, "larger than the limit"),
    ],
)
def test_unusable_series_say_what_is_wrong(tmp_path: Path, tags: dict[str, object], message: str) -> None:
    with pytest.raises(VolumeError, match=message):
        read_volume(write_series(tmp_path / "series", **tags))


def test_folders_without_a_volume_are_refused(tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match="holds no DICOM files"):
        read_volume(tmp_path)
    write_slice(tmp_path / "one", "1", BODY[0], [0, 0, 0])
    with pytest.raises(VolumeError, match="single slice"):
        read_volume(tmp_path / "one")


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    outside = write_series(tmp_path / "outside")
    (tmp_path / "inside").mkdir()
    for path in outside.iterdir():
        (tmp_path / "inside" / path.name).symlink_to(path)
    with pytest.raises(VolumeError, match="holds no DICOM files"):
        read_volume(tmp_path / "inside")


def test_fractional_slopes_and_padding_beyond_int16(tmp_path: Path) -> None:
    half = read_volume(write_series(tmp_path / "half", RescaleSlope=0.5, RescaleIntercept=-512))
    assert half.voxels.dtype == np.float32
    np.testing.assert_allclose(half.voxels, BODY / 2)
    padded = read_volume(write_series(tmp_path / "padded", RescaleIntercept=-33_500))
    assert padded.voxels.min() == -32_768
    np.testing.assert_array_equal(padded.voxels, np.maximum(BODY.astype(int) + 1024 - 33_500, -32_768))


def unpack(name: str, target: Path) -> Path:
    with tarfile.open(SHARED / "ct" / name) as archive:
        archive.extractall(target, filter="data")
    return target


@needs_shared
def test_a_real_series_has_its_spine_at_the_back(tmp_path: Path) -> None:
    volume = read_volume(unpack("lung_dx_a0001_dicom64.tar.xz", tmp_path))
    check_hounsfield(volume)
    assert volume.voxels.shape == (64, 512, 512)
    assert volume.voxels.dtype == np.int16
    assert volume.spacing_mm == pytest.approx((5.0, 0.841796875, 0.841796875))
    # Bone lies posterior (spine) to the body's centre.
    middle = volume.voxels[20:45, ::2, ::2]
    body, bone = np.nonzero(middle > -200), np.nonzero(middle > 300)
    assert bone[1].mean() > body[1].mean()


@needs_shared
def test_jpeg_2000_slices_are_decoded(tmp_path: Path) -> None:
    volume = read_volume(unpack("totalseg_dicom20_jpeg2000.tar", tmp_path))
    check_hounsfield(volume)
    assert volume.voxels.shape == (20, 512, 512)
    assert volume.spacing_mm == pytest.approx((2.0, 0.9765625, 0.9765625))
    assert volume.voxels.min() == -1024
