"""What a run lost on the way and what that cost, added up by kind."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlaif.records import Outage
from rlaif.tables import Table


def outages_of(run: Path) -> list[dict[str, Any]]:
    """The rows of a run's table `outages` by kind and unit: how many, the units of work that were done again, and the
    seconds until the places were filled again; null where nobody knows.
    """
    sums: dict[tuple[str, str], dict[str, Any]] = {}
    for outage in Table(run / "outages", Outage).iterate():
        told = {"what": outage.what, "lost": 0, "repeated": None, "unit": outage.unit, "seconds": None}
        one = sums.setdefault((outage.what, outage.unit), told)
        one["lost"] += 1
        for key, value in (("repeated", outage.repeated), ("seconds", outage.seconds)):
            if value is not None:
                one[key] = (one[key] or 0) + value
    return list(sums.values())


def cost_in_words(repeated: int | None, unit: str, seconds: float | None) -> str:
    """What an outage cost, in brackets; empty where nothing is known."""
    parts = [f"{repeated} {unit} done again"] if repeated else []
    parts += [f"{seconds:.1f} s"] if seconds is not None else []
    return f" ({', '.join(parts)})" if parts else ""


def outages_in_words(outages: Sequence[Mapping[str, Any]]) -> str:
    """One sentence on what was lost; empty where nothing was."""
    parts = [
        f"{one['what']} {one['lost']} x{cost_in_words(one['repeated'], one['unit'], one['seconds'])}" for one in outages
    ]
    return f"Lost on the way, and made good: {'; '.join(parts)}." if parts else ""
