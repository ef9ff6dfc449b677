"""The phantom's reports and the extraction must agree exactly, or no metric on the phantom means anything."""

from rlaif.datasets.phantom import PhantomSettings, plan_study
from rlaif.reports.extraction import extract

STUDIES = 300


def attributes(finding):
    return (finding.name, finding.side, finding.location, finding.size_mm, finding.severity)


def test_extraction_gives_exactly_the_truth_of_phantom_reports():
    settings = PhantomSettings(sft=STUDIES, align=0, heldout=0, prevalence=4.0)
    for number in range(1, STUDIES + 1):
        study = plan_study(settings, f"train_{number}_a_1")
        findings = extract(study.report.findings)
        truth = sorted(str(attributes(one.finding)) for one in study.findings)
        assert sorted(str(attributes(one)) for one in findings if one.present) == truth, study.report.findings
        present = {one.name for one in study.findings}
        denied = {one.name for one in findings if not one.present}
        assert not denied & present, study.report.findings


def test_extraction_gives_the_names_and_sides_of_phantom_impressions():
    settings = PhantomSettings(sft=STUDIES, align=0, heldout=0, prevalence=4.0)
    for number in range(1, STUDIES + 1):
        study = plan_study(settings, f"train_{number}_a_1")
        truth = sorted(one.finding.label for one in study.findings)
        assert sorted(f.label for f in extract(study.report.impression) if f.present) == truth, study.report.impression
