"""The report page: a whole run folder goes in, one self-contained HTML file comes out."""

import json
import math
import random
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pyarrow.parquet as pq
import pytest

from rlaif.metrics.page import write_page
from rlaif.metrics.page_curves import alignment_charts, histogram, nice_ticks, score_shares
from rlaif.metrics.page_examples import compared
from rlaif.metrics.page_forest import forest
from rlaif.metrics.page_images import informative_indices, slices_of
from rlaif.metrics.page_sentences import blind_words, duration, headline
from rlaif.records import Candidate, Dropped, HeldoutReport, Judgement, Pair, Quarantined, Study, table_of

MINUS = "\N{MINUS SIGN}"
WHEN = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)
METRICS = {
    "rules_score": (0.41, 0.52),
    "finding_f1": (0.48, 0.56),
    "hallucinated": (1.31, 0.94),
    "omitted": (1.72, 1.61),
    "report_words": (41.0, 44.5),
}
NORMAL = ("The trachea and main bronchi are patent.", "Heart size is normal.", "No pleural effusion.")
ABNORMAL = (
    "A 14 mm solid nodule is seen in the right upper lobe.",
    "Moderate left pleural effusion with adjacent atelectasis.",
    "Emphysematous changes predominate in the upper lobes.",
    "Coronary artery wall calcification is present.",
)
HOSTILE = '<script>alert("x")</script> <img src=https://example.org/a.png onerror=1> & "quoted".'


def write_rows(folder: Path, record: type, rows: list[Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(table_of(record, rows), folder / "part-000.parquet")


def chest(seed: int) -> np.ndarray:
    """A crude chest `[x, y, z]` in HU: body, two lungs, heart, spine and a nodule."""
    generator = np.random.default_rng(seed)
    x, y, z = np.mgrid[-1:1:72j, -1:1:64j, -1:1:40j]
    voxels = np.where((x / 0.92) ** 2 + (y / 0.75) ** 2 < 1, 40.0, -1000.0)
    for side in (-1, 1):
        voxels[((x - 0.42 * side) / 0.34) ** 2 + (y / 0.55) ** 2 + (z / 0.9) ** 2 < 1] = -820
    voxels[((x - 0.1) / 0.3) ** 2 + ((y + 0.2) / 0.3) ** 2 + ((z + 0.3) / 0.4) ** 2 < 1] = 45
    voxels[(x / 0.14) ** 2 + ((y - 0.55) / 0.14) ** 2 < 1] = 350
    voxels[(x + 0.45) ** 2 + (y - 0.1) ** 2 + (z - 0.2) ** 2 < 0.012] = 30
    return (voxels + generator.normal(0, 25, voxels.shape)).astype(np.int16)


def build_volume(path: Path, seed: int) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.Nifti1Image(chest(seed), np.diag([-4.5, -4.5, 8.0, 1.0])).to_filename(path)
    return str(path)


def report(random_: random.Random) -> str:
    return " ".join([*random_.sample(ABNORMAL, random_.randint(1, 3)), *NORMAL[: random_.randint(1, 3)]])


def interval(mean: float, half: float, n: int = 200) -> dict[str, float]:
    return {"mean": mean, "low": mean - half, "high": mean + half, "n": n}


def build_summary(rounds: int = 2) -> dict[str, Any]:
    def at(share: float, worse: float = 0.0) -> dict[str, dict[str, float]]:
        return {
            name: interval(low + (high - low) * share - worse * low * (1 if high > low else -1), abs(low) * 0.06)
            for name, (low, high) in METRICS.items()
        }

    policies = {"base": 0.0, **{f"round-{k:03d}": (k + 1) / rounds for k in range(rounds)}}
    ends = ("base", f"round-{rounds - 1:03d}")
    blind = {key: at(policies[key] * 0.3, worse=0.2) for key in ends}
    heldout = {key: at(share) for key, share in policies.items()}
    gap = {
        key: {name: interval(heldout[key][name]["mean"] - blind[key][name]["mean"], 0.03) for name in METRICS}
        for key in ends
    }
    return {
        "status": "finished",
        "name": "demo",
        "policy": "ct_gpt_pp/tiny",
        "judge": "rules",
        "pairs": "strategy1",
        "seed": 0,
        "rounds": [
            {
                "round": k,
                "candidates": 2400,
                "judgements": 2400,
                "pairs": 310 + k,
                "judge_failures": {"no_reference": 2} if k == 0 else {},
                "dropped": {"none_below_threshold": 50, "all_scores_equal": 4},
                "seconds": {"sample": 41.2, "pairs": 0.4, "learn": 101.3, "evaluate": 12.0},
                "logprob_gap": {"mean": 1e-6, "max": 2e-5},
                "weights": {"version": k + 1, "checksum": f"ab12{k}fe90c3d4e5f6"},
                "repeated_calls": 0,
            }
            for k in range(rounds)
        ],
        "heldout": heldout,
        "gain": {
            "rules_score": interval(0.11, 0.03),
            "finding_f1": interval(0.08, 0.025),
            "hallucinated": interval(-0.37, 0.12),
            "omitted": interval(-0.11, 0.14),
            "report_words": interval(3.5, 1.4),
        },
        "blind_control": {**blind, "difference": gap},
        "seconds": {"studies": 50.0, "encoder": 90, "ingest": 40, "base": 4000, "heldout/base": 12},
        "studies": {"sft": 2000, "align": 400, "heldout": 200, "quarantined": 2},
    }


def build_round(run: Path, number: int, cases: int) -> None:
    random_ = random.Random(number)
    folder = run / f"round-{number:03d}"
    candidates, judgements, pairs = [], [], []
    for case in range(cases):
        own = []
        for index in range(4):
            name = f"r{number}-c{case}-{index}"
            text = HOSTILE if (case, index) == (0, 0) else report(random_)
            score = 1.0 if (case, index) == (0, 0) else round(random_.betavariate(2 + number, 3), 3)
            failed = (case, index) == (1, 1)
            candidate = Candidate(
                name,
                f"case-{case}",
                f"study-{case}",
                number,
                index,
                0,
                "Report:",
                text,
                (1, 2),
                (-0.1, -0.2),
                "stop",
                True,
                number,
                "ab12",
                None,
                0,
                WHEN,
            )
            judgement = Judgement(
                f"j-{name}",
                name,
                f"case-{case}",
                number,
                "rules",
                "1",
                None if failed else score,
                0.0,
                1.0,
                "no_reference" if failed else None,
                f"Explained {name} <b>plainly</b>.",
                {"matched": 2, "false_finding": 1},
                None,
                False,
                0.0,
                0,
                0,
                0.0,
            )
            candidates.append(candidate)
            judgements.append(judgement)
            if not failed:
                own.append((score, candidate))
        own.sort(key=lambda one: one[0])
        (low, rejected), (high, chosen) = own[0], own[-1]
        pairs.append(
            Pair(
                f"p{number}-{case:02d}",
                f"case-{case}",
                number,
                "strategy1",
                "Report:",
                chosen.text,
                rejected.text,
                chosen.candidate_id,
                rejected.candidate_id,
                high,
                low,
                high - low,
                "rules",
            )
        )
    write_rows(folder / "candidates", Candidate, candidates)
    write_rows(folder / "judgements", Judgement, judgements)
    write_rows(folder / "pairs", Pair, pairs)
    write_rows(folder / "dropped", Dropped, [Dropped("case-99", number, "none_below_threshold")])
    steps = [
        {
            "step": step,
            "loss": 0.693 - 0.15 * (1 - math.exp(-step / 20)) + random_.gauss(0, 0.02),
            "margin": 0.5 * (1 - math.exp(-step / 20)) + random_.gauss(0, 0.05),
            "accuracy": min(1.0, 0.5 + 0.3 * (1 - math.exp(-step / 20)) + random_.gauss(0, 0.05)),
            "chosen_reward": 0.1 * step / 60 + random_.gauss(0, 0.03),
            "rejected_reward": -0.4 * step / 60 + random_.gauss(0, 0.03),
            "lr": 5e-5,
            "grad_norm": 1.0,
        }
        for step in range(60)
    ]
    (folder / "metrics.json").write_text(json.dumps({"learning": {"steps": steps}}))


def build_run(run: Path, rounds: int = 2, cases: int = 8) -> Path:
    """A small run folder with everything the page can show; study 3's volume is gone, study 4 has none."""
    random_ = random.Random(7)
    studies = [
        Study(
            f"study-{k}",
            f"patient-{k}",
            "phantom",
            "align",
            volume=None if k == 4 else build_volume(run.parent / "data" / f"s{k}.nii.gz", k),
            findings=report(random_),
            impression="Pulmonary nodule; follow-up is advised.",
        )
        for k in range(cases)
    ]
    (run.parent / "data" / "s3.nii.gz").unlink()
    write_rows(run / "studies", Study, studies)
    bad = [Quarantined(f"bad-{k}", f"data/bad-{k}.nii.gz", "read", "the gzip stream is truncated") for k in range(2)]
    write_rows(run / "quarantine", Quarantined, bad)
    for number in range(rounds):
        build_round(run, number, cases)
    for share, name in enumerate(["base", *(f"round-{k:03d}" for k in range(rounds))]):
        rows = [
            HeldoutReport(
                f"h{k}",
                f"study-{k}",
                f"patient-{k}",
                False,
                studies[k].findings,
                report(random_),
                "stop",
                share,
                {"rules_score": round(random_.random(), 2), "hallucinated": 1.0, "omitted": 2.0},
            )
            for k in range(cases)
        ]
        write_rows(run / "heldout" / name, HeldoutReport, [*rows, replace(rows[0], control=True, text="BLIND TEXT")])
    sft = [{"step": k, "loss": 0.8 + 3 * math.exp(-k / 60) + random_.gauss(0, 0.05), "lr": 1e-3} for k in range(700)]
    (run / "base").mkdir(exist_ok=True)
    (run / "base" / "metrics.json").write_text(json.dumps({"learning": {"steps": sft}}))
    (run / "provenance.json").write_text(json.dumps({"git": {"commit": "deadbeef"}, "seed": 0, "torch": "2.9"}))
    (run / "config.yaml").write_text("policy:\n  name: ct_gpt_pp # <tiny>\n")
    (run / "summary.json").write_text(json.dumps(build_summary(rounds)))
    return run


class Checker(HTMLParser):
    """Asserts that tags nest, and keeps tags, attributes and text."""

    VOID = frozenset({"meta", "img", "br", "link", "input", "hr"})

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes <{self.open[-1] if self.open else 'nothing'}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def read_page(path: Path) -> Checker:
    checker = Checker()
    checker.feed(path.read_text(encoding="utf-8"))
    checker.close()
    assert checker.open == []
    return checker


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = build_run(tmp_path_factory.mktemp("runs") / "demo")
    write_page(folder)
    return folder


@pytest.fixture(scope="module")
def page(run: Path) -> Checker:
    return read_page(run / "report.html")


def test_the_headline_and_the_tables_carry_the_numbers_of_the_summary(page: Checker) -> None:
    assert "the rules score improved, from 0.410 to 0.520: a paired gain of +0.110 (95 % interval +0.080" in page.text
    assert "200 held-out cases" in page.text and "Not for clinical use" in page.text
    assert "0.410 [0.385, 0.435]" in page.text and f"{MINUS}0.37 [{MINUS}0.49, {MINUS}0.25]" in page.text
    for words in (
        "no reference 2",
        "none below threshold 50",
        "1 min 41 s",
        "version 2",
        f"mean 1.0e{MINUS}06",
        "2,400",
    ):
        assert words in page.text, words
    assert "deadbeef" in page.text and "# <tiny>" in page.text
    assert "2 studies could not be used" in page.text and "the gzip stream is truncated" in page.text


def test_report_text_is_escaped_and_nothing_is_loaded_from_elsewhere(page: Checker) -> None:
    assert '<script>alert("x")</script>' in page.text
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "iframe", "object", "embed", "base", "form"}
    for _, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "xlink:href", "srcset", "action"):
            assert (attributes.get(name) or "#").startswith(("data:image/png;base64,", "#"))
        assert "url(" not in (attributes.get("style") or "")


def test_examples_show_both_reports_the_judge_and_the_slices_and_say_where_a_volume_is_gone(page: Checker) -> None:
    assert "Explained r0-c0-0 <b>plainly</b>." in page.text
    assert "false finding 1 · matched 2" in page.text
    assert "axial, " in page.text and "coronal, " in page.text and "sagittal, " in page.text
    assert "The CT cannot be read any more" in page.text and "works on text alone" in page.text
    assert "Best gain: +" in page.text and "Median: " in page.text and f"Worst: {MINUS}" in page.text
    assert "BLIND TEXT" not in page.text
    assert sum(tag == "details" and "example" in (a.get("class") or "") for tag, a in page.tags) == 8 + 3


def test_the_page_is_small_and_the_same_run_gives_the_same_page(run: Path) -> None:
    first = (run / "report.html").read_text()
    assert len(first) < 2_000_000
    write_page(run)
    second = (run / "report.html").read_text()
    assert first.split("<footer>")[0] == second.split("<footer>")[0]
    assert [path.name for path in run.iterdir() if path.name.startswith("tmp")] == []


def test_unfinished_segments_are_not_read(tmp_path: Path) -> None:
    run = build_run(tmp_path / "runs" / "demo", rounds=1, cases=5)
    for name in (".part-001.parquet", "tmp-part.parquet"):
        (run / "round-000" / "pairs" / name).write_bytes(b"torn")
    assert "Preference pairs" in read_page(write_page(run)).text


def test_a_torn_table_is_an_error_that_names_it(tmp_path: Path) -> None:
    run = build_run(tmp_path / "runs" / "demo", rounds=1, cases=5)
    (run / "round-000" / "pairs" / "part-001.parquet").write_bytes(b"torn")
    with pytest.raises(ValueError, match=r"round-000/pairs cannot be read"):
        write_page(run)


def test_an_almost_empty_run_says_in_words_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text(json.dumps({"status": "running", "rounds": []}))
    text = read_page(write_page(tmp_path)).text
    for words in (
        "No alignment round has been evaluated",
        "Nothing was scored on held-out cases",
        "The blind control did not run",
        "No training steps were recorded",
        "No candidates were judged",
        "No alignment round has run",
        "No preference pairs were built",
        "No held-out case has a score",
        "No study was put aside",
        "No provenance was recorded",
    ):
        assert words in text, words


def test_a_run_without_summary_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"summary\.json is missing"):
        write_page(tmp_path)
    (tmp_path / "summary.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"holds a list, not an object"):
        write_page(tmp_path)


def test_pairs_with_the_reference_report_have_no_score(tmp_path: Path) -> None:
    pair = Pair("p", "c", 0, "reference_chosen", "", "Clear lungs.", "Opacity.", None, "x", None, 0.2, None, "rules")
    write_rows(tmp_path / "round-000" / "pairs", Pair, [pair])
    (tmp_path / "summary.json").write_text("{}")
    text = read_page(write_page(tmp_path)).text
    assert "Chosen: the reference report not scored" in text and "no margin" in text
    assert "The study is not in the run's studies table." in text


def test_headlines_for_each_outcome() -> None:
    summary = build_summary()
    summary["gain"]["rules_score"] = interval(0.01, 0.03)
    assert "did not clearly change" in headline(summary).sentence
    summary["gain"]["rules_score"] = interval(-0.1, 0.03)
    worse = headline(summary)
    assert "got worse" in worse.sentence and worse.verdict == "worse" and worse.figure == f"{MINUS}0.100"
    assert any("also gave the training preferences" in remark for remark in worse.remarks)
    summary["gain"] = {}
    assert headline(summary).sentence.startswith("No gain can be stated")


def test_the_blind_control_tells_a_policy_that_sees_from_one_that_does_not() -> None:
    summary = build_summary()
    assert "the policy of round 1 does read its images" in blind_words(summary)
    summary["blind_control"]["difference"]["round-001"]["rules_score"] = interval(0.01, 0.05)
    assert "no proof" in blind_words(summary)


def test_durations_ticks_and_bins() -> None:
    assert [duration(s) for s in (0.42, 41.2, 59.7, 101, 7500)] == [
        "0.4 s",
        "41 s",
        "1 min 0 s",
        "1 min 41 s",
        "2 h 5 min",
    ]
    assert nice_ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1.0] or nice_ticks(0, 1) == [0, 0.5, 1]
    assert nice_ticks(3, 3) == [3]
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


def test_the_interval_plot_parts_units_and_keeps_zero_in_sight() -> None:
    panels = {panel.unit: panel for panel in forest(build_summary()["gain"])}
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
    axial, coronal, _ = slices_of(voxels, (6.0, 2.0, 2.0)).slices
    assert axial.width / axial.height == pytest.approx(1.5, abs=0.02)
    assert coronal.width == coronal.height
