"""The parts of the report page: its sentences, curves, interval plot, marked sentences and slices."""

from typing import Any

import numpy as np
import pytest

from rlaif.metrics.page.curves import alignment_charts, histogram, nice_ticks, score_shares, tick_labels
from rlaif.metrics.page.examples import compared
from rlaif.metrics.page.forest import forest
from rlaif.metrics.page.images import informative_indices, slices_of
from rlaif.metrics.page.sentences import blind_words, duration, headline

MINUS = "\N{MINUS SIGN}"


def interval(mean: float, half: float) -> dict[str, float]:
    return {"mean": mean, "low": mean - half, "high": mean + half, "n": 200}


def test_headlines_for_each_outcome(run_summary: dict[str, Any]) -> None:
    run_summary["gain"]["rules_score"] = interval(0.01, 0.03)
    assert "did not clearly change" in headline(run_summary).sentence
    run_summary["gain"]["rules_score"] = interval(-0.1, 0.03)
    worse = headline(run_summary)
    assert "got worse" in worse.sentence and worse.verdict == "worse" and worse.figure == f"{MINUS}0.100"
    assert any("also gave the training preferences" in remark for remark in worse.remarks)
    run_summary["gain"] = {}
    assert headline(run_summary).sentence.startswith("No gain can be stated")


def test_the_blind_control_tells_a_policy_that_sees_from_one_that_does_not(run_summary: dict[str, Any]) -> None:
    assert "costs the policy of round 1 " + MINUS + "0.159" in blind_words(run_summary)
    run_summary["blind_control"]["difference"]["round-001"]["rules_score"] = interval(-0.01, 0.05)
    assert "no proof" in blind_words(run_summary)
    run_summary["blind_control"]["difference"]["round-001"]["rules_score"] = interval(0.2, 0.05)
    assert "something is wrong" in blind_words(run_summary)


def test_durations_ticks_and_bins() -> None:
    assert [duration(s) for s in (0.42, 41.2, 59.7, 101, 7500)] == [
        "0.4 s",
        "41 s",
        "1 min 0 s",
        "1 min 41 s",
        "2 h 5 min",
    ]
    assert nice_ticks(0, 1) == [0, 0.5, 1]
    assert nice_ticks(3, 3) == [3]
    assert tick_labels([0, 0.05, 0.1], signed=True) == ["0.00", "+0.05", "+0.10"]
    assert tick_labels([0.65]) == ["0.65"] and len(nice_ticks(0.61, 0.695)) >= 2
    assert tick_labels([0, 1000, 2000]) == ["0", "1,000", "2,000"]
    shares, edges = score_shares([1, 2, 2, 5], 1, 5)
    assert shares == [0.25, 0.5, 0, 0, 0.25] and edges[0] == 0.5 and edges[-1] == 5.5
    shares, _ = score_shares([0.0, 0.05, 1.0], 0, 1)
    assert len(shares) == 20 and (shares[0], shares[1], shares[-1]) == (1 / 3, 1 / 3, 1 / 3)
    assert histogram("r", [0.2, 0.4], 0, 1).marker.position == 30


def test_rounds_follow_each_other_on_the_step_axis() -> None:
    steps = [{"step": k, "loss": 0.7, "margin": 0.1, "accuracy": float("nan")} for k in range(5)]
    charts = alignment_charts([("Round 0", steps), ("Round 1", steps)])
    assert [chart.title for chart in charts] == ["DPO loss", "Implicit rewards"]
    assert [divider.position for divider in charts[0].dividers] == [0, round(500 / 9, 2)]
    assert len(charts[0].lines[0].points) == 2


def test_the_interval_plot_parts_units_and_keeps_zero_in_sight(run_summary: dict[str, Any]) -> None:
    panels = {panel.unit: panel for panel in forest(run_summary["gain"])}
    assert [row.label for row in panels["score, 0 to 1"].rows] == ["Rules score", "Finding F1"]
    assert panels["findings per report"].better == "left"
    assert [row.verdict for row in panels["findings per report"].rows] == ["better", "unclear"]
    assert panels["words per report"].rows[0].verdict == "changed"
    for panel in panels.values():
        assert all(0 <= row.low <= row.mean <= row.high <= 100 for row in panel.rows) and 0 < panel.zero < 100


def test_sentences_that_the_other_report_lacks_are_marked() -> None:
    marked = compared("No effusion. A nodule.", "no  effusion. Clear.")
    assert [(one.text, one.differs) for one in marked] == [("No effusion.", False), ("A nodule.", True)]
    assert not any(one.differs for one in compared("A nodule.", "Clear."))


def test_slices_go_through_the_lung_and_keep_the_patients_proportions() -> None:
    voxels = np.full((10, 20, 30), 40, dtype=np.int16)
    voxels[3, 5:15, 6:20] = -800
    assert informative_indices(voxels)[0] == 3
    assert informative_indices(np.zeros((10, 20, 30), np.int16)) == (5, 10, 15)
    table = voxels.copy()
    table[:, 16:] = -1000
    table[7, 17:19] = -900
    assert informative_indices(table)[0] == 3
    axial, coronal, _ = slices_of(voxels, (6.0, 2.0, 2.0)).slices
    assert axial.width / axial.height == pytest.approx(1.5, abs=0.02)
    assert coronal.width == coronal.height
