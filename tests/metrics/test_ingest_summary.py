"""The summary of an ingest: equal reasons are counted together, and all counts add up."""

from pathlib import Path

from rich.console import Console

from rlaif.ledger import RunFolder
from rlaif.metrics.ingest_summary import ingest_summary, ingest_table, kind_of
from rlaif.records import Ingested, Quarantined, Study


def test_a_reason_without_places_names_and_numbers() -> None:
    path = "/data/My CTs/anna 1.nii.gz"
    assert (
        kind_of(f"{path}: ends after 120 of 9,600 expected bytes: it is truncated; copy the file again", path)
        == "ends after # of # expected bytes: it is truncated; copy the file again"
    )
    assert kind_of("s3://cts/a.nii?region=x: not finite", "s3://cts/a.nii?region=x") == "not finite"
    assert kind_of("t.csv, line 3: anna 1.nii.gz does not exist below", path) == "… does not exist below"
    assert kind_of("studies.csv, line 12: study_id 'a/b' must be 1 to 200 letters") == (
        "study_id … must be # to # letters"
    )
    assert kind_of("a path without place") == "a path without place"


def test_counts_add_up_and_seconds_are_summed(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path, "run", {"run": {"rounds": 1}}) as run:
        volumes = [Study(f"s{number}", f"p{number}", "folder", "align", volume=f"/{number}") for number in range(6)]
        run.replace("studies", Study, [*volumes, Study("t", "t", "folder", "heldout")])
        tilt = ("gantry tilted by 12.3 degrees", "oblique by 7 degrees")
        kept = [Ingested("s0", "k0", tilt, 1.0, 2.0, 3.0), Ingested("s1", "k1", tilt[:1], 1.5, 0.5, 0.5)]
        run.replace("features", Ingested, [*kept, Ingested("s2", "k2"), Ingested("s3", "k3")])
        torn = [Quarantined(f"s{n}", f"/{n}", "ingest", f"/{n}: ends after {n} of 9 bytes") for n in (4, 5)]
        run.replace("quarantine", Quarantined, [Quarantined("x", "x", "dataset", "the row names no path"), *torn])
        run.finish("ingest", seconds=12.0, recipe="phantom", read=4, volumes=6, kept=4, reused=2, quarantined=2)
        summary = ingest_summary(run)
    assert summary == {
        "studies": {"taken": 7, "align": 6, "heldout": 1, "text_only": 1},
        "volumes": 6,
        "kept": 4,
        "encoder_calls_saved": 2,
        "quarantined": {
            "total": 3,
            "tables": 1,
            "volumes": 2,
            "by_reason": {"ends after # of # bytes": 2, "the row names no path": 1},
        },
        "remarks": {"gantry tilted by # degrees": 2, "oblique by # degrees": 1},
        "seconds": {"wall": 12.0, "read": 2.5, "recipe": 2.5, "encode": 3.5},
        "volumes_a_minute": 20.0,
    }
    # Text of files is no markup.
    summary["quarantined"]["by_reason"] = {"holds 2 CT series: LUNG [/CHEST] [red]": 1}
    console = Console(width=100, record=True)
    console.print(ingest_table(summary))
    shown = console.export_text()
    assert "LUNG [/CHEST] [red]" in shown
    assert "20.0 a minute" in shown and "1 rows and files of the tables, 2 volumes" in shown
