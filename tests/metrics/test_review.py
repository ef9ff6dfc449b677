"""A review from the run to the raters and back: blinded, balanced, and with numbers that can be had by hand."""

import csv
import itertools
import json
import os
import re
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlaif.launch import PROJECT
from rlaif.ledger import RunFolder
from rlaif.metrics.page.writing import write_page
from rlaif.metrics.review.cells import guarded, unguarded
from rlaif.metrics.review.handout import hand_out
from rlaif.metrics.review.human import human_summary, take_answers
from rlaif.metrics.review.key import KeyItem, ReviewError, ReviewKey, read_key
from rlaif.metrics.review.table import human_tables
from rlaif.records import Comparison, HeldoutReport, Judgement
from rlaif.review_settings import ReviewSettings

SYSTEMS = ("base", "round-001")
CASES = 6
RULES = {"base": [0.5] * CASES, "round-001": [0.9, 0.9, 0.1, 0.5, 0.1, 0.5]}
TEXTS = {
    "base": [f"Nodule of {k} mm in the left lung." for k in range(CASES - 1)] + ["Normal chest."],
    "round-001": [f"- Effusion, grade {k}, on the right." for k in range(CASES - 1)] + ["Normal chest."],
}
# What two raters prefer of cases 0 to 4, whichever stands first; case 5 has the same text twice.
PREFERRED = {
    "rater-1": ["round-001", "round-001", "round-001", "tie", "base"],
    "rater-2": ["round-001", "round-001", "tie", "base", "base"],
}
SCORED = {
    "rater-1": {"base": [1, 2, 3, 4, 5, 3], "round-001": [3, 4, 3, 4, 5, 5]},
    "rater-2": {"base": [1, 2, 3, 4, 4, 3], "round-001": [5, 4, 3, 2, 5, 5]},
}
PLAIN = {"policy": {"name": "demo"}, "learner": {}, "run": {"name": "demo"}}


def reports(system: str, version: int) -> list[HeldoutReport]:
    rows = [
        HeldoutReport(
            f"case-{k}",
            f"study-{k}",
            f"patient-{k}",
            False,
            f'Reference {k}: "small" nodule, <b>left</b>.',
            text,
            "stop",
            version,
            {"rules_score": RULES[system][k]},
        )
        for k, text in enumerate(TEXTS[system])
    ]
    control = HeldoutReport("case-0", "study-0", "patient-0", True, "", "BLIND", "stop", version, {})
    return [*rows, control]


def judged(case: int, system: str, score: float | None) -> Judgement:
    name = f"case-{case}.{system}"
    failure: Any = "timeout" if score is None else None
    return Judgement(
        f"{name}.gpt4",
        name,
        f"case-{case}",
        0,
        "gpt4",
        "1",
        score,
        1,
        5,
        failure,
        "",
        None,
        None,
        None,
        False,
        0.0,
        0,
        0,
        0.0,
    )


@pytest.fixture
def run(tmp_path: Path) -> Any:
    with RunFolder.open(tmp_path / "runs", "demo", PLAIN) as folder:
        for version, system in enumerate(SYSTEMS):
            folder.replace(f"heldout/{system}", HeldoutReport, reports(system, version))
            folder.finish(f"heldout/{system}")
        yield folder


def settings(**changed: Any) -> ReviewSettings:
    values = {"name": None, "kind": "choices", "systems": (), "cases": 50, "repeats": 0, "raters": 1, "answers": ()}
    return ReviewSettings.model_validate(values | changed)


def sheet(run: RunFolder, rater: str, kind: str) -> Path:
    return run.path / "review" / kind / "hand-out" / rater / f"{kind}.csv"


def fill(
    run: RunFolder, key: ReviewKey, rater: str, answer: Callable[[KeyItem], str], comment: str = "", **dialect: Any
) -> Path:
    """A rater's sheet with what `answer` says of each item, as a file outside the run."""
    items = {item.item_id: item for item in key.items}
    with sheet(run, rater, key.kind).open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["choice" if key.kind == "choices" else "score"] = answer(items[row["item_id"]])
        row["comment"] = comment
    filled = run.path.parent.parent / f"{key.kind}-{rater}.csv"
    with filled.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), **dialect)
        writer.writeheader()
        writer.writerows(rows)
    return filled


def preferring(preferred: str, item: KeyItem) -> str:
    return "tie" if preferred == "tie" else "ab"[item.systems.index(preferred)]


def number(item: KeyItem) -> int:
    return int(item.case_id.removeprefix("case-"))


def test_choices_come_back_as_the_raters_meant_them(run: RunFolder) -> None:
    asked = settings(raters=2)
    key = hand_out(run, asked, 0)
    assert key.same_text == 1
    assert len(key.items) == 10
    files = [
        fill(run, key, rater, lambda one, own=own: preferring(own[number(one)], one))
        for rater, own in PREFERRED.items()
    ]
    summary = take_answers(run, asked.model_copy(update={"answers": tuple(reversed(files))}), resamples=20)
    told = summary["choices"]
    assert human_summary(run.path) == summary == json.loads((run.path / "human.json").read_text())
    # Of the five cases the aligned policy wins 1, 1, 0.75, 0.25 and 0.
    assert told["systems"]["round-001"]["win_rate"]["mean"] == pytest.approx(0.6)
    assert told["systems"]["base"]["win_rate"]["mean"] == pytest.approx(0.4)
    (pair,) = told["pairs"]
    assert (pair["systems"], pair["wins"], pair["ties"], pair["losses"]) == ([*SYSTEMS], 5, 2, 3)
    assert 0 <= pair["win_rate"]["low"] < 0.6 < pair["win_rate"]["high"] <= 1
    assert pair["win_rate"]["n"] == 5
    # Most raters: b, b, tie, tie, a. The rules: b, b, a, tie, a.
    rules = told["agreement"]["judges"]["rules"]
    assert rules["accuracy"]["mean"] == 1
    assert rules["accuracy"]["n"] == 3
    assert rules["kappa"]["mean"] == pytest.approx((0.8 - 0.32) / 0.68)
    # The first rater against the second: right, right, right, even of the four that the second decided.
    first = told["agreement"]["raters"]["rater-1"]
    assert first["accuracy"]["mean"] == pytest.approx(0.875)
    assert first["kappa"]["mean"] == pytest.approx(0.24 / 0.64)
    rows = run.read("human/comparisons", Comparison)
    assert Counter(row.verdict for row in rows) == {"b": 5, "tie": 2, "a": 3}
    assert {(row.candidate_a.partition(".")[2], row.candidate_b.partition(".")[2]) for row in rows} == {SYSTEMS}
    assert Counter(row.order for row in rows) == {"ab": 5, "ba": 5}
    assert {row.judge for row in rows} == {"human"}


def test_scores_come_back_as_those_of_a_judge(run: RunFolder) -> None:
    run.replace(
        "heldout-judging/base/judgements", Judgement, [judged(k, "base", [1, 2, 3, 4, 5, 3][k]) for k in range(CASES)]
    )
    run.replace(
        "heldout-judging/round-001/judgements",
        Judgement,
        [judged(k, "round-001", [4, 4, 3, 3, 5, None][k]) for k in range(CASES)],
    )
    asked = settings(kind="scores", raters=2)
    key = hand_out(run, asked, 0)
    assert len(key.items) == 2 * 2 * CASES
    files = [
        fill(run, key, rater, lambda one, own=own: str(own[one.systems[0]][number(one)]), "=sum, seen")
        for rater, own in SCORED.items()
    ]
    told = take_answers(run, asked.model_copy(update={"answers": tuple(files)}), resamples=20)["scores"]
    means = {"base": (1 + 2 + 3 + 4 + 4.5 + 3) / 6, "round-001": (4 + 4 + 3 + 3 + 5 + 5) / 6}
    for system, mean in means.items():
        assert told["systems"][system]["score"]["mean"] == pytest.approx(mean)
    (difference,) = told["differences"]
    assert difference["systems"] == [*SYSTEMS]
    assert difference["difference"]["mean"] == pytest.approx(means["round-001"] - means["base"])
    # The model gives the raters' mean of every report but two: it says 5 where they say 4.5, and fails once.
    judge = told["agreement"]["judges"]["gpt4"]
    assert (judge["reports"], judge["failures"]) == (11, 1)
    assert judge["spearman"]["mean"] == pytest.approx(1, abs=0.02)
    assert judge["order"]["mean"] == 1
    assert told["agreement"]["judges"]["rules"]["reports"] == 12
    assert {*told["agreement"]["raters"]} == {"rater-1", "rater-2"}
    rows = {row.candidate_id: row for row in run.read("human/judgements", Judgement)}
    assert len(rows) == 2 * CASES
    row = rows["case-0.round-001"]
    assert (row.score, row.scale_low, row.scale_high, row.scores) == (4.0, 1.0, 5.0, {"rater-1": 3.0, "rater-2": 5.0})
    assert row.round == 1
    assert row.explanation == "rater-1: =sum, seen\nrater-2: =sum, seen"


def test_missing_answers_are_counted_and_are_no_scores(run: RunFolder) -> None:
    asked = settings(kind="scores", systems=("base",))
    key = hand_out(run, asked, 0)
    file = fill(run, key, "rater-1", lambda one: "" if number(one) == 2 else "4")
    told = take_answers(run, asked.model_copy(update={"answers": (file,)}), resamples=20)["scores"]
    assert (told["raters"]["rater-1"]["answered"], told["raters"]["rater-1"]["missing"]) == (5, 1)
    rows = {row.case_id: row for row in run.read("human/judgements", Judgement)}
    assert (rows["case-2"].score, rows["case-2"].failure) == (None, "abstained")
    assert told["agreement"]["raters"] == {}
    assert told["systems"]["base"]["score"]["n"] == 5


def test_a_kind_that_was_taken_in_stays_beside_the_other(run: RunFolder) -> None:
    for kind, answer in (("choices", "tie"), ("scores", "3")):
        asked = settings(kind=kind)
        file = fill(run, hand_out(run, asked, 0), "rater-1", lambda one, answer=answer: answer)
        summary = take_answers(run, asked.model_copy(update={"answers": (file,)}), resamples=20)
    assert {*summary} == {"choices", "scores"}
    assert summary["choices"]["systems"]["base"]["win_rate"]["mean"] == 0.5


def test_who_always_takes_the_first_favours_no_system(run: RunFolder) -> None:
    asked = settings(cases=4, raters=2)
    key = hand_out(run, asked, 3)
    files = tuple(fill(run, key, rater, lambda one: "A") for rater in ("rater-1", "rater-2"))
    told = take_answers(run, asked.model_copy(update={"answers": files}), resamples=20)["choices"]
    assert told["systems"]["round-001"]["win_rate"]["mean"] == 0.5
    assert told["chose_first"]["mean"] == 1


def test_a_repeat_says_nothing_of_a_liking_for_a_place(run: RunFolder) -> None:
    asked = settings(repeats=2)
    key = hand_out(run, asked, 0)
    file = fill(run, key, "rater-1", lambda one: "b" if one.repeat_of else "a")
    told = take_answers(run, asked.model_copy(update={"answers": (file,)}), resamples=20)["choices"]
    assert (told["chose_first"]["mean"], told["chose_first"]["n"]) == (1, 5)


@pytest.mark.parametrize("seed", range(4))
def test_each_system_stands_first_equally_often_and_raters_see_opposite_orders(run: RunFolder, seed: int) -> None:
    key = hand_out(run, settings(raters=2, name=f"seed-{seed}"), seed)
    orders = {rater: {item.case_id: item.systems for item in key.items if item.rater == rater} for rater in PREFERRED}
    assert abs(2 * sum(one[0] == "base" for one in orders["rater-1"].values()) - 5) == 1
    assert all(orders["rater-2"][case] == one[::-1] for case, one in orders["rater-1"].items())
    assert [*orders["rater-1"]] != [*orders["rater-2"]]


def test_repeats_tell_how_far_a_rater_repeats(run: RunFolder) -> None:
    asked = settings(repeats=2)
    key = hand_out(run, asked, 0)
    assert len(key.items) == 7
    repeats = [item for item in key.items if item.repeat_of]
    places = {item.item_id: place for place, item in enumerate(key.items)}
    by_id = {item.item_id: item for item in key.items}
    for item in repeats:
        before = by_id[item.repeat_of or ""]
        assert (before.case_id, before.systems) == (item.case_id, item.systems[::-1])
        assert places[before.item_id] < 2 <= places[item.item_id]

    # Base every time, but of one repeat the other.
    def answer(item: KeyItem) -> str:
        return preferring("round-001" if item == repeats[0] else "base", item)

    told = take_answers(run, asked.model_copy(update={"answers": (fill(run, key, "rater-1", answer),)}), resamples=20)[
        "choices"
    ]
    own = told["raters"]["rater-1"]
    assert (own["repeated"], own["same"]["mean"]) == (2, 0.5)
    # The repeat that was answered otherwise does not count as a win.
    assert told["systems"]["base"]["win_rate"]["mean"] == 1


def test_what_is_handed_out_does_not_say_who_wrote_it(run: RunFolder) -> None:
    for kind in ("choices", "scores"):
        hand_out(run, settings(kind=kind, raters=2, repeats=1), 0)
        folder = run.path / "review" / kind
        assert [path.name for path in sorted(folder.iterdir())] == ["hand-out", "key.json"]
        for path in (folder / "hand-out").rglob("*.*"):
            # The page's content security policy has a directive of this name.
            text = path.read_text(encoding="utf-8").replace("base-uri", "")
            assert not re.search(r"\bbase\b|round-\d|case-\d|study-\d|patient-\d|policy|\bdemo\b", text), path
    files = [path for path in (run.path / "review").rglob("*") if path.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert len(files) == 2 * (2 * 2 + 1)


def test_a_pair_never_shows_one_text_twice(run: RunFolder) -> None:
    hand_out(run, settings(), 0)
    with sheet(run, "rater-1", "choices").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5
    assert all(row["candidate_a"] != row["candidate_b"] for row in rows)
    # A text that begins as a formula does has an apostrophe before it.
    assert sum(row[column].startswith("'- Effusion") for row in rows for column in ("candidate_a", "candidate_b")) == 5


@pytest.mark.parametrize("text", ["=1+1", "+1", "-2 mm", "@SUM(A1)", "\tx"])
def test_no_cell_is_a_formula(text: str) -> None:
    assert guarded(text) == f"'{text}"
    assert guarded(f"x{text}") == f"x{text}"
    assert unguarded(guarded(text)) == text
    assert unguarded("'quoted'") == "'quoted'"


def test_the_same_again_leaves_it_and_another_is_refused(run: RunFolder) -> None:
    first = hand_out(run, settings(), 0)
    before = sheet(run, "rater-1", "choices").stat().st_mtime_ns
    assert hand_out(run, settings(), 0) == first == read_key(run.path / "review" / "choices")
    assert sheet(run, "rater-1", "choices").stat().st_mtime_ns == before
    with pytest.raises(ReviewError, match=r"another run\.seed: give this one another review\.name"):
        hand_out(run, settings(), 1)
    with pytest.raises(ReviewError, match=r"another review\.repeats"):
        hand_out(run, settings(repeats=1), 0)
    changed = [HeldoutReport(**{**vars(row), "text": f"{row.text} Changed."}) for row in reports("base", 0)]
    run.replace("heldout/base", HeldoutReport, changed)
    with pytest.raises(ReviewError, match="another reports of the run"):
        hand_out(run, settings(), 0)
    asked = settings(answers=(fill(run, first, "rater-1", lambda one: "tie"),))
    with pytest.raises(ReviewError, match="are not those that the review choices showed"):
        take_answers(run, asked, resamples=20)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"systems": ("base", "round-007")}, "no held-out reports of round-007; it has those of base, round-001"),
        ({"repeats": 3}, "review.repeats=3 of 5 items: at most 2"),
    ],
)
def test_a_review_that_cannot_be_is_refused(run: RunFolder, changed: dict[str, Any], words: str) -> None:
    with pytest.raises(ReviewError, match=re.escape(words)):
        hand_out(run, settings(**changed), 0)
    assert not (run.path / "review" / "choices").exists()


@pytest.mark.parametrize("systems", [("base",), ("base", "base"), ("../base", "round-001")])
def test_systems_that_cannot_be_compared_are_refused(systems: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="systems"):
        settings(systems=systems)


def test_reports_of_three_systems_are_compared_two_by_two(run: RunFolder) -> None:
    third = [HeldoutReport(**{**vars(row), "text": f"{row.text} And more."}) for row in reports("base", 2)]
    run.replace("heldout/round-002", HeldoutReport, third)
    run.finish("heldout/round-002")
    asked = settings(systems=(*SYSTEMS, "round-002"))
    key = hand_out(run, asked, 0)
    groups = Counter(frozenset(item.systems) for item in key.items)
    assert groups == dict(zip(map(frozenset, itertools.combinations(asked.systems, 2)), [5, 6, 6], strict=True))
    best = {name: place for place, name in enumerate(("base", "round-002", "round-001"))}
    file = fill(run, key, "rater-1", lambda one: preferring(max(one.systems, key=best.__getitem__), one))
    told = take_answers(run, asked.model_copy(update={"answers": (file,)}), resamples=20)["choices"]
    rates = {name: own["win_rate"]["mean"] for name, own in told["systems"].items()}
    assert rates == {"base": 0, "round-001": 1, "round-002": 0.5}


def test_a_judge_that_failed_on_all_is_held_against_nobody(run: RunFolder) -> None:
    run.replace("heldout-judging/base/judgements", Judgement, [judged(k, "base", None) for k in range(CASES)])
    for kind, unit in (("scores", "reports"), ("choices", "pairs")):
        asked = settings(kind=kind)
        file = fill(run, hand_out(run, asked, 0), "rater-1", lambda one: "3" if len(one.systems) == 1 else "a")
        told = take_answers(run, asked.model_copy(update={"answers": (file,)}), resamples=20)[kind]
        judge = told["agreement"]["judges"]["gpt4"]
        assert judge[unit] == 0
        assert judge["failures"] == (12 if kind == "scores" else 5)
        assert judge["kappa"] is None


def test_the_same_again_is_the_same_although_the_run_has_grown(run: RunFolder) -> None:
    first = hand_out(run, settings(), 0)
    run.replace("heldout/round-002", HeldoutReport, reports("base", 2))
    run.finish("heldout/round-002")
    assert hand_out(run, settings(), 0) == first
    with pytest.raises(ReviewError, match=r"another review\.systems"):
        hand_out(run, settings(systems=("round-001", "round-002")), 0)


def test_a_half_written_table_is_not_shown(run: RunFolder) -> None:
    run.replace("heldout/round-002", HeldoutReport, reports("base", 2)[:2])
    assert hand_out(run, settings(), 0).systems == SYSTEMS


def test_a_pairwise_judge_is_held_against_the_same_pair(run: RunFolder) -> None:
    # It has scored the base's reports anew beside the round's.
    rows = [judged(k, "round-001", [5, 5, 1, 1, 1, 3][k]) for k in range(CASES)]
    rows += [judged(k, "base", [1, 1, 5, 5, 5, 3][k]) for k in range(CASES)]
    run.replace("heldout-judging/round-001/judgements", Judgement, rows)
    run.replace("heldout-judging/base/judgements", Judgement, [judged(k, "base", None) for k in range(CASES)])
    asked = settings()
    key = hand_out(run, asked, 0)
    file = fill(run, key, "rater-1", lambda one: preferring("round-001" if number(one) < 3 else "base", one))
    told = take_answers(run, asked.model_copy(update={"answers": (file,)}), resamples=20)["choices"]
    judge = told["agreement"]["judges"]["gpt4"]
    assert (judge["pairs"], judge["failures"], judge["accuracy"]["mean"]) == (5, 0, 0.8)


def test_a_pairwise_judge_says_nothing_of_two_that_it_did_not_compare(run: RunFolder) -> None:
    third = [HeldoutReport(**{**vars(row), "text": f"{row.text} And more."}) for row in reports("round-001", 2)]
    run.replace("heldout/round-002", HeldoutReport, third)
    run.finish("heldout/round-002")
    # Both rounds beat the base, which is beside each of them.
    for system in ("round-001", "round-002"):
        rows = [judged(k, one, score) for k in range(CASES) for one, score in ((system, 5), ("base", 1))]
        run.replace(f"heldout-judging/{system}/judgements", Judgement, rows)
    asked = settings(systems=("round-001", "round-002"))
    file = fill(run, hand_out(run, asked, 0), "rater-1", lambda one: preferring("round-002", one))
    told = take_answers(run, asked.model_copy(update={"answers": (file,)}), resamples=20)["choices"]
    judge = told["agreement"]["judges"]["gpt4"]
    assert (judge["pairs"], judge["failures"], judge["accuracy"]) == (0, 6, None)


def test_raters_read_what_judges_read_of_a_report_by_regions(run: RunFolder) -> None:
    prefixed = [
        HeldoutReport(**{**vars(row), "text": f"The region 0 is lung: {row.text} The region 1 is heart: Clear."})
        for row in reports("base", 0)
    ]
    run.replace("heldout/base", HeldoutReport, prefixed)
    plain = [HeldoutReport(**{**vars(row), "text": f"{row.text} Clear."}) for row in reports("round-001", 1)]
    run.replace("heldout/round-001", HeldoutReport, plain)
    assert hand_out(run, settings(), 0).same_text == 1
    text = sheet(run, "rater-1", "choices").read_text(encoding="utf-8-sig")
    assert "Nodule of 1 mm in the left lung. Clear." in text
    assert "The region" not in text


def test_without_answers_there_is_no_summary(run: RunFolder) -> None:
    assert human_summary(run.path) is None
    (run.path / "human.json").write_text("[1")
    with pytest.raises(RuntimeError, match="damaged: remove it"):
        human_summary(run.path)


def test_the_report_page_shows_what_radiologists_said(run: RunFolder) -> None:
    run.write_json("summary.json", {})
    assert 'id="radiologists"' not in write_page(run.path).read_text(encoding="utf-8")
    asked = settings(raters=2)
    key = hand_out(run, asked, 0)
    files = [
        fill(run, key, rater, lambda one, own=own: preferring(own[number(one)], one))
        for rater, own in PREFERRED.items()
    ]
    told = take_answers(run, asked.model_copy(update={"answers": tuple(files)}), resamples=20)["choices"]
    page = write_page(run.path).read_text(encoding="utf-8")
    section = page.split('<section id="radiologists">')[1].split("</section>")[0]
    assert "Review choices: 5 cases, 2 raters" in section
    rate = told["systems"]["round-001"]["win_rate"]
    ends = f'<span class="ci">[{rate["low"]:.2f}, {rate["high"]:.2f}]</span>'
    assert f'<th scope="row">Round 1</th><td>0.60 {ends}</td><td>5</td>' in section
    assert "Round 1 against Base (votes: 5 won, 2 even, 3 lost)" in section
    assert '<th scope="row">rules</th><td>1.00' in section and '<th scope="row">rater-1</th><td>0.88' in section
    run.write_json("human.json", {"choices": {"review": "choices"}})
    with pytest.raises(ValueError, match=r"human\.json is damaged \(KeyError"):
        write_page(run.path)


@pytest.mark.slow
def test_the_job_hands_out_and_takes_in(run: RunFolder) -> None:
    run.write_json("summary.json", {})
    run.finish("summary", rounds=1)
    run.close()

    def job(*overrides: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(PROJECT / "jobs" / "review.py"), "run.name=demo", f"run.root={run.path.parent}"]
        environment = {**os.environ, "COLUMNS": "130"}
        return subprocess.run(
            [*command, *overrides], capture_output=True, encoding="utf-8", timeout=120, check=False, env=environment
        )

    given = job("review.raters=2", "review.repeats=1", "review.systems=[base,round-001]")
    assert given.returncode == 0, given.stderr
    assert "choices: 6 choices of 5 cases for each rater, 1 of them repeats" in given.stdout
    assert f"{run.path}/review/choices/hand-out/rater-1" in given.stdout
    assert "key.json, which tells who wrote what" in given.stdout
    key = read_key(run.path / "review" / "choices")
    files = [
        fill(run, key, rater, lambda one, own=own: preferring(own[number(one)], one))
        for rater, own in PREFERRED.items()
    ]
    taken = job("heldout.resamples=100", f"review.answers=[{files[0]},{files[1]}]")
    assert taken.returncode == 0, taken.stderr
    assert "round-001 against base (votes: 5 won, 2 even, 3 lost)" in taken.stdout
    assert "0.60 [" in taken.stdout
    assert "\\[" not in taken.stdout
    assert 'id="radiologists"' in (run.path / "report.html").read_text(encoding="utf-8")


def test_tables_show_every_kind(run: RunFolder) -> None:
    from rich.console import Console

    asked = settings(kind="scores", systems=("base",))
    file = fill(run, hand_out(run, asked, 0), "rater-1", lambda one: "3")
    summary = take_answers(run, asked.model_copy(update={"answers": (file,)}), resamples=20)
    console = Console(width=130, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    for table in human_tables(summary, "scores"):
        console.print(table)
    text = console.export_text()
    assert "3.00 [3.00, 3.00]" in text
    assert "rules" in text
