"""Real CTs, as NIfTI, NRRD and DICOM series, through the main job with the policy of another run."""

import json
import os
import shutil
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlaif.records import Candidate, Ingested, Judgement, Quarantined, Study
from rlaif.tables import Table

SHARED = Path(os.environ.get("RLAIF_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data")) / "ct"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not SHARED.is_dir(), reason=f"no real CTs at {SHARED}: set RLAIF_SHARED_DATA to their folder"),
]


@pytest.fixture
def cts(tmp_path: Path) -> Path:
    """The shared CTs with their table, each DICOM archive unpacked into the folder of its name."""
    root = tmp_path / "cts"
    root.mkdir()
    for path in SHARED.iterdir():
        if ".tar" not in path.name:
            shutil.copyfile(path, root / path.name)
            continue
        unpacked = tmp_path / "unpacked" / path.name
        with tarfile.open(path) as archive:
            archive.extractall(unpacked, filter="data")
        slices = next(one.parent for one in sorted(unpacked.rglob("*")) if one.is_file())
        slices.rename(root / path.name.partition(".tar")[0])
    return root


def test_every_readable_ct_gets_reports_and_those_without_reference_are_told_apart(
    smoke: Any, start_job: Callable[..., Any], cts: Path, tmp_path: Path
) -> None:
    job = start_job(
        "dpo_loop",
        "data=folder",
        f"data.path={cts}",
        "data.split={sft: 0.0, align: 0.8, heldout: 0.2}",
        "policy=folder",
        f"policy.path={smoke.path / 'base'}",
        f"run.root={tmp_path / 'runs'}",
        f"cache.root={tmp_path / 'cache'}",
        "run.name=real",
        "run.rounds=1",
        "run.max_bad_fraction=0.5",
        "sampler.max_tokens=64",
        "ingest.batch=2",
    )
    assert job.ended(600) == 0, job.output[-3000:]
    run = tmp_path / "runs" / "real"
    studies = {one.study_id: one for one in Table(run / "studies", Study).read()}
    quarantined = {one.study_id: one.reason for one in Table(run / "quarantine", Quarantined).read()}
    encoded = {one.study_id for one in Table(run / "features", Ingested).read()}
    assert encoded.isdisjoint(quarantined)
    assert len(encoded) == 8 and not quarantined
    assert {"lidc_idri_0314", "lung_dx_a0001", "totalseg_abdomen", "cip_chest", "cip_chest_dicom"} <= encoded

    align = {name for name in encoded if studies[name].split == "align"}
    candidates = Table(run / "round-000" / "candidates", Candidate).read()
    assert Counter(one.study_id for one in candidates) == dict.fromkeys(align, 6)
    usable = {one.candidate_id for one in candidates if one.usable}
    reported = {name for name in align if studies[name].findings}
    assert reported and align - reported, "the split should have both"
    for one in Table(run / "round-000" / "judgements", Judgement).read():
        study_id = one.candidate_id.partition(".")[0]
        if study_id not in reported:
            assert one.failure == "no_reference"
        else:
            assert (one.failure is None) == (one.candidate_id in usable)
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    assert summary["rounds"][0]["judge_failures"]["no_reference"] == 6 * len(align - reported)
    assert summary["status"] == "finished" and (run / "report.html").is_file()
