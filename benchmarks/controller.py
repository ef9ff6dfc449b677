"""Does the controller's memory stay the same, whatever the number of cases? The main job, run at two numbers of cases.

python benchmarks/controller.py [FEW MANY]
"""

import csv
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hydra import compose, initialize_config_dir
from rich.console import Console
from rich.table import Table

from rlaif.config import load_config
from rlaif.datasets.phantom_settings import PhantomSettings
from rlaif.datasets.phantom_study import plan_study
from rlaif.launch import CONFIGS, PROJECT, sized
from rlaif.models.new_policy import new_policy

FEW, MANY, HELDOUT = 100, 10_000, 8
LONGEST_S = 3600.0
MIB = 2**20
# Reports are as short as they may be: asked is what the controller keeps of a case, not how fast one is written.
SHORT = ("sampler.n=2", "sampler.max_tokens=8", "sampler.attempts=1", "heldout.resamples=200", "run.max_bad_fraction=1")


def main() -> None:
    few, many = (int(one) for one in sys.argv[1:3]) if len(sys.argv) > 2 else (FEW, MANY)
    with tempfile.TemporaryDirectory(prefix="rlaif-controller-") as name:
        folder = Path(name)
        policy = untrained(folder)
        peaks = {number: peak_of(folder, policy, number) for number in (few, many)}
    table = Table(title="The controller's peak of resident memory over a round")
    for column in ("cases", "MiB", "seconds"):
        table.add_column(column, justify="right")
    for number, (peak, seconds) in peaks.items():
        table.add_row(f"{number:,}", f"{peak / MIB:,.0f}", f"{seconds:.0f}")
    Console(width=120).print(table)
    print(json.dumps({"memory_ratio": round(peaks[few][0] / peaks[many][0], 3)}))


def untrained(folder: Path) -> Path:
    """A policy from findings to impression that writes random words."""
    overrides = ["policy=rgro", "data=openi", f"data.path={folder}"]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = load_config(sized(compose("config", overrides), overrides), PROJECT)
    assert config.policy.language_model is not None
    texts = [one for report in reports(200) for one in report]
    new_policy(config.policy.settings(), config.policy.language_model, texts, seed=0).save_pretrained(
        folder / "policy", None
    )
    return folder / "policy"


def reports(number: int) -> list[tuple[str, str]]:
    """Findings and impressions of phantom studies."""
    settings = PhantomSettings(sft=number)
    studies = (plan_study(settings, f"train_{one + 1}_a_1").report for one in range(number))
    return [(report.findings, report.impression) for report in studies]


def peak_of(folder: Path, policy: Path, number: int) -> tuple[int, float]:
    """The peak of the job's resident memory in bytes over a run of one round on so many cases, and its seconds."""
    table = folder / f"reports-{number}.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["uid", "findings", "impression"])
        writer.writerows((line, *texts) for line, texts in enumerate(reports(number + HELDOUT)))
    overrides = [
        "data=openi",
        f"data.path={table}",
        f"data.split={{sft: 0, align: {number}, heldout: {HELDOUT}}}",
        "policy=folder",
        f"policy.path={policy}",
        "run.target=impression",
        "run.rounds=1",
        f"run.name=cases-{number}",
        f"run.root={folder / 'runs'}",
        f"cache.root={folder / 'cache'}",
        "cluster.address=local",
        *SHORT,
    ]
    began = time.monotonic()
    with (folder / f"{number}.log").open("w", encoding="utf-8") as log:
        job = subprocess.Popen(
            [sys.executable, str(PROJECT / "jobs" / "dpo_loop.py"), *overrides], stdout=log, stderr=subprocess.STDOUT
        )
    peak = 0
    while job.poll() is None:
        peak = max(peak, high_water(job.pid))
        if time.monotonic() - began > LONGEST_S:
            job.kill()
        time.sleep(0.25)
    if job.returncode:
        raise SystemExit((folder / f"{number}.log").read_text(encoding="utf-8")[-3000:])
    return peak, time.monotonic() - began


def high_water(pid: int) -> int:
    """The most memory that a process has had in bytes, as Linux tells it; 0 once it has gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:")), 0)


if __name__ == "__main__":
    main()
