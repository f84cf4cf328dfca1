"""One request at a time, within limits of time and size; knows nothing of robots.txt, turns or redirects."""

import asyncio
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver
from aiohttp.http_exceptions import LineTooLong
from yarl import URL

from gpt2lab.webtext.crawl.addresses import AddressRefusedError, open_any_socket, open_public_socket
from gpt2lab.webtext.crawl.answers import Answer, NoPage
from gpt2lab.webtext.crawl.fetch_options import FetchOptions

LARGEST_HEADERS = 64 * 1024
"""Bytes of all headers of an answer; a single line may have 8 KiB, and there may be 128 of them (aiohttp's limits)."""
FREE_EXPANSION_BYTES = 1 << 20
"""Up to here a page may have been compressed as much as it likes."""
_LARGE_BODY = 1 << 19
_LARGE_BODIES_AT_ONCE = 8
_LOOK_UPS_AT_ONCE = 64
_ADDRESSES_KEPT_SECONDS = 300


class _Response(aiohttp.ClientResponse):
    """Remembers the address it came from, which aiohttp forgets with the last byte."""

    peer: str | None = None

    async def start(self, connection: Any) -> aiohttp.ClientResponse:
        name = connection.transport and connection.transport.get_extra_info("peername")
        self.peer = name[0] if name else None
        return await super().start(connection)


class HttpClient:
    """Asks for URLs; use as an async context manager. Raises NoPage with its kind for all that can go wrong.

    Memory is bounded: a body beyond 512 KiB waits for one of eight places.
    """

    def __init__(self, options: FetchOptions, resolver: AbstractResolver | None = None) -> None:
        self._options, self._resolver = options, resolver
        self._session: aiohttp.ClientSession
        self._places = asyncio.Semaphore(_LARGE_BODIES_AT_ONCE)

    async def __aenter__(self) -> "HttpClient":
        # Names are looked up in threads, which dead name servers hold for many seconds each.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_LOOK_UPS_AT_ONCE, "look-up"))
        connector = aiohttp.TCPConnector(
            limit=0,
            resolver=self._resolver,
            ttl_dns_cache=_ADDRESSES_KEPT_SECONDS,
            socket_factory=open_any_socket if self._options.allow_private else open_public_socket,
        )
        headers = {"User-Agent": self._options.agent_line, "Accept": "text/html,application/xhtml+xml,*/*;q=0.5"}
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={**headers, "Accept-Encoding": "gzip, deflate"},
            timeout=aiohttp.ClientTimeout(total=self._options.timeout_seconds),
            auto_decompress=False,
            response_class=_Response,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def ask(self, url: URL, cut_at: int | None = None) -> Answer:
        """The answer to one request. A body beyond `cut_at` is cut there; else one beyond the limits is an error."""
        try:
            async with self._session.get(url, allow_redirects=False) as response:
                assert isinstance(response, _Response)
                headers = [(key.decode("latin-1"), value.decode("latin-1")) for key, value in response.raw_headers]
                if sum(len(key) + len(value) for key, value in headers) > LARGEST_HEADERS:
                    raise NoPage("headers_too_large", str(url), response.status)
                return Answer(
                    url=url,
                    status=response.status,
                    reason=(response.reason or "").encode("ascii", errors="replace").decode(),
                    headers=headers,
                    request_headers=list(response.request_info.headers.items()),
                    body=await self._read(response, cut_at) if response.status == 200 else b"",
                    address=response.peer,
                )
        except TimeoutError:
            raise NoPage("timeout", str(url)) from None
        except aiohttp.ClientError as error:
            raise NoPage(_kind_of(error), str(url)) from None

    async def _read(self, response: _Response, cut_at: int | None) -> bytes:
        limit = self._options.max_bytes if cut_at is None else cut_at
        unpacked = _Unpacked(response.headers.get("Content-Encoding", ""), limit, self._options.max_expansion)
        has_place = False
        try:
            async for data in response.content.iter_any():
                unpacked.feed(data)
                if unpacked.is_over_limit and cut_at is not None:
                    return bytes(unpacked.body[:cut_at])
                unpacked.check()
                if len(unpacked.body) > _LARGE_BODY and not has_place:
                    await self._places.acquire()
                    has_place = True
            unpacked.check_end()
            return bytes(unpacked.body)
        except NoPage as why:
            raise NoPage(why.kind, str(response.url), response.status) from None
        finally:
            if has_place:
                self._places.release()


class _Unpacked:
    """A body as it arrives, its Content-Encoding taken off, never unpacked further than one byte beyond the limits."""

    def __init__(self, encoding: str, limit: int, max_expansion: float) -> None:
        self.body = bytearray()
        self._limit, self._max_expansion = limit, max_expansion
        self._received = 0
        self._encoding = encoding.strip().lower().removeprefix("x-")
        if self._encoding not in ("", "identity", "gzip", "deflate"):
            raise NoPage("bad_encoding")
        self._stream = self._new_stream() if self._encoding in ("gzip", "deflate") else None

    def _new_stream(self) -> Any:
        return zlib.decompressobj(zlib.MAX_WBITS | 16 if self._encoding == "gzip" else zlib.MAX_WBITS)

    @property
    def is_over_limit(self) -> bool:
        return len(self.body) > self._limit

    @property
    def _largest_expanded(self) -> int:
        return max(FREE_EXPANSION_BYTES, int(self._max_expansion * self._received))

    def feed(self, data: bytes) -> None:
        self._received += len(data)
        if self._stream is None:
            self.body += data
            return
        try:
            while data and (room := min(self._limit, self._largest_expanded) + 1 - len(self.body)) > 0:
                if self._stream.eof:
                    if not data.startswith(b"\x1f\x8b"):
                        return  # what some servers leave behind the end, as browsers do
                    self._stream = self._new_stream()
                self.body += self._stream.decompress(data, room)
                data = self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail
        except zlib.error:
            if self.body or self._encoding != "deflate" or self._received > len(data):
                raise NoPage("bad_encoding") from None
            self._encoding = "raw deflate"  # what some servers mean by deflate (RFC 9110, section 8.4.1.2)
            self._received -= len(data)
            self._stream = zlib.decompressobj(-zlib.MAX_WBITS)
            self.feed(data)

    def check(self) -> None:
        if self.is_over_limit:
            raise NoPage("too_large")
        if self._stream is not None and len(self.body) > self._largest_expanded:
            raise NoPage("too_compressed")

    def check_end(self) -> None:
        if self._stream is not None and self._received and not self._stream.eof:
            raise NoPage("bad_encoding")


def _kind_of(error: aiohttp.ClientError) -> str:
    if isinstance(error, aiohttp.InvalidURL):
        return "bad_url"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "dns"
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, AddressRefusedError):
        return "private_address"
    if isinstance(error, (aiohttp.ClientSSLError, aiohttp.ClientConnectorCertificateError)):
        return "tls"
    if isinstance(error.__cause__, LineTooLong):
        return "headers_too_large"
    if isinstance(error, (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError)):
        return "connection"
    return "bad_answer"
