"""How the phantom is laid out on disk: CT-RATE's tree and tables, and RadGenome-ChestCT's region files."""

import csv
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
from isal import igzip

from rlaif.datasets.phantom_settings import PhantomSettings
from rlaif.datasets.phantom_shapes import Array
from rlaif.datasets.phantom_study import PhantomStudy
from rlaif.reports.findings import CT_RATE_LABELS

# CT-RATE names the held-out set "valid" in its tree and label table, and "validation" in its other tables.
_TABLES = {"train": "train", "valid": "validation"}


def volume_path(root: Path, study_id: str) -> Path:
    """Where a study's volume stands: `dataset/train/train_1/train_1_a/train_1_a_1.nii.gz`."""
    prefix, number, scan, _ = study_id.split("_")
    patient = f"{prefix}_{number}"
    return root / "dataset" / prefix / patient / f"{patient}_{scan}" / f"{study_id}.nii.gz"


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then give it the name in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_nifti(
    path: Path, voxels: npt.NDArray[np.int16] | npt.NDArray[np.uint8], affine: npt.NDArray[np.float64]
) -> None:
    """Write voxels [depth, height, width] as .nii.gz with axes (width, height, depth); same voxels, same bytes."""
    header = nibabel.Nifti1Header()
    header.set_data_dtype(voxels.dtype)
    header.set_data_shape(voxels.shape[::-1])
    header.set_sform(affine, code=1)
    header.set_qform(affine, code=1)
    header.set_xyzt_units("mm")
    header["vox_offset"] = 352
    header["scl_slope"], header["scl_inter"] = 1, 0
    content = header.binaryblock + b"\0\0\0\0" + voxels.astype(voxels.dtype.newbyteorder("<")).tobytes()
    write_atomically(path, lambda temporary: temporary.write_bytes(igzip.compress(content, 1, mtime=0)))


def write_settings(root: Path, name: str, settings: dict[str, Any]) -> None:
    """Note under `root` which settings its data are of.

    Raises ValueError where it already holds data of others.
    """
    path = root / "phantom.json"
    if path.is_file():
        held = json.loads(path.read_text(encoding="utf-8"))
        if held.get("fingerprint") != name:
            raise ValueError(
                f"{root} holds phantom data {held.get('fingerprint')} of other settings than {name}; "
                "choose another folder or delete this one"
            )
        return
    text = json.dumps({"fingerprint": name, "settings": settings}, indent=1) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_tables(root: Path, studies: Sequence[PhantomStudy], settings: PhantomSettings) -> None:
    """Write the reports, metadata, labels and (with regions) region sentences of all studies as CSV."""
    for prefix, table in _TABLES.items():
        chosen = [study for study in studies if study.study_id.startswith(prefix)]
        dataset = root / "dataset"
        _write_csv(
            dataset / "radiology_text_reports" / f"{table}_reports.csv",
            ("VolumeName", "ClinicalInformation_EN", "Technique_EN", "Findings_EN", "Impressions_EN"),
            (_report_row(study, settings) for study in chosen),
        )
        _write_csv(
            dataset / "metadata" / f"{table}_metadata.csv", _METADATA, (_metadata_row(one, settings) for one in chosen)
        )
        _write_csv(
            dataset / "multi_abnormality_labels" / f"{prefix}_predicted_labels.csv",
            ("VolumeName", *CT_RATE_LABELS),
            (_label_row(study) for study in chosen),
        )
        if settings.regions:
            _write_csv(
                dataset / "radgenome_files" / f"{table}_region_report.csv",
                ("Volumename", "Anatomy", "Sentence"),
                (row for study in chosen for row in _sentence_rows(study)),
            )


_METADATA = (
    "VolumeName",
    "Manufacturer",
    "PatientSex",
    "PatientAge",
    "Rows",
    "Columns",
    "XYSpacing",
    "RescaleIntercept",
    "RescaleSlope",
    "RescaleType",
    "NumberofSlices",
    "ZSpacing",
)


def _report_row(study: PhantomStudy, settings: PhantomSettings) -> tuple[str, ...]:
    technique = f"Non-contrast chest CT with {settings.spacing_mm[0]:g} mm slices."
    report = study.report
    return _volume_name(study), report.clinical_information, technique, report.findings, report.impression


def _metadata_row(study: PhantomStudy, settings: PhantomSettings) -> tuple[object, ...]:
    depth, height, width = settings.shape
    z, y, x = settings.spacing_mm
    size = (height, width, f"[{y}, {x}]")
    return (_volume_name(study), "Phantom", study.sex, f"{study.age:03d}Y", *size, 0, 1, "HU", depth, z)


def _label_row(study: PhantomStudy) -> tuple[object, ...]:
    present = {finding.name for finding in study.findings}
    return (_volume_name(study), *(int(label.lower() in present) for label in CT_RATE_LABELS))


def _sentence_rows(study: PhantomStudy) -> list[tuple[str, str, str]]:
    """A row for each region that the report speaks of, and one with no region for the whole report."""
    by_region: dict[str, list[str]] = {"": [study.report.findings]}
    for region, sentence in study.report.sentences:
        by_region.setdefault(region, []).append(sentence)
    return [(_volume_name(study), region, " ".join(sentences)) for region, sentences in by_region.items()]


def _volume_name(study: PhantomStudy) -> str:
    return f"{study.study_id}.nii.gz"


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    def write(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(header)
            writer.writerows(rows)

    write_atomically(path, write)


def write_regions(root: Path, study: PhantomStudy, regions: dict[str, Array]) -> None:
    """Write each region of a study as a mask of 0 and 1 on the volume's grid; none where no voxel is half in it."""
    prefix = study.study_id.split("_")[0]
    folder = root / "dataset" / f"{prefix}_region_mask" / f"seg_{study.study_id}"
    for region, coverage in regions.items():
        if (mask := coverage >= 0.5).any():
            write_nifti(folder / f"{region}.nii.gz", mask.astype(np.uint8), study.grid.affine)
