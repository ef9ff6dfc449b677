"""The stages of a round before its learning: sample and judge, build pairs.

Each stage goes on from what the run folder holds, and ends with a mark in its ledger.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

import pyarrow.compute as pc

from actors.fleet import Fleet
from actors.flow import AllSampled, Flow
from actors.judge import Judged
from actors.judging import Judging, by_case, judged_case
from actors.own_start import pairing_of
from actors.requests import Request
from actors.sampling_plan import planned_version, policy_at, round_name
from rlaif.config import Config
from rlaif.judges.case import JudgedCase
from rlaif.judges.settings import leaves_of
from rlaif.ledger import RunFolder
from rlaif.preferences.strategies import ScoredCandidate, ScoredCase, build_pairs, rng_for
from rlaif.progress import Progress
from rlaif.records import NOT_WRITTEN, Candidate, Case, Dropped, Judgement, Pair

# Fresh candidates that are made durable together, before judges see them; or those of so many seconds.
CANDIDATES_A_SEGMENT = 96
SEGMENT_S = 2.0


class RoundFailed(RuntimeError):
    """A round whose result cannot be trusted."""


@contextmanager
def sampling_ahead(
    run: RunFolder, config: Config, fleet: Fleet, cases: Sequence[Case], base: Path, round_: int
) -> Iterator[None]:
    """Where run.staleness is 1, the next round's candidates are written and judged within this context, by the policy
    that this round began with; the context ends when they are.
    """
    following = round_ + 1
    name = round_name(following)
    if not config.run.staleness or following >= config.run.rounds or run.done(f"{name}/sample"):
        yield
        return
    # Started here: the learners may be asked for weights, and they are this thread's alone.
    version = planned_version(run, following, round_)
    fleet.samplers(policy_at(run, base, version), version)
    for leaf in leaves_of(config.judge):
        fleet.judge(leaf)
    with ThreadPoolExecutor(1, "sampling ahead") as pool:
        sampling = pool.submit(sample_and_judge, run, config, fleet, cases, base, following, version)
        sampling.add_done_callback(lambda done: _tell(name, done.exception()))
        try:
            yield
        except BaseException:
            # The thread waits for actors alone, so it ends with them.
            fleet.close()
            raise
        sampling.result()


def _tell(name: str, error: BaseException | None) -> None:
    """Says at once what is raised only when the round that is learnt meanwhile has ended."""
    if error is not None:
        print(f"{name} is written no further, which ends the run once this round is learnt: {error}", flush=True)


def sample_and_judge(
    run: RunFolder, config: Config, fleet: Fleet, cases: Sequence[Case], base: Path, round_: int, version: int
) -> None:
    """Samples n candidates of every case with a version of the policy, and judges them as they come.

    A round that was begun with another version goes on with that one.
    """
    name = round_name(round_)
    if run.done(f"{name}/sample"):
        return
    started = time.monotonic()
    by_id = {case.case_id: case for case in cases}
    n = config.sampler.n
    version = planned_version(run, round_, version)
    ids = run.arrow(f"{name}/candidates", Candidate, ["case_id"]).column("case_id").to_pylist()
    whole = {case for case, count in Counter(ids).items() if count == n}
    missing = [case for case in cases if case.case_id not in whole]
    judging = Judging(run, config, name, [config.judge])
    unjudged = _unjudged(run, judging, by_id, name)
    progress = Progress(f"{name} sample and judge", len(cases) * n * len(judging.leaves))
    progress.skip(sum(not judging.left(judge, case) for judge in judging.leaves for case in whole) * n)
    # The judges start beside the samplers, whose start is waited for.
    pools = [fleet.judge(leaf) for leaf in judging.leaves.values()] if missing or unjudged else []
    samplers = fleet.samplers(policy_at(run, base, version), version) if missing else None
    requests = [Request(case, case.feature_key, n, config.sampler.temperature) for case in missing]
    flow = Flow(config, pools, samplers, requests, round_, fleet.outages)
    fresh: list[Candidate] = []

    def judge_fresh(*, last: bool) -> None:
        # Durable first: a judgement must never stand without its candidate.
        run.append(f"{name}/candidates", Candidate, fresh)
        judging.send(flow, [judged_case(by_id[id_], group) for id_, group in by_case(fresh).items()], last=last)
        fresh.clear()

    judging.send(flow, unjudged, last=True)
    flushed = time.monotonic()
    for result in flow.results():
        if isinstance(result, Judged):
            progress.advance(judging.record(result))
        elif isinstance(result, AllSampled):
            judge_fresh(last=True)
        else:
            fresh.extend(result)
            late = time.monotonic() - flushed > SEGMENT_S
            if late or len(fresh) >= CANDIDATES_A_SEGMENT:
                # Judges that wait take what there is.
                judge_fresh(last=late)
                flushed = time.monotonic()
    candidates = run.compact(f"{name}/candidates", Candidate, "candidate_id")
    judged = judging.finish()
    reasons = run.arrow(f"{name}/candidates", Candidate, ["finish_reason"]).column(0).unique().to_pylist()
    check_room(config, name, reasons)
    run.finish(
        f"{name}/sample",
        seconds=time.monotonic() - started,
        candidates=candidates,
        **judged,
        version=version,
        checksum=_checksum(run, name),
    )


def _unjudged(run: RunFolder, judging: Judging, cases: dict[str, Case], name: str) -> list[JudgedCase]:
    """Cases whose candidates are all there and that a judge has still to judge."""
    table = run.table(f"{name}/candidates", Candidate)
    if not table.arrow(["case_id"]).num_rows:
        return []
    left = (one for one in table.iterate() if any(judging.left(judge, one.case_id) for judge in judging.leaves))
    return [judged_case(cases[case_id], group) for case_id, group in by_case(left).items()]


def _checksum(run: RunFolder, name: str) -> str:
    checksums = set(run.arrow(f"{name}/candidates", Candidate, ["weights_checksum"]).column(0).to_pylist())
    if len(checksums) > 1:
        raise RoundFailed(f"{name}: candidates come from different weights: {sorted(checksums)}")
    return str(checksums.pop()) if checksums else ""


def check_room(config: Config, name: str, reasons: Iterable[str]) -> None:
    """Raises RoundFailed where no prompt left room for a report; `reasons` are why the stage's reports ended."""
    if {*reasons} == {NOT_WRITTEN}:
        raise RoundFailed(
            f"{name}: no prompt leaves room for sampler.max_tokens={config.sampler.max_tokens} within "
            f"sampler.max_length={config.sampler.max_length}: raise the last, or lower the first"
        )


def make_pairs(run: RunFolder, config: Config, cases: Sequence[Case], round_: int) -> None:
    """Builds the round's pairs from its judgements; cases that give none are recorded with the reason."""
    name = round_name(round_)
    if run.done(f"{name}/pairs"):
        return
    started = time.monotonic()
    references = {case.case_id: case.answer for case in cases}
    judge, pairing = pairing_of(run, config, name)
    scores = _scores(run, judge, name)
    pairs: list[Pair] = []
    dropped: list[Dropped] = []
    for case_id, sampled in _by_case(run.iterate(f"{name}/candidates", Candidate)):
        scored = tuple(ScoredCandidate(one.candidate_id, one.text, scores[one.candidate_id]) for one in sampled)
        case = ScoredCase(case_id, round_, sampled[0].prompt, references[case_id], judge, scored)
        result = build_pairs(pairing, case, rng_for(config.run.seed, round_, case_id))
        if isinstance(result, Pair):
            pairs.append(result)
        else:
            dropped.append(result)
    pairs.sort(key=lambda pair: pair.case_id)
    dropped.sort(key=lambda one: one.case_id)
    run.replace(f"{name}/pairs", Pair, pairs)
    run.replace(f"{name}/dropped", Dropped, dropped)
    reasons = dict(Counter(one.reason for one in dropped))
    run.finish(f"{name}/pairs", seconds=time.monotonic() - started, pairs=len(pairs), dropped=reasons)
    print(f"{name}: {len(pairs)} pairs, dropped {reasons or 'none'}", flush=True)


def _scores(run: RunFolder, judge: str, name: str) -> dict[str, float | None]:
    """A judge's scores of a round, by candidate."""
    rows = run.arrow(f"{name}/judgements", Judgement, ["candidate_id", "judge", "score"])
    rows = rows.filter(pc.equal(rows["judge"], judge))
    return dict(zip(rows["candidate_id"].to_pylist(), rows["score"].to_pylist(), strict=True))


def _by_case(candidates: Iterable[Candidate]) -> Iterator[tuple[str, list[Candidate]]]:
    """Each case with its candidates, which stand together: one case is in memory at a time."""
    seen: set[str] = set()
    for case_id, group in groupby(candidates, key=lambda one: one.case_id):
        if case_id in seen:
            raise RoundFailed(f"the candidates of {case_id} do not stand together in their table")
        seen.add(case_id)
        yield case_id, list(group)
