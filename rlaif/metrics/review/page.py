"""The page on which a rater reads and answers: one file that opens from disk and reaches no network."""

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path

import jinja2
from markupsafe import Markup

from rlaif.metrics.review.key import MAX_COMMENT_CHARACTERS, Kind, ShownItem, columns_of

# Argus (appendix C) asks three experts for the correctness of a report from 1 to 5; the words of the grades are ours.
# RGRO (section 4.2) has the better output chosen by accuracy, relevance and clarity.
QUESTIONS: dict[Kind, str] = {
    "choices": "Which report tells the reference's findings better: more accurate, relevant and clear?",
    "scores": "How correct is the report, held against the reference?",
}
ANSWERS: dict[Kind, tuple[tuple[str, str], ...]] = {
    "choices": (("a", "A is better"), ("tie", "Equally good or bad"), ("b", "B is better")),
    "scores": (
        ("1", "Wrong: would mislead"),
        ("2", "Mostly wrong"),
        ("3", "Partly correct"),
        ("4", "Mostly correct"),
        ("5", "Correct and complete"),
    ),
}


def page_of(kind: Kind, rater: str, items: Sequence[ShownItem]) -> str:
    """The page of one rater's items, which holds nothing that says which system wrote what."""
    folder = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    script, style = ((folder / f"review.{name}").read_text(encoding="utf-8") for name in ("js", "css"))
    shown = [{"id": one.key.item_id, "reference": one.reference, "texts": one.texts} for one in items]
    sheet = {
        # Answers kept by the browser belong to these items and to no other sheet.
        "keep": hashlib.sha256(
            repr([(one["id"], one["reference"], one["texts"]) for one in shown]).encode()
        ).hexdigest(),
        "kind": kind,
        "rater": rater,
        "columns": columns_of(kind),
        "longest": MAX_COMMENT_CHARACTERS,
        "answers": [value for value, _ in ANSWERS[kind]],
        "items": shown,
    }
    return environment.get_template("review.html.jinja").render(
        kind=kind,
        rater=rater,
        question=QUESTIONS[kind],
        answers=ANSWERS[kind],
        most=MAX_COMMENT_CHARACTERS,
        sheet=sheet,
        script=Markup(script),
        style=Markup(style),
        script_hash=_source_hash(script),
        style_hash=_source_hash(style),
    )


def _source_hash(text: str) -> str:
    """What a content security policy allows a script or style by."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
