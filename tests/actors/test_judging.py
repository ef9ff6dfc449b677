"""A stage's judgements with real judge actors and a chat service: what is asked, kept, asked again, and never asked."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import chat_server as served
import pytest
from chat_server import Asked, ChatServer, texts_of

from actors.fleet import Fleet
from actors.heldout import settle_even
from actors.judging import Judging, judge_stage, judged_case
from actors.preparation import TooManyBad
from rlaif.judges.case import JudgedCase, JudgedReport
from rlaif.judges.rules import judge
from rlaif.ledger import RunFolder
from rlaif.progress import Progress
from rlaif.records import Candidate, Case, Comparison, Judgement

if TYPE_CHECKING:
    from rlaif.config import Config

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
REFERENCE = "There is a 12 mm nodule in the right upper lobe. Moderate cardiomegaly."
TEXTS = (
    REFERENCE,
    "There is a 12 mm nodule in the right upper lobe.",
    "The lungs are clear.",
    "The lungs are clear.",
)
GRADES = {1.0: 5, 0.5: 3, 0.0: 1}


def graded(asked: Asked) -> str:
    """What a model would say that sees what the rules see."""
    reference, *candidates = texts_of(asked)
    first, *second = (judge(reference, text).score for text in candidates)
    if second:
        better = "tie" if first == second[0] else "A" if (first or 0) > (second[0] or 0) else "B"
        return f'{{"explanation": "x", "better": "{better}"}}'
    return f'{{"explanation": "x", "score": {GRADES[first or 0.0]}}}'


@pytest.fixture
def service(chat_server: ChatServer) -> ChatServer:
    chat_server.default = served.say_of(graded)
    return chat_server


def cases(count: int, mark: str) -> list[JudgedCase]:
    """Cases whose candidates differ from those of other tests by their mark."""
    made = []
    for number in range(count):
        texts = [f"{text} {mark} {number}." for text in TEXTS]
        rows = [
            Candidate(
                f"case-{number}.0.{index}", f"case-{number}", "s", 0, index, 0, "?", text, (1,), (-0.5,), "stop",
                True, 0, "", None, 0, datetime.now(UTC),
            )
            for index, text in enumerate(texts)
        ]  # fmt: skip
        case = Case(f"case-{number}", "s", "p", "?", REFERENCE, None, None)
        made.append(judged_case(case, rows))
    return made


class Stage:
    """A run folder whose stage is judged, again and again, with the same cache."""

    def __init__(self, root: Path, configured: Callable[..., "Config"], url: str) -> None:
        self.root, self.configured, self.url = root, configured, url
        self.fleets: list[Fleet] = []

    def judged(self, name: str, given: list[JudgedCase], judge: str, **changes: Any) -> dict[str, Any]:
        address = {"base_url": self.url, "model": "m", "request_timeout_s": 5, "attempts": 2, **changes}
        if judge == "ensemble":
            entry = ", ".join(
                f"{key}: '{value}'" if isinstance(value, str) else f"{key}: {value}" for key, value in address.items()
            )
            own = [f"judge.members=[rules, {{judge: gpt4, {entry}}}, {{judge: llm_parser, {entry}}}]"]
        else:
            own = [f"judge.{key}={value}" for key, value in address.items()]
        here = [f"run.root={self.root / 'runs'}", f"run.name={name}", f"cache.root={self.root / 'cache'}"]
        config = self.configured("experiment=smoke", f"judge={judge}", *own, *here)
        # A fleet of its own: a new job's actors.
        fleet = Fleet(config, None)
        try:
            with RunFolder.open(config.run.root, name, config.plain()) as run:
                judging = Judging(run, config, "round-000", [config.judge])
                number = judging.number(given)
                return judge_stage(judging, fleet, given, 0, Progress("judging", number))
        finally:
            fleet.close()

    def rows(self, name: str) -> list[Judgement]:
        with RunFolder.open(self.root / "runs", name, self.kept(name)) as run:
            return run.read("round-000/judgements", Judgement)

    def comparisons(self, name: str) -> list[Comparison]:
        with RunFolder.open(self.root / "runs", name, self.kept(name)) as run:
            return run.read("round-000/comparisons", Comparison)

    def kept(self, name: str) -> dict[str, Any]:
        import yaml

        values: dict[str, Any] = yaml.safe_load((self.root / "runs" / name / "config.yaml").read_text(encoding="utf-8"))
        return values


@pytest.fixture
def stage(cluster: None, tmp_path: Path, configured: Callable[..., "Config"], service: ChatServer) -> Iterator[Stage]:
    yield Stage(tmp_path, configured, service.url)


def test_an_ensemble_has_a_row_for_each_judge_and_their_agreement(stage: Stage, service: ChatServer) -> None:
    facts = stage.judged("run", cases(3, "one"), "ensemble")
    rows = stage.rows("run")
    assert len(rows) == facts["judgements"] == 3 * 4 * 4
    by_judge = {
        name: [one for one in rows if one.judge == name] for name in ("rules", "gpt4", "llm_parser", "ensemble")
    }
    assert [one.score for one in by_judge["rules"][:4]] == pytest.approx([1.0, 0.5, 0.0, 0.0])
    assert [one.score for one in by_judge["gpt4"][:4]] == [5.0, 3.0, 1.0, 1.0]
    parsed = [one.score or 0.0 for one in by_judge["llm_parser"][:4]]
    assert parsed[0] == 1.0 and parsed[2] == parsed[3] < parsed[1]
    assert [one.score for one in by_judge["ensemble"][:4]] == pytest.approx(
        [(a + b + c) / 3 for a, b, c in zip((1, 0.5, 0, 0), (1, 0.5, 0, 0), parsed, strict=True)]
    )
    # Two equal texts of a case are asked about once: three grades and three texts' comparisons in both orders.
    asked = {len(texts_of(one)) for one in service.requests}
    assert asked == {2, 3} and sum(len(texts_of(one)) == 2 for one in service.requests) == 9
    comparisons = stage.comparisons("run")
    assert len(comparisons) == sum(len(texts_of(one)) == 3 for one in service.requests)
    bias = facts["judging"]["judges"]["llm_parser"]["comparisons"]
    assert bias["first_place"]["mean"] == 0.5 and bias["orders_agree"]["mean"] == 1.0
    agreed = {tuple(one["judges"]): one for one in facts["judging"]["agreement"]}
    assert agreed["gpt4", "rules"]["spearman"]["mean"] == agreed["gpt4", "rules"]["kappa"]["mean"] == pytest.approx(1.0)
    assert agreed["llm_parser", "rules"]["order"]["mean"] == 1.0


def test_a_replay_asks_nothing_and_a_changed_model_asks_anew(stage: Stage, service: ChatServer) -> None:
    first = stage.judged("first", cases(4, "two"), "gpt4")
    assert len(service.requests) == 12 and first["judging"]["judges"]["gpt4"]["cached"] == 4
    service.default = served.status(500)
    again = stage.judged("again", cases(4, "two"), "gpt4")
    assert len(service.requests) == 12
    told = again["judging"]["judges"]["gpt4"]
    assert (told["cached"], told["cost_usd"], told["prompt_tokens"]) == (16, 0.0, 0)
    assert [one.score for one in stage.rows("again")] == [one.score for one in stage.rows("first")]
    service.default = served.say_of(graded)
    stage.judged("other", cases(1, "two"), "gpt4", model="n")
    assert len(service.requests) == 15


def test_a_service_that_is_down_fails_the_stage_and_the_same_command_goes_on(stage: Stage, service: ChatServer) -> None:
    service.default = served.status(503)
    with pytest.raises(TooManyBad, match=r"16 of 16 judgements of gpt4 failed \(\{'transport': 16\}\)"):
        stage.judged("run", cases(4, "three"), "gpt4")
    assert {one.failure for one in stage.rows("run")} == {"transport"}
    service.default = served.say_of(graded)
    facts = stage.judged("run", cases(4, "three"), "gpt4")
    assert facts["judging"]["judges"]["gpt4"]["failures"] == {}
    assert facts["repeated_calls"] == 16
    assert [one.score for one in stage.rows("run")] == [5.0, 3.0, 1.0, 1.0] * 4


def test_a_spending_cap_stops_asking_and_keeps_what_was_paid_for(stage: Stage, service: ChatServer) -> None:
    # 100 and 10 tokens a reply: 0.0011 US dollars.
    prices = {"usd_per_million_prompt_tokens": 10, "usd_per_million_completion_tokens": 10, "concurrency": 1}
    with pytest.raises(TooManyBad, match=r"'budget': .*what was paid for is kept: raise the judge's max_cost_usd"):
        stage.judged("run", cases(8, "four"), "gpt4", max_cost_usd=0.03, **prices)
    rows = stage.rows("run")
    paid = [one for one in rows if one.score is not None and not one.cached]
    assert sum(one.cost_usd for one in paid) == pytest.approx(len(paid) * 0.0011)
    assert 0 < len(paid) == len(service.requests) < 24 and sum(one.cost_usd for one in paid) <= 0.03
    facts = stage.judged("run", cases(8, "four"), "gpt4", max_cost_usd=10, **prices)
    assert len(service.requests) == 24 and facts["judging"]["judges"]["gpt4"]["failures"] == {}


def test_an_expired_key_ends_the_job_with_one_line(stage: Stage, service: ChatServer) -> None:
    service.default = served.status(401, "Incorrect API key provided")
    with pytest.raises(Exception, match="OPENAI_API_KEY") as caught:
        stage.judged("run", cases(2, "five"), "gpt4")
    assert "JudgeMisconfigured" in type(caught.value).__name__
    assert stage.rows("run") == []


def test_what_cannot_be_read_is_a_failure_and_never_a_score(stage: Stage, service: ChatServer) -> None:
    service.default = served.say('{"explanation": "x", "score": "5"}')
    with pytest.raises(TooManyBad, match=r"'parse': 8"):
        stage.judged("run", cases(2, "six"), "gpt4")
    assert {(one.score, one.failure) for one in stage.rows("run")} == {(None, "parse")}
    assert all(one.raw and "[asked once more]" in one.raw for one in stage.rows("run"))
    # The same replies are in the cache: another start reads them again and asks nobody.
    asked = len(service.requests)
    with pytest.raises(TooManyBad):
        stage.judged("run", cases(2, "six"), "gpt4")
    assert len(service.requests) == asked


def test_a_held_out_report_in_the_base_s_words_is_even_unless_it_cannot_be_judged(
    cluster: None, tmp_path: Path, configured: Callable[..., "Config"]
) -> None:
    given = ["judge=llm_parser", "judge.base_url=http://127.0.0.1:9/v1", "judge.model=m", f"run.root={tmp_path}"]
    config = configured("experiment=smoke", *given, f"cache.root={tmp_path / 'cache'}")
    leaf = config.leaf_judges["llm_parser"]
    texts = {"same": ("clear", "clear"), "empty": ("", ""), "other": ("clear", "nodule"), "long": ("x" * 30_000,) * 2}
    pairs = [
        JudgedCase(name, "The lungs are clear.", (JudgedReport(f"{name}.base", one), JudgedReport(f"{name}.r", two)))
        for name, (one, two) in texts.items()
    ]
    with RunFolder.open(tmp_path, "run", config.plain()) as run:
        judging = Judging(run, config, "heldout-judging/r", [config.judge])
        settle_even(judging, leaf, pairs, 1)
        rows = {
            one.candidate_id: (one.score, one.failure) for one in run.read("heldout-judging/r/judgements", Judgement)
        }
        assert rows == {
            **dict.fromkeys(("same.base", "same.r"), (0.5, None)),
            **dict.fromkeys(("empty.base", "empty.r"), (None, "invalid_candidate")),
            **dict.fromkeys(("long.base", "long.r"), (None, "invalid_candidate")),
        }
        assert [name for name in texts if judging.left("llm_parser", name)] == ["other"]
