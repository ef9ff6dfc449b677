"""Is the gain real? Runs a loop with several seeds and pools its held-out cases; overrides go to every run.

python jobs/proof.py
python jobs/proof.py run.rounds=3
python jobs/proof.py ppo_loop experiment=ppo
"""

import json
import sys
from functools import partial

from rich.console import Console
from rich.table import Table as Grid

from rlaif.config import Config
from rlaif.launch import fail, launch, refuse_sweep, run_loop_apart
from rlaif.metrics.proof import answer_of, claims_of, seed_of
from rlaif.override_text import kept_overrides

SEEDS = (0, 1, 2)
LOOPS = {"dpo_loop": "proof", "ppo_loop": "proof-ppo"}


def main(config: Config, loop: str) -> None:
    kept = kept_overrides(sys.argv[1:], "proof", {r"run\.seed": f"leave it out: they are {SEEDS}"}, "the proof")
    runs = {number: f"{config.run.name}-{number}" for number in SEEDS}
    for number, name in runs.items():
        overrides = [*kept, f"run.seed={number}", f"run.name={name}"]
        print(f"=== seed {number}: {' '.join(overrides)}", flush=True)
        run_loop_apart(loop, name, overrides)
    if config.run.dry:
        return
    seeds = [seed_of(config.run.root / name) for name in runs.values()]
    claims, left_out = claims_of(seeds)
    for claim in left_out:
        print(f"left out, as no seed has anything to measure it on: {claim.words}", flush=True)
    if not claims:
        fail(
            "no claim can be held against these runs: none of their held-out reports has a measure; see data and judge"
        )
    grid = Grid(title=f"{len(seeds)} seeds, {sum(seed.cases for seed in seeds)} held-out cases: mean [95 % interval]")
    for column in ("claim", "pooled", *(f"seed {number}" for number in SEEDS), "holds"):
        grid.add_column(column)
    answers = {claim.words: answer_of(claim, seeds) for claim in claims}
    for words, answer in answers.items():
        grid.add_row(words, *answer.shown, "yes" if answer.holds else "NO")
    Console(width=140).print(grid)
    holds = all(answer.holds for answer in answers.values())
    print(json.dumps({"holds": holds}), flush=True)
    sys.exit(0 if holds else 1)


if __name__ == "__main__":
    given = sys.argv[1:]
    if {"-h", "--help"} & {*given}:
        print(__doc__)
        sys.exit()
    refuse_sweep(given)
    chosen = given.pop(0) if given and given[0] in LOOPS else "dpo_loop"
    if not any(one.lstrip("+").startswith("experiment=") for one in given):
        given.insert(0, "experiment=demo")
    sys.argv[1:] = given
    launch(partial(main, loop=chosen), run_name=LOOPS[chosen], alignment=chosen.removesuffix("_loop"))
