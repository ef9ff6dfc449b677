"""Files with a few bytes changed, put in or taken out: they are read or refused, and nothing else happens."""

from contextlib import suppress
from pathlib import Path
from random import Random

import numpy as np
import pytest
import SimpleITK

from rlaif.volumes.grid import read_grid
from rlaif.volumes.volume import VolumeError, read_volume

BODY = np.random.default_rng(6).integers(-1000, 1000, (6, 5, 4), dtype=np.int16)


def readable(path: Path) -> bool:
    """Whether a volume is read, and not refused; its grid is read or refused as well."""
    with suppress(VolumeError):
        assert min(read_grid(path).shape) > 1
    try:
        return bool(read_volume(path).voxels.size)
    except VolumeError:
        return False


def mangled(content: bytes, header_bytes: int, random: Random) -> bytes:
    changed = bytearray(content)
    for _ in range(random.randint(1, 4)):
        place, kind = random.randrange(header_bytes), random.randrange(4)
        if kind == 0:
            changed[place] = random.choice((0, 127, 128, 255, random.randrange(256)))
        elif kind == 1:
            changed[place] ^= 1 << random.randrange(8)
        elif kind == 2:
            changed[place:place] = bytes(random.choices(b"0123456789-.e()naif \n:=", k=random.choice((1, 3))))
        else:
            del changed[place : place + random.randrange(1, 6)]
    return bytes(changed)


@pytest.mark.parametrize("ending", ["nii", "nrrd", "mha"])
def test_mangled_headers_are_read_or_refused(tmp_path: Path, ending: str) -> None:
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(BODY), tmp_path / f"ct.{ending}")
    content = (tmp_path / f"ct.{ending}").read_bytes()
    random, refused = Random(0), 0
    for _ in range(300):
        (tmp_path / "mangled").write_bytes(mangled(content, len(content) - BODY.nbytes, random))
        refused += not readable(tmp_path / "mangled")
    assert 100 < refused < 300


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_mangled_slices_are_read_or_refused(tmp_path: Path) -> None:
    writer = SimpleITK.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for index, plane in enumerate(BODY):
        image = SimpleITK.GetImageFromArray(plane[None])
        tags = {
            "0008|0060": "CT",
            "0020|000e": "1.2.3",
            "0020|0032": f"0\\0\\{index}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0028|1052": "0",
            "0028|1053": "1",
        }
        for tag, value in tags.items():
            image.SetMetaData(tag, value)
        writer.Execute(image, str(tmp_path / f"{index}.dcm"), False, -1)
    np.testing.assert_array_equal(read_volume(tmp_path).voxels, BODY)
    content = (tmp_path / "3.dcm").read_bytes()
    random, refused = Random(0), 0
    for _ in range(150):
        # The mark behind the preamble stays: without it the file is passed over, and a slice is missing.
        mangled_rest = mangled(content[132:], len(content) - 132 - BODY[3].nbytes, random)
        (tmp_path / "3.dcm").write_bytes(content[:132] + mangled_rest)
        refused += not readable(tmp_path)
    assert 30 < refused < 150
