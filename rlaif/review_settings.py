"""Which reports of a run go to radiologists, and whose answers come back (jobs/review.py)."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from rlaif.section import Section

System = Annotated[str, StringConstraints(pattern=r"^(base|round-[0-9]{3,})$")]


class ReviewSettings(Section):
    name: str | None = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """The review's folder in the run; null: its kind."""
    kind: Literal["choices", "scores"]
    """`choices` of the better of two reports, or `scores` of single ones from 1 to 5."""
    systems: tuple[System, ...]
    """Policies whose held-out reports are shown, by their folders in `heldout/`; none: base and last round."""
    cases: int = Field(ge=1)
    """Held-out cases, drawn by run.seed; every system's report of each is shown."""
    repeats: int = Field(ge=0)
    """Reports or pairs that each rater sees a second time."""
    raters: int = Field(ge=1, le=50)
    """Each gets a sheet of the same reports or pairs, in an order of its own."""
    answers: tuple[Path, ...]
    """Filled sheets, one for each rater, taken from the working directory; none: a review is handed out."""

    @property
    def folder(self) -> str:
        """The review's folder, relative to the run's."""
        return f"review/{self.name or self.kind}"

    def placed(self) -> "ReviewSettings":
        """The settings with absolute paths, taken from the working directory."""
        return self.model_copy(update={"answers": tuple(path.expanduser().absolute() for path in self.answers)})

    @model_validator(mode="after")
    def _tells_systems(self) -> "ReviewSettings":
        if len({*self.systems}) < len(self.systems):
            raise ValueError(f"systems={[*self.systems]} has one of its entries twice")
        if self.kind == "choices" and len(self.systems) == 1:
            raise ValueError(
                f"systems={[*self.systems]}: a choice is between two systems or more, such as [base,round-001]; "
                "review.kind=scores takes one"
            )
        return self
