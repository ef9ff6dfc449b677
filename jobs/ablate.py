"""Which judge to trust: judges x strategies x seeds from one base policy, each run scored by all the judges.

python jobs/ablate.py experiment=demo 'ablate.judges=[rules,llm_parser]' 'ablate.pairs=[strategy1,strategy2]'
"""

import sys

from rlaif.ablation_plan import parts_of
from rlaif.config import Config
from rlaif.launch import launch, run_loop_apart
from rlaif.ledger import RunFolder
from rlaif.metrics.ablation import AblationRun, ablation_of, draw, markdown


def main(config: Config) -> None:
    parts = parts_of(config, sys.argv[1:])
    for number, part in enumerate(parts, 1):
        print(f"=== {number} of {len(parts)}: {part.judge}, {part.pairs}, seed {part.seed}", flush=True)
        run_loop_apart("dpo_loop", part.name, part.overrides)
    if config.run.dry:
        return
    root = config.run.root
    ablation = ablation_of([AblationRun(one.judge, one.pairs, one.seed, root / one.name) for one in parts])
    with RunFolder.open(root, config.run.name, {"job": "ablate"}) as folder:
        folder.write_json("ablation.json", ablation)
        folder.write_text("ablation.md", markdown(ablation))
        folder.write_text("ablation.svg", draw(ablation))
    print(markdown(ablation) + f"\nablation: {folder.path}", flush=True)


if __name__ == "__main__":
    launch(main)
