"""A table of a paper in typed form: its columns by the names that metrics have here, its values, and which to doubt."""

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from rlaif.section import Section

# The largest of the paper's tables takes 4 KB.
_MOST_BYTES = 1_000_000

Kind = Literal["impossible", "contradicted", "doubtful"]


class TableError(ValueError):
    """A published table that cannot be read, with the file and what to change."""


class PublishedColumn(Section):
    """A column of a published table."""

    label: str = Field(min_length=1)
    """As printed, and before it the data set where the table has several side by side; unique in the table."""
    metric: str | None
    """The metric's name here; None: there is none that could stand beside it."""
    mean_of: tuple[str, ...] = ()
    """Metrics whose mean `metric` is: where all of them are measured, so is their mean (`published_means`)."""
    scale: float = Field(default=1.0, gt=0)
    """What a value of ours is multiplied by to be like the printed ones, such as 100."""
    digits: int = Field(default=3, ge=0, le=6)
    """Digits after the point, as printed."""
    data: str | None = None
    """The data set whose reports it is measured on, as `data=` names it; None: that of the row."""


class PublishedRow(Section):
    """A row of a published table."""

    label: str = Field(min_length=1)
    section: str = ""
    """The part of the table that it stands in."""
    values: tuple[float | None, ...]
    """By column, as printed; None where the paper has none."""


class Mark(Section):
    """Printed values that are not to be taken as they are.

    `impossible`: no set of reports gives them; `contradicted`: by the paper's own text or tables, or its code;
    `doubtful`: possible, and most likely something else than the column says.
    """

    kind: Kind
    column: str
    rows: tuple[str, ...] = Field(min_length=1)
    section: str | None = None
    """Where the rows stand, in a table that has rows of one label in several sections."""
    reason: str = Field(min_length=1)


class Claim(Section):
    """A difference of two values of one column that the paper's text says in numbers."""

    text: str = Field(min_length=1)
    """Where it is said, and of what."""
    column: str
    row: str
    base: str
    section: str | None = None
    said: float
    unit: Literal["percent", "points"]
    """`percent` of the base's value, or `points` of the printed values."""
    digits: int = Field(default=1, ge=0, le=6)
    """Digits after the point in which it is said."""


class PublishedTable(Section):
    """A table of a paper. Raises a validation error where rows, marks or claims do not fit the columns and rows."""

    paper: str = Field(min_length=1)
    number: str = Field(min_length=1)
    """As the paper counts it: `2`, `IV`."""
    title: str = Field(min_length=1)
    source: str = Field(min_length=1)
    """Where in the paper the table stands."""
    data: str = Field(min_length=1)
    """What the paper measured on."""
    columns: tuple[PublishedColumn, ...] = Field(min_length=1)
    rows: tuple[PublishedRow, ...] = Field(min_length=1)
    marks: tuple[Mark, ...] = ()
    claims: tuple[Claim, ...] = ()
    remarks: tuple[str, ...] = ()
    """What else a reader of the table must know, a sentence or two each."""

    @model_validator(mode="after")
    def _fits_together(self) -> "PublishedTable":
        labels = [column.label for column in self.columns]
        if repeated := [label for label in labels if labels.count(label) > 1]:
            raise ValueError(f"two columns are called {repeated[0]!r}: give each its own label")
        places = [(row.section, row.label) for row in self.rows]
        if repeated_rows := [label for section, label in places if places.count((section, label)) > 1]:
            raise ValueError(f"two rows of one section are called {repeated_rows[0]!r}: give each its own label")
        for row in self.rows:
            if len(row.values) != len(labels):
                raise ValueError(
                    f"row {row.label!r} has {len(row.values)} values for {len(labels)} columns: write null where the "
                    "paper has none"
                )
        for mark in self.marks:
            for label in mark.rows:
                self._check_cell(f"mark {mark.reason[:40]!r}", mark.section, label, mark.column)
        for claim in self.claims:
            for label in (claim.row, claim.base):
                self._check_cell(f"claim {claim.text[:40]!r}", claim.section, label, claim.column)
        return self

    def _check_cell(self, what: str, section: str | None, row: str, column: str) -> None:
        place = f"row {row!r}" if section is None else f"section {section!r}, row {row!r}"
        if len(self._lines(section, row)) > 1:
            raise ValueError(f"{what}: {row!r} is a row of several sections: say which with `section`")
        if self.value(section, row, column) is None:
            raise ValueError(f"{what}: there is no value at {place}, column {column!r}; write them as they are above")

    def _lines(self, section: str | None, row: str) -> list[PublishedRow]:
        return [one for one in self.rows if one.label == row and section in (None, one.section)]

    @property
    def name(self) -> str:
        """The table as text calls it: `mu2, Table 1`."""
        return f"{self.paper}, Table {self.number}"

    def value(self, section: str | None, row: str, column: str) -> float | None:
        """A printed value; None where the paper has none, and where there is no such cell.

        `section` None: that of the only row, or the first, with this label.
        """
        at = next((index for index, one in enumerate(self.columns) if one.label == column), None)
        lines = self._lines(section, row)
        return lines[0].values[at] if lines and at is not None else None

    def marks_of(self, row: PublishedRow, column: PublishedColumn) -> tuple[int, ...]:
        """The numbers of the marks of a cell, from 1 in the order of `marks`."""
        return tuple(
            number
            for number, mark in enumerate(self.marks, 1)
            if mark.column == column.label and row.label in mark.rows and mark.section in (None, row.section)
        )

    def given_by_values(self, claim: Claim) -> float:
        """What the table's own values give for a claim, in its unit."""
        new, base = (self.value(claim.section, row, claim.column) for row in (claim.row, claim.base))
        if new is None or base is None:
            raise ValueError(f"{self.name}: the claim {claim.text!r} has no values")
        return (new - base) / base * 100 if claim.unit == "percent" else new - base

    def holds(self, claim: Claim) -> bool:
        """Whether the table's own values give what the text says, to the digits in which it is said."""
        # A little over half a digit: values that are printed rounded give the difference only so far.
        return abs(self.given_by_values(claim) - claim.said) <= 0.6 * 10**-claim.digits


def read_table(path: Path) -> PublishedTable:
    """The table of a file of `configs/table`.

    Raises TableError for a file that is too large, is no YAML, or holds no table of this form.
    """
    size = path.stat().st_size
    if size > _MOST_BYTES:
        raise TableError(f"{path}: {size} bytes are more than the {_MOST_BYTES} of any table")
    try:
        values: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise TableError(f"{path}: no YAML: {str(error).splitlines()[0]}") from error
    table = values.get("table") if isinstance(values, dict) else None
    if not isinstance(table, dict):
        raise TableError(f"{path}: there is no mapping under the key `table`")
    try:
        return PublishedTable.model_validate(table)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(str(part) for part in ("table", *fault["loc"]))
        raise TableError(f"{path}: {place}: {fault['msg'].removeprefix('Value error, ')}") from error
