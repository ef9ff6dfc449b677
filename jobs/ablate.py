"""Which judge to trust: judges x strategies x seeds from one base policy, each run scored by all the judges.

python jobs/ablate.py experiment=demo 'ablate.judges=[rules,llm_parser]' 'ablate.pairs=[strategy1,strategy2]'
"""

import sys
from collections.abc import Sequence

from rich.console import Console

from rlaif.ablation_plan import Part, parts_of
from rlaif.config import Config
from rlaif.launch import launch, refuse_sweep, run_loop_apart
from rlaif.ledger import RunFolder
from rlaif.metrics.ablation import AblationRun, ablation_of, draw, markdown
from rlaif.metrics.published_rows import write_table
from rlaif.metrics.published_runs import ablation_rows, check_metrics


def main(config: Config) -> None:
    parts, root = parts_of(config, sys.argv[1:]), config.run.root
    if config.run.dry:
        run_all(parts)
        return
    check_metrics(config)
    # Opened first: what stands in its way is told before hours of runs.
    with RunFolder.open(root, f"{config.run.name}-ablation", {"job": "ablate"}) as folder:
        run_all(parts)
        runs = [AblationRun(one.judge, one.pairs, one.seed, root / one.name) for one in parts]
        ablation = ablation_of(runs)
        folder.write_json("ablation.json", ablation)
        folder.write_text("ablation.md", markdown(ablation))
        if (figure := draw(ablation)) is not None:
            folder.write_text("ablation.svg", figure)
        if config.table is not None:
            Console(width=140).print(write_table(folder, config.table, ablation_rows(runs, config)))
    print(markdown(ablation) + f"\nablation: {folder.path}", flush=True)


def run_all(parts: Sequence[Part]) -> None:
    for number, part in enumerate(parts, 1):
        print(f"=== {number} of {len(parts)}: {part.judge}, {part.pairs}, seed {part.seed}", flush=True)
        run_loop_apart("dpo_loop", part.name, part.overrides)


if __name__ == "__main__":
    refuse_sweep(sys.argv[1:])
    launch(main)
