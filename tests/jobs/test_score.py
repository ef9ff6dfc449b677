"""jobs/score.py as a user runs it: judges held against radiologists' scores and choices, on a real chat service."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chat_server import Asked, Behaviour, ChatServer, say, say_of, status

from actors.cluster import check_judges_fit
from actors.rated_reports import judged_cases, leaves, read_reports
from rlaif.config import ConfigurationError
from rlaif.metrics.ratings import RatingsError
from rlaif.metrics.report_sets import ScoredReport
from rlaif.records import Comparison, Judgement
from rlaif.tables import Table

Configured = Callable[..., Any]
CASES = {
    "c1": ("Small left pleural effusion.", "Small left pleural effusion.", "Small right pleural effusion."),
    "c2": ("Cardiomegaly.", "Cardiomegaly.", "The heart is not enlarged."),
    "c3": ("Consolidation in the right lower lobe.", "Consolidation in the right lower lobe.", "The lungs are clear."),
}
# Of the six candidates in order: what two radiologists gave, and what the chat model gives (None: it does not say).
RATED = {"ada": [5, 2, 4, 1, 3, 1], "ben": [5, 2, 4, 1, 3, 2]}
GIVEN = [5, 3, 4, 1, 2, None]
CANDIDATES = [(case, text) for case, (_, *texts) in CASES.items() for text in texts]


def scores_csv(folder: Path) -> Path:
    file = folder / "ratings.csv"
    rows = [
        f"{case},{CASES[case][0]},{text},{score},{rater}"
        for rater, own in RATED.items()
        for (case, text), score in zip(CANDIDATES, own, strict=True)
    ]
    file.write_text("case_id,reference,candidate,score,rater\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return file


def written(folder: Path, text: str) -> Path:
    (folder / "table.csv").write_text(text, encoding="utf-8")
    return folder / "table.csv"


def graded(asked: Asked) -> str:
    """The chat model's reply on the candidate in a question, whose own words come after the reference's."""
    words = json.dumps(asked.body["messages"]).partition("The model's report")[2]
    score = next(score for (_, text), score in zip(CANDIDATES, GIVEN, strict=True) if text in words)
    return f"Explanation: compared.\nScore: {score}" if score else "I would rather not say."


def down_for_hearts(exchange: Any) -> None:
    """Of the second case's reports the service gives 500."""
    hearts = "heart" in exchange.asked.words or "Cardiomegaly" in exchange.asked.words
    (status(500) if hearts else say(graded(exchange.asked)))(exchange)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_judges_are_held_against_radiologists_and_a_run_goes_on_where_it_was(
    start_job: Callable[..., Any], chat_server: ChatServer, tmp_path: Path
) -> None:
    judge = f"{{judge: gpt4, base_url: '{chat_server.url}', model: m, structured: 'off', attempts: 1}}"
    prices = "usd_per_million_prompt_tokens: 1000, usd_per_million_completion_tokens: 1000"
    command = [
        "score",
        f"score.table={scores_csv(tmp_path)}",
        "score.rating_scale=[1,5]",
        f"score.judges=[rules,{judge[:-1]}, {prices}}}]",
        f"run.root={tmp_path / 'runs'}",
        f"cache.root={tmp_path / 'cache'}",
    ]
    chat_server.default = down_for_hearts
    cut = start_job(*command)
    assert cut.ended(200) == 2, cut.output[-3000:]
    assert "3 of 6 judgements of gpt4 failed" in cut.output and "'transport': 2" in cut.output
    assert "start the command again" in cut.output
    run = tmp_path / "runs" / "score"
    assert not (run / "score.json").exists()

    # What the first attempt was answered is kept, a reply without a score too.
    before, chat_server.default = len(chat_server.requests), say_of(graded)
    job = start_job(*command)
    assert job.ended(200) == 0, job.output[-3000:]
    asked = [one.words for one in chat_server.requests[before:]]
    assert len(asked) == 2 and all("Cardiomegaly" in words for words in asked)
    summary = json.loads((run / "score.json").read_text(encoding="utf-8"))
    assert (summary["kind"], summary["reports"], summary["cases"], summary["name"]) == ("scores", 6, 3, "score")
    gpt4, rules = summary["judges"]["gpt4"], summary["judges"]["rules"]
    assert gpt4["score"]["mean"] == pytest.approx(3.0) and gpt4["score"]["n"] == 5 and gpt4["scale"] == [1, 5]
    (version,) = gpt4["versions"]
    assert (gpt4["failures"], gpt4["scored"]) == ({"parse": 1}, 5)
    assert version.startswith(f"gpt4-1:m@127.0.0.1:{chat_server.port}#")
    # Seven replies of 110 tokens: six reports, one of them asked about twice.
    assert gpt4["cost_usd"] == pytest.approx(0.77)
    assert (rules["score"]["mean"], rules["failures"], rules["cost_usd"]) == (0.5, {}, 0.0)
    (between,) = summary["agreement"]
    assert between["judges"] == ["gpt4", "rules"] and between["candidates"] == 5

    calibration = summary["calibration"]
    # Means 5 2 4 1 3 against 5 3 4 1 2: two ranks differ by one, one pair of ten is turned round.
    own = calibration["judges"]["gpt4"]
    assert [own[name]["mean"] for name in ("spearman", "kendall", "kappa", "order")] == pytest.approx(
        [1 - 6 * 2 / (5 * 24), (9 - 1) / 10, 1 - (2 / 5) / 4, 1.0]
    )
    assert (own["reports"], own["failures"]) == (5, 1)
    # Ranks 6 3 5 1 4 2 against 5 2 5 2 5 2, about their mean of 3.5.
    assert calibration["judges"]["rules"]["spearman"]["mean"] == pytest.approx(13.5 / (17.5 * 13.5) ** 0.5)
    assert set(calibration["raters"]) == {"ada", "ben"} and calibration["rating_scale"] == [1, 5]
    for line in ("gpt4, 1 to 5", "0.90 [", "1 parse", "0.77", "ada", "raters' mean"):
        assert line in job.output, line
    texts = {one.report_id: one.text for one in Table(run / "reports" / "table", ScoredReport).read()}
    rows = Table(run / "judging" / "table" / "judgements", Judgement).read()
    assert {texts[row.candidate_id]: row.score for row in rows if row.judge == "gpt4"} == {
        text: score for (_, text), score in zip(CANDIDATES, GIVEN, strict=True)
    }

    # Another start asks nothing and shows the same; another table is another run.
    before = len(chat_server.requests)
    again = start_job(*command)
    assert again.ended(100) == 0 and len(chat_server.requests) == before
    assert again.output == job.output[job.output.index("score: 6 reports") :]
    scores_csv(tmp_path).write_text("case_id,reference,candidate,score\nc1,R.,T.,2\n", encoding="utf-8")
    other = start_job(*command)
    assert other.ended(100) == 2 and "score.table_sha256" in other.output and "another run.name" in other.output


def preferring(*best_first: str) -> Behaviour:
    """A chat model that prefers texts in this order, wherever they are shown."""

    def better(asked: Asked) -> str:
        first, second = asked.words.partition("Report A")[2].split("Report B")
        ranks = [next(rank for rank, text in enumerate(best_first) if text in shown) for shown in (first, second)]
        return f"Better: {'A' if ranks[0] < ranks[1] else 'B'}"

    return say_of(better)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_choices_are_asked_pair_by_pair_and_an_ensemble_takes_part(
    start_job: Callable[..., Any], chat_server: ChatServer, tmp_path: Path
) -> None:
    good, turned, clear = "Small left pleural effusion.", "Small right pleural effusion.", "The lungs are clear."
    rows = [("c1", good, turned, "a"), ("c1", clear, good, "b"), ("c1", turned, clear, "b"), ("c2", clear, good, "b")]
    text = "".join(f"{case},{good},{a},{b},{choice}\n" for case, a, b, choice in rows)
    table = written(tmp_path, f"case_id,reference,candidate_a,candidate_b,choice\n{text}")
    # It finds the wrong side better than silence, which the radiologist does not.
    chat_server.default = preferring(good, turned, clear)
    chat = f"{{judge: llm_parser, base_url: '{chat_server.url}', model: m, structured: 'off'}}"
    job = start_job(
        "score", f"score.table={table}", f"score.judges=[{chat},{{judge: ensemble, members: [rules, {chat}]}}]",
        "run.name=choices", f"run.root={tmp_path / 'runs'}", f"cache.root={tmp_path / 'cache'}",
    )  # fmt: skip
    assert job.ended(200) == 0, job.output[-3000:]
    # Four pairs in both orders; those of the second case are the same questions as two of the first.
    assert len(chat_server.requests) in (6, 8)
    run = tmp_path / "runs" / "choices"
    comparisons = Table(run / "judging" / "table" / "comparisons", Comparison).read()
    assert Counter(one.case_id for one in comparisons) == dict.fromkeys({one.case_id for one in comparisons}, 2)
    summary = json.loads((run / "score.json").read_text(encoding="utf-8"))
    assert (summary["kind"], summary["reports"], summary["cases"]) == ("choices", 8, 2)
    judges = summary["calibration"]["judges"]
    assert {name: (one["pairs"], one["cases"], one["failures"]) for name, one in judges.items()} == {
        "ensemble": (4, 2, 0),
        "llm_parser": (4, 2, 0),
        "rules": (4, 2, 0),
    }
    # The radiologist chose a b b b, the chat model a b a b, the rules a b tie b: the ensemble follows the chat model.
    accuracy = {name: one["accuracy"]["mean"] for name, one in judges.items()}
    assert accuracy == {"ensemble": 0.75, "llm_parser": 0.75, "rules": 0.875}
    # Expected by chance: (1·2 + 3·2) / 16; observed 3 / 4.
    assert judges["llm_parser"]["kappa"]["mean"] == pytest.approx((0.75 - 0.5) / 0.5)
    assert summary["calibration"]["raters"] == {} and summary["judges"]["llm_parser"]["comparisons"]["comparisons"] == 8
    assert "Accuracy" in job.output and "what most raters chose" in job.output


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_cannot_be_used_is_told_in_one_line_and_nothing_is_begun(
    start_job: Callable[..., Any], tmp_path: Path
) -> None:
    root, table = (
        f"run.root={tmp_path / 'runs'}",
        written(tmp_path, "case_id,reference,candidate,score\nc,R.,T.,good\n"),
    )
    bad = start_job("score", f"score.table={table}", root)
    assert bad.ended(100) == 2
    assert bad.output == f"error: ratings {table}, line 2, column score: 'good' is no number such as 4 or 3.5\n"
    unnamed = start_job("score", root)
    assert unnamed.ended(100) == 2 and unnamed.output.startswith("error: nothing to score: name a file of reports")
    written(tmp_path, "case_id,reference,candidate\nc,R.,T.\nc,R.,U.\nd,R.,T.\n")
    told = start_job("score", f"score.table={table}", root, "run.dry=true")
    assert told.ended(100) == 0 and "reports: 3 in 2 cases or pairs, ratings: none, raters: 0" in told.output
    assert not (tmp_path / "runs").exists()
    large = start_job("score", f"score.table={table}", root, "score.judges=[{judge: rules, cpus: 2, actors: 3}]")
    assert large.ended(200) == 2
    assert "error: the judges need 6 CPUs (rules 6), the cluster has 2: lower their actors or cpus" in large.output


def test_reports_without_ratings_are_cases_and_equal_ones_are_one(configured: Configured, tmp_path: Path) -> None:
    table = written(tmp_path, "reference,case_id,candidate\nR.,c,T.\nR.,c,U.\nR.,c,T.\nR.,d,T.\n")
    settings = configured(f"score.table={table}").score
    cases = judged_cases(read_reports(settings))
    assert [(one.case_id, [report.text for report in one.reports]) for one in cases] == [
        ("c", ["T.", "U."]),
        ("d", ["T."]),
    ]
    assert [one.name for one in leaves(settings)] == ["rules"]


@pytest.mark.parametrize(
    ("text", "overrides", "told"),
    [
        ("candidate,score\nT.,3\n", ["score.rating_scale=[1,5]"], None),
        ("candidate,score\nT.,9\n", ["score.rating_scale=[1,5]"], "the scores of .* go from 9 to 9"),
        ("candidate\nT.\n", ["score.rating_scale=[1,5]"], "rating_scale is of scores, and .* holds none"),
        ("candidate,score\nT.,3\n", ["score.judges=[{judge: llm_parser, base_url: 'http://127.0.0.1:1/v1'}]"],
         "llm_parser compares the reports of a case, and no case of .* has two"),
    ],
)  # fmt: skip
def test_a_table_must_suit_its_scale_and_judges(
    configured: Configured, tmp_path: Path, text: str, overrides: list[str], told: str | None
) -> None:
    head, row = text.splitlines()
    table = written(tmp_path, f"case_id,reference,{head}\nc,R.,{row}\n")
    settings = configured(f"score.table={table}", *overrides).score
    if told is None:
        assert read_reports(settings).kind == "scores"
        return
    with pytest.raises(ConfigurationError, match=told):
        read_reports(settings)


def test_settings_that_cannot_be_are_refused(configured: Configured, tmp_path: Path) -> None:
    for override, told in (
        ("score.rating_scale=[5,1]", r"score: rating_scale=\[5.0, 1.0\] must go from low to high"),
        ("score.judges=[] score.table=t.csv", r"score.judges=\[\] leaves nobody to hold against the ratings"),
        ("score.reports=t.csv score.table=t.csv", "score.reports takes the data set's: give one"),
        ("score.temperatures=[0,0.0]", "has one of them twice"),
        ("score.judges=[rulez]", "score.judges: there is no judge rulez; did you mean rules"),
        ("score.judges=[rules,{judge:rules,batch:7}]", "two judges with other settings are called rules"),
        ("score.judges=[{judge:green}]", "score.judges: judge green needs model"),
    ):
        with pytest.raises(ConfigurationError, match=told):
            configured(*override.split())
    with pytest.raises(RatingsError, match="there is no such file"):
        read_reports(configured(f"score.table={tmp_path / 'absent.csv'}").score)
    config = configured("score.judges=[{judge: rules, gpus: 1}]")
    assert "score" not in config.plain() and set(config.plain("run", "score")) == {"run", "score"}
    with pytest.raises(ConfigurationError, match=r"the judges need 1 GPUs .*, the cluster has 0"):
        check_judges_fit(leaves(config.score), {"CPU": 2.0})
