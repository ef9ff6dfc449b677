"""The QA sheet of a run: a few of its studies are read once more, on the cluster, and drawn."""

import ray

from rlaif.config import Config
from rlaif.datasets.splits import patient_order
from rlaif.ledger import RunFolder
from rlaif.metrics.ingest_summary import quarantine_counts
from rlaif.records import Ingested, Quarantined, Study
from rlaif.volumes.qa_sheet import QaRow, qa_row, qa_sheet
from rlaif.volumes.recipes import RECIPES
from rlaif.volumes.source import VolumeSource
from rlaif.volumes.volume import Orientation, VolumeError

PAGE = "qa.html"


@ray.remote
def _draw(study_id: str, source: VolumeSource, recipe: str, orientation: Orientation) -> QaRow:
    try:
        return qa_row(study_id, source.read(orientation), RECIPES[recipe])
    except (VolumeError, OSError) as error:
        # It was read before: what became of it since keeps nobody from the summary.
        return QaRow(study_id, "", (), (), (f"can no longer be read: {error}",))


def write_qa_sheet(run: RunFolder, config: Config) -> None:
    """Writes `qa.html` with `ingest.qa_studies` of the ingested studies: at most half of them for their remarks."""
    recipe = run.facts("ingest")["recipe"]
    kept = {one.study_id: one for one in run.iterate("features", Ingested)}
    # The seed's order of studies is as good as chance, and the same on every machine.
    ordered = sorted(kept, key=lambda name: patient_order(name, config.run.seed))
    remarked = [name for name in ordered if kept[name].remarks][: config.ingest.qa_studies // 2]
    names = [*remarked, *(name for name in ordered if name not in remarked)][: config.ingest.qa_studies]
    sources = {one.study_id: VolumeSource.of(one) for one in run.iterate("studies", Study) if one.study_id in names}
    draw = _draw.options(num_cpus=config.ingest.cpus)
    drawing = [draw.remote(name, sources[name], recipe, config.recipe.orientation) for name in names]
    rows = ray.get(drawing, timeout=config.ingest.timeout_s)
    reasons = quarantine_counts(run.read("quarantine", Quarantined))
    run.write_text(PAGE, qa_sheet(config.run.name, RECIPES[recipe], config.recipe.orientation, rows, reasons))
