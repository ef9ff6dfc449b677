"""Asks a language model on a vLLM engine in this process: the `Ask` of judges that bring their model with them.

Many coroutines ask at once. One thread owns the engine and steps it, so that the event loop stays free; a new question
joins the batch that is running.
"""

import asyncio
import hashlib
import itertools
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlaif.files import checksum_of
from rlaif.judges.asking import NotAnswered, Question, Reply
from rlaif.judges.green_chat import UnaskableText, green_chat
from rlaif.judges.settings import GreenJudgeSettings
from rlaif.judges.verdict import Usage

# Greedy decoding would give the reply again that was asked for once more.
_TEMPERATURE_AGAIN = 0.7
_CLOSE_S = 30.0


@dataclass(frozen=True)
class _Asked:
    """A question on its way through the engine, and the future that its output is awaited by."""

    name: str
    ids: list[int]
    parameters: Any
    output: "asyncio.Future[Any]"


class EngineAsk:
    """Puts questions to the model of a folder; `identity` names its weights and their precision.

    Device, threads and cache are those of the process's environment, as for a sampler's engine. Raises
    FileNotFoundError where there is no such folder, and TimeoutError where the engine does not stand within the
    settings' `timeout_s`.
    """

    def __init__(self, settings: GreenJudgeSettings, seed: int) -> None:
        folder = Path(settings.model)
        if not folder.is_dir():
            raise FileNotFoundError(
                f"{folder} is no folder: judge.model takes the folder of a model's weights and tokenizer"
            )
        self.settings, self.seed = settings, seed
        self.chat = green_chat(folder)
        self.identity = f"{folder.name}@{checksum_of(folder)[:12]}.{settings.dtype}"
        self._names = map(str, itertools.count())
        self._waiting: list[_Asked] = []
        self._open: dict[str, _Asked] = {}
        self._driver: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")
        self._engine = self._thread.submit(self._start).result(settings.timeout_s)

    def _start(self) -> Any:
        from vllm import LLM

        settings = self.settings
        return LLM(
            model=settings.model,
            dtype=settings.dtype,
            # Compiled and captured graphs pay on a GPU only.
            enforce_eager=settings.gpus == 0,
            # All candidates of a case share their prompt up to the end of the reference.
            enable_prefix_caching=True,
            # A prompt cut in two makes vLLM rewind its seeded generator, which a CPU generator cannot.
            enable_chunked_prefill=False,
            max_num_batched_tokens=max(settings.max_length, 8192),
            max_model_len=settings.max_length,
            gpu_memory_utilization=settings.gpu_memory,
            disable_log_stats=True,
            seed=self.seed,
        ).llm_engine

    async def __call__(self, question: Question) -> Reply:
        """The model's reply: greedy at the first attempt, sampled with a seed of its own at another.

        Raises NotAnswered for a question that leaves no room for its answer, holds a control token of the model, or
        has no answer within the settings' `timeout_s`.
        """
        started = time.monotonic()
        asked = _Asked(
            next(self._names),
            self._ids(question),
            self._parameters(question),
            asyncio.get_running_loop().create_future(),
        )
        self._waiting.append(asked)
        self._drive()
        try:
            output = await asyncio.wait_for(asked.output, self.settings.timeout_s)
        except TimeoutError as error:
            raise NotAnswered("timeout", f"The engine gave no answer in {self.settings.timeout_s:g} s.") from error
        written = output.outputs[0]
        usage = Usage(
            prompt_tokens=len(asked.ids),
            completion_tokens=len(written.token_ids),
            latency_s=time.monotonic() - started,
        )
        return Reply(self.chat.text(written.token_ids), finish_reason=str(written.finish_reason), usage=usage)

    def close(self) -> None:
        """Ends the engine; waits half a minute for a step that is running."""
        wait([self._thread.submit(self._engine.engine_core.shutdown)], timeout=_CLOSE_S)
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _ids(self, question: Question) -> list[int]:
        try:
            ids = self.chat.ids(question.put(structured=False))
        except UnaskableText as error:
            raise NotAnswered("invalid_candidate", str(error)) from error
        if len(ids) + question.max_tokens > self.settings.max_length:
            raise NotAnswered(
                "invalid_candidate",
                f"A prompt of {len(ids)} tokens leaves no room for {question.max_tokens} more within "
                f"max_length={self.settings.max_length}.",
            )
        return ids

    def _parameters(self, question: Question) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        again = question.attempt > 0
        return SamplingParams(
            temperature=_TEMPERATURE_AGAIN if again else 0.0,
            seed=self._seed(question) if again else None,
            max_tokens=question.max_tokens,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    def _seed(self, question: Question) -> int:
        identity = f"{self.seed}|{question.attempt}|{question.messages}"
        return int.from_bytes(hashlib.sha256(identity.encode()).digest()[:4], "little") >> 1

    def _drive(self) -> None:
        if self._driver is None or self._driver.done():
            self._driver = asyncio.get_running_loop().create_task(self._run())
            self._driver.add_done_callback(self._ended)

    async def _run(self) -> None:
        """Steps the engine while anything is asked."""
        loop = asyncio.get_running_loop()
        while self._waiting or self._open:
            given_up = [name for name, asked in self._open.items() if asked.output.done()]
            for name in given_up:
                del self._open[name]
            new = [asked for asked in self._waiting if not asked.output.done()]
            self._waiting.clear()
            self._open |= {asked.name: asked for asked in new}
            for output in await loop.run_in_executor(self._thread, self._step, new, given_up):
                asked = self._open.pop(output.request_id)
                if not asked.output.done():
                    asked.output.set_result(output)

    def _step(self, new: Sequence[_Asked], given_up: Sequence[str]) -> list[Any]:
        """In the engine's thread: takes what is new, leaves what nobody waits for, and gives what is finished."""
        if given_up:
            self._engine.abort_request(list(given_up))
        for asked in new:
            self._engine.add_request(asked.name, {"prompt_token_ids": asked.ids}, asked.parameters)
        if not self._engine.has_unfinished_requests():
            return []
        return [output for output in self._engine.step() if output.finished]

    def _ended(self, driver: "asyncio.Task[None]") -> None:
        """An engine that fails fails for all who wait."""
        error = None if driver.cancelled() else driver.exception()
        if error is None:
            return
        for asked in (*self._open.values(), *self._waiting):
            if not asked.output.done():
                asked.output.set_exception(error)
        # What is open in the engine is aborted before its next step.
        self._waiting.clear()
