"""The built-in data: synthetic chest CTs with reports, in the CT-RATE folder layout.

`generate` writes NIfTI volumes, reports, metadata and labels as CT-RATE lays them out, and beside them
`truth.parquet`: what is in each volume, with side, place, size, severity and position.
"""

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context, parent_process
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from rlaif.datasets.phantom_files import (
    volume_path,
    write_atomically,
    write_nifti,
    write_regions,
    write_settings,
    write_tables,
)
from rlaif.datasets.phantom_regions import region_masks
from rlaif.datasets.phantom_settings import PhantomSettings, fingerprint, split_of, study_ids
from rlaif.datasets.phantom_study import draw_study, plan_study
from rlaif.datasets.phantom_truth import TRUTH_FILE, labels_of, positions_of, truth_of, truth_table

__all__ = [
    "TRUTH_FILE",
    "PhantomSettings",
    "draw_study",
    "fingerprint",
    "generate",
    "labels_of",
    "plan_study",
    "positions_of",
    "split_of",
    "study_ids",
    "truth_of",
]

CHUNK = 16


def generate(
    root: Path,
    settings: PhantomSettings,
    progress: Callable[[int, int], None] | None = None,
    workers: int | None = None,
) -> None:
    """Write the whole data set under `root`, or what is missing of it; nothing where it is complete.

    `progress(done, total)` is called as studies are finished; `workers` processes draw (default: one for each
    CPU). The same settings give the same bytes whatever the number of workers. `truth.parquet` is written last.
    Raises ValueError where `root` holds data of other settings.
    """
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_settings(root, fingerprint(settings), settings.model_dump(mode="json"))
    if (root / TRUTH_FILE).is_file():
        return
    ids = study_ids(settings)
    chunks = [ids[start : start + CHUNK] for start in range(0, len(ids), CHUNK)]
    done = 0
    for finished in _draw_chunks(root, settings, chunks, workers or os.cpu_count() or 1):
        done += finished
        if progress is not None:
            progress(done, len(ids))
    studies = [plan_study(settings, study_id) for study_id in ids]
    write_tables(root, studies, settings)
    write_atomically(root / TRUTH_FILE, lambda path: pq.write_table(truth_table(studies, settings), path))


def _draw_chunks(root: Path, settings: PhantomSettings, chunks: list[list[str]], workers: int) -> Iterator[int]:
    if workers == 1 or len(chunks) < 2 * workers:
        for chunk in chunks:
            yield _draw_chunk(root, settings, chunk)
        return
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_end_with_parent)
    try:
        pending = [pool.submit(_draw_chunk, root, settings, chunk) for chunk in chunks]
        for future in as_completed(pending):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """End this worker when the process that started it is killed, which the pool alone would not notice."""
    parent = parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _draw_chunk(root: Path, settings: PhantomSettings, ids: list[str]) -> int:
    """Draw and write the studies that are not there yet; returns how many the chunk has."""
    for study_id in ids:
        path = volume_path(root, study_id)
        if path.is_file():
            continue
        study = plan_study(settings, study_id)
        volume, structures = draw_study(study, settings.noise_hu)
        if settings.regions:
            write_regions(root, study, region_masks(study.grid, study.anatomy, structures))
        write_nifti(path, np.rint(volume).astype(np.int16), study.grid.affine)
    return len(ids)
