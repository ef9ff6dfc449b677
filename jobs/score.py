"""Score reports by metrics and judges: a policy's on any data set, other people's, or those that radiologists rated.

python jobs/score.py policy=folder policy.path=runs/demo/round-001/checkpoint 'score.temperatures=[0,0.4,0.9]'
python jobs/score.py score.reports=theirs.csv data=ct_rate data.path=/data/ct-rate 'score.against=[runs/score]'
python jobs/score.py score.table=ratings.csv 'score.judges=[rules,{judge: gpt4, base_url: http://127.0.0.1:8199/v1}]'
"""

from rich.console import Console

from actors.rated_reports import tell_table
from actors.scoring import check_score, recorded, score_reports, scored, scoring
from actors.written_reports import set_names
from rlaif.config import Config
from rlaif.launch import launch
from rlaif.ledger import RunFolder
from rlaif.metrics.published_rows import write_table
from rlaif.metrics.score_tables import score_rows, score_tables


def main(config: Config) -> None:
    check_score(config)
    config = scoring(config)
    if config.run.dry:
        tell(config)
        return
    with RunFolder.open(config.run.root, config.run.name, recorded(config)) as run:
        if not scored(run, config):
            score_reports(run, config)
        show(run, config)


def tell(config: Config) -> None:
    if config.score.table is not None:
        tell_table(config.score)
        return
    source = config.score.reports or config.policy.path
    print(f"reports: {source}, on the {config.score.split} studies of data={config.data.name}, in sets:")
    print(", ".join(set_names(config.score)), flush=True)


def show(run: RunFolder, config: Config) -> None:
    summary, console = run.read_json("score.json"), Console(width=140)
    for table in score_tables(summary):
        console.print(table)
    if config.table is not None:
        console.print(write_table(run, config.table, score_rows(summary)))
    print(f"scores: {run.path / 'score.json'}", flush=True)


if __name__ == "__main__":
    launch(main, run_name="score")
