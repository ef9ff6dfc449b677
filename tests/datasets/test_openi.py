"""Open-I reports, from XML and from CSV."""

import os
import re
from pathlib import Path

import pytest

from rlaif.datasets.layout import SplitSettings
from rlaif.datasets.openi import read_studies
from rlaif.datasets.registry import load
from rlaif.datasets.settings import OpeniSettings
from rlaif.datasets.study_table import DatasetError, StudyTable

SHARED = Path(os.environ.get("RLAIF_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
OPENI = Path(os.environ.get("RLAIF_OPENI", SHARED / "openi"))


def report(uid: str, findings: str, impression: str) -> str:
    return (
        f'<?xml version="1.0" encoding="utf-8"?><eCitation><uId id="{uid}"/><MedlineCitation><Article><Abstract>'
        f'<AbstractText Label="INDICATION">Cough</AbstractText><AbstractText Label="FINDINGS">{findings}</AbstractText>'
        f'<AbstractText Label="IMPRESSION">{impression}</AbstractText>'
        "</Abstract></Article></MedlineCitation></eCitation>"
    )


def read(path: Path, **settings: object) -> StudyTable:
    return load(OpeniSettings.model_validate({"path": path, **settings}))


def test_xml_reports_become_text_only_studies(tmp_path: Path) -> None:
    folder = tmp_path / "ecgen-radiology"
    folder.mkdir()
    (folder / "1.xml").write_text(report("CXR1", "Clear lungs.\n Heart &lt; 15 cm.", "Normal chest x-XXXX."))
    (folder / "10.xml").write_text(report("CXR10", "", "Normal."))
    (folder / "2.xml").write_text(report("CXR2", "Clear.", "XXXX"))
    (folder / "3.xml").write_text(report("CXR1", "Clear.", "Normal."))
    (folder / "4.xml").write_text("<eCitation><uId id='CXR4'/>")
    (folder / "5.xml").write_text(
        '<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]>' + report("CXR5", "&e;", "b")[38:]
    )
    (folder / "6.xml").write_text(report("CXR6", "a" * 2**20, "b"))
    table = read(tmp_path)
    (study,) = table.studies
    assert (study.study_id, study.patient_id, study.source, study.volume) == ("CXR1", "CXR1", "openi", None)
    assert (study.findings, study.impression) == ("Clear lungs. Heart < 15 cm.", "Normal chest.")
    reasons = {one.path: one.reason for one in table.quarantined}
    assert reasons["10.xml"] == "the report has no findings"
    assert reasons["2.xml"] == "the report has no impression"
    assert reasons["3.xml"] == "a report of the same id was read before"
    assert "not well-formed" in reasons["4.xml"]
    assert "entities" in reasons["5.xml"]
    assert "larger than" in reasons["6.xml"]
    assert len(reasons) == 6
    assert read(folder) == table


def test_a_file_that_cannot_be_opened_stops_no_other(tmp_path: Path) -> None:
    (tmp_path / "1.xml").write_text(report("CXR1", "Clear lungs.", "Normal."))
    (tmp_path / "2.xml").symlink_to(tmp_path / "absent.xml")
    (tmp_path / "3.xml").symlink_to("/etc/hostname")
    Path(os.fsdecode(bytes(tmp_path) + b"/\xfc.xml")).write_text(report("CXR4", "Clear.", "Normal."))
    table = read(tmp_path)
    assert [one.study_id for one in table.studies] == ["CXR1"]
    reasons = {one.path: one.reason for one in table.quarantined}
    assert "is no file that is there" in reasons["2.xml"]
    assert "leads out of the data folder" in reasons["3.xml"]
    assert "no UTF-8 text" in reasons["\\xfc.xml"]


def test_the_csv_form_gives_the_same(tmp_path: Path) -> None:
    (tmp_path / "indiana_reports.csv").write_text(
        "uid,MeSH,Problems,image,indication,comparison,findings,impression\n"
        '1,normal,normal,Xray,Cough,,"Clear lungs, XXXX.",Normal.\n'
        "2,normal,normal,Xray,Cough,,,Normal.\n"
    )
    for path in (tmp_path, tmp_path / "indiana_reports.csv"):
        table = read(path)
        assert [(one.study_id, one.findings) for one in table.studies] == [("1", "Clear lungs.")]
        assert [(one.study_id, one.reason) for one in table.quarantined] == [("2", "the report has no findings")]
    with pytest.raises(DatasetError, match=r"lacks the column 'text' \(nearest: .*\)|lacks the column 'text'"):
        read(tmp_path, columns={"findings": "text"})


def test_a_folder_without_reports_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="holds no Open-I reports"):
        read(tmp_path)


@pytest.mark.skipif(
    not (OPENI / "ecgen-radiology").is_dir(), reason=f"no Open-I reports at {OPENI}; RLAIF_OPENI names their folder"
)
def test_the_whole_collection_is_read() -> None:
    table = read(OPENI)
    assert len(table.studies) == 3419
    assert len(table.studies) + len(table.quarantined) == 3955
    texts = " ".join(f"{study.findings} {study.impression}" for study in table.studies)
    assert "XXX" not in texts
    assert not re.search(r"\(\s*\)", texts)


def test_readable_counts_studies_that_the_numbers_leave_out(tmp_path: Path) -> None:
    rows = "".join(f"{number},Lungs are clear.,Normal chest.\n" for number in range(10)) + "10,,Normal chest.\n"
    (tmp_path / "indiana_reports.csv").write_text("uid,findings,impression\n" + rows)
    table = read_studies(OpeniSettings(path=tmp_path, split=SplitSettings(sft=2, align=1, heldout=1)))
    assert (len(table.studies), table.readable, len(table.quarantined)) == (4, 10, 1)
