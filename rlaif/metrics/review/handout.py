"""What is handed to raters: for each a CSV sheet and a page, in a folder of its own, apart from the key."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from rlaif.ledger import RunFolder
from rlaif.metrics.review.cells import guarded
from rlaif.metrics.review.key import KEY_FILE, Kind, ReviewError, ReviewKey, ShownItem, columns_of, read_key
from rlaif.metrics.review.page import page_of
from rlaif.metrics.review.sampling import draw, heldout_reports
from rlaif.review_settings import ReviewSettings

HANDED_OUT = "hand-out"
PAGE_FILE = "review.html"


def hand_out(run: RunFolder, settings: ReviewSettings, seed: int) -> ReviewKey:
    """Writes a review's sheets, pages and key into the run, or finds the same review there and leaves it as it is.

    Settings without systems mean those of the review that is there, although the run has grown since. Raises
    ReviewError for a review of the name with other settings, and as `draw` does.
    """
    folder = run.inside(settings.folder)
    key, items = drawn(run.path, settings, seed)
    if folder.exists():
        differing = _differences(read_key(folder), key)
        if differing:
            raise ReviewError(
                f"{folder} was handed out with another {', '.join(differing)}: give this one another review.name"
            )
        return key
    with run.folder(settings.folder) as building:
        for number in range(settings.raters):
            rater = f"rater-{number + 1}"
            own = [item for item in items if item.key.rater == rater]
            place = building / HANDED_OUT / rater
            place.mkdir(parents=True, mode=0o700)
            # Without the mark at its beginning some spreadsheets take the file for another encoding.
            _write(place / f"{key.kind}.csv", sheet_text(key.kind, own), encoding="utf-8-sig")
            _write(place / PAGE_FILE, page_of(key.kind, rater, own))
        _write(building / KEY_FILE, key.model_dump_json(indent=1))
    return key


def drawn(run: Path, settings: ReviewSettings, seed: int) -> tuple[ReviewKey, list[ShownItem]]:
    """What `hand_out` shows, and writes nothing."""
    folder, systems = run / settings.folder, settings.systems
    if not systems and folder.exists():
        systems = read_key(folder).systems
    return draw(heldout_reports(run, systems), settings, seed)


def _differences(there: ReviewKey, wanted: ReviewKey) -> list[str]:
    """What of two keys differs, by the names of settings."""
    names = {"kind": "review.kind", "seed": "run.seed", "items": "reports of the run"}
    differing = [name for name in ReviewKey.model_fields if getattr(there, name) != getattr(wanted, name)]
    # Items follow from the settings; alone they mean that the run's reports are others.
    settings = [name for name in differing if name not in ("items", "same_text")]
    return [names.get(name, f"review.{name}") for name in settings or differing[-1:]]


def sheet_text(kind: Kind, items: Sequence[ShownItem]) -> str:
    """An empty sheet as CSV: nothing in it says which system wrote what."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\r\n")
    writer.writerow(columns_of(kind))
    for item in items:
        writer.writerow([item.key.item_id, guarded(item.reference), *map(guarded, item.texts), "", ""])
    return file.getvalue()


def _write(path: Path, text: str, encoding: str = "utf-8") -> None:
    path.write_text(text, encoding=encoding, newline="")
    path.chmod(0o600)
