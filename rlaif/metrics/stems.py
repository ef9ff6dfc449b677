"""Porter's stems, each word's computed once: ROUGE and METEOR ask for the same words again and again."""

from functools import cache, lru_cache
from typing import Any

# Distinct words that are remembered; sampled garbage may hold any number of them.
_REMEMBERED = 1 << 16


@cache
def _porter() -> Any:
    # It takes a second to import.
    from nltk.stem.porter import PorterStemmer

    return PorterStemmer()


@lru_cache(maxsize=_REMEMBERED)
def stem(word: str) -> str:
    """NLTK's Porter stem of a word, in lower case."""
    return str(_porter().stem(word))


class RememberedStems:
    """A stemmer of the form that NLTK and rouge-score take."""

    def stem(self, word: str) -> str:
        """NLTK's Porter stem of a word, in lower case."""
        return stem(word)
