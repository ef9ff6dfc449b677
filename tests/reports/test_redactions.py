"""Reports without the marks of de-identification."""

import pytest

from rlaif.reports.redactions import without_redactions


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Normal chest x-XXXX.", "Normal chest."),
        ("XXXX, XXXX and soft tissues are normal.", "and soft tissues are normal."),
        ("No change since XXXX (XXXX). Clear.", "No change since. Clear."),
        ("Heart is large. XXXX. Lungs clear.", "Heart is large. Lungs clear."),
        ("Compared to XXXX/XXXX, stable.", "Compared to, stable."),
        ("A 3.5 cm mass. No effusion..", "A 3.5 cm mass. No effusion.."),
        ("XXXX", ""),
        (
            "___-year-old man. In comparison with the study of ___, the heart is large.",
            "man. In comparison with the study of, the heart is large.",
        ),
        ("Discussed with Dr. ___ at ___:___ p.m. (___).", "Discussed with Dr. at p.m."),
        ("A line under __ two.", "A line under __ two."),
    ],
)
def test_redactions_are_taken_out_neatly(text: str, expected: str) -> None:
    assert without_redactions(text) == expected


def test_hostile_text_takes_linear_time() -> None:
    assert without_redactions("a" * 10**6 + " XXXX" + " (" * 10**5 + " " * 10**6).startswith("aaa")
