"""Fetches pages politely and safely: robots.txt, one connection and a gap a host, no private addresses, size limits."""

import asyncio
import email.utils
import ipaddress
import json
import socket
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pyarrow
import pyarrow.parquet
from aiohttp.http_exceptions import ContentEncodingError
from protego import Protego
from yarl import URL

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.base.progress import Bar, progress_bar, say
from gpt2lab.webtext.warc_out import CrawlFolder, FetchedPage, LogLine

LONGEST_WAIT_SECONDS = 120.0
"""The longest Retry-After that is waited out, and the longest Crawl-delay that is worth keeping to."""
ROBOTS_BYTES = 500 * 1024
"""How much of a robots.txt is read (RFC 9309, section 2.5)."""
_CHUNK = 1 << 16
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_BUSY = frozenset({429, 503})
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")


@dataclass(frozen=True)
class FetchOptions:
    """How to fetch. Raises BadOption for values that can't be meant."""

    minimum_gap_seconds: float = 1.0
    """Pause between the end of one request to a host and the start of the next; a Crawl-delay may lengthen it."""
    concurrency: int = 32
    """Hosts visited at once; each has one connection."""
    timeout_seconds: float = 30.0
    """Time limit of one request, from connecting to the last byte."""
    max_bytes: int = 10_000_000
    """Largest page, decompressed; a larger one is an error, not a cut page."""
    max_redirects: int = 5
    """Redirects followed for one link."""
    retries: int = 2
    """Further tries after a broken connection, 429 or 503."""
    backoff_seconds: float = 2.0
    """Pause before the first further try, doubled for each one after it, where the host names none."""
    user_agent: str = "gpt2lab/0.1 (+https://github.com/gpt2lab/gpt2lab)"
    """What we call ourselves; robots.txt is read for the name before the slash."""
    contact: str = ""
    """A mail address or page of whoever runs this crawl, added to the user agent."""
    allow_private: bool = False
    """Connect to private, loopback and other non-public addresses too."""
    warc_bytes: int = 100_000_000
    """Size at which a WARC file is full."""

    def __post_init__(self) -> None:
        least = {"minimum_gap_seconds": 0, "concurrency": 1, "max_bytes": 1, "max_redirects": 0, "retries": 0}
        for name, value in {**least, "backoff_seconds": 0, "warc_bytes": 1}.items():
            if not getattr(self, name) >= value:
                raise BadOption(f"{name}: {getattr(self, name)} is too small; give {value} or more.")
        if not self.timeout_seconds > 0:
            raise BadOption(f"timeout_seconds: {self.timeout_seconds} is too small; give more than 0.")
        if not (self.agent_line.isascii() and self.agent_line.isprintable() and self.robots_name):
            raise BadOption("user_agent, contact: give one line of plain ASCII that begins with a name.")

    @property
    def agent_line(self) -> str:
        """The User-Agent header."""
        return f"{self.user_agent} {self.contact}".strip()

    @property
    def robots_name(self) -> str:
        """The product token that robots.txt files may name (RFC 9309, section 2.2.1)."""
        return self.user_agent.partition("/")[0].strip()


@dataclass(frozen=True)
class FetchSummary:
    """What one call of `fetch` did: pages kept, errors by kind, decompressed bytes, wall-clock seconds."""

    pages: int
    errors: dict[str, int]
    bytes: int
    seconds: float
    skipped_already_done: int


def read_links(path: Path) -> list[str]:
    """Links from a .txt (one a line, # comments), a .jsonl (a `url` each) or a .parquet (a column `url`).

    Raises BadInput, with the line or row, when there is none or one is no text. Links are not judged here.
    """
    readers = {".txt": _links_of_text, ".jsonl": _links_of_jsonl, ".parquet": _links_of_parquet}
    if path.suffix not in readers:
        raise BadInput(f"{path}: can't tell what it holds; give a .txt, .jsonl or .parquet of links.")
    try:
        links = readers[path.suffix](path)
    except (FileNotFoundError, IsADirectoryError):
        raise BadInput(f"{path}: no such file.") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: byte {error.start:,} is not UTF-8; save the list as UTF-8.") from None
    if not links:
        raise BadInput(f"{path}: holds no links.")
    return links


def _links_of_text(path: Path) -> list[str]:
    lines = (line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _links_of_jsonl(path: Path) -> list[str]:
    links = []
    with path.open(encoding="utf-8-sig") as handle:
        for number, line in enumerate(handle, 1):
            if not line.strip():
                continue
            try:
                url = json.loads(line)["url"]
            except (json.JSONDecodeError, KeyError, TypeError):
                url = None
            if not isinstance(url, str):
                raise BadInput(f'{path}: line {number:,} is not of the form {{"url": "https://..."}}.')
            links.append(url)
    return links


def _links_of_parquet(path: Path) -> list[str]:
    try:
        with pyarrow.parquet.ParquetFile(path) as table:
            if "url" not in table.schema_arrow.names:
                raise BadInput(f"{path}: has no column called url.")
            links: list[str] = table.read(columns=["url"]).column("url").to_pylist()
    except (pyarrow.ArrowInvalid, OSError) as error:
        if isinstance(error, (FileNotFoundError, IsADirectoryError)):
            raise
        raise BadInput(f"{path}: not a whole Parquet file ({str(error).splitlines()[0]}).") from None
    for row, url in enumerate(links):
        if not isinstance(url, str):
            raise BadInput(f"{path}: the url of row {row:,} is {url!r}, not text; take such rows out.")
    return links


def fetch(links: Sequence[str], out: Path, options: FetchOptions) -> FetchSummary:
    """Fetch `links` into WARC files and a log in `out`; the same call goes on where a killed one stopped.

    A link that can't be fetched gets an error kind in the log. Raises UserError for an empty list, a folder that is in
    use or holds something else, and a full disk.
    """
    if not links:
        raise BadInput("links: the list is empty; give at least one link.")
    start = time.monotonic()
    with CrawlFolder(out, options.warc_bytes, options.agent_line) as folder:
        distinct = dict.fromkeys(links)
        new = [link for link in distinct if link not in folder.done]
        crawl = _Crawl(options, folder)
        if new:
            with progress_bar("fetch", total=len(new), unit="pages") as bar:
                try:
                    asyncio.run(crawl.run(new, bar))
                except ExceptionGroup as group:  # of the workers; the first is the cause, the others were cancelled
                    raise group.exceptions[0] from group
        else:
            say(f"{out}: all {len(distinct):,} links were fetched before; nothing to do.")
    seconds = time.monotonic() - start
    return FetchSummary(crawl.pages, dict(crawl.errors), crawl.bytes, seconds, len(distinct) - len(new))


class _NoPage(Exception):
    """A link yields no page; `kind` goes to the log."""

    def __init__(self, kind: str, url: str | None = None, status: int | None = None) -> None:
        super().__init__(kind)
        self.kind, self.url, self.status = kind, url, status


class _AddressRefusedError(OSError):
    """The host's address is not a public one."""


@dataclass(frozen=True)
class _Answer:
    """What a host said to one request. The body is read where the status is 200."""

    url: URL
    status: int
    reason: str
    headers: list[tuple[str, str]]
    request_headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key.lower() == name), "")


class _Host:
    """Whose turn it is at one host, and when."""

    def __init__(self, gap: float) -> None:
        self.lock = asyncio.Lock()
        self.gap = gap
        self.not_before = 0.0


class _Crawl:
    """One run of the fetcher: hosts side by side, the links of a host one after another."""

    def __init__(self, options: FetchOptions, folder: CrawlFolder) -> None:
        self.options, self.folder = options, folder
        self.pages = self.bytes = 0
        self.errors: Counter[str] = Counter()
        self._hosts: dict[str | None, _Host] = defaultdict(lambda: _Host(options.minimum_gap_seconds))
        self._robots: dict[URL, asyncio.Task[Protego | str]] = {}
        self._session: aiohttp.ClientSession

    async def run(self, links: list[str], bar: Bar) -> None:
        """Fetch every link; each ends as a page or as an error in the folder."""
        links_by_host: dict[str | None, list[str]] = defaultdict(list)
        for link in links:
            try:
                links_by_host[checked_url(link).host].append(link)
            except _NoPage:
                links_by_host[None].append(link)
        waiting = iter(links_by_host.values())
        connector = aiohttp.TCPConnector(limit=0, socket_factory=self._open_socket)
        headers = {"User-Agent": self.options.agent_line, "Accept": "text/html,application/xhtml+xml,*/*;q=0.5"}
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={**headers, "Accept-Encoding": "gzip, deflate"},
            timeout=aiohttp.ClientTimeout(total=self.options.timeout_seconds),
        )
        async with self._session, asyncio.TaskGroup() as workers:
            for _ in range(min(self.options.concurrency, len(links_by_host))):
                workers.create_task(self._visit_hosts(waiting, bar))

    async def _visit_hosts(self, waiting: Iterator[list[str]], bar: Bar) -> None:
        for links in waiting:
            for link in links:
                await self._take(link)
                errors = ", ".join(f"{kind} {count:,}" for kind, count in self.errors.most_common())
                bar.advance(1, f"{self.bytes / 1e6:,.1f} MB" + (f", no page: {errors}" if errors else ""))

    async def _take(self, link: str) -> None:
        start = time.monotonic()
        try:
            answer = await self._follow(checked_url(link), heed_robots=True)
            if answer.status != 200:
                raise _NoPage(f"http_{answer.status}", str(answer.url), answer.status)
        except _NoPage as why:
            self.errors[why.kind] += 1
            seconds = round(time.monotonic() - start, 3)
            self.folder.add_line(LogLine(link, why.url, why.status, 0, seconds, why.kind))
            return
        self.pages += 1
        self.bytes += len(answer.body)
        self.folder.add_page(
            FetchedPage(
                link=link,
                url=str(answer.url),
                status=answer.status,
                reason=answer.reason,
                path=answer.url.raw_path_qs,
                request_headers=answer.request_headers,
                response_headers=answer.headers,
                body=answer.body,
                seconds=round(time.monotonic() - start, 3),
            )
        )

    async def _follow(self, url: URL, heed_robots: bool) -> _Answer:
        """The answer at the end of the redirects, each of them checked like a link."""
        for _ in range(self.options.max_redirects + 1):
            if heed_robots:
                await self._check_robots(url)
            answer = await self._get(url, is_robots=not heed_robots)
            if answer.status not in _REDIRECTS or not answer.header("location"):
                return answer
            url = checked_url(answer.header("location"), base=url)
        raise _NoPage("too_many_redirects", str(url))

    async def _check_robots(self, url: URL) -> None:
        """Raise _NoPage unless the origin's robots.txt lets us have the page; learn the host's Crawl-delay."""
        origin = url.origin()
        if origin not in self._robots:
            self._robots[origin] = asyncio.create_task(self._read_robots(origin / "robots.txt"))
        rules = await self._robots[origin]
        if isinstance(rules, str):
            raise _NoPage(rules, str(url))
        if not rules.can_fetch(str(url), self.options.robots_name):
            raise _NoPage("robots", str(url))
        delay = rules.crawl_delay(self.options.robots_name) or 0.0
        if delay > LONGEST_WAIT_SECONDS:
            raise _NoPage("crawl_delay", str(url))
        host = self._hosts[url.host]
        if delay > host.gap:
            host.not_before += delay - host.gap
            host.gap = delay

    async def _read_robots(self, url: URL) -> Protego | str:
        """The rules, or the error kind of every page there.

        4xx allows everything; 5xx and a host that can't be reached forbid it (RFC 9309, section 2.3.1). 429 asks for
        fewer requests, so it counts with 5xx.
        """
        try:
            answer = await self._follow(url, heed_robots=False)
        except _NoPage as why:
            return why.kind
        if answer.status >= 500 or answer.status == 429:
            return "robots_unavailable"
        return Protego.parse(answer.body.decode("utf-8", errors="replace"))

    async def _get(self, url: URL, is_robots: bool) -> _Answer:
        """One request and its further tries, each in the host's turn and after its gap."""
        host = self._hosts[url.host]
        tries = self.options.retries + 1
        for number in range(1, tries + 1):
            async with host.lock:
                await asyncio.sleep(host.not_before - time.monotonic())
                pause = 0.0
                try:
                    answer = await self._ask(url, is_robots)
                    if answer.status not in _BUSY:
                        return answer
                    asked = retry_after_seconds(answer.header("retry-after"))
                    pause = min(self._backoff(number) if asked is None else asked, LONGEST_WAIT_SECONDS)
                    if number == tries or (asked or 0) > LONGEST_WAIT_SECONDS:
                        return answer
                except TimeoutError:
                    raise _NoPage("timeout", str(url)) from None
                except aiohttp.ClientError as error:
                    kind = _kind_of(error)
                    if number == tries or kind != "connection":
                        raise _NoPage(kind, str(url)) from None
                    pause = self._backoff(number)
                finally:
                    host.not_before = time.monotonic() + max(host.gap, pause)
        raise AssertionError("the last try returns or raises")

    def _backoff(self, number: int) -> float:
        return self.options.backoff_seconds * 2.0 ** (number - 1)

    async def _ask(self, url: URL, is_robots: bool) -> _Answer:
        limit = ROBOTS_BYTES if is_robots else self.options.max_bytes
        async with self._session.get(url, allow_redirects=False) as response:
            body = bytearray()
            if response.status == 200:
                async for chunk in response.content.iter_chunked(_CHUNK):
                    body += chunk
                    if len(body) > limit:
                        if is_robots:
                            break
                        raise _NoPage("too_large", str(url), response.status)
            return _Answer(
                url=url,
                status=response.status,
                reason=response.reason or "",
                headers=[(key.decode("latin-1"), value.decode("latin-1")) for key, value in response.raw_headers],
                request_headers=list(response.request_info.headers.items()),
                body=bytes(body[:limit]),
            )

    def _open_socket(self, address: Any) -> socket.socket:
        """A socket for an address as resolved, right before it is connected; so no second look-up can change it."""
        family, kind, protocol, _, place = address
        if not self.options.allow_private and not is_public(place[0]):
            raise _AddressRefusedError("not a public address")
        return socket.socket(family, kind, protocol)


def _kind_of(error: aiohttp.ClientError) -> str:
    if isinstance(error, aiohttp.InvalidURL):
        return "bad_url"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "dns"
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, _AddressRefusedError):
        return "private_address"
    if isinstance(error, (aiohttp.ClientSSLError, aiohttp.ClientConnectorCertificateError)):
        return "tls"
    if isinstance(error.__cause__, ContentEncodingError):
        return "bad_encoding"
    if isinstance(error, (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError)):
        return "connection"
    return "bad_answer"


def is_public(address: str) -> bool:
    """Whether an IP address is one that anybody on the internet would reach; NAT64 is judged by what it leads to."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in _NAT64:
            return is_public(str(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)))
        if ip not in _GLOBAL_UNICAST or ip.sixtofour or ip.teredo:
            return False
    return ip.is_global and not ip.is_multicast


def checked_url(text: str, base: URL | None = None) -> URL:
    """A link, or a redirect seen from `base`, as an http or https URL without fragment and password."""
    if not text.isprintable() or (base is None and " " in text):
        raise _NoPage("bad_url")
    try:
        url = URL(text) if base is None else base.join(URL(text))
        if url.scheme not in ("http", "https") or not url.host or url.port == 0:
            raise _NoPage("bad_url")
        (url.raw_host or "").encode("idna")  # what the resolver will do; it raises for labels over 63 characters
        return url.with_user(None).with_fragment(None)
    except ValueError:
        raise _NoPage("bad_url") from None


def retry_after_seconds(value: str) -> float | None:
    """Seconds that a Retry-After header asks for, in either of its forms; None where it says nothing."""
    if value.strip().isdecimal():
        return float(value)
    try:
        date = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (date.astimezone(UTC) - datetime.now(UTC)).total_seconds())
