"""A team's own candidates and pairs: each row of its file checked against the run's studies."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlaif.preferences.messages import FormError
from rlaif.preferences.own_cells import (
    BadRow,
    OwnScore,
    Scale,
    judge_cell,
    optional_score,
    prompt_cell,
    report_cell,
    score_cell,
    shown,
)
from rlaif.preferences.own_file import OwnFile, OwnFileError, Row, open_own
from rlaif.preferences.prompt_origin import PromptOrigin
from rlaif.records import Study

# Left out for nothing wrong with it: the row stands there twice.
REPEATED = "repeated"
_SHOWN = 5


@dataclass(frozen=True)
class LeftOut:
    """A row of a file that takes no part, with the reason."""

    row: int
    study_id: str
    reason: str
    detail: str


@dataclass(frozen=True)
class OwnCandidate:
    """A report that a team has of a study, with the scores that the file has for it, by judge."""

    row: int
    study_id: str
    text: str
    scores: dict[str, OwnScore] = field(default_factory=dict)


@dataclass(frozen=True)
class OwnPair:
    """A chosen and a rejected report of a study, or of a prompt of its own where the study is not named."""

    row: int
    study_id: str | None
    prompt: str | None
    chosen: str
    rejected: str
    chosen_score: float | None
    rejected_score: float | None
    judge: str


@dataclass
class OwnRows:
    """What a file holds: candidates or pairs in its order, what was left out, and the number of rows."""

    path: Path
    rows: int = 0
    candidates: list[OwnCandidate] = field(default_factory=list)
    pairs: list[OwnPair] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    scales: dict[str, Scale] = field(default_factory=dict)
    """Of the judges whose scores the file has."""

    @property
    def reasons(self) -> dict[str, int]:
        """How many rows were left out for which reason."""
        return dict(Counter(one.reason for one in self.left_out))

    @property
    def bad(self) -> list[LeftOut]:
        """The rows that were left out because something is wrong with them."""
        return [one for one in self.left_out if one.reason != REPEATED]

    def told(self) -> str:
        """The reasons with an example each."""
        first = {one.reason: one for one in reversed(self.bad)}
        counts = Counter(one.reason for one in self.bad)
        return "; ".join(f"{counts[reason]} {reason} (row {one.row}: {one.detail})" for reason, one in first.items())


class _HeldOut(ValueError):
    """A row of a held-out study."""


def read_candidates(path: Path, studies: Sequence[Study], scale: Scale | None) -> OwnRows:
    """The candidates of a file with the columns `study_id` (or `case_id`) and `text`, and the scores of a column
    `score`: then `judge`, `scale_low`, `scale_high` and `explanation` may stand beside it. `scale` takes the place of
    the scale's columns.

    The same text of a study is one candidate, whoever scored it. Raises OwnFileError for a file or columns that cannot
    be used, and for rows of held-out studies.
    """
    own = open_own(path)
    study, text = own.column("study_id", "case_id"), own.column("text")
    scored = "score" in own.columns
    if scored and scale is None:
        for name in ("scale_low", "scale_high"):
            own.column(name, because=", and start.scale=[LOW,HIGH] is not set in its place")
    by_id = {one.study_id: one for one in studies}
    found: dict[tuple[str, str], OwnCandidate] = {}
    scales: dict[str, Scale] = {}

    def add(row: Row) -> None:
        study_id = _align_study(row.values[study], by_id)
        report = report_cell(row.values[text], "text")
        key = study_id, " ".join(report.split())
        candidate = found.get(key, OwnCandidate(row.number, study_id, report))
        if not scored:
            if key in found:
                raise BadRow(REPEATED, "the same text of the study stands above")
        else:
            judge = judge_cell(row.values.get("judge"))
            told = score_cell(row.values, scale)
            if scales.get(judge, told.scale) != told.scale:
                raise BadRow("scale", f"{judge} scored on {scales[judge]} above, here on {told.scale}")
            known = candidate.scores.get(judge)
            if known is not None and known.score != told.score:
                raise BadRow("two_scores", f"{judge} gave {known.score:g} to the same text above, here {told.score:g}")
            if known is not None:
                raise BadRow(REPEATED, "the same text and score stand above")
            scales[judge] = told.scale
            candidate.scores[judge] = told
        found[key] = candidate

    columns = [study, text, "score", "judge", "scale_low", "scale_high", "explanation"]
    rows = _gone_through(own, columns, study, add)
    rows.candidates, rows.scales = [*found.values()], scales
    return _usable(rows, len(found))


def read_pairs(path: Path, studies: Sequence[Study], *, own_prompts: bool) -> OwnRows:
    """The pairs of a file with the columns `chosen` and `rejected`, in any of TRL's forms, and `study_id` (or
    `case_id`); `chosen_score`, `rejected_score` and `judge` may stand beside them.

    With `own_prompts`, for policies that read text alone, a file may name no study: its prompts are then those of
    `prompt`, or the turns before the report. Raises OwnFileError as `read_candidates` does, also for a prompt that
    holds the findings of a held-out study.
    """
    own = open_own(path)
    own.column("chosen"), own.column("rejected")
    study: str | None = next((name for name in ("study_id", "case_id") if name in own.columns), None)
    if study is None and not own_prompts:
        study = own.column("study_id", "case_id", because=", by which the policy finds each pair's image")
    by_id, origin = {one.study_id: one for one in studies}, PromptOrigin(studies if study is None else ())
    found: dict[tuple[str, str, str], OwnPair] = {}

    def whose(row: Row) -> tuple[str | None, str | None]:
        """The row's study, or its prompt where that is of no study of the run."""
        if study is not None:
            return _align_study(row.values[study], by_id), None
        prompt = prompt_cell(row.values)
        of = origin.study_of(prompt)
        return (None, prompt) if of is None else (_align_study(of.study_id, by_id), None)

    def add(row: Row) -> None:
        study_id, prompt = whose(row)
        chosen, rejected = (report_cell(row.values[side], side) for side in ("chosen", "rejected"))
        if chosen.split() == rejected.split():
            raise BadRow("same_text", "chosen and rejected are the same text")
        high, low = (optional_score(row.values.get(f"{side}_score"), side) for side in ("chosen", "rejected"))
        if high is not None and low is not None and high <= low:
            raise BadRow("score", f"the chosen report has the score {high:g}, the rejected one {low:g}")
        sides = " ".join(chosen.split()), " ".join(rejected.split())
        key = study_id or f"prompt {prompt}"
        if (key, *sides) in found:
            raise BadRow(REPEATED, "the same pair stands above")
        if (key, *reversed(sides)) in found:
            raise BadRow("contradiction", "the same two reports stand above the other way round")
        judge = judge_cell(row.values.get("judge"))
        found[(key, *sides)] = OwnPair(row.number, study_id, prompt, chosen, rejected, high, low, judge)

    columns = ["chosen", "rejected", "prompt", "chosen_score", "rejected_score", "judge", *([study] if study else [])]
    rows = _gone_through(own, columns, study, add)
    rows.pairs = [*found.values()]
    return _usable(rows, len(found))


def _gone_through(own: OwnFile, columns: list[str], study: str | None, add: Callable[[Row], None]) -> OwnRows:
    """Gives every row to `add`, and notes those that it refuses; raises OwnFileError for those of held-out studies."""
    rows, held_out = OwnRows(own.path), {}
    for row in own.rows(columns):
        rows.rows += 1
        try:
            if row.fault:
                raise BadRow("line", row.fault)
            add(row)
        except _HeldOut as error:
            held_out[row.number] = str(error)
        except (BadRow, FormError) as error:
            reason = error.reason if isinstance(error, BadRow) else "form"
            rows.left_out.append(LeftOut(row.number, shown(row.values.get(study or "")), reason, str(error)))
    if held_out:
        numbers = ", ".join(map(str, [*held_out][:_SHOWN]))
        names = ", ".join([*dict.fromkeys(held_out.values())][:_SHOWN])
        raise OwnFileError(
            f"{own.path}: {len(held_out)} rows (such as {numbers}) are of held-out studies ({names}); training on them "
            "would spoil the evaluation. Keep the rows of studies whose split is align in RUN/studies"
        )
    return rows


def _usable(rows: OwnRows, found: int) -> OwnRows:
    if not found:
        told = f": {rows.told()}" if rows.bad else ""
        raise OwnFileError(f"{rows.path} has no row that can be used{told}")
    return rows


def _align_study(value: Any, studies: Mapping[str, Study]) -> str:
    """The id of a study to align on; raises _HeldOut and BadRow for others."""
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise BadRow("study", f"{shown(value)!r} is no study's id")
    study = studies.get(str(value).strip())
    if study is None:
        raise BadRow("unknown_study", f"the data has no study {shown(value)!r}")
    if study.split == "heldout":
        raise _HeldOut(study.study_id)
    if study.split != "align":
        raise BadRow("split", f"{study.study_id} is in the split {study.split}, which fine-tuning has learnt")
    return study.study_id
