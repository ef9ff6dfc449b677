"""Reports region by region: answers written and read back, whatever a policy writes; the text that judges see."""

import subprocess
import sys
import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlaif.judges.rules import judge
from rlaif.reports.placeholders import slots_of
from rlaif.reports.region_reports import (
    RegionReport,
    joined_sentences,
    judged_text,
    parse_region_report,
    region_answer,
    region_order,
    region_prompt,
    region_recognition,
    region_slots,
    without_region_prefixes,
)
from rlaif.reports.regions import REGIONS

ORDER = ("heart", "trachea and bronchie", "lung")
REPORTS = {
    "heart": "The heart is enlarged.",
    "lung": "A 4.5 mm nodule: right upper lobe. No effusion.",
    "trachea and bronchie": "The trachea is patent.",
}
ANSWER = (
    "The region 0 is heart: The heart is enlarged. The region 1 is trachea and bronchie: The trachea is patent. "
    "The region 2 is lung: A 4.5 mm nodule: right upper lobe. No effusion."
)


def named(text: str) -> list[tuple[int, str, str]]:
    return [(one.index, one.region, one.text) for one in parse_region_report(text)]


def test_an_answer_is_counted_from_0_and_read_back() -> None:
    assert region_answer(ORDER, REPORTS) == ANSWER
    assert parse_region_report(ANSWER) == [
        RegionReport(number, name, REPORTS[name]) for number, name in enumerate(ORDER)
    ]
    assert without_region_prefixes(ANSWER) == " ".join(REPORTS[name] for name in ORDER)
    with pytest.raises(KeyError, match="bone"):
        region_answer(["heart", "bone"], REPORTS)


@given(st.lists(st.sampled_from(REGIONS), unique=True, min_size=1), st.data())
def test_every_answer_comes_back(order: list[str], data: st.DataObject) -> None:
    sentence = st.text(st.characters(codec="utf-8"), min_size=1).map(str.strip)
    told = sentence.filter(lambda one: one and "region" not in one.lower())
    reports = {name: data.draw(told) for name in order}
    answer = region_answer(order, reports)
    assert named(answer) == [(number, name, reports[name]) for number, name in enumerate(order)]
    assert region_recognition(order, answer) == 1.0


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("THE REGION 0 IS Heart: Large.", [(0, "heart", "Large.")]),
        ("The region 0 is lung:Clear.The region 1 is heart:Normal.", [(0, "lung", "Clear."), (1, "heart", "Normal.")]),
        ("the region0 is lung :ClearThe region 1 is heart: Wide", [(0, "lung", "Clear"), (1, "heart", "Wide")]),
        ("The region 0\nis lung:\nClear.\nThe\nregion 1 is\nheart: A.\n", [(0, "lung", "Clear."), (1, "heart", "A.")]),
        ("The region 3 is Trachea  And Bronchie : Patent.", [(3, "trachea and bronchie", "Patent.")]),
        ("The region 3 is trachea and\nbronchie\n: Patent.", [(3, "trachea and bronchie", "Patent.")]),
        ("Theregion0islung:Clear.Theregion 1isheart:Wide", [(0, "lung", "Clear."), (1, "heart", "Wide")]),
        ("The region 0 is lung: The region 3 isthmus: thin.", [(0, "lung", "The region 3 isthmus: thin.")]),
        ("The region 0 is heart wall\nSize: 3 mm.", []),
        ("The region 0 is lung/right lung: Clear.", [(0, "lung", "Clear.")]),
        ("The region 12 is great vessels: Wide.", [(12, "great vessels", "Wide.")]),
        (
            "The region 2 is lung: A. The region 0 is heart: B. The region 2 is bone: C.",
            [(2, "lung", "A."), (0, "heart", "B."), (2, "bone", "C.")],
        ),
        ("Sure! Here it is. The region 0 is lung: Clear.", [(0, "lung", "Clear.")]),
        (
            "The region 0 is lung: Clear. The region 1 is heart: The heart is",
            [(0, "lung", "Clear."), (1, "heart", "The heart is")],
        ),
        ("The region 0 is lung: Clear. The region 1 is", [(0, "lung", "Clear. The region 1 is")]),
        ("The region 0 is lung The region 1 is heart: Wide.", [(1, "heart", "Wide.")]),
        (
            "The region 0 is lung: The region of the hilum: clear. In the region 4 is a scar. Size: 3 mm.",
            [(0, "lung", "The region of the hilum: clear. In the region 4 is a scar. Size: 3 mm.")],
        ),
        ("The region 0 is lung: The region 1 is heart: Wide.", [(0, "lung", ""), (1, "heart", "Wide.")]),
        (f"The region 0 is {'a' * 61}: Clear.", []),
        ("The region 1234 is lung: Clear.", []),
        ("The region is lung: Clear. Region 0: heart.", []),
        ("", []),
    ],
)
def test_what_policies_write_is_read(written: str, read: list[tuple[int, str, str]]) -> None:
    assert named(written) == read


@pytest.mark.parametrize(
    "report",
    [
        "",
        "The lungs are clear.\n\nThe region of the hilum is normal: no nodes.  Heart normal.",
        "Findings: Nodule in the region 3 is stable. Impression: stable.",
        "  a  b ",
    ],
)
def test_a_report_without_regions_stays_as_it_is(report: str) -> None:
    assert without_region_prefixes(report) == report
    assert parse_region_report(report) == []


def test_judges_see_whole_sentences_and_no_prefix() -> None:
    written = "So: The region 0 is pleura: No pleural effusion The region 1 is heart: Moderate cardiomegaly"
    assert without_region_prefixes(written) == "So: No pleural effusion. Moderate cardiomegaly"
    assert judge("Moderate cardiomegaly.", without_region_prefixes(written)).score == 1.0
    assert without_region_prefixes("The region 0 is lung: The region 1 is heart:") == ""
    # List items are sentences by their line breaks, which therefore stay.
    assert without_region_prefixes("The region 0 is lung:\n- Clear\n- No nodule\n") == "- Clear\n- No nodule"
    assert joined_sentences([" A", "", "B!", "C "]) == "A. B! C"


@pytest.mark.parametrize(
    "hostile",
    [
        "the region 1 is " * 65_536,
        "the" + " " * 2**20,
        "the region 1 is" + " " * 2**20,
        "the region 1 is lung" + "\n" * 2**20,
        "the region 1 is " + "a " * 2**19,
        "the " * 2**18,
        "the region 1 is a:" * 58_000,
        "the region 1 is a" + " " * 2**20,
        "theregion1isbone" * 65_536,
        "the region 1 is trachea and" + "\n" * 2**20,
        ("the region 1 is bone" + " " * 2000) * 500,
        "<region:" * 2**17,
    ],
    ids=lambda text: text[:20].replace("\n", "n").strip(),
)
def test_a_megabyte_of_nonsense_takes_no_time(hostile: str) -> None:
    started = time.monotonic()
    found = parse_region_report(hostile)
    without_region_prefixes(hostile)
    region_recognition(ORDER, hostile)
    region_slots(hostile)
    assert time.monotonic() - started < 5
    assert len(found) == hostile.count(":") * ("a:" in hostile)


@pytest.mark.parametrize(
    ("text", "share"),
    [
        (ANSWER, 1.0),
        # A word of the name is not the name; upper case is; the third is left out.
        ("The region 0 is HEART: A. The region 1 is trachea: B.", 1 / 3),
        # Swapped numbers, and of two prefixes with one number the first counts.
        ("The region 1 is heart: A. The region 0 is trachea and bronchie: B. The region 2 is lung: C.", 1 / 3),
        ("The region 0 is bone: A. The region 0 is heart: B. The region 2 is lung: C.", 1 / 3),
        ("The region 2 is lung: C. The region 1 is trachea and bronchie: B. The region 7 is bone: D.", 2 / 3),
        ("The lungs are clear.", 0.0),
        ("", 0.0),
    ],
)
def test_recognition_is_the_share_of_asked_regions_under_their_number(text: str, share: float) -> None:
    assert region_recognition(ORDER, text) == pytest.approx(share)
    assert region_recognition((), text) is None


def test_the_prompt_asks_for_numbers_and_shows_places() -> None:
    prompt = region_prompt(ORDER)
    assert "The region 0 is <region:heart>. The region 1 is <region:trachea and bronchie>. The region 2 is" in prompt
    assert slots_of(prompt) == (None, *ORDER) and region_slots(prompt) == ORDER
    assert region_slots("<image>\nDescribe the findings of this chest CT.") == ()
    own = region_prompt(ORDER, "See <image>, then {regions}: what is it? {x}")
    assert own == (
        "See <image>, then The region 0 is <region:heart>. The region 1 is <region:trachea and bronchie>. "
        "The region 2 is <region:lung>.: what is it? {x}"
    )


def test_the_order_follows_the_study_alone() -> None:
    order = region_order(REGIONS, "train_1_a_1")
    assert set(order) == set(REGIONS) and order != REGIONS
    assert region_order(reversed(REGIONS), "train_1_a_1") == region_order([*REGIONS, *REGIONS], "train_1_a_1") == order
    assert region_order(REGIONS, "train_2_a_1") != order
    # A region that is left out changes nothing for the others.
    assert region_order(order[1:], "train_1_a_1") == order[1:]
    code = "from rlaif.reports.region_reports import *; from rlaif.reports.regions import REGIONS; "
    code += "print('|'.join(region_order(set(REGIONS), 'train_1_a_1')))"
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            encoding="utf-8",
            check=True,
            env={"PYTHONHASHSEED": seed},
        )
        assert tuple(done.stdout.strip().split("|")) == order


def test_places_tell_nothing_of_names() -> None:
    orders = [region_order(REGIONS, f"train_{number}_a_1") for number in range(1000)]
    counts = Counter((place, name) for order in orders for place, name in enumerate(order))
    # Each of the ten is at each of the ten places in about 100 of 1000 studies.
    assert len(counts) == 100 and min(counts.values()) > 60 and max(counts.values()) < 145


def test_judges_see_prefixes_of_reports_that_were_not_asked_for_regions() -> None:
    text = "In the region 2 is a nodule: 4 mm."
    assert judged_text("<image>\nDescribe the findings.", text) == text
    assert judged_text(region_prompt(ORDER), ANSWER) == without_region_prefixes(ANSWER)
