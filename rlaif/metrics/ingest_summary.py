"""What came of an ingest: volumes in, kept, set aside by reason, and where the seconds went."""

import re
from collections import Counter
from typing import Any

from rich.markup import escape
from rich.table import Table

from rlaif.ledger import RunFolder
from rlaif.records import Ingested, Quarantined, Study
from rlaif.storage import file_name

_ROW = re.compile(r"^\S+, line \d+: ")
_QUOTED = re.compile(r"'[^']*'")
MOST_KINDS, SHORTEST_NAME = 20, 4
_NUMBER = re.compile(r"[-+]?\d+(?:[.,]\d+)*(?:e[-+]?\d+)?")


def kind_of(reason: str, *own: str) -> str:
    """A reason without what is one study's own, so that equal ones can be counted: places, names and numbers.

    `own` are the names that belong to the study, such as its path.
    """
    general = reason
    for name in own:
        general = general.removeprefix(f"{name}: ")
    names = {*own, *(file_name(name) for name in own)}
    # Shorter ones could be words of the reason itself.
    for name in sorted((name for name in names if len(name) >= SHORTEST_NAME), key=len, reverse=True):
        general = general.replace(name, "…")
    return _NUMBER.sub("#", _QUOTED.sub("…", _ROW.sub("", general)))[:160]


def quarantine_counts(quarantined: list[Quarantined]) -> list[tuple[str, int]]:
    """Each kind of reason with its number of studies, the most frequent first; rare ones beyond 20 together."""
    kinds = Counter(kind_of(one.reason, one.path, one.study_id) for one in quarantined).most_common()
    rare = kinds[MOST_KINDS:]
    return kinds[:MOST_KINDS] + ([(f"{len(rare)} further kinds", sum(count for _, count in rare))] if rare else [])


def ingest_summary(run: RunFolder) -> dict[str, Any]:
    """The summary of a run whose studies are ingested, as plain values.

    `studies` are the data set's rows: those taken, and those in quarantine. `seconds` has the wall time of the attempt
    that finished the stage, and reading, recipe and encoding summed over all processes and attempts.
    `volumes_a_minute` is of that last attempt.
    """
    facts = run.facts("ingest")
    quarantined = run.read("quarantine", Quarantined)
    studies, text_only, splits = 0, 0, Counter[str]()
    for study in run.iterate("studies", Study):
        studies += 1
        text_only += study.volume is None
        splits[study.split] += 1
    seconds = Counter[str]()
    remarks = Counter[str]()
    for one in run.iterate("features", Ingested):
        seconds.update({"read": one.read_s, "recipe": one.recipe_s, "encode": one.encode_s})
        remarks.update({kind_of(remark) for remark in one.remarks})
    return {
        "studies": {"taken": studies, **splits, "text_only": text_only},
        "volumes": facts["volumes"],
        "kept": facts["kept"],
        "encoder_calls_saved": facts["reused"],
        "quarantined": {
            "total": len(quarantined),
            "tables": sum(one.stage != "ingest" for one in quarantined),
            "volumes": sum(one.stage == "ingest" for one in quarantined),
            "by_reason": dict(quarantine_counts(quarantined)),
        },
        "remarks": dict(remarks.most_common()),
        "seconds": {"wall": facts["seconds"], **{name: seconds[name] for name in ("read", "recipe", "encode")}},
        "volumes_a_minute": 60.0 * facts["read"] / max(facts["seconds"], 1e-9),
    }


def ingest_table(summary: dict[str, Any]) -> Table:
    """The summary for the terminal."""
    quarantined, seconds = summary["quarantined"], summary["seconds"]
    table = Table(title="Ingest", title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column(overflow="fold")
    splits = ", ".join(f"{name} {summary['studies'].get(name, 0):,}" for name in ("sft", "align", "heldout"))
    table.add_row("studies taken", f"{summary['studies']['taken']:,}", splits)
    table.add_row("volumes", f"{summary['volumes']:,}", f"{summary['volumes_a_minute']:,.1f} a minute")
    table.add_row("kept", f"{summary['kept']:,}", f"{summary['encoder_calls_saved']:,} encoder calls saved")
    parts = f"{quarantined['tables']:,} rows and files of the tables, {quarantined['volumes']:,} volumes"
    table.add_row("in quarantine", f"{quarantined['total']:,}", parts)
    for reason, count in quarantined["by_reason"].items():
        table.add_row("", f"{count:,}", escape(reason), style="dim")
    for remark, count in summary["remarks"].items():
        table.add_row("remark", f"{count:,}", escape(remark))
    for name in ("wall", "read", "recipe", "encode"):
        table.add_row(f"{name}, s", f"{seconds[name]:,.1f}", "" if name == "wall" else "summed over processes")
    return table
