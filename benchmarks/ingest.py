"""Reading and preparing a CT for CT-CLIP, against the obvious ways: prints tables, then one line of JSON.

python benchmarks/ingest.py [--rounds 5] [--without-real-cts]

Everything runs on one thread in one process, as a worker of the ingest does, from a warm file cache. Peers are taken
in turn, and medians compared. Ratios are times better than the peer, larger is better.
"""

import argparse
import json
import multiprocessing
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
import psutil
import torch
from isal import isal_zlib
from monai.transforms import (
    Compose,
    EnsureChannelFirst,
    LoadImage,
    Orientation,
    ResizeWithPadOrCrop,
    ScaleIntensityRange,
    Spacing,
)
from parity import SHARED, read, real_cts
from published_steps import ctclip_v1
from scipy.ndimage import gaussian_filter
from torch.nn import functional

from rlaif.volumes.recipes import RECIPES
from rlaif.volumes.resampling import apply
from rlaif.volumes.volume import Volume, check_hounsfield, read_volume

SHAPE, SPACING_MM = (512, 512, 300), (0.7, 0.7, 1.0)
NOISE_HU = 40.0
NIFTI_HEADER_BYTES = 352
GZIP_WINDOW_BITS = 31


def ours(path: Path) -> npt.NDArray[np.float32]:
    volume = read_volume(path)
    check_hounsfield(volume)
    return apply(RECIPES["ctclip_v1"], volume)


def monai(path: Path) -> Any:
    """The chain that MONAI's tutorials have."""
    steps = Compose(
        [
            LoadImage(image_only=True),
            EnsureChannelFirst(),
            Orientation(axcodes="LPS"),
            Spacing(pixdim=(0.75, 0.75, 1.5), mode="bilinear"),
            ScaleIntensityRange(a_min=-1000, a_max=200, b_min=-1, b_max=1, clip=True),
            ResizeWithPadOrCrop((480, 480, 240), constant_values=-1),
        ]
    )
    return steps(path)


def ctclip(path: Path) -> npt.NDArray[np.float32]:
    """CT-CLIP's published steps in its published precision."""
    image = nibabel.load(path)
    x, y, z = (float(distance) for distance in image.header.get_zooms())
    return ctclip_v1(image.get_fdata(), (x, y, z))


def floor(path: Path) -> torch.Tensor:
    """What no pipeline can leave out: the file inflated, and one trilinear resampling."""
    header = nibabel.load(path).header
    x, y, z = header.get_data_shape()
    dtype = header.get_data_dtype()
    expected = NIFTI_HEADER_BYTES + x * y * z * dtype.itemsize
    plain = isal_zlib.decompress(path.read_bytes(), GZIP_WINDOW_BITS, expected)
    voxels = torch.frombuffer(bytearray(plain), dtype=torch.int16, offset=NIFTI_HEADER_BYTES).reshape(z, y, x)
    size = [int(n * (mm / to)) for n, mm, to in zip((x, y, z), header.get_zooms(), (0.75, 0.75, 1.5), strict=True)]
    return functional.interpolate(voxels.float()[None, None], size=size[::-1], mode="trilinear")


PEERS: dict[str, Callable[[Path], Any]] = {"ours": ours, "monai": monai, "ctclip": ctclip, "floor": floor}


def save(volume: Volume, path: Path) -> Path:
    """A volume as int16 `.nii.gz` with axes to left, anterior and superior, as dcm2niix writes them."""
    z, y, x = volume.spacing_mm
    nibabel.save(nibabel.Nifti1Image(volume.voxels[:, ::-1].T.astype(np.int16), np.diag([-x, y, z, 1.0])), path)
    return path


def synthetic_scan() -> Volume:
    """A chest: body, lungs and spine as smooth shapes, a slow bias and a scanner's noise."""
    x, y, z = (np.linspace(-1, 1, length, dtype=np.float32) for length in SHAPE)
    z, y, x = z[:, None, None], y[None, :, None], x[None, None, :]
    random = np.random.default_rng(7)
    body = (x / 0.85) ** 2 + (y / 0.6) ** 2 < 1
    lungs = ((abs(x) - 0.38) / 0.28) ** 2 + (y / 0.42) ** 2 + (z / 0.9) ** 2 < 1
    spine = (x / 0.1) ** 2 + ((y - 0.42) / 0.1) ** 2 < 1
    anatomy = np.where(spine, 400.0, np.where(lungs, -850.0, np.where(body, 40.0, -1000.0))).astype(np.float32)
    voxels = np.empty(SHAPE[::-1], np.int16)
    for index, plane in enumerate(anatomy):
        noise = random.normal(0.0, NOISE_HU, plane.shape)
        voxels[index] = (gaussian_filter(plane, 2.0) + 20.0 * np.sin(3 * x[0] + 2 * z[index]) + noise).clip(-1024, 3071)
    return Volume(voxels, (SPACING_MM[2], SPACING_MM[1], SPACING_MM[0]))


def seconds(path: Path, rounds: int) -> dict[str, float]:
    """Each peer's median time for one scan, the peers taken in turn."""
    taken: dict[str, list[float]] = {name: [] for name in PEERS}
    for _ in range(rounds):
        for name, peer in PEERS.items():
            start = time.perf_counter()
            peer(path)
            taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in taken.items()}


def work(path: Path, repeats: int) -> float:
    """A worker's task: the seconds that it takes to read and prepare a scan several times."""
    torch.set_num_threads(1)
    start = time.perf_counter()
    for _ in range(repeats):
        ours(path)
    return time.perf_counter() - start


def memory(path: Path) -> int:
    """Bytes that a fresh worker's peak lies above what it holds before its first scan."""
    before = psutil.Process().memory_info().rss
    work(path, 2)
    # The process's own peak: getrusage's would be that of the parent where it is larger.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) * 1024 - before


def arithmetic(path: Path, repeats: int) -> float:
    """Work that needs a core and nothing else: what two workers of it give shows whether two cores were idle."""
    start = time.perf_counter()
    for _ in range(repeats):
        sum(range(20_000_000))
    return time.perf_counter() - start


def two_workers(path: Path, rounds: int, repeats: int = 4) -> tuple[float, float]:
    """The throughput of two worker processes as a multiple of one's, and the same of arithmetic: medians of rounds."""
    ratios: dict[str, list[float]] = {"ours": [], "arithmetic": []}
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        # Both are up and warm before the clock starts.
        for started in [pool.submit(work, path, 2) for _ in range(2)]:
            started.result()
        for _ in range(rounds):
            for name, task in (("ours", work), ("arithmetic", arithmetic)):
                alone = pool.submit(task, path, repeats).result()
                both = [half.result() for half in [pool.submit(task, path, repeats) for _ in range(2)]]
                ratios[name].append(2 * alone / max(both))
    return statistics.median(ratios["ours"]), statistics.median(ratios["arithmetic"])


def table_row(name: str, path: Path, taken: dict[str, float]) -> str:
    cells = [f"{taken['ours']:.2f}"]
    cells += [f"{taken[peer]:.2f} ({taken[peer] / taken['ours']:.1f})" for peer in ("monai", "ctclip")]
    cells.append(f"{taken['floor']:.2f} ({taken['floor'] / taken['ours']:.2f})")
    return f"| {name}, {path.stat().st_size / 1e6:.0f} MB | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--without-real-cts", action="store_true")
    settings = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        print(
            f"Recipe ctclip_v1, one thread in one process, medians of {settings.rounds} rounds (real CTs: at most 3).\n"
        )
        print("| scan | ours, s | MONAI, s (times ours) | CT-CLIP, s (times ours) | floor, s (times ours) |")
        print("| --- | ---: | ---: | ---: | ---: |")
        path = save(synthetic_scan(), Path(folder) / "synthetic.nii.gz")
        taken = seconds(path, settings.rounds)
        print(table_row("synthetic 512x512x300", path, taken), flush=True)
        if (SHARED / "ct").is_dir() and not settings.without_real_cts:
            for original in real_cts(SHARED / "ct"):
                # Series and other formats are converted, so that every peer can read them.
                scan = save(read(original), Path(folder) / f"{original.name}.nii.gz")
                print(table_row(original.name, scan, seconds(scan, min(3, settings.rounds))), flush=True)
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=spawn) as pool:
            peak = pool.submit(memory, path).result()
        print("\n| workers, synthetic scan | |\n| --- | ---: |")
        print(f"| one's peak memory, times the volume in float32 | {peak / (4 * np.prod(SHAPE)):.2f} |")
        throughput, idle = two_workers(path, settings.rounds)
        print(f"| throughput of two, times one's | {throughput:.2f} |")
        print(f"| the same of pure arithmetic (2 where both cores were idle) | {idle:.2f} |")
    print(json.dumps({f"vs_{peer}": round(taken[peer] / taken["ours"], 2) for peer in ("monai", "ctclip", "floor")}))


if __name__ == "__main__":
    main()
