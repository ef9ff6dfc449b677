"""What the loops have in common: the checks before a run, what stands before its first round, and its end."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from actors.cluster import joined
from actors.earlier_run import take_over
from actors.fleet import Fleet
from actors.ingest_stage import ingest_studies
from actors.outages import Outages
from actors.own_start import check_start, check_unchanged, start_checksum
from actors.preparation import base_policy, check_alignment, prepare_studies, start_policy
from actors.tracking import check_tracking, track_stages
from rlaif.cases import cases_of
from rlaif.config import Config, ConfigurationError
from rlaif.files import checksum_of
from rlaif.ledger import RunFolder
from rlaif.metrics.page.writing import write_page
from rlaif.metrics.summary import summarise
from rlaif.metrics.table import result_table
from rlaif.models.settings import read_settings
from rlaif.plan import check_memory, plan
from rlaif.plan_trainings import check_trainings
from rlaif.provenance import provenance
from rlaif.records import Case
from rlaif.run_configuration import CONFIG_FILE


@dataclass(frozen=True)
class Alignment:
    """A run before its first round: its fleet, its base policy, the cases to align on and the held-out ones."""

    fleet: Fleet
    base: Path
    cases: list[Case]
    heldout: list[Case]


def run_loop(config: Config, align: Callable[[RunFolder, Config], None]) -> None:
    """Runs a loop in its run folder, from where it stands, and shows the result; with run.dry, shows the plan alone."""
    if not config.ingest.encode:
        raise ConfigurationError("the loop needs features: ingest.encode=false is for jobs/ingest.py alone")
    if config.run.dry:
        plan(config)
        return
    check_tracking(config)
    # A run that goes on was checked before it began.
    if not (config.run.root / config.run.name / CONFIG_FILE).is_file():
        check_trainings(config)
        check_memory(config)
    with RunFolder.open(config.run.root, config.run.name, config.plain()) as run:
        check_unchanged(run, config)
        if not run.done("summary") or run.facts("summary")["rounds"] < config.run.rounds:
            with joined(config):
                align(run, config)
        track_stages(run, config, anew=True)
        Console(width=120).print(result_table(run.read_json("summary.json")))
        print(f"report: {run.path / 'report.html'}", flush=True)


def prepared(run: RunFolder, config: Config) -> Alignment:
    """Reads the studies, encodes their CTs, and takes or trains the base policy."""
    prepare_studies(run, config)
    check_alignment(run, config)
    check_start(run, config)
    take_over(run, config)
    outages = Outages(run)
    outages.watch_nodes()
    start = start_policy(run, config)
    fleet = Fleet(config, ingest_studies(run, config, start), outages)
    base = base_policy(run, config, start, fleet)
    _write_provenance(run, config, base)
    settings = read_settings(base)
    cases = cases_of(run.path, "align", config.run.target, settings)
    heldout = cases_of(run.path, "heldout", config.run.target, settings)[: config.heldout.limit]
    return Alignment(fleet, base, cases, heldout)


def finish(run: RunFolder, config: Config, **head: str) -> None:
    """Writes the summary of a run whose rounds are done, and its page; `head` says what the loop is."""
    told = {
        "name": config.run.name,
        "policy": f"{config.policy.name}/{config.policy.size}",
        "judge": config.judge.name,
        **head,
        "seed": config.run.seed,
    }
    run.write_json("summary.json", summarise(run, told, config.run.rounds, resamples=config.heldout.resamples))
    write_page(run.path)
    run.finish("summary", rounds=config.run.rounds)


def _write_provenance(run: RunFolder, config: Config, base: Path) -> None:
    if (run.path / "provenance.json").exists():
        return
    data = {"studies": checksum_of(run.path / "studies"), **start_checksum(config)}
    run.write_json("provenance.json", provenance({"run": config.run.seed}, data, {"base": checksum_of(base)}))
