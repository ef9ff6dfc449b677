"""What jobs/score.py scores, by which metrics, and by which judges."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from rlaif.judges.settings import JudgeSettings
from rlaif.metrics.measures.settings import MetricSettings
from rlaif.records import Split
from rlaif.section import Section


class ScoreSettings(Section):
    """The reports of a file with references of their own (`table`), of a file whose references are the data set's
    (`reports`), or those that a policy writes (policy=folder).
    """

    table: Path | None
    """A CSV file of reports and references, with or without radiologists' scores or choices."""
    reports: Path | None
    """A CSV file of generated reports, study_id and text, held against the reports of `data`."""
    split: Split
    """Which studies of `data`."""
    temperatures: tuple[Annotated[float, Field(ge=0, le=2)], ...] = Field(min_length=1)
    """A set of reports is written at each; 0 is greedy."""
    samples: int = Field(ge=1)
    """Reports of a case at each temperature above 0."""
    against: tuple[Path, ...]
    """Run folders of this job, whose reports on the same cases are compared with these."""
    pool: tuple[Path, ...]
    """Run folders of this job with other seeds, pooled with this one."""
    same_patients: bool
    """Whether the pooled seeds were measured on the same patients, who are then resampled together."""
    metrics: MetricSettings
    judges: tuple[JudgeSettings, ...]
    """Named as the members of an ensemble are."""
    rating_scale: tuple[float, float] | None
    """The ends of the radiologists' scale; null: their lowest and highest score."""

    @model_validator(mode="after")
    def _has_width(self) -> "ScoreSettings":
        if self.rating_scale is not None and self.rating_scale[0] >= self.rating_scale[1]:
            raise ValueError(f"rating_scale={list(self.rating_scale)} must go from low to high, such as [1, 5]")
        return self

    @model_validator(mode="after")
    def _one_source(self) -> "ScoreSettings":
        if self.table is not None and self.reports is not None:
            raise ValueError("score.table has references of its own, score.reports takes the data set's: give one")
        if self.table is not None and not self.judges:
            raise ValueError("score.judges=[] leaves nobody to hold against the ratings: name one, such as rules")
        if len(set(self.temperatures)) < len(self.temperatures):
            raise ValueError(f"temperatures={list(self.temperatures)} has one of them twice")
        return self

    def placed(self) -> "ScoreSettings":
        """The same with absolute paths, taken from the working directory."""
        folders = ("wordnet", "bert_score", "ratescore", "radgraph", "radbert")
        metrics = self.metrics.model_copy(update={name: _absolute(getattr(self.metrics, name)) for name in folders})
        files = {name: _absolute(getattr(self, name)) for name in ("table", "reports")}
        runs = {
            name: tuple(path.expanduser().absolute() for path in getattr(self, name)) for name in ("against", "pool")
        }
        return self.model_copy(update={**files, **runs, "metrics": metrics})


def _absolute(path: Path | None) -> Path | None:
    return None if path is None else path.expanduser().absolute()
