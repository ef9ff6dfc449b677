"""Render a study of a CT-RATE folder beside its report, or write a finished run's report page anew.

python jobs/render.py DATA_FOLDER STUDY_ID out.png
python jobs/render.py RUN_FOLDER
"""

import argparse
import sys
from pathlib import Path

from rlaif.datasets.ct_rate import read_studies
from rlaif.datasets.phantom import TRUTH_FILE, positions_of
from rlaif.datasets.settings import CtRateSettings
from rlaif.metrics.page.writing import write_page
from rlaif.reports.findings import Finding
from rlaif.volumes.render import Mark, render_study
from rlaif.volumes.volume import read_volume


def main() -> None:
    """Write the picture and print where it lies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a run's folder; or data in CT-RATE's layout, such as the built-in")
    parser.add_argument("study_id", nargs="?", help="the volume's name without .nii.gz, such as valid_1_a_1")
    parser.add_argument("out", type=Path, nargs="?", help="the PNG to write")
    arguments = parser.parse_args()
    if (arguments.study_id is None) != (arguments.out is None):
        parser.error("a study needs both its name and the PNG to write; a run's page neither")
    try:
        if arguments.study_id is None:
            print(write_page(arguments.folder.resolve()))
        else:
            print(render(arguments.folder, arguments.study_id, arguments.out))
    except (ValueError, OSError) as error:
        sys.exit(f"render: {error}")


def render(data: Path, study_id: str, out: Path) -> Path:
    """Render one study; its findings are marked where the folder holds the built-in data with its truth."""
    studies = read_studies(CtRateSettings(path=str(data))).studies
    study = next((study for study in studies if study.study_id == study_id), None)
    if study is None or study.volume is None:
        example = studies[0].study_id if studies else "none"
        raise ValueError(
            f"{data} has no study {study_id!r} with a volume; it has {len(studies)} studies, such as {example}"
        )
    marks = []
    if (data / TRUTH_FILE).is_file():
        marks = [Mark(caption_of(finding), point) for finding, point in positions_of(data, study_id)]
    text = f"FINDINGS\n{study.findings or 'Not given.'}\n\nIMPRESSION\n{study.impression or 'Not given.'}"
    out.parent.mkdir(parents=True, exist_ok=True)
    render_study(read_volume(Path(study.volume)), marks, text, out, title=study_id)
    return out.resolve()


def caption_of(finding: Finding) -> str:
    """A finding in a line: severity, side, place, name and size."""
    size = f"{finding.size_mm:g} mm" if finding.size_mm else None
    parts = (finding.severity, finding.side, finding.location, finding.name, size)
    return " ".join(part for part in parts if part)


if __name__ == "__main__":
    main()
