"""Writes what a crawl brings in a thread of its own, in order, so that compressing pages does not hold up fetching."""

import asyncio
from queue import Empty, SimpleQueue
from threading import Thread

from gpt2lab.webtext.crawl.crawl_folder import CrawlFolder
from gpt2lab.webtext.crawl.warc_out import FetchedPage, LogLine

MOST_BYTES_WAITING = 32 << 20
MOST_ITEMS_AT_ONCE = 64
_ITEM_BYTES = 2048  # an item's headers and addresses, roughly

Item = FetchedPage | LogLine


class PageWriter:
    """Use as an async context manager. Leaving it waits until all is written; it stops at the first failure."""

    def __init__(self, folder: CrawlFolder) -> None:
        self._folder = folder
        self._queue: SimpleQueue[Item | None] = SimpleQueue()
        self._thread = Thread(target=self._write_all, name="page-writer", daemon=True)
        self._loop = asyncio.get_running_loop()
        self._failed: asyncio.Future[None] = self._loop.create_future()
        self._room = asyncio.Event()
        self._room.set()
        self._waiting_bytes = 0

    async def __aenter__(self) -> "PageWriter":
        self._thread.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._queue.put(None)
        # On a loop that runs on, so that a failure of the last write arrives.
        while self._thread.is_alive():
            await asyncio.sleep(0.01)
        await asyncio.sleep(0)
        if self._failed.done() and (error := self._failed.exception()) and kind is None:
            raise error

    async def failure(self) -> None:
        """Never returns; raises what stopped the writer."""
        await asyncio.shield(self._failed)

    async def add(self, item: Item) -> None:
        """Hand over a page or a log line; waits while too much is waiting."""
        while self._waiting_bytes > MOST_BYTES_WAITING:
            await self._room.wait()
        size = _size(item)
        self._waiting_bytes += size
        if self._waiting_bytes > MOST_BYTES_WAITING:
            self._room.clear()
        self._queue.put(item)

    def _write_all(self) -> None:
        is_last = False
        try:
            while not is_last:
                items = [self._queue.get()]
                try:
                    while len(items) < MOST_ITEMS_AT_ONCE:
                        items.append(self._queue.get_nowait())
                except Empty:
                    pass
                real = [item for item in items if item is not None]
                is_last = len(real) < len(items)
                self._folder.add(real)
                self._loop.call_soon_threadsafe(self._written, sum(map(_size, real)))
        except BaseException as error:
            self._loop.call_soon_threadsafe(self._fail, error)

    def _written(self, size: int) -> None:
        self._waiting_bytes -= size
        if self._waiting_bytes <= MOST_BYTES_WAITING:
            self._room.set()

    def _fail(self, error: BaseException) -> None:
        if not self._failed.done():
            self._failed.set_exception(error)


def _size(item: Item) -> int:
    return _ITEM_BYTES + (len(item.body) if isinstance(item, FetchedPage) else 0)
