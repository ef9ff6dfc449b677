"""The cases of a run: its studies with prompts, targets and feature keys, read from the run folder."""

from pathlib import Path
from typing import Literal

from rlaif.records import Case, Ingested, Split, Study
from rlaif.reports.prompts import Target, findings_case, image_case, region_case
from rlaif.tables import Table

Reads = Literal["findings", "scan", "regions"]


def cases_of(run: Path, split: Split, target: Target, reads: Reads) -> list[Case]:
    """The cases of a split, ordered by id, for a policy that reads findings, scans or scans with their regions.

    Those of image policies are the studies that the ingest kept.
    """
    studies = [study for study in Table(run / "studies", Study).read() if study.split == split]
    studies.sort(key=lambda study: study.study_id)
    if reads == "findings":
        return [findings_case(study, target) for study in studies if study.findings]
    kept = {row.study_id: row for row in Table(run / "features", Ingested).read()}
    cases = []
    for study in studies:
        if (row := kept.get(study.study_id)) is None:
            continue
        if reads == "scan":
            cases.append(image_case(study, target, row.feature_key))
        else:
            cases.append(region_case(study, target, row.feature_key, row.regions or ()))
    return cases
