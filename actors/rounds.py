"""The stages of a round: sample and judge, build pairs, learn, evaluate on held-out cases.

Each stage goes on from what the run folder holds, and ends with a mark in its ledger.
"""

import math
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from actors.fleet import Fleet
from actors.flow import Flow
from actors.judge import ToJudge
from actors.preparation import TooManyBad
from actors.requests import Request
from rlaif.config import Config
from rlaif.ledger import RunFolder
from rlaif.metrics.report_metrics import region_metrics, report_metrics
from rlaif.preferences.strategies import ScoredCandidate, ScoredCase, build_pairs, rng_for
from rlaif.progress import Progress
from rlaif.records import Candidate, Case, Dropped, HeldoutReport, Judgement, Pair
from rlaif.reports.region_reports import judged_text, region_slots

# Failures that say something of the case, not of the service.
DATA_FAILURES = {"no_reference", "invalid_candidate", "abstained"}


class RoundFailed(RuntimeError):
    """A round whose result cannot be trusted."""


def round_name(round_: int) -> str:
    """The folder name of a round."""
    return f"round-{round_:03d}"


def sample_and_judge(
    run: RunFolder, config: Config, fleet: Fleet, cases: Sequence[Case], policy: Path, round_: int
) -> None:
    """Samples n candidates of every case and judges them as they come."""
    name = round_name(round_)
    if run.done(f"{name}/sample"):
        return
    started = time.monotonic()
    by_id = {case.case_id: case for case in cases}
    whole, unjudged = _left_over(run, config, name)
    missing = [case for case in cases if case.case_id not in whole]
    progress = Progress(f"{name} sample and judge", len(cases) * config.sampler.n)
    progress.skip(len(whole) * config.sampler.n - len(unjudged))
    journal = run.journal(f"{name}/judge")
    # The judges start beside the samplers, whose start is waited for.
    judges = fleet.judges if missing or unjudged else []
    samplers = fleet.samplers(policy, round_) if missing else []
    requests = [Request(case, case.feature_key, config.sampler.n, config.sampler.temperature) for case in missing]
    flow = Flow(config, judges, samplers, requests, round_)
    fresh: list[Candidate] = []

    def judge_fresh() -> None:
        # Durable first: a judgement must never stand without its candidate.
        run.append(f"{name}/candidates", Candidate, fresh)
        send(fresh)
        fresh.clear()

    def send(candidates: Sequence[Candidate]) -> None:
        for start in range(0, len(candidates), config.judge.batch):
            batch = candidates[start : start + config.judge.batch]
            journal.started([candidate.candidate_id for candidate in batch])
            flow.judge([ToJudge(candidate, by_id[candidate.case_id].target) for candidate in batch])

    send(unjudged)
    for kind, records in flow.results():
        if kind == "candidates":
            fresh.extend(records)
            if len(fresh) >= config.judge.batch:
                judge_fresh()
        elif kind == "sampled":
            judge_fresh()
        else:
            run.append(f"{name}/judgements", Judgement, records)
            progress.advance(len(records))
    candidates = run.compact(f"{name}/candidates", Candidate, "candidate_id")
    judgements = run.compact(f"{name}/judgements", Judgement, ("candidate_id", "judge"))
    failures = Counter(
        run.arrow(f"{name}/judgements", Judgement, ["failure"]).column("failure").drop_null().to_pylist()
    )
    _check_failures(config, failures, judgements)
    _check_prompts(run, config, name)
    run.finish(
        f"{name}/sample",
        seconds=time.monotonic() - started,
        candidates=candidates,
        judgements=judgements,
        failures=dict(failures),
        repeated_calls=journal.repeated(),
        version=round_,
        checksum=_checksum(run, name),
    )


def _checksum(run: RunFolder, name: str) -> str:
    checksums = set(run.arrow(f"{name}/candidates", Candidate, ["weights_checksum"]).column(0).to_pylist())
    if len(checksums) > 1:
        raise RoundFailed(f"{name}: candidates come from different weights: {sorted(checksums)}")
    return str(checksums.pop()) if checksums else ""


def _left_over(run: RunFolder, config: Config, name: str) -> tuple[set[str], list[Candidate]]:
    """Cases that have all their candidates, and candidates that no judgement stands for yet."""
    ids = run.arrow(f"{name}/candidates", Candidate, ["case_id"]).column("case_id").to_pylist()
    whole = {case for case, count in Counter(ids).items() if count == config.sampler.n}
    judged = set(run.arrow(f"{name}/judgements", Judgement, ["candidate_id"]).column(0).to_pylist())
    if len(judged) == len(ids):
        return whole, []
    return whole, [
        one for one in run.table(f"{name}/candidates", Candidate).iterate() if one.candidate_id not in judged
    ]


def _check_failures(config: Config, failures: Counter[str], of: int) -> None:
    bad = sum(count for failure, count in failures.items() if failure not in DATA_FAILURES)
    if of and bad / of > config.run.max_bad_fraction:
        raise TooManyBad(
            f"{bad} of {of} judgements failed ({dict(failures)}), more than "
            f"run.max_bad_fraction={config.run.max_bad_fraction}: see the judge's log, and start the command again"
        )


def _check_prompts(run: RunFolder, config: Config, name: str) -> None:
    reasons = run.arrow(f"{name}/candidates", Candidate, ["finish_reason"]).column(0).unique().to_pylist()
    if reasons == ["prompt_too_long"]:
        raise RoundFailed(
            f"{name}: no prompt leaves room for sampler.max_tokens={config.sampler.max_tokens} within "
            f"sampler.max_length={config.sampler.max_length}: raise the one or lower the other"
        )


def make_pairs(run: RunFolder, config: Config, cases: Sequence[Case], round_: int) -> None:
    """Builds the round's pairs from its judgements; cases that give none are recorded with the reason."""
    name = round_name(round_)
    if run.done(f"{name}/pairs"):
        return
    started = time.monotonic()
    references = {case.case_id: case.answer for case in cases}
    scores = {one.candidate_id: one.score for one in run.read(f"{name}/judgements", Judgement)}
    candidates: dict[str, list[Candidate]] = defaultdict(list)
    for candidate in run.table(f"{name}/candidates", Candidate).iterate():
        candidates[candidate.case_id].append(candidate)
    pairs: list[Pair] = []
    dropped: list[Dropped] = []
    for case_id, sampled in sorted(candidates.items()):
        scored = tuple(ScoredCandidate(one.candidate_id, one.text, scores[one.candidate_id]) for one in sampled)
        case = ScoredCase(case_id, round_, sampled[0].prompt, references[case_id], config.judge.name, scored)
        result = build_pairs(config.pairs, case, rng_for(config.run.seed, round_, case_id))
        if isinstance(result, Pair):
            pairs.append(result)
        else:
            dropped.append(result)
    run.replace(f"{name}/pairs", Pair, pairs)
    run.replace(f"{name}/dropped", Dropped, dropped)
    reasons = dict(Counter(one.reason for one in dropped))
    run.finish(f"{name}/pairs", seconds=time.monotonic() - started, pairs=len(pairs), dropped=reasons)
    print(f"{name}: {len(pairs)} pairs, dropped {reasons or 'none'}", flush=True)


def learn(run: RunFolder, config: Config, fleet: Fleet, policy: Path, base: Path, round_: int) -> Path:
    """Trains the policy on the round's pairs against the frozen base; gives the new policy's folder.

    Raises RoundFailed where sampler and learner disagree on the same tokens.
    """
    name = round_name(round_)
    checkpoint = run.path / name / "checkpoint"
    if run.done(f"{name}/learn"):
        return checkpoint
    started = time.monotonic()
    gap = fleet.learners.logprob_gap(str(policy), str(run.path), round_)
    # Also not-a-number must fail the round.
    if not gap["mean"] <= config.learner.max_logprob_gap:
        raise RoundFailed(
            f"{name}: sampler and learner differ by {gap['mean']:.2e} on average in the log-probs of the same tokens, "
            f"more than learner.max_logprob_gap={config.learner.max_logprob_gap:g}: "
            "the sampler's weights are not the policy's"
        )
    steps: list[dict[str, float]] = []
    with run.folder(f"{name}/checkpoint") as target:
        if run.facts(f"{name}/pairs")["pairs"] == 0:
            print(f"{name}: no pairs, so the policy stays as it is", flush=True)
            shutil.copytree(policy, target, dirs_exist_ok=True, ignore=_adapters if policy == base else None)
        else:
            progress: Progress | None = None
            for step in fleet.learners.train("train_dpo", str(policy), str(base), str(run.path), round_, str(target)):
                progress = progress or Progress(f"{name} learn", int(step["of"]))
                progress.at(int(step["step"]) + 1, f"loss {step['loss']:.3f}  margin {step['margin']:+.3f}")
                steps.append(step)
    if steps and steps[0]["left_out"]:
        print(f"{name}: {int(steps[0]['left_out'])} pairs are longer than the language model's positions", flush=True)
    if not all(math.isfinite(step["loss"]) for step in steps):
        raise RoundFailed(f"{name}: the loss is no number; lower learner.dpo.lr")
    run.write_json(f"{name}/metrics.json", {"logprob_gap": gap, "learning": {"steps": steps}})
    run.prune_checkpoints(keep=2)
    run.finish(f"{name}/learn", seconds=time.monotonic() - started, steps=len(steps), logprob_gap=gap)
    return checkpoint


def _adapters(folder: str, names: list[str]) -> list[str]:
    """What a copy of the base leaves out: its adapters are merged, and the next round would put them on once more."""
    from rlaif.models.policy import ADAPTERS_FILE

    return [name for name in names if name == ADAPTERS_FILE]


def evaluate(
    run: RunFolder, config: Config, fleet: Fleet, cases: Sequence[Case], policy: Path, version: int, name: str
) -> None:
    """Writes one greedy report for every held-out case, and one from another patient's features as a control."""
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
    flow = Flow(config, [], fleet.samplers(policy, version) if left else [], left, version)
    with run.writer(stage, HeldoutReport) as writer:
        for kind, candidates in flow.results():
            for candidate in candidates if kind == "candidates" else []:
                writer.add(heldout_report(candidate, by_id[candidate.case_id]))
                progress.advance()
    rows = run.compact(stage, HeldoutReport, ("case_id", "control"))
    checksum = fleet.checksum() if left else ""
    run.finish(stage, seconds=time.monotonic() - started, reports=rows, version=version, checksum=checksum)


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

    How well regions are recognised is not asked of a control: they are those that it is shown.
    """
    control = candidate.feature_key != case.feature_key
    recognised = {} if control else region_metrics(region_slots(candidate.prompt), candidate.text)
    return HeldoutReport(
        case_id=case.case_id,
        study_id=case.study_id,
        patient_id=case.patient_id,
        control=control,
        reference=case.target,
        text=candidate.text,
        finish_reason=candidate.finish_reason,
        policy_version=candidate.policy_version,
        metrics=report_metrics(case.target, case.labels, judged_text(candidate.prompt, candidate.text)) | recognised,
    )


def _strangers(cases: Sequence[Case]) -> list[Case | None]:
    """For each case the next one, in order, of another patient; None where there is no other patient."""
    doubled = [*cases, *cases]
    return [
        next((other for other in doubled[place + 1 : place + len(cases)] if other.patient_id != case.patient_id), None)
        for place, case in enumerate(cases)
    ]
