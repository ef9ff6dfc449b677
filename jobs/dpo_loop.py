"""Iterative DPO with AI feedback: sample, judge, pair, learn, evaluate; round after round.

ray job submit -- python jobs/dpo_loop.py experiment=demo
python jobs/dpo_loop.py experiment=smoke run.rounds=1
"""

from pathlib import Path

from rich.console import Console

from actors.cluster import joined
from actors.earlier_run import take_over
from actors.fleet import Fleet
from actors.heldout import evaluate
from actors.ingest_stage import ingest_studies
from actors.own_start import check_start, check_unchanged, start_checksum, take_start
from actors.preparation import base_policy, check_alignment, prepare_studies, start_policy
from actors.rounds import learn, make_pairs, sample_and_judge, sampling_ahead
from actors.sampling_plan import round_name
from rlaif.cases import cases_of
from rlaif.config import Config, ConfigurationError
from rlaif.files import checksum_of
from rlaif.launch import launch
from rlaif.ledger import RunFolder
from rlaif.metrics.page import write_page
from rlaif.metrics.summary import summarise
from rlaif.metrics.table import result_table
from rlaif.models.settings import read_settings
from rlaif.plan import check_memory, plan
from rlaif.plan_trainings import check_trainings
from rlaif.provenance import provenance
from rlaif.run_configuration import CONFIG_FILE


def main(config: Config) -> None:
    if not config.ingest.encode:
        raise ConfigurationError("the loop needs features: ingest.encode=false is for jobs/ingest.py alone")
    if config.run.dry:
        plan(config)
        return
    # A run that goes on was checked before it began.
    if not (config.run.root / config.run.name / CONFIG_FILE).is_file():
        check_trainings(config)
        check_memory(config)
    with RunFolder.open(config.run.root, config.run.name, config.plain()) as run:
        check_unchanged(run, config)
        if not run.done("summary") or run.facts("summary")["rounds"] < config.run.rounds:
            with joined(config):
                align(run, config)
        show(run)


def align(run: RunFolder, config: Config) -> None:
    prepare_studies(run, config)
    check_alignment(run, config)
    check_start(run, config)
    take_over(run, config)
    start = start_policy(run, config)
    vision = ingest_studies(run, config, start)
    fleet = Fleet(config, vision)
    base = policy = base_policy(run, config, start, fleet)
    write_provenance(run, config, base)
    settings = read_settings(base)
    cases = cases_of(run.path, "align", config.run.target, settings)
    heldout = cases_of(run.path, "heldout", config.run.target, settings)[: config.heldout.limit]

    evaluate(run, config, fleet, heldout, base, 0, "base")
    take_start(run, config, fleet, cases)
    for round_ in range(config.run.rounds):
        sample_and_judge(run, config, fleet, cases, base, round_, version=round_)
        make_pairs(run, config, cases, round_)
        with sampling_ahead(run, config, fleet, cases, base, round_):
            policy = learn(run, config, fleet, policy, base, round_)
        evaluate(run, config, fleet, heldout, policy, round_ + 1, round_name(round_))
    fleet.close()

    head = {
        "name": config.run.name,
        "policy": f"{config.policy.name}/{config.policy.size}",
        "judge": config.judge.name,
        "pairs": config.pairs.strategy,
        "seed": config.run.seed,
    }
    run.write_json("summary.json", summarise(run, head, config.run.rounds, resamples=config.heldout.resamples))
    write_page(run.path)
    run.finish("summary", rounds=config.run.rounds)


def write_provenance(run: RunFolder, config: Config, base: Path) -> None:
    if (run.path / "provenance.json").exists():
        return
    data = {"studies": checksum_of(run.path / "studies"), **start_checksum(config)}
    weights = {"base": checksum_of(base)}
    run.write_json("provenance.json", provenance({"run": config.run.seed}, data, weights))


def show(run: RunFolder) -> None:
    Console(width=120).print(result_table(run.read_json("summary.json")))
    print(f"report: {run.path / 'report.html'}", flush=True)


if __name__ == "__main__":
    launch(main)
