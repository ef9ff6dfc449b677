"""Whether judges ask as fast as a service allows, beside the samplers, and once only: tables, then one line of JSON.

python benchmarks/judges.py [limit] [overlap] [--rounds 3]

`limit`: the gpt4 judge at a service of 1 s latency that answers 429 beyond 32 in flight, with a limit of its own of
32 and of 64, and at one that is fast, where its own costs show. `overlap`: a round of an untrained phantom policy,
sampled and judged at once, and one after the other, with a latency by which judging takes as long as sampling; and
judged again from the cache; two rounds at most. Both where none is named. Cluster, service and folders are its own;
medians of the rounds, measured in turn. Actors are started before the clock is. Ratios are times better than the
peer, larger is better: `vs_limit` is the share of what the service allows (1 at best), for the worse of the two limits.
"""

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import ray
from chat_service import ChatService, chat_service
from hydra import compose, initialize_config_dir
from untrained_policy import PROMPT, reports, untrained_policy

from actors.cluster import joined
from actors.fleet import Fleet
from actors.flow import Flow
from actors.judging import Judging, judge_stage
from actors.requests import Request
from actors.rounds import CANDIDATES_A_SEGMENT, sample_and_judge
from actors.sampler_group import SamplerGroup
from rlaif.config import Config, load_config
from rlaif.judges.case import JudgedCase, JudgedReport
from rlaif.launch import CONFIGS, PROJECT, checked_overrides, sized
from rlaif.ledger import RunFolder
from rlaif.progress import Progress
from rlaif.records import Candidate, Case, Judgement

LIMIT, LATENCY_S = 32, 1.0
FAST_S, UNLIMITED = 0.02, 10_000
QUESTIONS, CANDIDATES = 600, 6
SAMPLED_CASES = 200
TABLE = "round-000/candidates"


@dataclass(frozen=True)
class Bench:
    """The service, and where runs and caches stand."""

    service: ChatService
    root: Path

    def config(self, name: str, *overrides: str, model: str = "") -> Config:
        """A run of the name; its judge asks for a model that bears the run's name, or another's.

        Limits and kept replies are a model's own, so that no run profits from one before it.
        """
        given = [
            "experiment=smoke",
            "cluster.address=local",
            f"run.root={self.root / 'runs'}",
            f"cache.root={self.root / 'cache'}",
            f"run.name={name}",
            "judge=gpt4",
            f"judge.base_url={self.service.url}",
            f"judge.model={model or name}",
            # A core for the engine; the other for controller, judge and service.
            "sampler.threads=1",
            "sampler.max_sequences=96",
            "sampler.max_tokens=96",
            *overrides,
        ]
        checked = checked_overrides(given)
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            return load_config(sized(compose("config", checked), checked), PROJECT)


class BorrowedSamplers(Fleet):
    """A run's own judges, beside the samplers of another's fleet."""

    def __init__(self, config: Config, sampling: Fleet) -> None:
        super().__init__(config, None)
        self.sampling = sampling

    def samplers(self, policy: Path, version: int) -> SamplerGroup:
        """The other fleet's samplers."""
        return self.sampling.samplers(policy, version)


@contextlib.contextmanager
def run_of(config: Config) -> Iterator[RunFolder]:
    with RunFolder.open(config.run.root, config.run.name, config.plain()) as run:
        yield run


def start_judge(fleet: Fleet) -> None:
    """Waits until the judge's actor has started."""
    actors = [actor for leaf in fleet.config.leaf_judges.values() for actor in fleet.judge(leaf).actors]
    ray.get([actor.judge.remote([], 0) for actor in actors], timeout=300)


def start_shared_actors(bench: Bench) -> None:
    """Starts what all judges of a cluster share: the limits of services, and the cache."""
    bench.service.behave(0.0, UNLIMITED)
    asked(bench, "shared", written_cases(CANDIDATES), LIMIT)


# --- what the service allows ---


def written_cases(candidates: int) -> list[JudgedCase]:
    """Cases of six candidates each, no two of them equal."""
    cases = []
    for number, text in enumerate(reports(candidates // CANDIDATES)):
        sizes = (f"{(number * CANDIDATES + one + 10) / 10:g} mm" for one in range(CANDIDATES))
        written = (f"{text} There is a nodule of {size} in the right upper lobe." for size in sizes)
        judged = tuple(JudgedReport(f"c{number}.0.{index}", words) for index, words in enumerate(written))
        cases.append(JudgedCase(f"c{number}", text, judged))
    return cases


def asked(bench: Bench, name: str, cases: Sequence[JudgedCase], concurrency: int) -> float:
    """Answers a second of the service while the cases are judged."""
    config = bench.config(name, f"judge.concurrency={concurrency}")
    questions = sum(len(case.reports) for case in cases)
    fleet = Fleet(config, None)
    start_judge(fleet)
    with run_of(config) as run:
        started = time.perf_counter()
        judge_stage(Judging(run, config, "judged", [config.judge]), fleet, cases, 0, Progress(name, questions))
        taken = time.perf_counter() - started
        check(run.read("judged/judgements", Judgement), expected=questions)
    fleet.close()
    if bench.service.answered.value != questions:
        raise RuntimeError(f"{name}: {bench.service.answered.value} answers to {questions} questions")
    return questions / taken


def check(judgements: Sequence[Judgement], *, expected: int | None = None) -> None:
    """Raises RuntimeError where a judgement that could be made was not."""
    failures = {one.failure for one in judgements} - {None, "invalid_candidate"}
    scored = sum(one.score is not None for one in judgements)
    if failures or (expected is not None and scored != expected):
        raise RuntimeError(f"{scored} of {len(judgements)} candidates have a score, with failures {failures}")


def limit(bench: Bench, rounds: int) -> dict[str, float]:
    """The table of what the service allows, and the share of it that is used."""
    cases = written_cases(QUESTIONS)
    rows = {
        "own limit 32": (LATENCY_S, LIMIT, 32),
        "own limit 64": (LATENCY_S, LIMIT, 64),
        "fast, own limit 64": (FAST_S, UNLIMITED, 64),
    }
    rates: dict[str, list[float]] = {row: [] for row in rows}
    refused: dict[str, list[int]] = {row: [] for row in rows}
    for number in range(rounds):
        for place, (row, (latency_s, at_most, concurrency)) in enumerate(rows.items()):
            bench.service.behave(latency_s, at_most)
            rates[row].append(asked(bench, f"limit-{place}-{number}", cases, concurrency))
            refused[row].append(bench.service.refused.value)
    tell(f"\n{QUESTIONS} distinct candidates in {QUESTIONS // CANDIDATES} cases, ramp-up included.\n")
    tell("| service | judge | answers a second | of what the service allows | refused |")
    tell("| --- | --- | ---: | ---: | ---: |")
    shares = []
    for row, (latency_s, at_most, _) in rows.items():
        rate, bound = statistics.median(rates[row]), at_most / latency_s
        service = f"{latency_s:g} s, {at_most if at_most < UNLIMITED else 'no number'} in flight"
        share = f"{rate / bound:.3f}" if at_most < UNLIMITED else ""
        shares += [rate / bound] if share else []
        tell(f"| {service} | {row} | {rate:.1f} | {share} | {statistics.median(refused[row]):g} |")
    return {"vs_limit": min(shares)}


# --- a round ---


def sampled(run: RunFolder, config: Config, fleet: Fleet, cases: Sequence[Case], policy: Path) -> float:
    """Seconds of sampling alone, its candidates written as a round writes them."""
    started = time.perf_counter()
    requests = [Request(case, case.feature_key, CANDIDATES, config.sampler.temperature) for case in cases]
    fresh: list[Candidate] = []
    for result in Flow(config, [], fleet.samplers(policy, 0), requests, 0).results():
        if isinstance(result, list):
            fresh.extend(result)
        if len(fresh) >= CANDIDATES_A_SEGMENT or not isinstance(result, list):
            run.append(TABLE, Candidate, fresh)
            fresh.clear()
    run.compact(TABLE, Candidate, "candidate_id")
    return time.perf_counter() - started


@dataclass
class Round:
    """A policy, its samplers and its cases."""

    bench: Bench
    sampling: Fleet
    policy: Path
    cases: list[Case]

    def sample(self, name: str) -> tuple[float, list[Candidate]]:
        """Sampling alone: seconds, and what was sampled."""
        config = self.bench.config(name)
        with run_of(config) as run:
            return sampled(run, config, self.sampling, self.cases, self.policy), run.read(TABLE, Candidate)

    def judge(self, name: str, candidates: Sequence[Candidate] = (), model: str = "") -> float:
        """Seconds of the round's first stage in a new run; with candidates there are none to sample."""
        config = self.bench.config(name, model=model)
        fleet = BorrowedSamplers(config, self.sampling)
        start_judge(fleet)
        with run_of(config) as run:
            run.append(TABLE, Candidate, candidates)
            started = time.perf_counter()
            sample_and_judge(run, config, fleet, self.cases, self.policy, 0, version=0)
            taken = time.perf_counter() - started
            check(run.read("round-000/judgements", Judgement))
        fleet.close()
        return taken


def questions_of(cases: Sequence[Case], candidates: Sequence[Candidate]) -> int:
    """Distinct questions that a judge has to ask of candidates."""
    return len({(one.case_id, one.text) for one in candidates if one.usable})


def new_round(bench: Bench) -> Round:
    """A round whose samplers have started."""
    config = bench.config("sampling")
    policy, vision = untrained_policy(config, bench.root)
    targets = reports(SAMPLED_CASES)
    cases = [
        Case(f"c{number}", f"c{number}", f"p{number}", PROMPT, text, text, f"f{number % 8}")
        for number, text in enumerate(targets)
    ]
    sampling = Fleet(config, vision)
    sampling.samplers(policy, 0)
    return Round(bench, sampling, policy, cases)


def overlap(bench: Bench, rounds: int) -> dict[str, float]:
    """The table of a round's first stage, and what overlap and cache save of it."""
    one = new_round(bench)
    first_s, candidates = one.sample("first")
    questions = questions_of(one.cases, candidates)
    latency_s = first_s * LIMIT / questions
    taken: dict[str, list[float]] = {part: [] for part in ("sampling", "judging", "overlapped", "cached")}
    for number in range(min(2, rounds)):
        taken["sampling"].append(one.sample(f"sampling-{number}")[0])
        for part, given in (("judging", candidates), ("overlapped", ())):
            bench.service.behave(latency_s, UNLIMITED)
            taken[part].append(one.judge(f"{part}-{number}", given))
            if bench.service.answered.value != questions:
                raise RuntimeError(f"{part}: {bench.service.answered.value} answers to {questions} questions")
        bench.service.behave(latency_s, UNLIMITED)
        taken["cached"].append(one.judge(f"cached-{number}", candidates, model=f"judging-{number}"))
        if bench.service.answered.value or bench.service.refused.value:
            raise RuntimeError(f"the service was asked {bench.service.answered.value} questions that the cache holds")
    one.sampling.close()
    median = {part: statistics.median(times) for part, times in taken.items()}
    longer = max(median["sampling"], median["judging"])
    tell(
        f"\n{len(candidates)} candidates of {len(one.cases)} cases, {questions} questions of them, a latency of "
        f"{latency_s:.2f} s, at most {LIMIT} in flight.\n"
    )
    tell("| the stage | seconds | times the longer of sampling and judging |")
    tell("| --- | ---: | ---: |")
    for part, seconds in median.items():
        tell(f"| {part} | {seconds:.2f} | {seconds / longer:.3f} |")
    return {
        "vs_serial_round": (median["sampling"] + median["judging"]) / median["overlapped"],
        "vs_cold": median["judging"] / median["cached"],
    }


tell = partial(print, file=sys.stdout, flush=True)
PARTS = {"limit": limit, "overlap": overlap}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; both where none is named")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"no part is called {', '.join(sorted(unknown))}: there are {', '.join(PARTS)}")
    print(f"Medians of {given.rounds} rounds. Load before: {os.getloadavg()[0]:.1f}.", flush=True)
    # Ray's workers are nice to others by default: a busy machine would starve them.
    os.environ |= {"RAY_worker_niceness": "0"}
    ratios: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder, chat_service() as service:
        bench = Bench(service, Path(folder))
        # What actors and stages say while they are measured goes to the standard error.
        with contextlib.redirect_stdout(sys.stderr), joined(bench.config("cluster")):
            start_shared_actors(bench)
            for part in given.parts or PARTS:
                ratios |= PARTS[part](bench, given.rounds)
    print(f"\nLoad after: {os.getloadavg()[0]:.1f}.")
    print(json.dumps({key: round(ratio, 2) for key, ratio in ratios.items()}))


if __name__ == "__main__":
    main()
