"""Ingest a data set: read every CT, put it through the recipe, encode it once; then a summary and a QA sheet.

ray job submit -- python jobs/ingest.py data=ct_rate data.path=/data/CT-RATE policy=folder policy.path=runs/demo/base
python jobs/ingest.py data=folder data.path=/data/cts recipe=ctclip_v1 ingest.encode=false
"""

from rich.console import Console

from actors.cluster import joined
from actors.ingest_stage import check_studies, ingest_studies, tell_needs
from actors.preparation import prepare_studies, start_policy
from rlaif.config import Config, ConfigurationError
from rlaif.launch import launch
from rlaif.ledger import RunFolder
from rlaif.metrics.ingest_summary import ingest_summary, ingest_table


def main(config: Config) -> None:
    if config.run.dry:
        tell_needs(config)
        return
    with RunFolder.open(config.run.root, config.run.name, config.plain()) as run:
        if not run.done("ingest-summary"):
            with joined(config, ingest_alone=True):
                ingest(run, config)
        show(run)


def ingest(run: RunFolder, config: Config) -> None:
    from actors.qa_sheet import write_qa_sheet

    prepare_studies(run, config)
    if not config.ingest.encode:
        check_studies(run, config)
    elif ingest_studies(run, config, start_policy(run, config)) is None:
        raise ConfigurationError("the policy reads text alone: choose one with an encoder, or set ingest.encode=false")
    write_qa_sheet(run, config)
    run.write_json("ingest.json", ingest_summary(run))
    run.finish("ingest-summary")


def show(run: RunFolder) -> None:
    Console(width=120).print(ingest_table(run.read_json("ingest.json")))
    print(f"QA sheet: {run.path / 'qa.html'}", flush=True)


if __name__ == "__main__":
    launch(main)
