"""Score reports of a CSV file with judges, and hold the judges against the radiologists who rated the same reports.

python jobs/score.py score.table=ratings.csv 'score.judges=[rules,{judge: gpt4, base_url: http://127.0.0.1:8199/v1}]'
"""

from rich.console import Console

from actors.cluster import cluster_at
from actors.scoring import judged_cases, leaves, read_reports, recorded, score_reports
from rlaif.config import Config
from rlaif.launch import launch
from rlaif.ledger import RunFolder
from rlaif.metrics.ratings import Ratings
from rlaif.metrics.scoring import score_table


def main(config: Config) -> None:
    ratings = read_reports(config.score)
    if config.run.dry:
        tell(config, ratings)
        return
    with RunFolder.open(config.run.root, config.run.name, recorded(config)) as run:
        if not run.done("score"):
            with cluster_at(config.cluster.address):
                score_reports(run, config, ratings)
        show(run)


def tell(config: Config, ratings: Ratings) -> None:
    cases, judges = judged_cases(ratings), leaves(config.score)
    raters = len(ratings.scores) + len(ratings.choices)
    print(f"reports: {len(ratings.items)} in {len(cases)} cases or pairs, ratings: {ratings.kind}, raters: {raters}")
    print(f"judges: {', '.join(one.name for one in judges)}, {len(judges) * len(ratings.items)} judgements", flush=True)


def show(run: RunFolder) -> None:
    Console(width=130).print(score_table(run.read_json("score.json")))
    print(f"judgements: {run.path / 'judging' / 'judgements'}", flush=True)


if __name__ == "__main__":
    launch(main, run_name="score")
