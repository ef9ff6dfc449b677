"""The cases of a run: its studies with prompts, targets and feature keys, read from the run folder."""

from pathlib import Path

from rlaif.models.settings import PolicySettings
from rlaif.records import Case, Ingested, Split, Study
from rlaif.reports.prompts import Target, findings_case, image_case, region_case
from rlaif.tables import Table


def cases_of(run: Path, split: Split, target: Target, policy: PolicySettings) -> list[Case]:
    """The cases of a split for a policy, ordered by id; those of image policies are the studies that ingest kept."""
    studies = [study for study in Table(run / "studies", Study).read() if study.split == split]
    studies.sort(key=lambda study: study.study_id)
    if policy.reads == "findings":
        return [findings_case(study, target, policy.prompt) for study in studies if study.findings]
    kept = {row.study_id: row for row in Table(run / "features", Ingested).read()}
    cases = []
    for study in studies:
        if (row := kept.get(study.study_id)) is None:
            continue
        if policy.reads == "scan":
            cases.append(image_case(study, target, row.feature_key, policy.prompt))
        else:
            cases.append(region_case(study, target, row.feature_key, row.regions or (), policy.prompt))
    return cases
