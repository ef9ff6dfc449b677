"""Dividing patients into SFT, alignment and held-out splits, the same way on every machine."""

import hashlib
from collections.abc import Container, Iterable, Sequence
from dataclasses import replace
from typing import get_args

from rlaif.datasets.layout import SplitSettings
from rlaif.datasets.study_table import DatasetError
from rlaif.records import Split, Study

# What a study bears between being read and being divided.
UNDIVIDED: Split = "heldout"
SPLITS: tuple[Split, ...] = get_args(Split)


def patient_order(patient_id: str, seed: int) -> float:
    """A number in [0, 1) that depends on the patient and the seed alone."""
    digest = hashlib.sha256(f"{seed}:{patient_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def assign_splits(
    patients: Iterable[str], settings: SplitSettings, seed: int, among: Sequence[Split] = SPLITS
) -> dict[str, Split]:
    """The split of each patient, divided among the splits of `among` in the settings' shares by hash.

    With fractions a patient's split never changes when others are added or removed; where all those of `among` are 0,
    no patient has a split. With numbers, the first patients in the seed's order are taken, and the remaining ones have
    none. Raises DatasetError where numbers ask for more patients than there are.
    """
    ordered = sorted(set(patients), key=lambda patient: (patient_order(patient, seed), patient))
    shares = _shares(settings, among, len(ordered))
    if settings.counted:
        return _consecutive(ordered, shares)
    assigned: dict[str, Split] = {}
    total = sum(shares.values())
    for patient in ordered:
        place, passed = patient_order(patient, seed) * total, 0.0
        for split, share in shares.items():
            passed += share
            if share > 0.0:
                assigned[patient] = split
                if place < passed:
                    break
    return assigned


def assign_in_order(
    ordered: Sequence[str], settings: SplitSettings, among: Sequence[Split] = SPLITS
) -> dict[str, Split]:
    """The split of each patient, the first ones of the given order going to the first split of `among`.

    Fractions are taken of the number of patients, so that adding patients can move others. Raises
    DatasetError as `assign_splits` does.
    """
    shares = _shares(settings, among, len(ordered))
    if not settings.counted and any(shares.values()):
        total, passed, bounds = sum(shares.values()), 0.0, [0]
        for share in shares.values():
            passed += share
            bounds.append(round(len(ordered) * passed / total))
        shares = {split: float(bounds[place + 1] - bounds[place]) for place, split in enumerate(shares)}
    return _consecutive(ordered, shares)


def _shares(settings: SplitSettings, among: Sequence[Split], patients: int) -> dict[Split, float]:
    """The share of each split of `among`; DatasetError where the patients cannot be divided so."""
    shares = {split: float(getattr(settings, split)) for split in among}
    if settings.counted and sum(shares.values()) > patients:
        wanted = ", ".join(f"{split} {share:.0f}" for split, share in shares.items())
        raise DatasetError(f"data.split asks for {wanted} patients, and there are {patients}; ask for fewer")
    return shares


def _consecutive(ordered: Sequence[str], counts: dict[Split, float]) -> dict[str, Split]:
    assigned: dict[str, Split] = {}
    start = 0
    for split, count in counts.items():
        assigned.update(dict.fromkeys(ordered[start : start + int(count)], split))
        start += int(count)
    return assigned


def check_disjoint(studies: Iterable[Study]) -> None:
    """Raise DatasetError where a patient has studies in more than one split."""
    seen: dict[str, Split] = {}
    shared: dict[str, set[str]] = {}
    for study in studies:
        first = seen.setdefault(study.patient_id, study.split)
        if first != study.split:
            shared.setdefault(study.patient_id, {first}).add(study.split)
    if shared:
        listing = "; ".join(
            f"{patient} in {' and '.join(sorted(splits))}" for patient, splits in list(shared.items())[:5]
        )
        raise DatasetError(
            f"{len(shared)} patients are in more than one split ({listing}): what is held out or aligned on must not "
            "have been trained on; give all studies of a patient the same split"
        )


def divide(
    studies: Iterable[Study],
    settings: SplitSettings,
    seed: int,
    limit: int | None,
    given: dict[str, Split] | None = None,
) -> list[Study]:
    """The studies with the split of their patient, disjoint, at most `limit` for each split.

    `given` holds splits that the data set itself prescribes, by study id; a patient whose studies
    have one is not divided anew. Studies of patients without a split are left out.
    """
    studies, given = list(studies), given or {}
    prescribed = {study.patient_id: given[study.study_id] for study in studies if study.study_id in given}
    rest = {study.patient_id for study in studies} - prescribed.keys()
    assigned = prescribed | assign_splits(rest, settings, seed) if rest else prescribed
    placed = [
        replace(study, split=given.get(study.study_id, assigned[study.patient_id]))
        for study in studies
        if study.patient_id in assigned
    ]
    check_disjoint(placed)
    return limited(placed, limit, seed)


def official_split(written: str) -> Split:
    """What an official split's name stands for: `test` is held out, `train` and the validation part (`sft`) are not.

    Raises DatasetError for other names.
    """
    name = written.strip().lower()
    if name not in ("test", "train", "valid", "val", "validation"):
        raise DatasetError(f"split {written[:40]!r} is none of train, valid, val, validation and test")
    return "heldout" if name == "test" else "sft"


def divide_official(
    studies: Iterable[Study],
    heldout: Container[str],
    settings: SplitSettings,
    seed: int,
    limit: int | None,
    ordered: Sequence[str] | None = None,
) -> list[Study]:
    """The studies with the official test split kept: those whose id is in `heldout` are held out.

    The other patients are divided into SFT and alignment in the settings' shares, in the seed's order, or in that of
    `ordered`; where both shares are 0 they are left out. Numbers in the settings take so many patients of each side.
    Raises DatasetError where the official split has a patient on both sides.
    """
    studies = list(studies)
    check_disjoint([replace(one, split="heldout" if one.study_id in heldout else "sft") for one in studies])
    test = {one.patient_id for one in studies if one.study_id in heldout}
    train = {one.patient_id for one in studies} - test
    # With fractions all of the official test split is held out, whatever share the settings give.
    kept = settings if settings.counted else SplitSettings(sft=0.0, align=0.0, heldout=1.0)

    def shared(patients: set[str], shares: SplitSettings, among: tuple[Split, ...]) -> dict[str, Split]:
        if not patients:
            return {}
        if ordered is not None:
            return assign_in_order([one for one in ordered if one in patients], shares, among)
        return assign_splits(patients, shares, seed, among)

    splits = shared(train, settings, ("sft", "align")) | shared(test, kept, ("heldout",))
    placed = [replace(one, split=splits[one.patient_id]) for one in studies if one.patient_id in splits]
    check_disjoint(placed)
    return limited(placed, limit, seed)


def limited(studies: list[Study], limit: int | None, seed: int) -> list[Study]:
    """At most `limit` studies of each split, those of the first patients in the seed's order; order is kept."""
    if limit is None:
        return studies
    kept: set[str] = set()
    for split in SPLITS:
        of_split = [study for study in studies if study.split == split]
        of_split.sort(key=lambda study: (patient_order(study.patient_id, seed), study.study_id))
        kept.update(study.study_id for study in of_split[:limit])
    return [study for study in studies if study.study_id in kept]
