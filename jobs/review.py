"""Hand a run's held-out reports to radiologists, blinded, and take their answers in as those of a judge.

python jobs/review.py run.name=demo review.kind=choices review.cases=50 review.raters=2
python jobs/review.py run.name=demo 'review.answers=[choices-rater-1.csv,choices-rater-2.csv]'
"""

from rich.console import Console

from rlaif.config import Config
from rlaif.launch import launch
from rlaif.ledger import RunFolder
from rlaif.metrics.page.writing import write_page
from rlaif.metrics.review.handout import HANDED_OUT, drawn, hand_out
from rlaif.metrics.review.human import SUMMARY_FILE, take_answers
from rlaif.metrics.review.key import KEY_FILE, read_key
from rlaif.metrics.review.table import human_tables
from rlaif.run_configuration import loop_configuration


def main(config: Config) -> None:
    path = config.run.root / config.run.name
    kept = loop_configuration(path)
    if config.run.dry:
        key, items = drawn(path, config.review, config.run.seed)
        print(f"{len(items) // key.raters} {key.kind} for each of {key.raters} raters: {', '.join(key.systems)}")
        return
    with RunFolder.open(config.run.root, config.run.name, kept) as run:
        if config.review.answers:
            take(run, config)
        else:
            give(run, config)


def give(run: RunFolder, config: Config) -> None:
    key, folder = hand_out(run, config.review, config.run.seed), run.path / config.review.folder
    number, cases = len(key.items) // key.raters, len({item.case_id for item in key.items})
    print(f"{key.name}: {number} {key.kind} of {cases} cases for each rater, {key.repeats} of them repeats")
    print(
        f"hand out, a folder to each rater: {', '.join(str(path) for path in sorted((folder / HANDED_OUT).iterdir()))}"
    )
    print(f"keep: {folder / KEY_FILE}, which tells who wrote what", flush=True)


def take(run: RunFolder, config: Config) -> None:
    summary = take_answers(run, config.review, resamples=config.heldout.resamples)
    for table in human_tables(summary, read_key(run.path / config.review.folder).kind):
        Console(width=130).print(table)
    print(f"all of it: {run.path / SUMMARY_FILE}", flush=True)
    # A run that has not ended yet has no page.
    if run.done("summary"):
        print(f"report: {write_page(run.path)}", flush=True)


if __name__ == "__main__":
    launch(main)
