"""The strict reading of GREEN's replies: known counts, and text that nobody foresaw."""

import time

import pytest
from green_parity import Transcript, strict_score, transcripts
from hypothesis import given
from hypothesis import strategies as st

from rlaif.judges.green_reply import MOST_CHARACTERS, SECTIONS, MalformedReply, read_reply

FULL = """[Explanation]:
The candidate invents an effusion.
It also calls the heart normal.

[Clinically Significant Errors]:
(a) False report of a finding in the candidate: 2. Left effusion; pneumothorax
(b) Missing a finding present in the reference: 0.
(c) Misidentification of a finding's anatomic location/position: 1. Nodule on the left
(d) Misassessment of the severity of a finding: 3. Sizes
(e) Mentioning a comparison that isn't in the reference: 4. "Unchanged"
(f) Omitting a comparison detailing a change from a prior study: 5. Growth

[Clinically Insignificant Errors]:
(b) Missing a finding present in the reference: 6. Spurs
(d) Misassessment of the severity of a finding: 1. 5 mm instead of 6 mm

[Matched Findings]:
10. Emphysema; and so on
"""


def test_every_count_has_its_name() -> None:
    reply = read_reply(FULL)
    assert reply.counts == {
        "false_finding": 2,
        "missing_finding": 0,
        "wrong_location": 1,
        "wrong_severity": 3,
        "false_comparison": 4,
        "omitted_comparison": 5,
        "insignificant": 7,
        "matched": 10,
    }
    assert reply.score == 10 / 25
    assert reply.explanation == "The candidate invents an effusion. It also calls the heart normal."


@pytest.mark.parametrize("one", transcripts(), ids=lambda one: one.kind)
def test_the_strict_score_of_every_transcript(one: Transcript) -> None:
    assert strict_score(one.text) == (None if one.strict is None else pytest.approx(one.strict, abs=1e-4))


@pytest.mark.parametrize(
    ("changed", "to", "reason"),
    [
        ("[Matched Findings]:", "Matched:", r"it has no \[Matched Findings\]"),
        (SECTIONS[1], SECTIONS[0], r"it has \[Clinically Significant Errors\]: 2 times"),
        ("(b) Missing", "(a) Missing", r"Significant Errors\]: has \(a\) twice"),
        ("(e) ", "(k) ", r"has an item \(k\)"),
        ("(f) ", "(6) ", "has letters and numbers"),
        (": 3. Sizes", ": Sizes", r"has an item \(d\) without a count"),
        (": 3. Sizes", ": 3.5 mm", r"has an item \(d\) without a count"),
        ("10. Emphysema", "Emphysema", "does not begin with a count"),
        ("10. Emphysema", "10.5 Emphysema", "does not begin with a count"),
        ("10. Emphysema", "1. Emphysema\n2. Nodule", "is a numbered list"),
        ("(a) False", "Errors:\n(a) False", "begins with neither"),
    ],
)
def test_what_is_malformed_is_named(changed: str, to: str, reason: str) -> None:
    with pytest.raises(MalformedReply, match=reason):
        read_reply(FULL.replace(changed, to, 1))


def test_a_reply_cut_off_anywhere_before_its_last_count_has_no_score() -> None:
    last = FULL.index("10. Emphysema")
    assert {strict_score(FULL[:end]) for end in range(last + len("10."))} == {None}
    assert {strict_score(FULL[:end]) for end in range(last + len("10."), len(FULL) + 1)} == {10 / 25}


COUNTS = st.lists(st.integers(0, 99), min_size=6, max_size=6)


@given(COUNTS, st.integers(0, 99))
def test_the_score_is_matched_by_matched_and_significant(significant: list[int], matched: int) -> None:
    items = "\n".join(f"({name}) Error: {count}. x" for name, count in zip("abcdef", significant, strict=True))
    text = f"{SECTIONS[0]}\n{items}\n\n{SECTIONS[1]}\nNone\n\n{SECTIONS[2]}\n{matched}. y"
    assert strict_score(text) == (matched / (matched + sum(significant)) if matched else 0)


PIECES = st.sampled_from(
    [
        *SECTIONS,
        "[Explanation]:",
        "\n",
        "\n\n",
        "(a) x: 1. y",
        "(b) x: 2.",
        "(1) x: 3.",
        "No errors",
        "3. z",
        " ",
        "```",
    ]
)


@given(st.lists(PIECES | st.text(max_size=5), max_size=25))
def test_any_text_is_read_or_malformed(pieces: list[str]) -> None:
    score = strict_score("".join(pieces))
    assert score is None or 0 <= score <= 1


@pytest.mark.parametrize(
    "filling", ["(a) ", "(a) x: 1", "(", ": 1.", "\n", " \n", "a", "1. ", "No ", "(a) x: 1.\n", "[Matched Findings]:"]
)
def test_a_long_reply_takes_no_long_time(filling: str) -> None:
    room = MOST_CHARACTERS - 200
    body = (filling * room)[:room]
    started = time.monotonic()
    for section in range(3):
        bodies = ["None", "None", "1. x"]
        bodies[section] = body
        strict_score("\n\n".join(f"{header}\n{one}" for header, one in zip(SECTIONS, bodies, strict=True)))
    assert time.monotonic() - started < 1.0


def test_a_reply_beyond_every_length_is_malformed() -> None:
    with pytest.raises(MalformedReply, match="longer than"):
        read_reply(FULL + "x" * MOST_CHARACTERS)
