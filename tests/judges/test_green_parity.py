"""The package's own functions on every transcript, beside the strict reading."""

import sys

import pytest
from green_parity import main, strict_score, transcripts

from rlaif.judges.green import official_green

pytestmark = pytest.mark.slow


def test_the_official_score_of_every_transcript() -> None:
    official = official_green()
    known = {one.kind: one.official for one in transcripts()}
    assert len(known) == len(transcripts()) >= 40
    assert {one.kind: official.score(one.text) for one in transcripts()} == pytest.approx(known, abs=1e-4)


def test_both_agree_wherever_no_reason_is_given() -> None:
    official = official_green()
    for one in transcripts():
        assert (official.score(one.text) == strict_score(one.text)) == (not one.why), one.kind


def test_the_prompt_is_the_packages_own() -> None:
    prompt = official_green().prompt("Large heart. " * 200, "Nodule.", 300)
    assert prompt.startswith("Objective: Evaluate the accuracy of a candidate radiology report")
    assert prompt.count("Large heart.") == 150
    assert all(section in prompt for section in ("[Clinically Significant Errors]:", "[Matched Findings]:"))
    assert prompt.index("Large heart.") < prompt.index("3. Candidate Report:") < prompt.index("Nodule.")


def test_the_table_has_a_line_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + len(transcripts()) + 1
    assert lines[-1].startswith('{"agree": 0.')


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "green_score.green", None)
    with pytest.raises(ModuleNotFoundError, match="pip install --no-deps --ignore-requires-python green-score"):
        official_green()
