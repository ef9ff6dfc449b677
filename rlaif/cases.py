"""The cases of a run: its studies with prompts, targets and feature keys, read from the run folder."""

from pathlib import Path

from rlaif.records import Case, Ingested, Split, Study
from rlaif.reports.prompts import Target, case_of
from rlaif.tables import Table


def cases_of(run: Path, split: Split, target: Target, *, from_findings: bool) -> list[Case]:
    """The cases of a split, ordered by id; for image policies those whose features are in the store.

    `from_findings` is for text-only policies, whose prompt holds the findings.
    """
    studies = [study for study in Table(run / "studies", Study).read() if study.split == split]
    studies.sort(key=lambda study: study.study_id)
    if from_findings:
        return [case_of(study, target, None, from_findings=True) for study in studies if study.findings]
    keys = {row.study_id: row.feature_key for row in Table(run / "features", Ingested).read()}
    return [case_of(study, target, keys[study.study_id]) for study in studies if study.study_id in keys]
