"""Where round 0 begins: with candidates that the policy samples, or with a team's own candidates or pairs."""

from pathlib import Path

from pydantic import Field, model_validator

from rlaif.judges.settings import JUDGE_NAME
from rlaif.section import Section


class StartSettings(Section):
    """A file that round 0 starts from: Parquet, JSONL, a folder of Parquet, or a data set saved by `datasets`."""

    candidates: Path | None = None
    """A team's own candidates: judged by the run's judge, or, where the file has scores, by those."""
    pairs: Path | None = None
    """A team's own preference pairs: learnt as they are."""
    judge: str | None = Field(default=None, pattern=JUDGE_NAME)
    """Whose scores of `candidates` build pairs; None: the only judge that the file names, or `given`."""
    scale: tuple[float, float] | None = None
    """The ends of that judge's scale; None: the file says them in `scale_low` and `scale_high`."""
    threshold: float | None = None
    """Takes the place of `pairs.threshold` in round 0, on that judge's scale."""
    minimum_margin: float | None = Field(default=None, ge=0)
    """Takes the place of `pairs.minimum_margin` in round 0, on that judge's scale."""

    @property
    def file(self) -> Path | None:
        """The file or folder that round 0 starts from; None where the policy samples."""
        return self.candidates or self.pairs

    @property
    def key(self) -> str:
        """The key that names the file."""
        return "start.candidates" if self.candidates is not None else "start.pairs"

    @model_validator(mode="after")
    def _is_one(self) -> "StartSettings":
        if self.candidates is not None and self.pairs is not None:
            raise ValueError("round 0 starts from start.candidates or from start.pairs: leave one of them out")
        of_scores = ("judge", "scale", "threshold", "minimum_margin")
        told = [name for name in of_scores if getattr(self, name) is not None]
        if told and self.candidates is None:
            raise ValueError(f"start.{told[0]} is for the scores of start.candidates: set that, or leave it out")
        if self.scale is not None and self.scale[0] >= self.scale[1]:
            raise ValueError(f"start.scale={[*self.scale]} must go from low to high, such as [1, 5]")
        return self
