"""A real HTTP server on 127.0.0.1 that answers as chat services do, well and badly."""

import gzip
import json
import re
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeAlias


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    at: float = field(default_factory=time.monotonic)

    @property
    def words(self) -> str:
        """The last message's text."""
        return str(self.body["messages"][-1]["content"])


class Exchange(BaseHTTPRequestHandler):
    """One request; a behaviour answers it, or does not."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: "Listener"
    asked: Asked

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = json.loads(self.rfile.read(length) or b"{}")
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.asked = Asked(self.path, headers, body)
        self.server.chat.answer(self)

    def do_GET(self) -> None:
        self.do_POST()

    def reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        """Answers with a status, a body and headers."""
        self.send_response(status)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


Behaviour: TypeAlias = Callable[[Exchange], None]


class Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    chat: "ChatServer"

    def handle_error(self, *_: object) -> None:
        # Clients that give up are part of the tests.
        pass


class ChatServer:
    """The server. `script` fills a queue of behaviours, one for each request to come; then `default` answers.

    With `limit`, what is beyond so many in flight is answered by 429; `latency_s` is how long an answer takes.
    """

    def __init__(self) -> None:
        self._listener = Listener(("127.0.0.1", 0), Exchange)
        self._listener.chat = self
        self._lock = threading.Lock()
        self._scripted: deque[Behaviour] = deque()
        self.default: Behaviour = say("Score: 4")
        self.requests: list[Asked] = []
        self.limit: int | None = None
        self.latency_s = 0.0
        self.in_flight = self.most_in_flight = self.refused = 0
        self.closing = threading.Event()
        threading.Thread(target=self._listener.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._listener.server_address[1])

    @property
    def url(self) -> str:
        """What a judge takes as its base_url."""
        return f"http://127.0.0.1:{self.port}/v1"

    def script(self, *behaviours: Behaviour) -> None:
        """What the next requests meet, in their order."""
        self._scripted.extend(behaviours)

    def answer(self, exchange: Exchange) -> None:
        with self._lock:
            self.requests.append(exchange.asked)
            full = self.limit is not None and self.in_flight >= self.limit
            if full:
                self.refused += 1
                behaviour = status(429)
            else:
                self.in_flight += 1
                self.most_in_flight = max(self.most_in_flight, self.in_flight)
                behaviour = self._scripted.popleft() if self._scripted else self.default
        if not full and self.latency_s:
            self.closing.wait(self.latency_s)
        if not full:
            with self._lock:
                self.in_flight -= 1
        behaviour(exchange)

    def close(self) -> None:
        """Ends it, and whatever hangs in it."""
        self.closing.set()
        self._listener.shutdown()
        self._listener.server_close()


def texts_of(asked: Asked) -> list[str]:
    """The fenced texts of a judge's question: the reference, then the candidates."""
    content = asked.body["messages"][1]["content"]
    return [text for _, text in re.findall(r"\[text ([0-9a-f]{12})\]\n(.*?)\n\[end of text \1\]", content, re.DOTALL)]


def say(text: Any, *, finish_reason: str | None = "stop", usage: Any = (100, 10), **message: Any) -> Behaviour:
    """A chat completion with a text, and a number of tokens of prompt and answer (None: the reply does not say)."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": finish_reason}
    whole: dict[str, Any] = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    if isinstance(usage, tuple):
        usage = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
    if usage is not None:
        whole["usage"] = usage
    return lambda exchange: exchange.reply(200, json.dumps(whole).encode())


def say_of(words: Callable[[Asked], str]) -> Behaviour:
    """A chat completion whose text depends on what was asked."""
    return lambda exchange: say(words(exchange.asked))(exchange)


def status(number: int, message: str = "no", headers: dict[str, str] | None = None, **error: Any) -> Behaviour:
    """An error as OpenAI writes it."""
    whole = json.dumps({"error": {"message": message, "type": "error", "param": None, "code": None, **error}}).encode()
    return lambda exchange: exchange.reply(number, whole, headers)


def body(content: bytes, code: int = 200, headers: dict[str, str] | None = None) -> Behaviour:
    """Any body."""
    return lambda exchange: exchange.reply(code, content, headers)


def half_body(exchange: Exchange) -> None:
    """Ends the connection in the middle of the body."""
    exchange.reply(200, b'{"choices": [', {"Content-Length": "1000"})
    exchange.close_connection = True


def hang(exchange: Exchange) -> None:
    """Answers nothing for 30 seconds."""
    exchange.server.chat.closing.wait(30)
    exchange.close_connection = True


def trickle(exchange: Exchange) -> None:
    """Sends a byte in a tenth of a second, which no time-out for a single read ends."""
    exchange.reply(200, b"", {"Content-Length": "1000"})
    for _ in range(300):
        if exchange.server.chat.closing.wait(0.1):
            break
        exchange.wfile.write(b" ")
        exchange.wfile.flush()
    exchange.close_connection = True


def reset(exchange: Exchange) -> None:
    """Ends the connection by RST."""
    exchange.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    exchange.connection.close()
    exchange.close_connection = True


def huge(exchange: Exchange) -> None:
    """Goes on for 64 MiB."""
    exchange.reply(200, b'{"a": "', {"Content-Length": str(64 * 2**20)})
    for _ in range(64):
        exchange.wfile.write(b"a" * 2**20)


def gzip_bomb(exchange: Exchange) -> None:
    """A hundred MiB of spaces as a hundred KiB."""
    exchange.reply(200, gzip.compress(b" " * 100 * 2**20), {"Content-Encoding": "gzip"})
