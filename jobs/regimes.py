"""Fine-tuning or alignment: RGRO's tables, at several shares of the data, and on sources that no policy has seen.

python jobs/regimes.py experiment=rgro data.path=/data/openi
python jobs/regimes.py experiment=rgro data.path=/data/openi 'regimes.loops=[dpo,ppo]' \
  'regimes.zero_shot=[{data: mimic_cxr, path: /data/mimic}]'
"""

import sys
from collections.abc import Sequence

from rich.console import Console

from rlaif.config import Config
from rlaif.launch import launch, refuse_sweep, run_loop_apart
from rlaif.ledger import RunFolder
from rlaif.metrics.published_rows import write_table
from rlaif.metrics.published_runs import check_metrics, regime_rows
from rlaif.metrics.regimes import markdown, regime_table
from rlaif.regime_checks import check_shares, heldout_cases
from rlaif.regime_plan import Regime, Transfer, regimes_of, tables_of, transfers_of


def main(config: Config) -> None:
    regimes = regimes_of(config, sys.argv[1:])
    transfers = transfers_of(config, regimes)
    check_shares(config)
    cases = heldout_cases(config)
    if config.run.dry:
        run_all(regimes, ())
        for one in transfers:
            print(f"{one.name}: writes and scores {cases[one.source]:,} held-out reports of {one.source}", flush=True)
        return
    check_metrics(config)
    # Opened first: what stands in its way is told before hours of runs.
    with RunFolder.open(config.run.root, f"{config.run.name}-regimes", {"job": "regimes"}) as folder:
        run_all(regimes, transfers)
        measured = tables_of(config, regimes, transfers)
        tables = {
            title: regime_table(policies, resamples=config.heldout.resamples) for title, policies in measured.items()
        }
        text = "\n".join(markdown(title, table) for title, table in tables.items())
        folder.write_json("regimes.json", tables)
        folder.write_text("regimes.md", text)
        if config.table is not None:
            Console(width=140).print(write_table(folder, config.table, regime_rows(measured, config)))
    print(f"{text}\nregimes: {folder.path}", flush=True)


def run_all(regimes: Sequence[Regime], transfers: Sequence[Transfer]) -> None:
    for number, regime in enumerate(regimes, 1):
        print(f"=== {number} of {len(regimes)}: SFT on {regime.share} %, then {regime.loop.upper()}", flush=True)
        run_loop_apart(f"{regime.loop}_loop", regime.name, regime.overrides)
    for number, transfer in enumerate(transfers, 1):
        print(f"=== {number} of {len(transfers)}: {transfer.name}", flush=True)
        run_loop_apart("dpo_loop", transfer.name, transfer.overrides)


if __name__ == "__main__":
    refuse_sweep(sys.argv[1:])
    launch(main)
