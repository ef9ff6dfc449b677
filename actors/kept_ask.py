"""Asking with a memory: a question that was answered before is not asked again, by whatever run."""

import hashlib
import json
from dataclasses import asdict, replace
from typing import Protocol

from rlaif.judges.asking import Ask, Question, Reply
from rlaif.judges.verdict import Usage


class Replies(Protocol):
    """A store of replies by their questions' keys."""

    async def get(self, key: str) -> Reply | None: ...

    async def put(self, key: str, reply: Reply, run: str) -> None: ...


class KeptAsk:
    """An `Ask` before another one. `identity` is all that makes the reply beside the question: judge, model, settings.

    A reply is kept before it is given back, for the run that paid for it; failures are not kept.
    """

    def __init__(self, ask: Ask, replies: Replies, run: str, identity: str) -> None:
        self._ask, self._replies, self._run, self._identity = ask, replies, run, identity

    async def __call__(self, question: Question) -> Reply:
        """The kept reply, which took nothing, or a fresh one."""
        key = reply_key(self._identity, question)
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
