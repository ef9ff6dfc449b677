"""What de-identification leaves in the text of public reports, and reports without it."""

import re

# The mark of Open-I (XXXX) or of MIMIC-CXR (___), with what hyphens or slashes tie to it ("x-XXXX", "___-year-old").
# Looked for at the start of a run of such characters only: reports are not trusted, and this keeps the time linear.
_REDACTED = re.compile(r"(?<![\w/-])[\w/-]*(?:X{3,}|_{3,})(?:[\w/-]|:(?=_))*")
_EMPTY_BRACKETS = re.compile(r"\(\s*[.,;:]?\s*\)|\[\s*\]")
_SPACE_BEFORE_STOP = re.compile(r"\s+([.,;:!?)])")
_REPEATED_STOP = re.compile(r"[,;:]+(?=[.!?])|(?<=[,;:])[,;:]+|(?<=[.!?])(?:\s*[.,;:])+")
_LEADING_STOP = re.compile(r"^[\s.,;:]+")


def without_redactions(text: str) -> str:
    """The text without the marks of de-identification (XXXX, ___), its spaces and stops put right."""
    if "XXX" not in text and "___" not in text:
        return text
    text = _EMPTY_BRACKETS.sub("", " ".join(_REDACTED.sub("", text).split()))
    text = _SPACE_BEFORE_STOP.sub(r"\1", " ".join(text.split()))
    return _LEADING_STOP.sub("", _REPEATED_STOP.sub("", text)).strip()
