"""A number that a run measured of one unit of its work, and numbers for people."""

from dataclasses import dataclass

MINUTE_S, HOUR_S, DAY_S = 60.0, 3600.0, 86400.0


@dataclass(frozen=True)
class Measured:
    """A number of one unit, with the measurement that it was made of; where there is none, why, and how to get one."""

    value: float | None
    made_of: str


def duration(seconds: float) -> str:
    """Seconds for people: `12 s`, `8 min`, `3.2 h`, `11 days`."""
    for most, unit, name in ((2 * MINUTE_S, 1.0, "s"), (2 * HOUR_S, MINUTE_S, "min"), (4 * DAY_S, HOUR_S, "h")):
        if seconds < most:
            return f"{short(seconds / unit)} {name}"
    return f"{short(seconds / DAY_S)} days"


def short(number: float) -> str:
    """A number with three figures, and no fewer than its whole part has: `0.0123`, `45.6`, `12,345`."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
