"""A chat service of known latency and limit on 127.0.0.1, in a process of its own, so that it takes no judge's time."""

import asyncio
import json
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web

SPAWN = multiprocessing.get_context("spawn")
START_S = 60.0
VERDICT = json.dumps({"explanation": "One finding is left out.", "score": 4})
COMPLETION = {
    "id": "1",
    "object": "chat.completion",
    "created": 1,
    "model": "benchmark",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": VERDICT}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 400, "completion_tokens": 20, "total_tokens": 420},
}


@dataclass(frozen=True)
class ChatService:
    """The running service: `latency_s` and `limit` may be set at any time, and what it counts be read.

    Beyond `limit` in flight it answers 429 at once, and without saying when to come again.
    """

    port: int
    latency_s: Any
    limit: Any
    answered: Any
    refused: Any

    @property
    def url(self) -> str:
        """What a judge takes as its base_url."""
        return f"http://127.0.0.1:{self.port}/v1"

    def behave(self, latency_s: float, limit: int) -> None:
        """Sets latency and limit, and counts from 0 again."""
        self.latency_s.value, self.limit.value = latency_s, limit
        self.answered.value = self.refused.value = 0


@contextmanager
def chat_service() -> Iterator[ChatService]:
    """The service, which ends with this context."""
    shared = [SPAWN.Value(kind, 0, lock=False) for kind in ("d", "l", "l", "l")]
    ours, theirs = SPAWN.Pipe(duplex=False)
    process = SPAWN.Process(target=_serve, args=(theirs, *shared), daemon=True)
    process.start()
    try:
        if not ours.poll(START_S):
            raise TimeoutError(f"the chat service did not start in {START_S:g} s")
        yield ChatService(ours.recv(), *shared)
    finally:
        process.terminate()
        process.join()


def _serve(started: Any, latency_s: Any, limit: Any, answered: Any, refused: Any) -> None:
    """Serves until it is ended, and sends its port through `started`."""
    whole, full = json.dumps(COMPLETION).encode(), json.dumps({"error": {"message": "too many"}}).encode()
    in_flight = 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal in_flight
        await request.read()
        if in_flight >= limit.value:
            refused.value += 1
            return web.Response(status=429, body=full, content_type="application/json")
        in_flight += 1
        try:
            await asyncio.sleep(latency_s.value)
        finally:
            in_flight -= 1
        answered.value += 1
        return web.Response(body=whole, content_type="application/json")

    async def serve() -> None:
        application = web.Application()
        application.router.add_post("/v1/chat/completions", answer)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, backlog=256)
        await site.start()
        started.send(runner.addresses[0][1])
        await asyncio.Event().wait()

    asyncio.run(serve())
