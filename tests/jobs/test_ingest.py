"""jobs/ingest.py as a user runs it: a folder in which one CT in ten is bad, and the built-in data before the loop."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlaif.datasets import phantom
from rlaif.datasets.phantom_settings import PhantomSettings
from rlaif.records import Ingested, Quarantined, Study
from rlaif.tables import Table

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def cts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty CTs with a table; two are torn, one row has no file, one file no row."""
    root = tmp_path_factory.mktemp("cts")
    phantom.generate(root / "phantom", PhantomSettings(sft=4, align=0, heldout=0, seed=6), workers=1)
    drawn = sorted((root / "phantom").rglob("*.nii.gz"))
    folder = root / "cts"
    folder.mkdir()
    rows = ["study_id,path,patient_id,findings,impression"]
    for number in range(20):
        shutil.copy(drawn[number % 4], folder / f"ct{number}.nii.gz")
        rows.append(f"ct{number},ct{number}.nii.gz,p{number // 2},Clear lungs.,")
    for number in (4, 11):
        whole = (folder / f"ct{number}.nii.gz").read_bytes()
        (folder / f"ct{number}.nii.gz").write_bytes(whole[: len(whole) // 2])
    rows.append("gone,gone.nii.gz,p99,Clear lungs.,")
    shutil.copy(drawn[0], folder / "unlisted.nii.gz")
    (folder / "studies.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_a_folder_with_bad_cts_is_checked_and_its_counts_add_up(
    start_job: Callable[..., Any], cts: Path, tmp_path: Path
) -> None:
    command = ("ingest", "data=folder", f"data.path={cts}", "recipe=ctclip_v2", "ingest.encode=false", "run.name=check")
    places = (f"run.root={tmp_path / 'runs'}", f"cache.root={tmp_path / 'cache'}")
    told = start_job(*command, *places, "run.dry=true")
    assert told.ended(120) == 0, told.output[-3000:]
    assert "volumes: 20, recipe ctclip_v2, orientation canonical" in told.output
    assert not (tmp_path / "runs").exists()

    job = start_job(*command, *places)
    assert job.ended(400) == 0, job.output[-3000:]
    run = tmp_path / "runs" / "check"
    summary = json.loads((run / "ingest.json").read_text(encoding="utf-8"))
    assert summary["studies"] == {"taken": 20, "align": 12, "heldout": 8, "text_only": 0}
    assert (summary["volumes"], summary["kept"]) == (20, 18)
    assert summary["quarantined"]["total"] == 4
    assert (summary["quarantined"]["tables"], summary["quarantined"]["volumes"]) == (2, 2)
    assert sum(summary["quarantined"]["by_reason"].values()) == 4 and len(summary["quarantined"]["by_reason"]) == 3
    assert summary["volumes_a_minute"] > 0 and summary["seconds"]["read"] > 0 and summary["seconds"]["encode"] == 0
    kept = {one.study_id for one in Table(run / "features", Ingested).read()}
    bad = {one.study_id for one in Table(run / "quarantine", Quarantined).read()}
    assert kept == {f"ct{number}" for number in range(20)} - {"ct4", "ct11"}
    assert bad == {"ct4", "ct11", "gone", "unlisted.nii.gz#unlisted"}
    page = (run / "qa.html").read_text(encoding="utf-8")
    assert page.count("<article>") == 13 and page.count("data:image/png") == 12 * 6
    assert "QA sheet" in job.output and "in quarantine" in job.output

    again = start_job(*command, *places)
    assert again.ended(120) == 0, again.output[-3000:]
    assert "in quarantine" in again.output and "ingest:" not in again.output


def test_what_was_ingested_before_the_loop_is_not_encoded_again(
    smoke: Any, start_job: Callable[..., Any], tmp_path: Path
) -> None:
    job = start_job("ingest", *smoke.overrides, "run.name=ahead", f"run.root={tmp_path / 'runs'}")
    assert job.ended(400) == 0, job.output[-3000:]
    summary = json.loads((tmp_path / "runs" / "ahead" / "ingest.json").read_text(encoding="utf-8"))
    studies = len(Table(smoke.path / "studies", Study).read())
    assert summary["volumes"] == summary["kept"] == summary["encoder_calls_saved"] == studies == 120
    assert "0 studies x 18 tokens x 96 values" in job.output and "120 are there already" in job.output


def test_an_ingest_of_texts_alone_says_so(start_job: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "indiana_reports.csv").write_text("uid,findings,impression\n1,Clear lungs.,Normal.\n2,Clear.,Normal.\n")
    job = start_job(
        "ingest", "data=openi", f"data.path={tmp_path}", "policy=rgro", "ingest.encode=false",
        f"run.root={tmp_path / 'runs'}", f"cache.root={tmp_path / 'cache'}",
    )  # fmt: skip
    assert job.ended(200) == 2
    assert "ingest.encode=false needs a recipe: set recipe=NAME" in job.output
