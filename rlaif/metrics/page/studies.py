"""The studies that the report page shows: their reference reports and pictures of their CTs, each read once."""

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rlaif.metrics.page.images import SliceRow, slices_of
from rlaif.metrics.page.run_tables import bounded, read_rows
from rlaif.metrics.page.stacks import Stack, stack_of
from rlaif.records import Study
from rlaif.reports.prompts import Target, region_case, target_text
from rlaif.reports.region_reports import region_slots
from rlaif.storage import StorageUnavailable
from rlaif.volumes.source import VolumeSource
from rlaif.volumes.volume import Volume

_REPORT = ["study_id", "patient_id", "source", "split", "findings", "impression", "region_reports"]
_COLUMNS = [*_REPORT, "volume", "rescale", "spacing_mm"]
# No CT is begun later than this after the first; a page of a run on slow storage is written all the same.
READING_SECONDS = 180.0


class StudyIndex:
    """References and pictures of a run's studies, each read once and only when it is asked for.

    CTs are read for `seconds` at most, counted from the first; what comes later gets a note.
    """

    def __init__(self, run: Path, seconds: float = READING_SECONDS) -> None:
        self._folder = run / "studies"
        self._seconds = seconds
        self._until: float | None = None
        self._rows: dict[str, dict[str, Any]] = {}
        self._slices: dict[str, SliceRow] = {}
        self._stacks: dict[str, Stack | str] = {}

    def prepare(self, study_ids: Iterable[str]) -> None:
        """Read the rows of many studies at once, which is quicker than one by one."""
        wanted = [study_id for study_id in dict.fromkeys(study_ids) if study_id not in self._rows]
        if wanted:
            found = {row["study_id"]: row for row in read_rows(self._folder, _COLUMNS, ("study_id", wanted))}
            self._rows |= {study_id: found.get(study_id, {}) for study_id in wanted}

    def _row(self, study_id: str) -> dict[str, Any]:
        self.prepare([study_id])
        return self._rows[study_id]

    def reference(self, study_id: str) -> tuple[tuple[str, str], ...]:
        """The sections of the study's report as (name, text), without empty ones."""
        row = self._row(study_id)
        return tuple((name.capitalize(), bounded(row[name])) for name in ("findings", "impression") if row.get(name))

    def judged_reference(self, study_id: str, target: Target | None, prompt: str) -> str | None:
        """The reference that judges were given of a report written to `prompt`; None where they had none.

        Where no configuration says the target it is what the study's report has.
        """
        row = self._row(study_id)
        if not row:
            return None
        if target is None:
            return "\n".join(text for _, text in self.reference(study_id)) or None
        study = Study(**{name: row[name] for name in _REPORT})
        # The regions of a prompt are those that the case was made of.
        asked = region_slots(prompt)
        return region_case(study, target, None, asked).target if asked else target_text(study, target)

    def images(self, study_id: str) -> SliceRow:
        """The study's three slices, or a note in their place."""
        if study_id not in self._slices:
            self._see(study_id, with_slices=True)
        return self._slices[study_id]

    def stack(self, study_id: str) -> Stack | str:
        """The study's axial stack, or a note that says why there is none."""
        if study_id not in self._stacks:
            self._see(study_id, with_slices=False)
        return self._stacks[study_id]

    def _see(self, study_id: str, with_slices: bool) -> None:
        """Read the study's CT once; its slices cost as much as its stack, and only the examples show them."""
        volume = self._volume(self._row(study_id))
        if isinstance(volume, str):
            self._slices[study_id], self._stacks[study_id] = SliceRow(note=volume), volume
            return
        self._stacks[study_id] = stack_of(volume.voxels, volume.spacing_mm)
        if with_slices:
            self._slices[study_id] = slices_of(volume.voxels, volume.spacing_mm)

    def _volume(self, row: Mapping[str, Any]) -> Volume | str:
        """The CT of a study, or why it is not there."""
        if not row:
            return "The study is not in the run's studies table."
        if not row["volume"]:
            return "This study has no CT: its policy works on text alone."
        now = time.monotonic()
        if self._until is None:
            self._until = now + self._seconds
        if now >= self._until:
            return f"Not read: the {self._seconds:g} s that the page reads CTs for were over."
        try:
            return VolumeSource.at(row["volume"], row["rescale"], row["spacing_mm"]).read()
        except (OSError, ValueError, StorageUnavailable) as error:
            return f"The CT cannot be read any more: {str(error)[:300]}"
