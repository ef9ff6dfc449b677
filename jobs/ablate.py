"""Which judge to trust: judges x strategies x seeds from one base policy, each run scored by all the judges.

python jobs/ablate.py experiment=demo 'ablate.judges=[rules,llm_parser]' 'ablate.pairs=[strategy1,strategy2]'
"""

import subprocess
import sys
from pathlib import Path

from rlaif.ablation_plan import Part, parts_of
from rlaif.config import Config
from rlaif.launch import PROJECT, fail, launch
from rlaif.ledger import RunFolder
from rlaif.metrics.ablation import AblationRun, ablation_of, draw, markdown


def main(config: Config) -> None:
    parts = parts_of(config, sys.argv[1:])
    for number, part in enumerate(parts, 1):
        print(f"=== {number} of {len(parts)}: {part.judge}, {part.pairs}, seed {part.seed}", flush=True)
        run(part)
    if config.run.dry:
        return
    root = config.run.root
    ablation = ablation_of([AblationRun(one.judge, one.pairs, one.seed, root / one.name) for one in parts])
    with RunFolder.open(root, config.run.name, {"job": "ablate"}) as folder:
        folder.write_json("ablation.json", ablation)
        folder.write_text("ablation.md", markdown(ablation))
        folder.write_text("ablation.svg", draw(ablation))
    print(markdown(ablation) + f"\nablation: {folder.path}", flush=True)


def run(part: Part) -> None:
    """Runs one part to its end: a run like any other, which the same command goes on with."""
    job = PROJECT / "jobs" / "dpo_loop.py"
    finished = subprocess.run([sys.executable, str(job), *part.overrides], check=False, cwd=Path.cwd())
    if finished.returncode:
        fail(f"the run {part.name} ended with status {finished.returncode}: the same command goes on from there")


if __name__ == "__main__":
    launch(main)
