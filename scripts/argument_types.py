"""Numbers of a command line, for argparse: what is none is refused in a sentence."""

import math
import re
from argparse import ArgumentTypeError

# More studies, tokens or actors than anybody has; tables and sums of larger ones say nothing.
MOST = 1_000_000_000


def counted(text: str) -> int:
    """A whole number, 0 or more."""
    return _whole(text, 0)


def positive(text: str) -> int:
    """A whole number, 1 or more."""
    return _whole(text, 1)


def _whole(text: str, least: int) -> int:
    if not re.fullmatch("[0-9]{1,10}", text) or not least <= int(text) <= MOST:
        raise ArgumentTypeError(f"{text:.40} is no whole number from {least} to {MOST:,}")
    return int(text)


def amount(text: str) -> float:
    """A number, 0 or more."""
    if not 0 <= (number := _number(text)) <= MOST:
        raise ArgumentTypeError(f"{text:.40} is no number of 0 or more, to {MOST:,}")
    return number


def above_zero(text: str) -> float:
    """A number above 0."""
    if not 0 < (number := _number(text)) <= MOST:
        raise ArgumentTypeError(f"{text:.40} is no number above 0, to {MOST:,}")
    return number


def _number(text: str) -> float:
    """What is no number is not-a-number, which no comparison holds for."""
    try:
        return float(text)
    except ValueError:
        return math.nan
