"""How fast a whole round of the loop is beside TRL's OnlineDPOTrainer: prints a table, then one line of JSON.

python benchmarks/round.py [--cases 32] [--batch 32] [--rounds 5] [--threads 2] [--trl vllm transformers]

A Llama of 4 M parameters that was taught to write phantom reports, 512 prompt tokens, two reports of at most 96 a
prompt, scored by the rules judge; one pair of every prompt, one pass over the pairs; CPU. Ours is the loop's own round:
sampled by vLLM, judged, paired, learnt, and the new weights in the sampler. TRL's is as many steps, with vLLM in its
process and with transformers' generation: what fails at its start is told and left out, the faster one is the peer. A
pair of equal scores takes part on both sides, as TRL has it. In turn; the first round, with the engines' start, is not
counted. `vs_trl_online` is the median of the rounds' ratios, larger is better.

All is float32 but TRL's vLLM: TRL gives it no dtype, and on CPUs without bfloat16 instructions that is the one in which
vLLM does not pack its weights, so that TRL can load new ones into it.
"""

import argparse
import contextlib
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from in_turn import side
from trl_online import TrlRounds, trl_rounds
from untrained_policy import reports

from actors.cluster import joined
from actors.fleet import Fleet
from actors.learning import learn
from actors.remote import ActorLost
from actors.rounds import make_pairs, sample_and_judge
from actors.sampling_plan import policy_at
from rlaif.config import Config, load_config
from rlaif.launch import CONFIGS, PROJECT, checked_overrides, sized
from rlaif.ledger import RunFolder
from rlaif.models.new_policy import new_policy
from rlaif.models.policy import LANGUAGE_MODEL, Policy
from rlaif.models.settings import LanguageModelSettings, PolicySettings
from rlaif.objectives.sft import sft_loss
from rlaif.records import Candidate, Case, Judgement, Pair

LANGUAGE = LanguageModelSettings(hidden=256, layers=4, heads=4, intermediate=768, vocabulary=1000, positions=768)
PROMPT_TOKENS, MAX_TOKENS = 512, 96
BETA, LR = 0.1, 1e-5
TAUGHT, LESSONS, LESSON = 400, 60, 16


def prompts_of(policy: Policy, texts: list[str], number: int) -> list[str]:
    """Prompts of earlier reports, each of exactly as many tokens as are to be measured."""
    generator = random.Random(0)
    made = []
    for _ in range(number):
        words = " ".join(generator.choices(texts, k=20))
        ids = policy.tokenizer.encode(words, add_special_tokens=False)
        # The beginning takes one; a cut within a word may be read as other tokens, so that some length fits.
        cuts = (str(policy.tokenizer.decode(ids[:end])) for end in range(PROMPT_TOKENS - 20, PROMPT_TOKENS + 20))
        made.append(next(cut for cut in cuts if len(policy.prompt(cut).ids) == PROMPT_TOKENS))
    return made


def teach(policy: Policy, prompts: list[str], answers: list[str]) -> None:
    """Lets the policy write reports, with an end, and no better than that."""
    # Long prompts would cost most of it and teach nothing.
    prompts = [prompt[-40:] for prompt in prompts]
    optimizer = torch.optim.AdamW(policy.parameters(), lr=4e-3)
    generator = random.Random(1)
    policy.train()
    for _ in range(LESSONS):
        chosen = generator.sample(range(len(answers)), LESSON)
        tokens = policy.collate(
            [policy.prompt(generator.choice(prompts)) for _ in chosen], [policy.answer(answers[i]) for i in chosen]
        )
        sft_loss(policy(tokens, None), tokens.answer).mean().backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    policy.eval()


def configuration(given: argparse.Namespace, root: Path) -> Config:
    """One sampler and one rank, each with all threads: they work one after the other."""
    overrides = checked_overrides(
        [
            "experiment=smoke",
            "cluster.address=local",
            f"run.root={root / 'runs'}",
            f"cache.root={root / 'cache'}",
            f"run.rounds={1 + given.rounds}",
            "run.max_bad_fraction=1",
            "judge=rules",
            "pairs.strategy=best_worst",
            "pairs.minimum_margin=0",
            "sampler.n=2",
            "sampler.attempts=1",
            f"sampler.threads={given.threads}",
            f"sampler.max_tokens={MAX_TOKENS}",
            f"policy.language_model.positions={LANGUAGE.positions}",
            f"sampler.max_length={LANGUAGE.positions}",
            f"sampler.max_sequences={2 * given.cases}",
            "learner.ranks=1",
            "learner.zero_stage=0",
            f"learner.threads={given.threads}",
            f"learner.micro_batch={min(16, given.batch)}",
            f"learner.dpo.beta={BETA}",
            f"learner.dpo.batch={given.batch}",
            f"learner.dpo.lr={LR}",
            "learner.dpo.train=[language_model]",
            "learner.dpo.schedule=constant",
            "learner.dpo.warmup=0",
        ]
    )
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return load_config(sized(compose("config", overrides), overrides), PROJECT)


@dataclass
class OurRounds:
    """The loop's rounds of one run."""

    run: RunFolder
    config: Config
    fleet: Fleet
    cases: list[Case]
    base: Path
    number: int = 0

    def take(self) -> dict[str, float]:
        """One round; seconds of its stages."""
        round_, self.number = self.number, self.number + 1
        name = f"round-{round_:03d}"
        times = [time.perf_counter()]
        sample_and_judge(self.run, self.config, self.fleet, self.cases, self.base, round_, version=round_)
        times.append(time.perf_counter())
        make_pairs(self.run, self.config, self.cases, round_)
        self._pair_ties(name)
        times.append(time.perf_counter())
        learn(self.run, self.config, self.fleet, policy_at(self.run, self.base, round_), self.base, round_)
        times.append(time.perf_counter())
        self.fleet.samplers(policy_at(self.run, self.base, round_ + 1), round_ + 1)
        times.append(time.perf_counter())
        stages = ("sample and judge", "pair", "learn", "weights")
        return dict(zip(stages, (end - start for start, end in pairwise(times)), strict=True))

    def _pair_ties(self, name: str) -> None:
        """Pairs what has equal scores or none as well, so that as many pairs are learnt as TRL learns."""
        pairs = self.run.read(f"{name}/pairs", Pair)
        paired = {one.case_id for one in pairs}
        sampled: dict[str, list[Candidate]] = {}
        for one in self.run.read(f"{name}/candidates", Candidate):
            sampled.setdefault(one.case_id, []).append(one)
        for case_id, (first, second) in sampled.items():
            if case_id not in paired:
                pairs.append(
                    Pair(
                        pair_id=f"{case_id}.{name}",
                        case_id=case_id,
                        round=first.round,
                        strategy="best_worst",
                        prompt=first.prompt,
                        chosen=first.text,
                        rejected=second.text,
                        chosen_candidate_id=first.candidate_id,
                        rejected_candidate_id=second.candidate_id,
                        chosen_score=None,
                        rejected_score=None,
                        margin=None,
                        judge="rules",
                    )
                )
        self.run.replace(f"{name}/pairs", Pair, pairs)
        facts = self.run.facts(f"{name}/pairs")
        self.run.finish(f"{name}/pairs", **{**facts, "pairs": len(pairs)})

    def check(self) -> str:
        """What the last round did, in words; raises RuntimeError where it was not a whole round."""
        name = f"round-{self.number - 1:03d}"
        candidates = self.run.read(f"{name}/candidates", Candidate)
        pairs = self.run.read(f"{name}/pairs", Pair)
        scored = sum(one.score is not None for one in self.run.read(f"{name}/judgements", Judgement))
        if len(pairs) != len(self.cases) or len(candidates) != 2 * len(self.cases):
            raise RuntimeError(f"{name}: {len(candidates)} reports and {len(pairs)} pairs of {len(self.cases)} cases")
        tokens = statistics.mean(len(one.token_ids) for one in candidates)
        return f"{len(candidates)} reports of {tokens:.0f} tokens on average, {scored} of them scored"


def both_sides(given: argparse.Namespace, root: Path) -> tuple[list[Case], TrlRounds]:
    """The policy, taught and saved below `root`, the cases of ours, and the same work for TRL."""
    texts = reports(TAUGHT)
    settings = PolicySettings(name="rgro", size="tiny", recipe=None, encoder=None, connector=None)
    policy = new_policy(settings, LANGUAGE, texts, seed=1)
    prompts = prompts_of(policy, texts, given.cases)
    teach(policy, prompts, texts)
    policy.save_pretrained(root / "policy", None)
    targets = random.Random(2).sample(texts, given.cases)
    cases = [
        Case(f"c{i:03d}", f"c{i:03d}", f"p{i}", prompt, target, target, None)
        for i, (prompt, target) in enumerate(zip(prompts, targets, strict=True))
    ]
    theirs = TrlRounds(
        sampling="transformers",
        model=root / "policy" / LANGUAGE_MODEL,
        folder=root / "trl",
        rows=[
            {"prompt": str(policy.tokenizer.bos_token) + prompt, "reference": target}
            for prompt, target in zip(prompts, targets, strict=True)
        ],
        rounds=1 + given.rounds,
        batch=given.batch,
        threads=given.threads,
        max_tokens=MAX_TOKENS,
        max_length=PROMPT_TOKENS + MAX_TOKENS,
        beta=BETA,
        lr=LR,
    )
    return cases, theirs


@dataclass(frozen=True)
class Round:
    """Seconds of our stages, and of each peer's round; what was done, in words."""

    stages: dict[str, float]
    peers: dict[str, float]
    words: str


def rounds_in_turn(given: argparse.Namespace, root: Path) -> Iterator[Round]:
    """The rounds, ours and each peer's one after another; a peer that fails in the first is left out, and told."""
    config = configuration(given, root)
    cases, theirs = both_sides(given, root)
    with (
        joined(config),
        RunFolder.open(config.run.root, config.run.name, config.plain()) as run,
        contextlib.ExitStack() as sides,
    ):
        peers = {
            f"TRL, {one}": sides.enter_context(side(f"TRL, {one}", trl_rounds, replace(theirs, sampling=one)))
            for one in given.trl
        }
        fleet = Fleet(config, None)
        ours = OurRounds(run, config, fleet, cases, root / "policy")
        for number in range(1 + given.rounds):
            stages, seconds = ours.take(), {}
            words = ours.check()
            for name, peer in list(peers.items()):
                try:
                    step = peer.step()
                except ActorLost as error:
                    if number or len(peers) == 1:
                        raise
                    print(f"{name} is left out: {error}", flush=True)
                    del peers[name]
                    continue
                seconds[name] = step.seconds
                words += f"; of those by {name}, {step.result['ended']:.0%} ended"
            yield Round(stages, seconds, words)
        fleet.close()


def print_table(rounds: list[Round]) -> float:
    """Prints the seconds of both sides; gives the median of the rounds' ratios to the fastest peer."""
    print("| round | median seconds | fastest | slowest |")
    print("| --- | ---: | ---: | ---: |")
    rows = {"ours": [sum(one.stages.values()) for one in rounds]}
    rows |= {f"ours: {stage}": [one.stages[stage] for one in rounds] for stage in rounds[0].stages}
    peers = {name: [one.peers[name] for one in rounds] for name in rounds[0].peers}
    for row, times in (rows | peers).items():
        print(f"| {row} | {statistics.median(times):.2f} | {min(times):.2f} | {max(times):.2f} |")
    fastest = min(peers, key=lambda name: statistics.median(peers[name]))
    print(f"\nThe peer is {fastest}. Load after: {os.getloadavg()[0]:.1f}.")
    return statistics.median(peer / mine for mine, peer in zip(rows["ours"], peers[fastest], strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=32)
    parser.add_argument("--batch", type=int, default=32, help="pairs of an optimizer step, and prompts of a TRL step")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--trl", nargs="+", choices=("vllm", "transformers"), default=["vllm", "transformers"])
    given = parser.parse_args()
    if given.cases % given.batch:
        parser.error("--cases must be a multiple of --batch")
    # Ray's workers are nice to others by default, which TRL's process is not.
    os.environ |= {"RAY_worker_niceness": "0", "OMP_NUM_THREADS": str(given.threads), "VLLM_CPU_KVCACHE_SPACE": "1"}
    torch.set_num_threads(given.threads)
    print(f"Load before: {os.getloadavg()[0]:.1f}.", flush=True)
    # What actors and stages say while they are measured goes to the standard error.
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        _, *rounds = rounds_in_turn(given, Path(folder))
    print(f"\n{given.cases} prompts a round, {given.batch} pairs a step, {given.threads} threads.")
    print(f"Last round: {rounds[-1].words}.\n")
    ratio = print_table(rounds)
    print(json.dumps({"vs_trl_online": round(ratio, 2)}))


if __name__ == "__main__":
    main()
