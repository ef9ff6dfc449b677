"""The loop with judges that ask a chat service: swapped by one override, resumed for nothing, and silent on its key."""

import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chat_server as served
import pytest
from chat_server import Asked, ChatServer, texts_of

from rlaif.judges.rules import judge
from rlaif.records import Candidate, Comparison, HeldoutReport, Judgement, Pair
from rlaif.tables import Table

pytestmark = [pytest.mark.slow, pytest.mark.timeout(700)]


def shorter_is_better(asked: Asked) -> str:
    """A judge's model that can be gamed: it likes short reports, whatever they say."""
    _, *candidates = texts_of(asked)
    words = [len(text.split()) for text in candidates]
    if len(words) == 2:
        better = "A" if words[0] < words[1] else "B" if words[1] < words[0] else "tie"
        return json.dumps({"explanation": "the shorter one", "better": better})
    return json.dumps({"explanation": "by its length", "score": max(1, min(5, 6 - words[0] // 8))})


@pytest.fixture(scope="module")
def service() -> Any:
    server = ChatServer()
    server.default = served.say_of(shorter_is_better)
    yield server
    server.close()


def holding(key: str, root: Path) -> list[Path]:
    """The files below a folder that hold a key, or half of it."""
    parts = (key.encode(), key[: len(key) // 2].encode(), key[len(key) // 2 :].encode())
    files = [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]
    return [path for path in files if any(part in path.read_bytes() for part in parts)]


def test_an_ensemble_trains_and_a_held_out_judge_watches(
    smoke: Any, service: ChatServer, start_job: Callable[..., Any], ray_head: Any, tmp_path: Path
) -> None:
    address = f'base_url: "{service.url}", model: m'
    cache = next(one for one in smoke.overrides if one.startswith("cache.root="))
    overrides = [
        "experiment=smoke",
        f"run.root={tmp_path / 'runs'}",
        cache,
        "run.name=judged",
        "run.rounds=1",
        f"run.start_from={smoke.path}",
        "judge=ensemble",
        f"judge.members=[rules, {{judge: llm_parser, {address}}}]",
        f"heldout.judges=[{{judge: gpt4, {address}}}]",
    ]
    job = start_job("dpo_loop", *overrides)
    assert job.ended(400) == 0, job.output
    run = tmp_path / "runs" / "judged"

    # The candidates are the other run's, and so is what was written with the base.
    taken = Table(run / "round-000" / "candidates", Candidate).read()
    assert taken == Table(smoke.path / "round-000" / "candidates", Candidate).read()
    base = Table(smoke.path / "heldout" / "base", HeldoutReport).read()
    assert Table(run / "heldout" / "base", HeldoutReport).read() == base

    rows = Table(run / "round-000" / "judgements", Judgement).read()
    assert Counter(one.judge for one in rows) == dict.fromkeys(("rules", "llm_parser", "ensemble"), len(taken))
    scores = {(one.candidate_id, one.judge): one.score for one in rows}
    for one in taken:
        if one.usable and scores[one.candidate_id, "llm_parser"] is not None:
            mean = (scores[one.candidate_id, "rules"] + scores[one.candidate_id, "llm_parser"]) / 2
            assert scores[one.candidate_id, "ensemble"] == pytest.approx(mean)
    for pair in Table(run / "round-000" / "pairs", Pair).read():
        assert pair.judge == "ensemble" and pair.rejected_score == scores[pair.rejected_candidate_id, "ensemble"]
    comparisons = Table(run / "round-000" / "comparisons", Comparison).read()
    assert comparisons and Counter(one.order for one in comparisons)["ab"] * 2 == len(comparisons)

    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    for name in ("base", "round-000"):
        reports = {one.case_id: one for one in Table(run / "heldout" / name, HeldoutReport).read() if not one.control}
        graded = summary["heldout"][name]["gpt4_score"]
        expected = [max(1, min(5, 6 - len(one.text.split()) // 8)) for one in reports.values()]
        assert graded["mean"] == pytest.approx(sum(expected) / len(expected)) and graded["n"] == len(reports)
        assert summary["heldout"][name]["rules_score"]["mean"] == pytest.approx(
            sum(judge(one.reference, one.text).score or 0 for one in reports.values()) / len(reports)
        )
    # The base against itself is even; the ensemble is the mean of its members there too.
    assert summary["heldout"]["base"]["llm_parser_score"]["mean"] == 0.5
    assert summary["guards"]["judge"] == "ensemble" and summary["rounds"][0]["judging"]["agreement"]
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "Is the judge being gamed?" in page

    # The key went to the service, and nowhere else: not into the run, the caches, Ray's logs, or the job's output.
    key = os.environ["OPENAI_API_KEY"]
    assert {one.headers["authorization"] for one in service.requests} == {f"Bearer {key}"}
    caches = Path(cache.partition("=")[2])
    assert [path for root in (run, caches, ray_head.folder, job.log.parent) for path in holding(key, root)] == []

    asked = len(service.requests)
    again = start_job("dpo_loop", *[one.replace("run.name=judged", "run.name=again") for one in overrides])
    assert again.ended(400) == 0, again.output
    # Round 0 has the same candidates, and what is written with the same weights is the same.
    assert len(service.requests) == asked
    replayed = Table(tmp_path / "runs" / "again" / "round-000" / "judgements", Judgement).read()
    assert {(one.candidate_id, one.judge, one.score) for one in replayed} == {
        (*key, score) for key, score in scores.items()
    }
