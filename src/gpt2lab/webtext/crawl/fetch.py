"""Fetches pages politely and safely: robots.txt, one connection and a gap a host, no private addresses, size limits."""

import asyncio
import email.utils
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

from aiohttp.abc import AbstractResolver
from yarl import URL

from gpt2lab.base.errors import BadInput
from gpt2lab.base.progress import Bar, progress_bar, say
from gpt2lab.webtext.crawl.addresses import checked_url, host_name
from gpt2lab.webtext.crawl.answers import Answer, NoPage
from gpt2lab.webtext.crawl.crawl_folder import CrawlFolder
from gpt2lab.webtext.crawl.fetch_options import FetchOptions
from gpt2lab.webtext.crawl.hosts import HostState, HostStates
from gpt2lab.webtext.crawl.http import HttpClient
from gpt2lab.webtext.crawl.link_lists import read_links, stream_links
from gpt2lab.webtext.crawl.page_writer import PageWriter
from gpt2lab.webtext.crawl.plan import Plan, Queue
from gpt2lab.webtext.crawl.robots import ROBOTS_BYTES, Rules, rules_of
from gpt2lab.webtext.crawl.warc_out import FetchedPage, LogLine

__all__ = ["FetchOptions", "FetchSummary", "fetch", "read_links"]

LONGEST_WAIT_SECONDS = 120.0
"""The longest Retry-After that is waited out."""
FAILURES_BEFORE_GIVING_UP = 10
"""After so many links in a row without any answer, the rest of a host's links are not tried but logged alike."""
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_BUSY = frozenset({429, 503})
_NO_ANSWER = frozenset({"timeout", "connection", "tls"})
_SECONDS_BETWEEN_LOOKS = 0.2


@dataclass(frozen=True)
class FetchSummary:
    """What one call of `fetch` did: pages kept, errors by kind, decompressed bytes, wall-clock seconds."""

    pages: int
    errors: dict[str, int]
    bytes: int
    seconds: float
    skipped_already_done: int


def fetch(
    links: Path | Iterable[str], out: Path, options: FetchOptions, resolver: AbstractResolver | None = None
) -> FetchSummary:
    """Fetch links, or a file of them, into WARC files and a log in `out`; the same call goes on where one was killed.

    A link that can't be fetched gets an error kind in the log. Names are looked up by the system, or by `resolver`.
    Raises UserError for an empty list, a folder that is in use or holds something else, and a full disk.
    """
    start = time.monotonic()
    stream = stream_links(links) if isinstance(links, Path) else iter(links)
    first = next(stream, None)
    if first is None:
        said = f"{links}: holds no links" if isinstance(links, Path) else "links: the list is empty"
        raise BadInput(f"{said}; give at least one link.")
    with (
        CrawlFolder(out, options.warc_bytes, options.agent_line) as folder,
        _plan(chain([first], stream), folder, options) as plan,
    ):
        crawl = _Crawl(options, folder, resolver)
        if plan.links:
            with progress_bar("fetch", total=plan.links, unit="pages") as bar:
                try:
                    asyncio.run(crawl.run(plan, bar))
                except ExceptionGroup as group:  # of the workers; the first is the cause, the others were cancelled
                    raise group.exceptions[0] from group
        elif plan.skipped:
            say(f"{out}: all {plan.skipped:,} links were fetched before; nothing to do.")
        else:
            say(f"{out}: no host of the list belongs to shard {options.shard}; nothing to do.")
        skipped = plan.skipped
    return FetchSummary(crawl.pages, dict(crawl.errors), crawl.bytes, time.monotonic() - start, skipped)


def _plan(links: Iterable[str], folder: CrawlFolder, options: FetchOptions) -> Plan:
    with progress_bar("plan", unit="links") as bar:
        return Plan(
            folder.path / ".plan.sqlite",
            links,
            folder.take_up(),
            options.takes_host,
            lambda count: bar.advance(count - bar.done),
        )


class _Crawl:
    """One run of the fetcher: hosts side by side, the links of a host one after another."""

    def __init__(self, options: FetchOptions, folder: CrawlFolder, resolver: AbstractResolver | None) -> None:
        self.options, self.folder, self._resolver = options, folder, resolver
        self.pages = self.bytes = 0
        self.errors: Counter[str] = Counter()
        self._hosts = HostStates(options.minimum_gap_seconds)
        self._http: HttpClient
        self._writer: PageWriter

    async def run(self, plan: Plan, bar: Bar) -> None:
        """Fetch every link; each ends as a page or as an error in the folder."""
        queues = plan.queues()
        self._http, self._writer = HttpClient(self.options, self._resolver), PageWriter(self.folder)
        async with self._http, self._writer, asyncio.TaskGroup() as group:
            watchers = [group.create_task(self._writer.failure()), group.create_task(self._show(bar))]
            visitors = [self._visit_hosts(plan, queues) for _ in range(min(self.options.concurrency, plan.hosts))]
            await asyncio.gather(*map(group.create_task, visitors))
            for watcher in watchers:
                watcher.cancel()
        self._tell(bar)

    async def _show(self, bar: Bar) -> None:
        while True:
            await asyncio.sleep(_SECONDS_BETWEEN_LOOKS)
            self._tell(bar)

    def _tell(self, bar: Bar) -> None:
        errors = ", ".join(f"{kind} {count:,}" for kind, count in self.errors.most_common())
        done = self.pages + self.errors.total()
        bar.advance(done - bar.done, f"{self.bytes / 1e6:,.1f} MB" + (f", no page: {errors}" if errors else ""))

    async def _visit_hosts(self, plan: Plan, queues: Iterator[Queue]) -> None:
        for queue in queues:
            kind, failures = None, 0
            links = plan.links_of(queue)
            for link in links:
                kind = await self._take(link)
                failures = failures + 1 if kind in _NO_ANSWER else 0
                if failures == FAILURES_BEFORE_GIVING_UP:
                    break
            for link in links:
                await self._no_page(link, NoPage(kind or ""), 0.0)

    async def _take(self, link: str) -> str | None:
        """Fetch a link into the folder; returns the error kind, or None for a page."""
        start = time.monotonic()
        hops: list[str] = []
        try:
            answer = await self._follow(checked_url(link), hops, heed_robots=True)
            if answer.status != 200:
                raise NoPage(f"http_{answer.status}", str(answer.url), answer.status)
        except NoPage as why:
            await self._no_page(link, why, round(time.monotonic() - start, 3))
            return why.kind
        await self._writer.add(
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
                date=_now(),
                address=answer.address,
                hops=tuple(hops),
            )
        )
        self.pages += 1
        self.bytes += len(answer.body)
        return None

    async def _no_page(self, link: str, why: NoPage, seconds: float) -> None:
        self.errors[why.kind] += 1
        await self._writer.add(LogLine(link, why.url, why.status, 0, seconds, why.kind, _now()))
        await asyncio.sleep(0)  # thousands of links of a dead host follow each other without any other wait

    async def _follow(self, url: URL, hops: list[str], heed_robots: bool) -> Answer:
        """The answer at the end of the redirects, each of them checked like a link; `hops` are those that redirected.

        Where robots.txt itself is asked for, it is read up to ROBOTS_BYTES.
        """
        for _ in range(self.options.max_redirects + 1):
            with self._hosts.use(host_name(url)) as host:
                if heed_robots:
                    await self._check_robots(url, host)
                answer = await self._ask_in_turn(url, host, None if heed_robots else ROBOTS_BYTES)
            if answer.status not in _REDIRECTS or not answer.header("location"):
                return answer
            hops.append(str(url))
            url = checked_url(answer.header("location"), base=url)
        raise NoPage("too_many_redirects", str(url))

    async def _check_robots(self, url: URL, host: HostState) -> None:
        """Raise NoPage unless the origin's robots.txt lets us have the page; learn the host's Crawl-delay."""
        origin = url.origin()
        known = host.robots.get(origin)
        if known is None or (known.done() and known.result().until < time.monotonic()):
            known = host.robots[origin] = asyncio.create_task(self._read_robots(origin / "robots.txt"))
        rules = await known
        host.robots_bytes = sum(task.result().size for task in host.robots.values() if task.done())
        if refusal := rules.forbids(str(url), self.options.robots_name):
            raise NoPage(refusal, str(url))
        host.lengthen_gap(rules.delay)

    async def _read_robots(self, url: URL) -> Rules:
        try:
            return rules_of(await self._follow(url, [], heed_robots=False), self.options.robots_name)
        except NoPage as why:
            return Rules(why.kind)

    async def _ask_in_turn(self, url: URL, host: HostState, cut_at: int | None) -> Answer:
        """One request and its further tries, each in the host's turn and after its gap."""
        tries = self.options.retries + 1
        for number in range(1, tries + 1):
            async with host.lock:
                await host.turn()
                pause = 0.0
                try:
                    answer = await self._http.ask(url, cut_at)
                    if answer.status not in _BUSY:
                        return answer
                    asked = retry_after_seconds(answer.header("retry-after"))
                    pause = min(self._backoff(number) if asked is None else asked, LONGEST_WAIT_SECONDS)
                    if number == tries or (asked or 0) > LONGEST_WAIT_SECONDS:
                        return answer
                except NoPage as why:
                    if number == tries or why.kind != "connection":
                        raise
                    pause = self._backoff(number)
                finally:
                    host.rest(pause)
        raise AssertionError("the last try returns or raises")

    def _backoff(self, number: int) -> float:
        return self.options.backoff_seconds * 2.0 ** (number - 1)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def retry_after_seconds(value: str) -> float | None:
    """Seconds that a Retry-After header asks for, in either of its forms; None where it says nothing."""
    if value.strip().isdecimal():
        return float(value)
    try:
        date = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (date.astimezone(UTC) - datetime.now(UTC)).total_seconds())
