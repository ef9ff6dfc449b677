"""sacrebleu's 13a tokens, made once for each sentence: reports share most of theirs."""

import re
from functools import cache
from typing import Any

# 13a looks at no more than the character before and after, and between two sentences there is a blank.
_BETWEEN_SENTENCES = re.compile(r"(?<=[.!?]) ")


class RememberedSentences:
    """Stands in the place of a `Tokenizer13a`, which remembers the texts it was given: here these are sentences."""

    def __init__(self) -> None:
        from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

        self._tokeniser = Tokenizer13a()

    def __call__(self, text: str) -> str:
        # A line break joins what stands before and behind it.
        sentences = [text] if "\n" in text else _BETWEEN_SENTENCES.split(text)
        return " ".join(filter(None, map(self._tokeniser, sentences)))

    def signature(self) -> str:
        """As sacrebleu names it: the tokens are the same."""
        return str(self._tokeniser.signature())


@cache
def tokeniser_13a() -> Any:
    """The tokeniser of this process."""
    return RememberedSentences()
