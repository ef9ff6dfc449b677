"""From what a small run took to what a large one takes: known numbers, by hand."""

import sys
from types import SimpleNamespace as Having

import pytest

from rlaif.launch import PROJECT
from rlaif.metrics.scale import Counts, Training, busiest, duration, markdown_table, rounds_seconds, short


def test_the_busiest_rank_takes_its_share_of_every_batch() -> None:
    assert busiest(10, [Training(1, 4)], ranks=2) == 2 + 2 + 1
    assert busiest(10, [Training(3, 4)], ranks=4) == 3 * 3
    # More ranks than a batch has items wait.
    assert busiest(8, [Training(1, 4)], ranks=16) == 2
    assert busiest(10, [Training(1, 1), Training(2, 5)], ranks=4) == 10 + 2 * 4
    assert busiest(0, [Training(1, 4)], ranks=2) == 0


def test_more_studies_keep_their_shares() -> None:
    counts = Counts(2000, 800, 200, 2, 6, 0.9, 2.0, None).of(50_000)
    assert (counts.sft, counts.align, counts.heldout) == (33_333, 13_334, 3_333)
    assert counts.studies == 50_000
    assert (counts.candidates, counts.learnt, counts.reports) == (80_004, 12_001, 6_666)


def test_rounds_with_and_without_sampling_beside_learning() -> None:
    def taken(rounds: int, staleness: int) -> float:
        return rounds_seconds(10.0, 1.0, 4.0, 2.0, rounds=rounds, staleness=staleness)

    assert taken(3, staleness=0) == 3 * 17
    assert taken(3, staleness=1) == 10 + 2 * 10 + 4 + 3 * 3
    assert taken(1, staleness=1) == taken(1, staleness=0) == 17


def test_numbers_for_people() -> None:
    assert [duration(one) for one in (3.21, 119.0, 480.0, 11520.0, 950400.0)] == [
        "3.21 s",
        "119 s",
        "8 min",
        "3.2 h",
        "11 days",
    ]
    assert [short(one) for one in (0.012345, 45.67, 12345.6)] == ["0.0123", "45.7", "12,346"]
    table = markdown_table([["a", "b", "c"], ["x", "1", "y"]], words=1)
    assert table == "| a | b | c |\n| --- | ---: | --- |\n| x | 1 | y |\n"


def test_operations_of_a_language_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(PROJECT / "scripts")
    from paper_scale import work_of

    learner, sampler = Having(lora=None, gradient_checkpointing=True), Having(n=6)
    paper = Having(
        name="x",
        on_8=Having(learner=learner, sampler=sampler),
        settings=Having(image_tokens=256, region_tokens=0),
        size=Having(language_model=10**12),
    )
    sampled, read, learnt, taught = 2 * (296 + 6 * 250), 2 * 796, 8 * 796, 8 * 546
    work = [f"{one:,}" for one in (sampled, read, learnt, taught)]
    assert work_of(paper, prompt=40, report=250) == ["x", "6", "296", "796", "8 a parameter", *work]
    learner.gradient_checkpointing = False
    assert work_of(paper, prompt=40, report=250)[4] == "6 a parameter"
    learner.lora = "adapters"
    assert work_of(paper, prompt=40, report=250)[4] == "4 a parameter"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--prompt-tokens", "-40"], "--prompt-tokens: -40 is no whole number from 0"),
        (["--report-tokens", "0"], "--report-tokens: 0 is no whole number from 1"),
        (["--only", "rgro/135m", "argus/9b"], "--only: invalid choice: 'argus/9b'"),
    ],
)
def test_a_size_that_no_paper_has_and_lengths_that_cannot_be_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    monkeypatch.syspath_prepend(PROJECT / "scripts")
    from paper_scale import main

    given = ["paper_scale.py", "--prompt-tokens", "40", "--report-tokens", "250", "--only", "rgro/135m"]
    monkeypatch.setattr(sys, "argv", [*given, *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2 and said in capsys.readouterr().err
