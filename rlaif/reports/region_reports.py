"""Reports that are written region by region: Reg2RG's prompt, its answer, and the way back to plain text.

A prompt shows regions without their names (`rlaif.reports.placeholders`): the policy has to recognise them itself.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rlaif.reports.placeholders import region_placeholder, slots_of
from rlaif.reports.regions import REGIONS, region_of

_PROMPT = (
    "This is the whole scan: <image>. {regions}\n"
    "Name each region, and report what it shows in the light of the whole scan."
)
# Regions are counted from 0, as Reg2RG's code and checkpoint do; its paper's figures count from 1.
# No name has a digit, so that a prefix without its colon does not swallow the next one. Only a known name may be broken
# over lines or follow without a blank ("isheart" is a prefix, "isthmus" none). Blanks are taken once and for all: a
# sampled report may hold any number of them.
_KNOWN = "|".join(name.replace(" ", r"\s++") for name in REGIONS)
_NAME = rf"(?:{_KNOWN})(?=\s*+:)|(?<=\s)[^\s:.\d][^:.\d\n]{{0,59}}"
_PREFIX = re.compile(rf"the\s*+region\s*+(\d{{1,3}})\s*+is\s*+({_NAME})\s*+:", re.IGNORECASE)
_SENTENCE_ENDS = (".", "!", "?", ":", ";")


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
    asked = " ".join(f"The region {number} is {region_placeholder(name)}." for number, name in enumerate(order))
    return (words or _PROMPT).replace("{regions}", asked)


def region_slots(prompt: str) -> tuple[str, ...]:
    """The regions that a prompt asks for, in its order; none for a prompt of another kind."""
    return tuple(slot for slot in slots_of(prompt) if slot is not None)


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
    prefixes = list(_PREFIX.finditer(text))
    if not prefixes:
        return text
    starts, ends = [0, *(one.end() for one in prefixes)], [*(one.start() for one in prefixes), len(text)]
    return joined_sentences(text[start:end] for start, end in zip(starts, ends, strict=True))


def judged_text(prompt: str, text: str) -> str:
    """What judges see of a report: without prefixes where its prompt asked for regions, else as it was written."""
    return without_region_prefixes(text) if region_slots(prompt) else text


def joined_sentences(texts: Iterable[str]) -> str:
    """Regions' sentences as one text; a full stop goes where one region's lack it and another's follow.

    Without it "No effusion" before "Moderate cardiomegaly." would deny both.
    """
    parts = [part for text in texts if (part := text.strip())]
    ended = [part if part.endswith(_SENTENCE_ENDS) else f"{part}." for part in parts[:-1]]
    return " ".join([*ended, *parts[-1:]])


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
