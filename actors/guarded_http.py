"""The way out for report text: HTTP to allowed hosts only, bounded replies, and the key put on at the last moment."""

import urllib.request
from collections.abc import AsyncIterator, Collection

import httpx2

from actors.api_key import ApiKey
from rlaif.judges.settings import ChatJudgeSection

MOST_BYTES = 4 * 2**20
"""A reply of some thousand tokens has a hundredth of this."""
SENT_HEADERS = (
    "host",
    "accept",
    "content-type",
    "content-length",
    "user-agent",
    "openai-organization",
    "openai-project",
)
"""What a service needs; the client would tell it about this machine as well."""
CONNECT_TIMEOUT_S = 15.0


class Blocked(httpx2.TransportError):
    """A request to a host that report text may not go to."""


class UnsafeReply(httpx2.TransportError):
    """A reply that is too large, or compressed although that was not asked for."""


class GuardedTransport(httpx2.AsyncBaseTransport):
    """Sends to `hosts` only, whoever asks, and reads no more than MOST_BYTES of a reply.

    Raises Blocked and UnsafeReply.
    """

    def __init__(self, inner: httpx2.AsyncBaseTransport, hosts: Collection[str], key: ApiKey | None) -> None:
        self._inner, self._hosts, self._key = inner, frozenset(hosts), key

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """One request and its reply, whose body is bounded as it is read."""
        if request.url.host not in self._hosts:
            raise Blocked(f"{request.url.host} is not in allowed_hosts ({', '.join(sorted(self._hosts))})")
        # A copy, so that no object that the client keeps, or an exception carries, holds the key.
        headers = {name: request.headers[name] for name in SENT_HEADERS if name in request.headers}
        headers["accept-encoding"] = "identity"
        if self._key:
            headers["authorization"] = f"Bearer {self._key.revealed()}"
        sent = httpx2.Request(
            request.method, request.url, headers=headers, stream=request.stream, extensions=request.extensions
        )
        response = await self._inner.handle_async_request(sent)
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            await response.aclose()
            raise UnsafeReply(f"the reply is compressed ({encoding[:20]}), which was not asked for")
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        return httpx2.Response(
            response.status_code,
            headers=response.headers,
            stream=BoundedStream(response.stream),
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._inner.aclose()


class BoundedStream(httpx2.AsyncByteStream):
    """A body that ends in UnsafeReply where it goes on beyond MOST_BYTES."""

    def __init__(self, inner: httpx2.AsyncByteStream) -> None:
        self._inner = inner

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for part in self._inner:
            size += len(part)
            if size > MOST_BYTES:
                raise UnsafeReply(f"the reply is larger than {MOST_BYTES // 2**20} MiB")
            yield part

    async def aclose(self) -> None:
        await self._inner.aclose()


def guarded_client(settings: ChatJudgeSection, key: ApiKey | None) -> httpx2.AsyncClient:
    """A client for a judge's address: no redirects, and no proxy or netrc of the environment unless it is set so.

    SSL_CERT_FILE and SSL_CERT_DIR are obeyed, for services with a certificate of the house.
    """
    seconds = settings.request_timeout_s
    timeout = httpx2.Timeout(seconds, connect=min(seconds, CONNECT_TIMEOUT_S))
    limits = httpx2.Limits(max_connections=settings.concurrency, max_keepalive_connections=settings.concurrency)
    inner = httpx2.AsyncHTTPTransport(limits=limits, proxy=proxy_of(settings))
    transport = GuardedTransport(inner, settings.allowed_hosts, key)
    return httpx2.AsyncClient(transport=transport, timeout=timeout, trust_env=False, follow_redirects=False)


def proxy_of(settings: ChatJudgeSection) -> str | None:
    """The environment's proxy for a judge's address, where it may be obeyed and there is one."""
    if not settings.environment_proxy or urllib.request.proxy_bypass(settings.host):
        return None
    proxies = urllib.request.getproxies()
    return proxies.get(settings.base_url.partition(":")[0].lower()) or proxies.get("all")
