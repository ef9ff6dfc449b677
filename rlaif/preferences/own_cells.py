"""The cells of a team's own file: reports, prompts, judges' names and scores, each checked by itself."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rlaif.judges.settings import JUDGE_NAME
from rlaif.preferences.messages import FormError, implicit_prompt, prompt_of, report_of

Scale = tuple[float, float]
GIVEN = "given"
MAX_CHARACTERS = 100_000
_TOO_LARGE = 1e300


@dataclass(frozen=True)
class OwnScore:
    """What a judge said of a candidate, on its scale."""

    score: float
    scale: Scale
    explanation: str


class BadRow(ValueError):
    """A row that takes no part: its reason, and what is wrong in words."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def report_cell(value: Any, column: str) -> str:
    """A report that is no longer than a model reads; raises BadRow for others."""
    try:
        text = report_of(value)
    except FormError as error:
        raise BadRow("form", f"{column}: {error}") from error
    if not text:
        raise BadRow("empty", f"{column} is empty")
    _check_characters(text, column)
    return text


def prompt_cell(values: Mapping[str, Any]) -> str:
    """The prompt of a row: that of the column `prompt`, or what chosen and rejected begin with; raises BadRow."""
    given = values.get("prompt")
    prompt = prompt_of(given) if given is not None else implicit_prompt(values["chosen"], values["rejected"])
    if not prompt:
        raise BadRow("no_prompt", "the row names neither a study nor a prompt")
    _check_characters(prompt, "prompt")
    return prompt


def _check_characters(text: str, column: str) -> None:
    if len(text) > MAX_CHARACTERS:
        raise BadRow("characters", f"{column} has {len(text)} characters, and at most {MAX_CHARACTERS} can be")
    if "\0" in text or text.encode("utf-8", "replace").decode() != text:
        raise BadRow("characters", f"{column} holds characters that no text has")


def judge_cell(value: Any) -> str:
    """A judge's name, `given` where there is none; raises BadRow for what may not be one."""
    if value is None:
        return GIVEN
    if not isinstance(value, str) or len(value) > 80 or not re.fullmatch(JUDGE_NAME, value):
        raise BadRow("judge", f"{shown(value)!r} is no judge's name: letters, digits and . _ -, such as reader-1")
    return value


def score_cell(values: Mapping[str, Any], scale: Scale | None) -> OwnScore:
    """The score of a row, on `scale` or the row's own; raises BadRow for no number and for one off the scale."""
    score = _number(values.get("score"), "score")
    if scale is None:
        scale = _number(values.get("scale_low"), "scale_low"), _number(values.get("scale_high"), "scale_high")
        if scale[0] >= scale[1]:
            raise BadRow("scale", f"the scale goes from {scale[0]:g} to {scale[1]:g}")
    if not scale[0] <= score <= scale[1]:
        raise BadRow("off_scale", f"the score {score:g} is outside {scale[0]:g} to {scale[1]:g}")
    explanation = values.get("explanation")
    return OwnScore(score, scale, explanation if isinstance(explanation, str) else "")


def optional_score(value: Any, side: str) -> float | None:
    """The score of one side of a pair, where it has one; raises BadRow for no number."""
    return None if value is None else _number(value, f"{side}_score")


def _number(value: Any, column: str) -> float:
    # A whole number may be larger than any float.
    sound = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _TOO_LARGE
    if not sound:
        raise BadRow("score", f"{column} is {shown(value) or 'empty'}, and no number")
    return float(value)


def shown(value: Any) -> str:
    """A value in a message, bounded."""
    return "" if value is None else str(value)[:80].encode("utf-8", "replace").decode()
