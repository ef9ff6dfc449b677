"""What raters are shown: held-out cases drawn by a seed, pairs in balanced order, some items a second time."""

import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path

from rlaif.metrics.review.key import KeyItem, Kind, ReviewError, ReviewKey, ShownItem, text_checksum
from rlaif.records import HeldoutReport
from rlaif.reports.region_reports import without_region_prefixes
from rlaif.review_settings import ReviewSettings
from rlaif.tables import Table

EMPTY = "(empty report)"
MAX_ITEMS = 2000
# What a cell of a spreadsheet holds at most is 32,767 characters.
MAX_TEXT_CHARACTERS = 30_000

Reports = Mapping[str, Mapping[str, HeldoutReport]]


def heldout_reports(run: Path, systems: Sequence[str]) -> dict[str, dict[str, HeldoutReport]]:
    """The held-out reports of the systems by system and case, without the blind control.

    Without systems those of the base and the last round. Raises ReviewError for a system that the run lacks.
    """
    # A mark of the ledger says that a table is whole: a killed loop leaves a part of one.
    there = {path.stem for path in (run / "ledger" / "heldout").glob("*.json")}
    rounds = sorted(there - {"base"}, key=lambda name: (len(name), name))
    if not systems and not {"base", *rounds[-1:]} <= there:
        raise ReviewError(f"{run} has no held-out reports of its base yet: let its loop go on, then give this again")
    chosen = [*systems] or ["base", *rounds[-1:]]
    if missing := [name for name in chosen if name not in there]:
        raise ReviewError(
            f"review.systems: {run} has no held-out reports of {missing[0]}; it has those of "
            f"{', '.join(sorted(there)) or 'none'}"
        )
    return {
        name: {row.case_id: row for row in Table(run / "heldout" / name, HeldoutReport).read() if not row.control}
        for name in chosen
    }


def shown_text(report: HeldoutReport) -> str:
    """A report as raters see it, and judges too: without the names of regions; an empty one says that it is."""
    return without_region_prefixes(report.text).strip() or EMPTY


def draw(reports: Reports, settings: ReviewSettings, seed: int) -> tuple[ReviewKey, list[ShownItem]]:
    """The key of a review and what it shows, rater by rater in reading order; the same for the same seed.

    Of every two systems each stands first in half of a rater's pairs, and the next rater has the orders exchanged. Two
    reports of the same text are no pair. A repeat comes in the second half and shows a pair in the other order. Raises
    ReviewError where there is nothing to show, too much, or fewer items than repeats need.
    """
    cases = _drawn_cases(reports, settings.cases, seed)
    systems = tuple(reports)
    name = settings.name or settings.kind
    if settings.kind == "choices" and len(systems) < 2:
        raise ReviewError(f"a choice is between two systems, and there is only {systems[0]}: set review.kind=scores")
    groups = list(combinations(systems, 2)) if settings.kind == "choices" else [(one,) for one in systems]
    shown, same = [], 0
    for group in groups:
        own = [case for case in cases if len({shown_text(reports[one][case]) for one in group}) == len(group)]
        same += len(cases) - len(own)
        start = random.Random(f"{seed}/{name}/{group}").randrange(2)
        shown += [(case, group if (place + start) % 2 else group[::-1]) for place, case in enumerate(own)]
    if not shown:
        raise ReviewError(f"{', '.join(systems)} wrote the same of all {len(cases)} cases: there is nothing to choose")
    if len(shown) + settings.repeats > MAX_ITEMS:
        raise ReviewError(f"{len(shown)} items and {settings.repeats} repeats are too many: lower review.cases")
    if settings.repeats > len(shown) // 2:
        raise ReviewError(
            f"review.repeats={settings.repeats} of {len(shown)} items: at most {len(shown) // 2} can come again in the "
            "second half; lower it, or raise review.cases"
        )
    items: list[ShownItem] = []
    for number in range(settings.raters):
        rng = random.Random(f"{seed}/{name}/rater-{number + 1}")
        turned = [(case, group[::-1] if number % 2 else group) for case, group in shown]
        items += _sheet(reports, settings.kind, turned, settings.repeats, f"rater-{number + 1}", rng)
    key = ReviewKey(
        name=name,
        kind=settings.kind,
        seed=seed,
        systems=systems,
        cases=settings.cases,
        repeats=settings.repeats,
        raters=settings.raters,
        same_text=same,
        items=tuple(item.key for item in items),
    )
    return key, items


def _drawn_cases(reports: Reports, number: int, seed: int) -> list[str]:
    """Cases that all systems wrote of, with a reference, in random order."""
    first, *others = reports.values()
    both = sorted(set(first).intersection(*others))
    usable = [
        case
        for case in both
        if _fits(first[case].reference) and all(_fits(own[case].text, empty=True) for own in reports.values())
    ]
    if not usable:
        raise ReviewError(
            f"{', '.join(reports)} have {len(both)} held-out cases in common, and none with a reference and reports of "
            f"at most {MAX_TEXT_CHARACTERS} characters: there is nothing to hold a report against"
        )
    return random.Random(f"{seed}/cases").sample(usable, min(number, len(usable)))


def _fits(text: str | None, *, empty: bool = False) -> bool:
    return text is not None and (empty or bool(text.strip())) and len(text) <= MAX_TEXT_CHARACTERS


def _sheet(
    reports: Reports,
    kind: Kind,
    shown: Sequence[tuple[str, tuple[str, ...]]],
    repeats: int,
    rater: str,
    rng: random.Random,
) -> list[ShownItem]:
    """One rater's items in reading order."""
    ids = _ids(rng, len(shown) + repeats)
    order = rng.sample([*shown], len(shown))
    first = [_item(reports, next(ids), rater, case, group) for case, group in order]
    half = len(first) // 2
    again = [
        _item(reports, next(ids), rater, one.key.case_id, one.key.systems[::-1], one.key.item_id)
        for one in rng.sample(first[:half], repeats)
    ]
    later = [*first[half:], *again]
    rng.shuffle(later)
    return [*first[:half], *later]


def _ids(rng: random.Random, number: int) -> Iterator[str]:
    """Ids that say nothing; the letters before them keep spreadsheets from taking one for a number, as 12e45."""
    return (f"item-{one:08x}" for one in rng.sample(range(2**32), number))


def _item(
    reports: Reports, item_id: str, rater: str, case: str, systems: tuple[str, ...], repeat_of: str | None = None
) -> ShownItem:
    rows = [reports[name][case] for name in systems]
    reference = (rows[0].reference or "").strip()
    texts = tuple(shown_text(row) for row in rows)
    key = KeyItem(
        item_id=item_id,
        rater=rater,
        case_id=case,
        patient_id=rows[0].patient_id,
        systems=systems,
        checksums=tuple(text_checksum(text) for text in (reference, *texts)),
        repeat_of=repeat_of,
    )
    return ShownItem(key, reference, texts)
