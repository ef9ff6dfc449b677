"""Is the gain real? Runs a loop with several seeds and pools its held-out cases; overrides go to every run.

python jobs/proof.py
python jobs/proof.py run.rounds=3
python jobs/proof.py ppo_loop experiment=ppo
"""

import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table as Grid

from rlaif.launch import PROJECT, run_loop_apart
from rlaif.metrics.intervals import differences, pooled
from rlaif.metrics.proof import Seed, claims_of, seed_of

SEEDS = (0, 1, 2)
LOOPS = ("dpo_loop", "ppo_loop")


def main() -> None:
    loop, *overrides = sys.argv[1:] if sys.argv[1:] and sys.argv[1] in LOOPS else ["dpo_loop", *sys.argv[1:]]
    if not any(one.startswith("experiment=") for one in overrides):
        overrides.insert(0, "experiment=demo")
    seeds = [run(loop, overrides, number) for number in SEEDS]
    grid = Grid(title=f"{len(seeds)} seeds, {sum(seed.cases for seed in seeds)} held-out cases: mean [95 % interval]")
    for column in ("claim", "pooled", *(f"seed {number}" for number in SEEDS), "holds"):
        grid.add_column(column)
    answers = []
    for claim in claims_of(seeds):
        parts = [differences(*claim.measure(seed), seed.patients) for seed in seeds]
        interval = pooled(parts)
        means = [sum(values) / len(values) for values, _ in parts]
        holds = claim.holds(interval, means, seeds)
        answers.append(holds)
        shown = f"{interval.mean:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"
        grid.add_row(claim.words, shown, *(f"{mean:+.3f}" for mean in means), "yes" if holds else "NO")
    Console(width=140).print(grid)
    print(json.dumps({"holds": all(answers)}), flush=True)
    sys.exit(0 if all(answers) else 1)


def run(loop: str, given: list[str], number: int) -> Seed:
    """Runs a loop with one seed to its end, and reads what came of it."""
    name = next((one.partition("=")[2] for one in given if one.startswith("run.name=")), _name(loop)) + f"-{number}"
    overrides = [*given, f"run.seed={number}", f"run.name={name}", "run.dry=false"]
    print(f"=== seed {number}: {' '.join(overrides)}", flush=True)
    run_loop_apart(loop, name, overrides)
    root = next((Path(one.partition("=")[2]) for one in overrides if one.startswith("run.root=")), Path("runs"))
    return seed_of(PROJECT / root / name)


def _name(loop: str) -> str:
    return "proof" if loop == "dpo_loop" else f"proof-{loop.removesuffix('_loop')}"


if __name__ == "__main__":
    main()
