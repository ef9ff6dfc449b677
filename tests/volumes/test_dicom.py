"""DICOM series: order, gaps, several series in a folder, real scans."""

import os
import tarfile
from pathlib import Path
from random import Random

import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.tag import Tag
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from rlaif.volumes.grid import read_grid
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
    volume = read_volume(folder)
    np.testing.assert_array_equal(volume.voxels, BODY)
    assert volume.remarks == (
        "passed over 1 file without DICOM's mark, 1 SR, 1 localizer, 1 CT object without an image plane",
        "repeated slices left out: 1",
    )


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
        VolumeError,
        match=r"holds 2 CT series: 1\.2\.3 \(no description, 6 slices\); 9\.8 \(bone, 4 slices\); "
        r"name the one to use behind the path, as folder#UID",
    ):
        read_volume(folder)
    np.testing.assert_array_equal(read_volume(folder, series="1.2.3").voxels, BODY)
    other = read_volume(folder, series="9.8")
    np.testing.assert_array_equal(other.voxels, BODY[:4])
    assert other.remarks == ("slices of other series left out: 6",)
    with pytest.raises(VolumeError, match=r"holds no CT series 7; those that are there: 1\.2\.3 .*; 9\.8 \(bone"):
        read_volume(folder, series="7")
    # What another series lacks is no matter.
    write_slice(folder, "other4", BODY[4], [0, 0, 4.0], SeriesInstanceUID="9.8", RescaleSlope=None)
    np.testing.assert_array_equal(read_volume(folder, series="1.2.3").voxels, BODY)
    many = tmp_path / "many"
    for index in range(20):
        write_slice(many, f"{index}", BODY[index % 6], [0, 0, float(index)])
    write_slice(many, "stray", BODY[0], [0, 0, 7.0], SeriesInstanceUID="9.8")
    volume = read_volume(many)
    assert volume.voxels.shape == (20, 4, 5)
    assert volume.remarks == ("slices of other series left out: 1",)


def test_the_grid_is_that_of_the_slices_that_are_read(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "below" / "series")
    (folder / "copy.dcm").write_bytes((folder / "3.dcm").read_bytes())
    write_slice(folder, "scout", BODY[0], [0.0, 0.0, 0.0], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    expected = np.array([[-0.7, 0, 0, 10], [0, -0.9, 0, 20], [0, 0, 2.5, 100], [0, 0, 0, 1]])
    for place in (folder, tmp_path):
        grid = read_grid(place)
        assert grid.shape == (5, 4, 6)
        np.testing.assert_allclose(grid.affine, expected, atol=1e-9)
    for index in range(4):
        write_slice(folder, f"other{index}", BODY[index], [0, 0, float(index)], SeriesInstanceUID="9.8")
    with pytest.raises(VolumeError, match="holds 2 CT series"):
        read_grid(tmp_path)
    np.testing.assert_allclose(read_grid(tmp_path, "1.2.3").affine, expected, atol=1e-9)
    assert read_grid(tmp_path, "9.8").shape == (5, 4, 4)


def test_slices_can_be_left_as_stored(tmp_path: Path) -> None:
    for index in range(BODY.shape[1]):
        write_slice(
            tmp_path / "series",
            f"{index}",
            BODY[:, BODY.shape[1] - 1 - index],
            [0.0, -0.9 * index, 0.0],
            ImageOrientationPatient=[1, 0, 0, 0, 0, 1],
            PixelSpacing=[2.5, 0.7],
        )
    # The normal runs to the anterior side, so the slices follow each other from back to front.
    volume = read_volume(tmp_path / "series", orientation="stored")
    np.testing.assert_array_equal(volume.voxels, BODY[:, ::-1].transpose(1, 0, 2))
    assert volume.spacing_mm == pytest.approx((0.9, 2.5, 0.7))
    np.testing.assert_array_equal(read_volume(tmp_path / "series").voxels, BODY)


def write_tilted(folder: Path, degrees: float, **tags: object) -> Path:
    turn = np.radians(degrees)
    rows_along = [0, round(float(np.cos(turn)), 8), round(float(np.sin(turn)), 8)]
    for index in range(len(BODY)):
        origin = [-10.0, -20.0, 2.5 * index]
        write_slice(folder, f"{index}", BODY[index], origin, ImageOrientationPatient=[1, 0, 0, *rows_along], **tags)
    return folder


def test_a_tilted_gantry_is_remarked_with_its_angle(tmp_path: Path) -> None:
    volume = read_volume(write_tilted(tmp_path / "tilted", 12.3, GantryDetectorTilt=12.3))
    np.testing.assert_array_equal(volume.voxels, BODY)
    assert volume.spacing_mm[0] == pytest.approx(2.5 * np.cos(np.radians(12.3)))
    assert volume.remarks == (
        "gantry tilted by 12.3 degrees: slices are stacked along their normal, not sheared back",
        "oblique by 12.3 degrees: taken along its nearest axes, not rotated",
    )
    assert read_volume(write_tilted(tmp_path / "slight", 0.3)).remarks == ()
    (told,) = read_volume(write_series(tmp_path / "told", GantryDetectorTilt=-20)).remarks
    assert told == "gantry tilted by 20.0 degrees by its tag, yet slices lie straight above each other"


def test_gaps_and_shifts_that_are_small_are_remarked(tmp_path: Path) -> None:
    for index in range(len(BODY)):
        write_slice(tmp_path / "gaps", f"{index}", BODY[index], [0, 0, 2.5 * index + (0.4 if index == 2 else 0.0)])
        write_slice(tmp_path / "shifts", f"{index}", BODY[index], [7.0 if index == 2 else 0.0, 0, 2.5 * index])
    (gaps,) = read_volume(tmp_path / "gaps").remarks
    assert gaps == "slices lie 2.10 to 2.90 mm apart: 2.50 mm is taken"
    (shifts,) = read_volume(tmp_path / "shifts").remarks
    assert shifts == "slices are shifted against each other in their plane by up to 7.0 mm"


def jpeg_lossless(values: np.ndarray, path: Path) -> bytes:
    """The slice's pixel data as GDCM encodes them."""
    writer = SimpleITK.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.SetUseCompression(True)
    writer.SetCompressor("JPEG")
    writer.Execute(SimpleITK.GetImageFromArray(values), str(path), True, -1)
    encoded = pydicom.dcmread(path)
    assert encoded.file_meta.TransferSyntaxUID == JPEGLosslessSV1
    return bytes(encoded.PixelData)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLosslessSV1, JPEGLSLossless])
def test_lossless_compressions_are_decoded(tmp_path: Path, syntax: UID) -> None:
    for path in sorted(write_series(tmp_path / "series").iterdir()):
        one = pydicom.dcmread(path)
        if syntax == JPEGLosslessSV1:
            one.PixelData = jpeg_lossless(one.pixel_array, tmp_path / "encoded.dcm")
            one.file_meta.TransferSyntaxUID = syntax
        else:
            one.compress(syntax)
        one.save_as(path)
    np.testing.assert_array_equal(read_volume(tmp_path / "series").voxels, BODY)


def test_a_transfer_syntax_without_decoder_is_named(tmp_path: Path) -> None:
    for path in write_series(tmp_path / "series").iterdir():
        one = pydicom.dcmread(path)
        one.PixelData = encapsulate([b"a film"])
        one.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.4.100")
        one.save_as(path)
    with pytest.raises(VolumeError, match=r"of transfer syntax MPEG2 Main Profile / Main Level, cannot be decoded"):
        read_volume(tmp_path / "series")


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"RescaleIntercept": None}, "no rescale slope and intercept"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "no pair of perpendicular unit vectors"),
        ({"PixelSpacing": [0.0, 0.7]}, "is zero"),
        ({"PixelSpacing": [0.9, -0.7]}, "is negative"),
        ({"PixelSpacing": [0.9, 0.7, 0.7]}, "incomplete image plane"),
        ({"RescaleSlope": "1e39", "RescaleIntercept": 0}, "overflows"),
        ({"Modality": "MR"}, "no CT slices \\(found: 6 MR\\)"),
        ({"NumberOfFrames": 4}, "multi-frame CT"),
        ({"PixelData": b"12"}, "cannot be decoded"),
        ({"Rows": 60_000}, "larger than the limit"),
    ],
)
def test_unusable_series_say_what_is_wrong(tmp_path: Path, tags: dict[str, object], message: str) -> None:
    folder = write_series(tmp_path / "series", **tags)
    with pytest.raises(VolumeError, match=message):
        read_volume(folder)
    if message not in ("overflows", "cannot be decoded"):
        with pytest.raises(VolumeError, match=message):
            read_grid(folder)


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


def test_a_deflated_file_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    for path in write_series(tmp_path / "series").iterdir():
        one = pydicom.dcmread(path)
        one.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        one.save_as(path, enforce_file_format=True)
    with pytest.raises(VolumeError, match="is a deflated DICOM file, which is not read"):
        read_volume(tmp_path / "series")
    (first, *_) = sorted((tmp_path / "series").iterdir())
    first.write_bytes(first.read_bytes()[:-20])
    with pytest.raises(VolumeError, match="deflated"):
        read_volume(tmp_path / "series")


@pytest.mark.parametrize("frames", ["infinity", "1e999", "-", "9" * 400])
def test_a_number_that_is_none_is_a_damaged_header(tmp_path: Path, frames: str) -> None:
    for path in write_series(tmp_path / "series").iterdir():
        one = pydicom.dcmread(path)
        one.add(RawDataElement(Tag("NumberOfFrames"), "IS", len(frames), frames.encode(), 0, False, True))
        one.save_as(path)
    with pytest.raises(VolumeError, match="damaged DICOM header"):
        read_volume(tmp_path / "series")
    with pytest.raises(VolumeError, match="damaged DICOM header"):
        read_grid(tmp_path / "series")


def test_sequences_within_sequences_without_end_are_a_damaged_header(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "series")
    first = sorted(folder.iterdir())[0]
    content = first.read_bytes()
    # An item of undefined length within another, 3,000 deep, in the place of the tags behind the preamble's group.
    opening = b"\x08\x00\x10\x11SQ\x00\x00\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    start = content.index(b"\x08\x00\x08\x00CS")
    first.write_bytes(content[:start] + opening * 3000)
    with pytest.raises(VolumeError):
        read_volume(folder)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_mangled_compressed_slices_are_decoded_or_refused(tmp_path: Path, syntax: UID) -> None:
    for path in write_series(tmp_path / "series").iterdir():
        one = pydicom.dcmread(path)
        one.compress(syntax)
        one.save_as(path)
    # One of the middle: at an end, a file that is no CT any more is passed over with a remark.
    chosen = tmp_path / "series" / "1.dcm"
    content, random, refused = chosen.read_bytes(), Random(0), 0
    for _ in range(150):
        changed = bytearray(content)
        for _ in range(random.randint(1, 4)):
            changed[random.randrange(len(content) - 120, len(content))] = random.randrange(256)
        chosen.write_bytes(bytes(changed[: random.choice((len(content), len(content) - 7))]))
        try:
            assert read_volume(tmp_path / "series").voxels.size == BODY.size
        except VolumeError:
            refused += 1
    assert 0 < refused < 150


@pytest.mark.parametrize("rest", ["empty", "link"])
def test_what_a_broken_copy_left_of_the_last_slice_is_told(tmp_path: Path, rest: str) -> None:
    folder = write_series(tmp_path / "series")
    last = folder / "4.dcm"
    last.unlink()
    if rest == "empty":
        last.touch()
    else:
        last.symlink_to(tmp_path / "gone")
    with pytest.raises(VolumeError, match=r"4\.dcm is (an empty file|a link to nothing): copy the series again"):
        read_volume(folder)


def test_a_slice_that_lost_its_mark_is_remarked(tmp_path: Path) -> None:
    last = write_series(tmp_path / "series") / "4.dcm"
    last.write_bytes(last.read_bytes()[132:])
    volume = read_volume(tmp_path / "series")
    assert volume.voxels.shape[0] == len(BODY) - 1
    assert volume.remarks == ("passed over 1 file without DICOM's mark",)


def test_bits_that_are_not_the_low_ones_are_refused(tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match="keeps its 12 bits at bit 15"):
        read_volume(write_series(tmp_path / "series", BitsStored=12))


def test_slices_of_two_patients_are_no_series(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "series", PatientID="one")
    other = pydicom.dcmread(folder / "1.dcm")
    other.PatientID = "two"
    other.save_as(folder / "1.dcm")
    with pytest.raises(VolumeError, match="slices of several patients"):
        read_volume(folder)
