"""The score that a judge's reply gives, read strictly: one readable score, or None; never a default, never a guess.

The forms are those that the chat judge of 3D-CT-GPT++ is asked for and shown (its appendix A.5): `Score: 4`, `4/5`,
`<4/5>`, `**4**`. A reply that the server cut off may end in what looks like a score: callers look at the finish
reason first.
"""

import re

from rlaif.judges.json_reply import read_object

MAX_REPLY_CHARACTERS = 20_000

_FENCE = "```"
_GAP = r"[ \t\u00a0]*+"
_NUMBER = r"(0|[1-9][0-9]{0,8})"
_VALUE = rf"{_NUMBER}(?:{_GAP}/{_GAP}{_NUMBER})?"
_BRACKETED = rf"<{_GAP}{_VALUE}{_GAP}>"
# re.ASCII: a long s is no "s", and other scripts' digits are no digits of a score.
_FLAGS = re.ASCII | re.IGNORECASE
_ITEM = r"(?:(?:[-*+]|#{1,6}|[0-9]{1,2}[.)])[ \t\u00a0]++)?"
_LABEL = re.compile(
    rf"{_ITEM}(?:\*\*score{_GAP}(?:[:\uff1a]{_GAP}\*\*|\*\*{_GAP}[:\uff1a])|score{_GAP}[:\uff1a])(?P<value>.*)", _FLAGS
)
# The whole line in bold: "**Score: 4**".
_BOLD_LINE = re.compile(rf"{_ITEM}\*\*score{_GAP}[:\uff1a](?P<value>[^*]*)\*\*(?P<stop>\.?)", _FLAGS)
_SCORE = tuple(
    re.compile(form, _FLAGS) for form in (_VALUE, _BRACKETED, rf"\*\*{_VALUE}\*\*", rf"\*\*{_BRACKETED}\*\*")
)

# What may take back the score on the line before: another one, or a word that announces it.
_SECOND_THOUGHT = re.compile(
    r"\b[0-9](?:\.[0-9]+)?\s*/\s*[0-9]|[<*]\s*[0-9]\s*[>*]|"
    r"^\W*(?:final|correct|rating|rated|answer|grade|overall|no[,.]|"
    r"the (?:final |correct |right )?(?:score|rating|grade))",
    _FLAGS,
)
_OPENING_CHARACTERS = 600
_SENTENCE_END = re.compile(r"[.!?\n]\s")
_BEFORE_SENTENCE = re.compile(r"[\W_]*+(?:explanation\b[\W_]*+)?")
_SPEAKS_OF_ITSELF = re.compile(
    r"(?:i|i'm|i'd|we|we're|sorry|apologies|my apologies|unfortunately|regrettably|thank you|thanks|"
    r"as an?\b[\w -]{0,40}?\b(?:ai|assistant|model|llm|chatbot))\b"
)
_DECLINES = re.compile(
    r"\b(?:(?:can't|cannot|can not|(?:won't|will not)(?: be able to)?|unable to|decline to|refuse to|don't|do not|"
    r"not (?:able to|qualified to|allowed to|permitted to|comfortable|in a position to))\s+(?:[a-z]+\s+){0,2}?"
    r"(?:assist|help|evaluat|assess|judg|rat(?:e|ing)\b|scor|grad|review|compar|analy|compl|fulfil|answer|process|"
    r"provid|offer|discuss|engag|continu|interpret|perform|give (?:you )?(?:an?|any) (?:score|rating|medical)|"
    r"(?:the )?(?:ability|expertise)\b|do (?:that|this|so)\b)|must (?:\w+ )?decline)"
)
_ONLY_A_LOW_SCORE = re.compile(r"\b(?:higher|above|beyond|(?:better|more) than)\b")


def read_score(text: str, *, low: int = 1, high: int = 5) -> int | None:
    """The one integer score, from `low` to `high`, that a plain-text reply gives; None for every other reply.

    A reply gives its score on a line of its own: `Score: 4` in the forms of the module's docstring, anywhere outside
    quoted blocks; or the bare score, as the last line. A second line with a score or with the label makes two scores,
    which are none, even where they are equal. Replies longer than `MAX_REPLY_CHARACTERS` are not read. Linear in the
    text's length. Raises ValueError unless 0 <= low < high.
    """
    if not 0 <= low < high:
        raise ValueError(f"a scale needs 0 <= low < high, got low={low} and high={high}")
    if len(text) > MAX_REPLY_CHARACTERS:
        return None
    lines = _own_lines(text)
    labelled = [value for line in lines if (value := _labelled_value(line))]
    bare = [line for line in lines if _matched(line) is not None]
    if len(labelled) + len(bare) != 1:
        return None
    if bare and bare[0] != lines[-1]:
        return None
    if labelled and any(_SECOND_THOUGHT.search(line) for line in lines[_place_of_label(lines) + 1 :]):
        return None
    match = _matched(labelled[0].removesuffix(".") if labelled else bare[0])
    if match is None or (match[2] is not None and int(match[2]) != high):
        return None
    score = int(match[1])
    return score if low <= score <= high else None


def read_score_json(text: str, *, low: int = 1, high: int = 5) -> tuple[int, str] | None:
    """The score and the explanation of a structured reply, `{"explanation": str, "score": int}`; None for all else.

    The object may stand in a fence of three backticks, with nothing before or after it. No other key, no key twice,
    no number that is not written as an integer from `low` to `high`, no explanation that is no valid Unicode.
    """
    reply = read_object(text, ("explanation", "score"), MAX_REPLY_CHARACTERS)
    if reply is None:
        return None
    score, explanation = reply["score"], reply["explanation"]
    # A bool is an int, too.
    if type(score) is not int or not low <= score <= high or not isinstance(explanation, str):
        return None
    return score, explanation


def looks_like_refusal(text: str, *, low: int = 1, high: int = 5) -> bool:
    """Whether a reply declines to judge in one of its first sentences, speaking of itself, and holds no score."""
    opening = text[:_OPENING_CHARACTERS].replace("\u2019", "'").lower()
    declines = any(
        _SPEAKS_OF_ITSELF.match(sentence, _start_of(sentence))
        and _DECLINES.search(sentence)
        and not _ONLY_A_LOW_SCORE.search(sentence)
        for sentence in _SENTENCE_END.split(opening)
    )
    return (
        declines and read_score(text, low=low, high=high) is None and read_score_json(text, low=low, high=high) is None
    )


def _own_lines(text: str) -> list[str]:
    """The lines with something on them; of a fence after other words, which quotes, only the marks at its ends."""
    lines = [line for raw in text.splitlines() if (line := raw.strip())]
    fences = [index for index, line in enumerate(lines) if line.startswith(_FENCE)]
    if fences == [0, len(lines) - 1]:
        return lines[1:-1]
    own, fenced = [], False
    for line in lines:
        at_fence = line.startswith(_FENCE)
        if at_fence or not fenced:
            own.append(line)
        fenced ^= at_fence
    return own


def _place_of_label(lines: list[str]) -> int:
    return next(place for place, line in enumerate(lines) if _labelled_value(line))


def _labelled_value(line: str) -> str | None:
    """What a line says after the label; None for a line without it, "" where nothing follows."""
    if match := _BOLD_LINE.fullmatch(line):
        return match["value"].strip() + match["stop"]
    match = _LABEL.fullmatch(line)
    return None if match is None else match["value"].strip()


def _matched(value: str) -> re.Match[str] | None:
    return next((match for form in _SCORE if (match := form.fullmatch(value))), None)


def _start_of(sentence: str) -> int:
    match = _BEFORE_SENTENCE.match(sentence)
    return 0 if match is None else match.end()
