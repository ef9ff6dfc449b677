"""Fine-tuning or alignment: RGRO's tables, at several shares of the data, and on sources that no policy has seen.

python jobs/regimes.py experiment=rgro data.path=/data/openi
python jobs/regimes.py experiment=rgro data.path=/data/openi 'regimes.loops=[dpo,ppo]' \
  'regimes.zero_shot=[{data: mimic_cxr, path: /data/mimic}]'
"""

import subprocess
import sys
from pathlib import Path

from rlaif.config import Config
from rlaif.launch import PROJECT, fail, launch
from rlaif.ledger import RunFolder
from rlaif.metrics.regimes import MeasuredPolicy, markdown, regime_table
from rlaif.regime_plan import Regime, Transfer, regimes_of, transfers_of


def main(config: Config) -> None:
    regimes = regimes_of(config, sys.argv[1:])
    transfers = transfers_of(config, regimes)
    for number, regime in enumerate(regimes, 1):
        print(f"=== {number} of {len(regimes)}: SFT on {regime.share} %, then {regime.loop.upper()}", flush=True)
        run(regime)
    if config.run.dry:
        return
    for number, transfer in enumerate(transfers, 1):
        print(f"=== {number} of {len(transfers)}: {transfer.name}", flush=True)
        run(transfer)

    root, resamples = config.run.root, config.heldout.resamples
    own = [measured(regime, policy, root / regime.name) for regime in regimes for policy in policies(config, regime)]
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


def run(part: Regime | Transfer) -> None:
    """Runs one part to its end: a run like any other, which the same command goes on with."""
    loop = part.loop if isinstance(part, Regime) else "dpo"
    command = [sys.executable, str(PROJECT / "jobs" / f"{loop}_loop.py"), *part.overrides]
    finished = subprocess.run(command, check=False, cwd=Path.cwd())
    if finished.returncode:
        fail(f"the run {part.name} ended with status {finished.returncode}: the same command goes on from there")


def policies(config: Config, regime: Regime) -> tuple[str, ...]:
    """What a run adds to the table: the base that its loops share stands there once."""
    return ("base", "round-000") if regime.loop == config.regimes.loops[0] else ("round-000",)


def measured(regime: Regime, policy: str, run: Path, reports: str | None = None) -> MeasuredPolicy:
    """A policy as a row of the table; `reports` is where its held-out reports are, where not under its own name."""
    control = f"SFT-{regime.share}"
    name = control if policy == "base" else f"RGRO-{regime.share} by {regime.loop.upper()}"
    return MeasuredPolicy(name, None if policy == "base" else control, run / "heldout" / (reports or policy))


if __name__ == "__main__":
    launch(main)
