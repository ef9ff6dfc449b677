"""A plan on the terminal."""

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rlaif.plan_judges import JudgePlan
from rlaif.plan_memory import Role, amount
from rlaif.records import Split

if TYPE_CHECKING:
    from rlaif.plan import Plan


_SPLITS: dict[Split, str] = {"sft": "fine-tuning", "align": "alignment", "heldout": "evaluation"}
_NUMBERS = {"number", "actors", "CPUs each", "GPUs each", "memory each", "at most"}


def print_plan(plan: "Plan") -> None:
    """Prints a plan as tables, with what this machine has beside what the plan needs."""
    console = Console(width=120, highlight=False)
    console.print(f"[bold]Plan of the run {escape(plan.name)}[/bold]: nothing is started or written (run.dry=true).\n")
    for table in (_counts(plan), _stages(plan), _roles(plan), _disk(plan), _places(plan)):
        console.print(table)
        console.print()


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", caption_justify="left", header_style="bold", expand=True)
    for number, column in enumerate(columns):
        table.add_column(
            column, justify="right" if column in _NUMBERS else "left", overflow="fold", no_wrap=number == 0
        )
    return table


def _counts(plan: "Plan") -> Table:
    counts = plan.counts
    table = _table("How much", "what", "number", "made of")
    for split, what in _SPLITS.items():
        left_out = counts.studies[split] - counts.cases[split]
        note = f"{counts.studies[split]:,} studies" + (f", {left_out:,} of them not used" if left_out else "")
        table.add_row(f"cases for {what}", f"{counts.cases[split]:,}", note)
    if counts.quarantined:
        table.add_row("quarantined", f"{counts.quarantined:,}", "rows and files that cannot be used")
    each = counts.candidates // counts.cases["align"] if counts.cases["align"] else 0
    table.add_row("samples a round", f"{counts.candidates:,}", f"{counts.cases['align']:,} cases x {each}")
    table.add_row(
        "samples in all", f"{counts.candidates * counts.rounds:,}", f"{counts.candidates:,} x {counts.rounds} rounds"
    )
    evaluations = counts.rounds + 1
    blind = counts.heldout_reports > counts.cases["heldout"]
    control = ", another patient's features (blind control) included" if blind else ""
    table.add_row(
        "held-out reports in all",
        f"{counts.heldout_reports * evaluations:,}",
        f"{counts.heldout_reports:,} x {evaluations} evaluations{control}",
    )
    for judge in plan.judges:
        asks = f"{judge.questions:,} questions at most" if judge.questions else "asks nobody"
        table.add_row(f"judgements by {judge.name}", f"{judge.judgements:,}", f"{asks}; {_cost(judge)}")
    return table


def _cost(judge: JudgePlan) -> str:
    if judge.cost_usd is not None:
        cap = "" if judge.cap_usd is None else f", capped at ${judge.cap_usd:,.2f}"
        return f"at most ${judge.cost_usd:,.2f}{cap}"
    return "no prices are set" if judge.questions else "free"


def _stages(plan: "Plan") -> Table:
    table = _table("Stages, in this order; what is finished or in the caches is not done again", "stage", "does")
    for stage in plan.stages:
        table.add_row(stage.name, escape(stage.does))
    return table


def _roles(plan: "Plan") -> Table:
    table = _table("Actors", "role", "actors", "CPUs each", "GPUs each", "memory each", "made of, roughly")
    for role in plan.roles:
        name = role.name if role.lasting else f"{role.name} (before the others)"
        table.add_row(
            name, str(role.count), f"{role.cpus:g}", f"{role.gpus:g}", amount(role.bytes), escape(role.made_of)
        )
        if role.gpus:
            table.add_row("  on each GPU", "", "", "", _on_gpu(role, plan.card), escape(role.gpu_made_of))
    memory = sum(role.count * role.bytes for role in plan.roles if role.lasting)
    has = f"{len(os.sched_getaffinity(0))} CPUs and {amount(psutil.virtual_memory().total)} of memory"
    table.caption = (
        f"Together, ingest apart: {plan.cpus:g} CPUs, {plan.gpus:g} GPUs, {amount(memory)} of memory. This machine has "
        f"{has}; a cluster may have more, and is checked before anything starts."
    )
    return table


def _on_gpu(role: Role, card: float | None) -> str:
    """The memory on a GPU; an engine takes its share whatever it needs."""
    if role.gpu_share is None:
        return amount(role.gpu_bytes)
    share = f"{role.gpu_share:.0%}" if card is None else amount(role.gpu_share * card)
    return f"{amount(role.gpu_bytes)} of {share}"


def _disk(plan: "Plan") -> Table:
    table = _table("Disk", "what", "at most", "made of")
    for need in plan.disk:
        table.add_row(need.what, amount(need.bytes), escape(need.made_of))
    folder = _existing(plan.places["run folder"])
    table.caption = (
        f"Together at most {amount(sum(need.bytes for need in plan.disk))}; {folder} has "
        f"{amount(shutil.disk_usage(folder).free)} free."
    )
    return table


def _places(plan: "Plan") -> Table:
    table = _table("Written to", "what", "folder")
    for what, path in plan.places.items():
        table.add_row(what, escape(f"{path}{' (is there)' if path.exists() else ''}"))
    return table


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.exists())
