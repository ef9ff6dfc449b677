"""Writes the measured tables of README.md from run folders; what stands between the tables' marks is replaced.

python scripts/readme_tables.py runs/demo runs/proof-0 runs/proof-1 runs/proof-2
"""

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from rlaif.metrics.proof import CLAIMS, Seed, answer_of, seed_of
from rlaif.metrics.table import plain_table

README = Path(__file__).resolve().parent.parent / "README.md"


def demo_table(run: Path) -> str:
    """The held-out metrics of a finished run, as Markdown."""
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    return f"{plain_table(summary)}\nMean [95 % interval], {summary['studies']['heldout']} held-out patients.\n"


def proof_table(runs: Sequence[Path]) -> str:
    """What must hold of the runs together, as Markdown: one run for each seed."""
    seeds = [seed_of(run) for run in runs]
    header = ["Claim", "Pooled", *(f"Run {number}" for number in range(len(seeds))), "Holds"]
    lines = [header, ["---", *["---:"] * (len(header) - 1)]]
    for claim in CLAIMS:
        answer = answer_of(claim, seeds)
        lines.append([claim.words, *answer.shown, "yes" if answer.holds else "no"])
    table = "".join("| " + " | ".join(line) + " |\n" for line in lines)
    return f"{table}\n{_counted(seeds)}: mean [95 % interval].\n"


def _counted(seeds: Sequence[Seed]) -> str:
    runs = "One seed" if len(seeds) == 1 else f"{len(seeds)} seeds"
    return f"{runs}, {sum(seed.cases for seed in seeds)} held-out cases"


def replaced(text: str, mark: str, content: str) -> str:
    """The text with new content between `<!-- mark -->` and `<!-- /mark -->`; ValueError where the marks are not."""
    new, count = re.subn(
        f"(<!-- {mark} -->\n).*?(<!-- /{mark} -->)", lambda found: found[1] + content + found[2], text, flags=re.DOTALL
    )
    if count != 1:
        raise ValueError(f"the text has {count} places marked <!-- {mark} -->, not one")
    return new


def main() -> None:
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    demo, *proofs = (Path(argument) for argument in sys.argv[1:])
    text = replaced(README.read_text(encoding="utf-8"), "demo-table", demo_table(demo))
    README.write_text(replaced(text, "proof-table", proof_table(proofs)), encoding="utf-8")


if __name__ == "__main__":
    main()
