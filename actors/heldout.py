"""Evaluation on held-out cases: reports, their metrics, and what the run's judges say of them."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from actors.fleet import Fleet
from actors.flow import Flow
from actors.judge import judgements_of
from actors.judging import Judging, judge_stage
from actors.requests import Request
from actors.rounds import check_room
from actors.tracking import track_stages
from rlaif.config import Config
from rlaif.judges.case import CaseVerdicts, JudgedCase, JudgedReport, unjudgeable
from rlaif.judges.llm_parser import EVEN, LlmParserJudge
from rlaif.judges.settings import AnyJudge, LeafJudge, LlmParserJudgeSettings, RulesJudgeSettings
from rlaif.ledger import RunFolder
from rlaif.metrics.report_metrics import region_metrics, report_metrics
from rlaif.progress import Progress
from rlaif.records import NOT_WRITTEN, Candidate, Case, HeldoutReport
from rlaif.reports.region_reports import judged_text, region_slots


def evaluate(
    run: RunFolder, config: Config, fleet: Fleet, cases: Sequence[Case], policy: Path, version: int, name: str
) -> None:
    """Writes one greedy report for every held-out case, one from another patient's features as a control, and has the
    run's judges score them; trackers are told then.
    """
    _write(run, config, fleet, cases, policy, version, name)
    _judge(run, config, fleet, cases, version, name)
    track_stages(run, config)


def _write(
    run: RunFolder, config: Config, fleet: Fleet, cases: Sequence[Case], policy: Path, version: int, name: str
) -> None:
    stage = f"heldout/{name}"
    if run.done(stage):
        return
    started = time.monotonic()
    requests = heldout_requests(cases, blind_control=config.run.blind_control)
    done = {(row.case_id, row.control) for row in run.read(stage, HeldoutReport)}
    left = [request for key, request in requests.items() if key not in done]
    by_id = {case.case_id: case for case in cases}
    progress = Progress(f"held-out, {name}", len(requests))
    progress.skip(len(done))
    samplers = fleet.samplers(policy, version) if left else None
    flow = Flow(config, [], samplers, left, version, fleet.outages)
    with run.writer(stage, HeldoutReport) as writer:
        for result in flow.results():
            for candidate in result if isinstance(result, list) else []:
                writer.add(heldout_report(candidate, by_id[candidate.case_id]))
                progress.advance()
    rows = run.compact(stage, HeldoutReport, ("case_id", "control"))
    reasons = run.arrow(stage, HeldoutReport, ["finish_reason"]).column(0).to_pylist()
    check_room(config, stage, reasons)
    if no_room := reasons.count(NOT_WRITTEN):
        print(f"{stage}: {no_room} of {rows} prompts leave no room for a report and do not count", flush=True)
    checksum = samplers.checksum() if samplers else ""
    run.finish(stage, seconds=time.monotonic() - started, reports=rows, version=version, checksum=checksum)


def heldout_judges(config: Config) -> list[AnyJudge]:
    """The judges that are asked about held-out reports; `rules_score` is one of their metrics anyway."""
    return beside_rules(config.judges.values())


def beside_rules(judges: Iterable[AnyJudge]) -> list[AnyJudge]:
    """Those beside the rules, which score every report anyway: `rules_score` is one of its metrics."""
    return [one for one in judges if not (isinstance(one, RulesJudgeSettings) and one.name == "rules")]


def _judge(run: RunFolder, config: Config, fleet: Fleet, cases: Sequence[Case], version: int, name: str) -> None:
    """Judges the held-out reports, not those of the control. A pairwise judge compares each with the base's report."""
    stage = f"heldout-judging/{name}"
    judges = heldout_judges(config)
    if not judges or run.done(stage):
        return
    started = time.monotonic()
    reports, base = (_texts(run, config, one, cases) for one in (name, "base"))
    pairs = [
        JudgedCase(
            case.case_id,
            case.target,
            (
                JudgedReport(f"{case.case_id}.base", base[case.case_id]),
                JudgedReport(f"{case.case_id}.{name}", reports[case.case_id]),
            ),
        )
        for case in cases
        if case.case_id in reports and case.case_id in base
    ]

    def shaped(leaf: LeafJudge, case: JudgedCase) -> JudgedCase:
        pairwise = isinstance(leaf, LlmParserJudgeSettings) and name != "base"
        return case if pairwise else replace(case, reports=case.reports[-1:])

    judging = Judging(run, config, stage, judges, shaped)
    for leaf in judging.leaves.values():
        if isinstance(leaf, LlmParserJudgeSettings):
            settle_even(judging, leaf, pairs, version)
    progress = Progress(f"held-out, {name}, judged", judging.number(pairs))
    run.finish(stage, **judge_stage(judging, fleet, pairs, version, progress), seconds=time.monotonic() - started)


def settle_even(judging: Judging, leaf: LlmParserJudgeSettings, cases: Sequence[JudgedCase], version: int) -> None:
    """Notes the reports that are the base's own words: even by definition, and nobody is asked."""
    judge, settled = LlmParserJudge(leaf), []
    for case in cases:
        if judging.left(leaf.name, case.case_id) and len({one.text for one in case.reports}) == 1:
            shown = judging.shaped(leaf, case)
            given = tuple(unjudgeable(case, one, judge.screening.failure) or EVEN for one in shown.reports)
            settled += judgements_of(shown, CaseVerdicts(given), leaf.name, judge, version)
    judging.settle(settled)


def _texts(run: RunFolder, config: Config, name: str, cases: Sequence[Case]) -> dict[str, str]:
    """What was written of each case as judges see it, cut off or not: it is what the policy says."""
    prompts = {case.case_id: case.prompt for case in cases}
    return {
        row.case_id: judged_text(prompts[row.case_id], row.text)
        for row in run.read(f"heldout/{name}", HeldoutReport)
        if not row.control and row.finish_reason != NOT_WRITTEN
    }


def heldout_requests(cases: Sequence[Case], *, blind_control: bool) -> dict[tuple[str, bool], Request]:
    """A greedy request for each case, and one as a blind control, by case id and whether it is the control.

    The control sees another patient's features under that patient's prompt, which names the regions that are there.
    Cases without features, or without another patient's beside them, have none.
    """
    requests: dict[tuple[str, bool], Request] = {}
    for case, other in zip(cases, _strangers(cases), strict=True):
        requests[case.case_id, False] = Request(case, case.feature_key, 1, 0.0)
        if blind_control and case.feature_key is not None and other is not None:
            requests[case.case_id, True] = Request(replace(case, prompt=other.prompt), other.feature_key, 1, 0.0)
    return requests


def heldout_report(candidate: Candidate, case: Case) -> HeldoutReport:
    """A held-out report with its metrics, which see its sentences without the names of regions before them.

    How well regions are recognised is not asked of a control: they are those that it is shown. A prompt without room
    for a report says nothing of the policy: its row has no metric.
    """
    control = candidate.feature_key != case.feature_key
    metrics: dict[str, float] = {}
    if candidate.finish_reason != NOT_WRITTEN:
        metrics = report_metrics(case.target, case.labels, judged_text(candidate.prompt, candidate.text))
        metrics |= {} if control else region_metrics(region_slots(candidate.prompt), candidate.text)
    return HeldoutReport(
        case_id=case.case_id,
        study_id=case.study_id,
        patient_id=case.patient_id,
        control=control,
        reference=case.target,
        text=candidate.text,
        finish_reason=candidate.finish_reason,
        policy_version=candidate.policy_version,
        metrics=metrics,
    )


def _strangers(cases: Sequence[Case]) -> list[Case | None]:
    """For each case the next one, in order, of another patient; None where there is no other patient."""
    doubled = [*cases, *cases]
    return [
        next((other for other in doubled[place + 1 : place + len(cases)] if other.patient_id != case.patient_id), None)
        for place, case in enumerate(cases)
    ]
