"""The prompts of the judges: one YAML file for each version, never changed once verdicts were given under its name."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from string import Formatter

import yaml

from rlaif.judges.asking import Message, Question
from rlaif.judges.settings import ChatJudgeSection

MOST_REPEATED = 3000
"""So many characters of a reply go back to the model: more of it would be paid for and help nobody."""


class PromptError(ValueError):
    """A prompt that is not there or lacks a part."""


@dataclass(frozen=True)
class Prompt:
    """The words of a judge: `question` names its texts in braces, the forms ask for the answer's shape."""

    name: str
    system: str
    question: str
    text_form: str
    schema_form: str
    repair: str

    @property
    def texts(self) -> set[str]:
        """The names of the texts that the question takes."""
        return {field for _, field, _, _ in Formatter().parse(self.question) if field}

    def ask(self, texts: Mapping[str, str], *, max_tokens: int, schema: Mapping[str, object] | None = None) -> Question:
        """The question about some texts, each fenced as data."""
        fenced = {name: fence(text) for name, text in texts.items()}
        # Not `str.format` as a whole: a report may hold braces itself.
        parts = [
            literal + (fenced[field] if field is not None else "")
            for literal, field, _, _ in Formatter().parse(self.question)
        ]
        messages = (Message("system", self.system), Message("user", "".join(parts)))
        return Question(messages, max_tokens, self.text_form, self.schema_form, schema)

    def again(self, question: Question, reply: str, *, structured: bool) -> Question:
        """The one question that follows a reply in which nothing could be read: it is shown the reply's beginning."""
        said = Message("assistant", reply[:MOST_REPEATED])
        messages = (*question.put(structured=structured), said, Message("user", self.repair))
        return Question(messages, max_tokens=32, attempt=1)


# What chat templates part turns with, such as <|im_end|>, </s> or [INST]: tokenizers take it for the mark itself.
_CONTROL = re.compile(r"<(?=[|/a-zA-Z_\uff5c])|\[(?=/?[A-Za-z_]{2,20}\])")


def fence(text: str) -> str:
    """A text between two marks that it cannot hold itself, so that nothing in it ends the fence.

    What a tokenizer might take for the end of a turn is broken up by a blank. The mark is made of the text, so that
    the same text always gives the same question.
    """
    text = _CONTROL.sub(r"\g<0> ", text)
    number = 0
    while True:
        mark = hashlib.sha256(f"{number}\x1f{text}".encode(errors="surrogatepass")).hexdigest()[:12]
        if mark not in text:
            return f"[text {mark}]\n{text}\n[end of text {mark}]"
        number += 1


def explained(verdict: str, values: Mapping[str, object], settings: ChatJudgeSection) -> dict[str, object]:
    """The JSON schema of an answer: an explanation first, so that the verdict can follow from it, then the verdict."""
    words = {"type": "string", "maxLength": settings.explanation_characters}
    return {
        "type": "object",
        "properties": {"explanation": words, verdict: dict(values)},
        "required": ["explanation", verdict],
        "additionalProperties": False,
    }


@cache
def load_prompt(name: str) -> Prompt:
    """The prompt of that name; raises PromptError for one that is not there."""
    folder = files(__package__)
    names = sorted(one.name.removesuffix(".yaml") for one in folder.iterdir() if one.name.endswith(".yaml"))
    if name not in names:
        raise PromptError(f"there is no prompt {name} in rlaif/judges/prompts; there are {', '.join(names)}")
    values = yaml.safe_load(folder.joinpath(f"{name}.yaml").read_text(encoding="utf-8"))
    try:
        return Prompt(name=name, **values)
    except TypeError as error:
        raise PromptError(f"rlaif/judges/prompts/{name}.yaml: {error}") from error
