"""Asking with a memory: a question that was answered before is not asked again, by whatever run."""

import asyncio
import hashlib
import json
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Protocol

from rlaif.judges.asking import Ask, Question, Reply
from rlaif.judges.verdict import Usage


class Replies(Protocol):
    """A store of replies by their questions' keys."""

    async def get(self, key: str) -> Reply | None: ...

    async def put(self, key: str, reply: Reply, run: str) -> None: ...


@dataclass
class _Asked:
    """A question on its way, how many wait for it, and whether one of them has taken its cost on."""

    task: asyncio.Task[Reply]
    waiting: int = 0
    taken: bool = False


class KeptAsk:
    """An `Ask` before another one. `identity` is all that makes the reply beside the question: judge, model, settings.

    A reply is kept before it is given back, for the run that paid for it. Failures are not kept, but a refusal is a
    reply and is: a service's filter that declines a question declines it for ever, until the model, the prompt or the
    report is another. Equal questions at one moment are asked as one, whose cost the first of them bears; a failure
    reaches all of them.
    """

    def __init__(self, ask: Ask, replies: Replies, run: str, identity: str) -> None:
        self._ask, self._replies, self._run, self._identity = ask, replies, run, identity
        self._asked: dict[str, _Asked] = {}

    async def __call__(self, question: Question) -> Reply:
        """The kept reply, which took nothing, or a fresh one."""
        key = reply_key(self._identity, question)
        asked = self._asked.get(key)
        if asked is None:
            asked = self._asked[key] = _Asked(asyncio.create_task(self._found(key, question)))
            asked.task.add_done_callback(partial(self._forget, key, asked))
        asked.waiting += 1
        try:
            # Who is cancelled leaves the others their reply.
            reply = await asyncio.shield(asked.task)
        finally:
            asked.waiting -= 1
            if not asked.waiting and asked.task.cancel():
                self._forget(key, asked)
        first, asked.taken = not asked.taken, True
        return reply if first else replace(reply, usage=Usage(cached=True))

    def _forget(self, key: str, asked: _Asked, *_: object) -> None:
        if self._asked.get(key) is asked:
            del self._asked[key]

    async def _found(self, key: str, question: Question) -> Reply:
        kept = await self._replies.get(key)
        if kept is not None:
            return replace(kept, usage=Usage(cached=True))
        reply = await self._ask(question)
        await self._replies.put(key, reply, self._run)
        return reply


def reply_key(identity: str, question: Question) -> str:
    """The content address of a question's reply, 64 hex digits: the same for every form in which it may be put."""
    content = json.dumps([identity, asdict(question)], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(content.encode()).hexdigest()
