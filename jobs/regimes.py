"""Fine-tuning or alignment: RGRO's tables, at several shares of the data, and on sources that no policy has seen.

python jobs/regimes.py experiment=rgro data.path=/data/openi
python jobs/regimes.py experiment=rgro data.path=/data/openi 'regimes.loops=[dpo,ppo]' \
  'regimes.zero_shot=[{data: mimic_cxr, path: /data/mimic}]'
"""

import sys
from pathlib import Path

from rlaif.config import Config
from rlaif.launch import launch, run_loop_apart
from rlaif.ledger import RunFolder
from rlaif.metrics.regimes import MeasuredPolicy, markdown, regime_table
from rlaif.regime_plan import Regime, regimes_of, transfers_of


def main(config: Config) -> None:
    regimes = regimes_of(config, sys.argv[1:])
    transfers = transfers_of(config, regimes)
    for number, regime in enumerate(regimes, 1):
        print(f"=== {number} of {len(regimes)}: SFT on {regime.share} %, then {regime.loop.upper()}", flush=True)
        run_loop_apart(f"{regime.loop}_loop", regime.name, regime.overrides)
    if config.run.dry:
        return
    for number, transfer in enumerate(transfers, 1):
        print(f"=== {number} of {len(transfers)}: {transfer.name}", flush=True)
        run_loop_apart("dpo_loop", transfer.name, transfer.overrides)

    root, resamples = config.run.root, config.heldout.resamples
    own = [measured(regime, policy, root / regime.name) for regime in regimes for policy in regime.policies]
    tables = {f"{config.data.name}, held out": own}
    for one in transfers:
        tables.setdefault(f"{one.source}, not seen in training", []).append(
            measured(one.regime, one.policy, root / one.name, "base")
        )
    made = {title: regime_table(rows, resamples=resamples) for title, rows in tables.items()}
    text = "\n".join(markdown(title, table) for title, table in made.items())
    with RunFolder.open(root, config.run.name, {"job": "regimes"}) as folder:
        folder.write_json("regimes.json", made)
        folder.write_text("regimes.md", text)
    print(f"{text}\nregimes: {folder.path}", flush=True)


def measured(regime: Regime, policy: str, run: Path, reports: str | None = None) -> MeasuredPolicy:
    """A policy as a row of the table; `reports` is where its held-out reports are, where not under its own name."""
    control = f"SFT-{regime.share}"
    name = control if policy == "base" else f"RGRO-{regime.share} by {regime.loop.upper()}"
    return MeasuredPolicy(name, None if policy == "base" else control, run / "heldout" / (reports or policy))


if __name__ == "__main__":
    launch(main)
