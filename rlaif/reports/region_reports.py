"""Reports that are written region by region: Reg2RG's prompt, its answer, and the way back to plain text.

In a prompt `<image>` and `<region:NAME>` are places of visual tokens: the policy puts them there, and the name never
reaches the language model, which has to recognise the region itself.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rlaif.reports.regions import region_of

_PROMPT = (
    "This is the whole scan: <image>. {regions}\n"
    "Name each region, and report what it shows in the light of the whole scan."
)
_SLOT = re.compile(r"<region:([^<>]*)>")
# Regions are counted from 0, as Reg2RG's code and checkpoint do; its paper's figures count from 1.
_PREFIX = re.compile(r"\bthe\s+region\s+(\d{1,3})\s+is\s+([^:.\n]{1,60}?)\s*:", re.IGNORECASE)


@dataclass(frozen=True)
class RegionReport:
    """What a report says of one region: the number it was asked under, the name it gives, and its sentences."""

    index: int
    region: str
    text: str


def region_order(regions: Iterable[str], identity: str) -> tuple[str, ...]:
    """The regions in an order that only the identity (a study's id) decides, so that places tell nothing of names."""
    return tuple(sorted(set(regions), key=lambda name: hashlib.sha256(f"{identity}\x1f{name}".encode()).digest()))


def region_prompt(order: Sequence[str], words: str | None = None) -> str:
    """The prompt that asks for the regions in the given order, by default in words of our own.

    `words` hold `{regions}` where the regions are (Reg2RG's own: src/Dataset/radgenome_dataset_train.py).
    """
    asked = " ".join(f"The region {number} is <region:{name}>." for number, name in enumerate(order))
    return (words or _PROMPT).replace("{regions}", asked)


def region_slots(prompt: str) -> tuple[str, ...]:
    """The regions that a prompt asks for, in its order; none for a prompt of another kind."""
    return tuple(match[1] for match in _SLOT.finditer(prompt))


def region_answer(order: Sequence[str], reports: Mapping[str, str]) -> str:
    """The answer to `region_prompt`: each region's name and sentences; raises KeyError for one without sentences."""
    return " ".join(f"The region {number} is {name}: {reports[name].strip()}" for number, name in enumerate(order))


def parse_region_report(text: str) -> list[RegionReport]:
    """What a policy wrote, region by region, in its own order; whatever stands before the first prefix is left out.

    A name is what stands before the colon, of several words too ("trachea and bronchie"), in the spelling of the ten
    regions where it is one of them.
    """
    prefixes = list(_PREFIX.finditer(text))
    ends = [*(prefix.start() for prefix in prefixes), len(text)][1:]
    return [
        RegionReport(int(prefix[1]), _named(prefix[2]), text[prefix.end() : end].strip())
        for prefix, end in zip(prefixes, ends, strict=True)
    ]


def without_region_prefixes(text: str) -> str:
    """The text that judges see: prefixes taken out, sentences joined; another report comes back as it is."""
    if not _PREFIX.search(text):
        return text
    return " ".join(_PREFIX.sub(" ", text).split())


def region_recognition(order: Sequence[str], text: str) -> float | None:
    """The share of the asked regions that the report calls by their name under their number; None where none was asked.

    Reg2RG's evaluation/region_pred_acc.py reads one word of a name; here the whole name counts. A region that the
    report leaves out counts as wrong; of two prefixes with one number the first counts.
    """
    if not order:
        return None
    named: dict[int, str] = {}
    for one in parse_region_report(text):
        named.setdefault(one.index, one.region)
    return sum(named.get(number) == _named(name) for number, name in enumerate(order)) / len(order)


def _named(name: str) -> str:
    plain = " ".join(name.lower().split())
    return region_of(plain) or plain
