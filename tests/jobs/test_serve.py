"""A served model: asked through OpenAI's own client, refused in clear words, gone once it is interrupted."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openai
import psutil
import pytest

from actors.chat_ask import ChatAsk
from actors.head import free_ports
from actors.running_head import answers
from actors.served_model import address_of, check_port, is_loopback, model_folder
from actors.service_limits import ServiceLimits
from rlaif.config import ConfigurationError
from rlaif.judges.asking import Question, Reply
from rlaif.judges.case import CaseVerdicts, JudgedCase, JudgedReport
from rlaif.judges.gpt4 import Gpt4Judge
from rlaif.judges.llm_parser import LlmParserJudge
from rlaif.judges.settings import Gpt4JudgeSettings, LlmParserJudgeSettings
from rlaif.launch import PROJECT

if TYPE_CHECKING:
    from rlaif.config import Config

TEMPLATE = "{% for one in messages %}{{ one['role'][0] }}:{{ one['content'] }}\n{% endfor %}a:"
ASKED: list[Any] = [{"role": "system", "content": "Judge."}, {"role": "user", "content": "The lungs are clear."}]
SCHEMA = {
    "type": "object",
    "properties": {"better": {"enum": ["A", "B", "tie"]}, "score": {"type": "integer", "minimum": 1, "maximum": 5}},
    "required": ["better", "score"],
    "additionalProperties": False,
}
START_S = 280


@dataclass
class Serving:
    """The running job, its port, and a client that asks it."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path
    below: list[psutil.Process]

    @property
    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"http://127.0.0.1:{self.port}/v1", api_key="none", max_retries=0, timeout=120)

    @property
    def output(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")


@pytest.fixture(scope="module")
def chat_model(small: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small untrained language model with a chat template."""
    folder: Path = tmp_path_factory.mktemp("models") / "small judge"
    shutil.copytree(small.first / "language_model", folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def serving(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    (port,) = free_ports(1)
    log = tmp_path_factory.mktemp("serving") / "log"
    given = [f"serve.model='{smollm2}'", "serve.name=small-judge", f"serve.port={port}", "serve.max_length=2048"]
    # It sees no head but the one that it starts.
    settings = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    command = [
        sys.executable,
        str(PROJECT / "jobs" / "serve.py"),
        *given,
        "serve.kv_cache_gib=1",
        "cluster.address=local",
    ]
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=PROJECT, env=settings)
    one = Serving(process, port, log, [])
    try:
        _wait_until(lambda: "answers at" in one.output or process.poll() is not None, START_S)
        assert process.poll() is None, one.output[-5000:]
        one.below = psutil.Process(process.pid).children(recursive=True)
        yield one
    finally:
        below = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.kill()
        process.wait(timeout=60)
        for left in psutil.wait_procs(below, timeout=20)[1]:
            left.kill()


def _wait_until(true: Callable[[], bool], seconds: float) -> None:
    import time

    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_model_answers_and_counts_its_tokens(serving: Serving) -> None:
    assert [one.id for one in serving.client.models.list()] == ["small-judge"]
    assert f"judge.base_url=http://127.0.0.1:{serving.port}/v1 judge.model=small-judge" in serving.output
    given: Any = {"model": "small-judge", "messages": ASKED, "max_tokens": 12, "seed": 3}
    reply = serving.client.chat.completions.create(**given, temperature=0.0)
    assert reply.usage is not None and reply.choices[0].finish_reason in ("stop", "length")
    assert 1 <= reply.usage.completion_tokens <= 12 and reply.usage.prompt_tokens > 10
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    again = serving.client.chat.completions.create(**given, temperature=0.0)
    assert again.choices[0].message.content == reply.choices[0].message.content


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_answers_are_held_to_a_schema_also_two_at_a_time(serving: Serving) -> None:
    form: Any = {"type": "json_schema", "json_schema": {"name": "verdict", "strict": True, "schema": SCHEMA}}

    def ask(seed: int) -> Any:
        return serving.client.chat.completions.create(
            model="small-judge", messages=ASKED, max_tokens=64, temperature=1.0, seed=seed, response_format=form
        )

    with ThreadPoolExecutor(2) as pool:
        replies = list(pool.map(ask, (1, 2)))
    for reply in replies:
        answer = json.loads(reply.choices[0].message.content)
        assert set(answer) == {"better", "score"}
        assert answer["better"] in ("A", "B", "tie") and answer["score"] in range(1, 6)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_what_cannot_be_answered_is_refused_as_openai_refuses_it(serving: Serving) -> None:
    client = serving.client.chat.completions
    with pytest.raises(openai.NotFoundError):
        client.create(model="gpt-4o", messages=ASKED, max_tokens=8)
    with pytest.raises(openai.BadRequestError):
        client.create(model="small-judge", messages=[], max_tokens=8)
    with pytest.raises(openai.BadRequestError):
        client.create(model="small-judge", messages=ASKED, temperature=-1.0)
    with pytest.raises(openai.BadRequestError, match="maximum context length"):
        client.create(model="small-judge", messages=[{"role": "user", "content": "lung " * 5000}], max_tokens=8)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_both_kinds_of_chat_judges_run_offline_against_it(serving: Serving) -> None:
    texts = ("There is a 12 mm nodule in the right upper lobe.", "The lungs are clear.")
    case = JudgedCase("case", texts[0], tuple(JudgedReport(f"c{n}", text) for n, text in enumerate(texts)))
    address = {"base_url": f"http://127.0.0.1:{serving.port}/v1", "model": "small-judge", "max_tokens": 96}

    def judged(kind: str, judge: Any, settings: Any) -> tuple[CaseVerdicts, list[Reply]]:
        replies: list[Reply] = []

        async def run() -> CaseVerdicts:
            own = settings.model_validate(
                {"kind": kind, "name": kind, "prompt": f"{kind}-1", "threshold": 1, **address}
            )
            service = ChatAsk(own, "run", limits=ServiceLimits())

            async def ask(question: Question) -> Reply:
                replies.append(await service(question))
                return replies[-1]

            given: CaseVerdicts = await judge(own).judge(case, ask)
            return given

        return asyncio.run(run()), replies

    graded, replies = judged("gpt4", Gpt4Judge, Gpt4JudgeSettings)
    # Its judgement is poor, and may be cut off; a score is one that it gave, or there is none.
    for verdict in graded.verdicts:
        assert (verdict.score in (1.0, 2.0, 3.0, 4.0, 5.0)) != (verdict.failure in ("parse", "refusal"))
        assert verdict.raw and verdict.usage.completion_tokens > 0 and verdict.usage.prompt_tokens > 300
    assert all(one.structured for one in replies[:2])
    compared, replies = judged("llm_parser", LlmParserJudge, LlmParserJudgeSettings)
    assert [(one.candidate_a, one.candidate_b, one.order) for one in compared.comparisons] == [
        ("c0", "c1", "ab"),
        ("c0", "c1", "ba"),
    ]
    if all(one.verdict for one in compared.comparisons):
        assert sum(one.score or 0 for one in compared.verdicts) == 1.0


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_an_interrupted_server_leaves_nothing_behind(serving: Serving) -> None:
    serving.process.send_signal(signal.SIGINT)
    assert serving.process.wait(timeout=90) == 0
    assert serving.output.rstrip().endswith("ended")
    assert "The lungs are clear" not in serving.output
    _, left = psutil.wait_procs(serving.below, timeout=60)
    assert left == []
    assert not answers(f"127.0.0.1:{serving.port}")


def test_a_model_that_cannot_be_served_is_refused_before_anything_starts(
    chat_model: Path, configured: Callable[..., "Config"], tmp_path: Path
) -> None:
    def refusal(folder: Path | None, *overrides: str) -> str:
        given = [] if folder is None else [f"serve.model='{folder}'", "serve.max_length=256"]
        with pytest.raises(ConfigurationError) as refused:
            model_folder(configured(*given, *overrides).serve)
        return str(refused.value)

    def copy(name: str) -> Path:
        return Path(shutil.copytree(chat_model, tmp_path / name))

    assert refusal(None).startswith("serve.model is missing: set serve.model=FOLDER")
    assert "is no folder" in refusal(tmp_path / "nowhere")
    assert "more than the 256 positions" in refusal(chat_model, "serve.max_length=257")
    (silent := copy("silent") / "chat_template.jinja").unlink()
    assert "has no chat template" in refusal(silent.parent)
    (weightless := copy("weightless") / "model.safetensors").unlink()
    assert "holds no .safetensors weights" in refusal(weightless.parent)
    torn = copy("torn") / "model.safetensors"
    torn.write_bytes(torn.read_bytes()[:5000])
    assert "is damaged" in refusal(torn.parent)
    (copy("unknown") / "config.json").unlink()
    assert "has no config.json" in refusal(tmp_path / "unknown")
    for text, words in (("{", "is not JSON"), ("[]", "is no JSON object")):
        (tmp_path / "unknown" / "config.json").write_text(text, encoding="utf-8")
        assert words in refusal(tmp_path / "unknown")
    with pytest.raises(ConfigurationError, match="neither a part of a GPU nor a whole number"):
        configured("serve.gpus=1.5")


def test_a_model_goes_by_its_folder_or_by_the_name_that_it_is_given(
    chat_model: Path, configured: Callable[..., "Config"]
) -> None:
    fits = (f"serve.model='{chat_model}'", "serve.max_length=256")
    assert model_folder(configured(*fits).serve).name == "small-judge"
    assert model_folder(configured(*fits, "serve.name=judge-1").serve).name == "judge-1"


def test_addresses_are_told_as_clients_take_them(configured: Callable[..., "Config"]) -> None:
    told = {"127.0.0.1": "127.0.0.1", "0.0.0.0": "127.0.0.1", "'::1'": "[::1]", "localhost": "localhost"}
    for host, expected in told.items():
        assert address_of(configured(f"serve.host={host}").serve) == f"http://{expected}:8199/v1"
    hosts = ("127.0.0.1", "::1", "localhost", "0.0.0.0", "10.0.0.5", "judge.example.org")
    assert [is_loopback(host) for host in hosts] == [True, True, True, False, False, False]


def test_a_port_that_is_taken_or_an_address_of_another_machine_is_refused(configured: Callable[..., "Config"]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"serve.port={port} cannot be listened on"):
            check_port(configured(f"serve.port={port}").serve)
    check_port(configured(f"serve.port={port}").serve)
    with pytest.raises(ConfigurationError, match="Cannot assign requested address"):
        check_port(configured("serve.host=203.0.113.7").serve)
