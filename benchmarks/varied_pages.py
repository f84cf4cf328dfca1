"""Crawls of any size for benchmarks: real pages whose words are exchanged, so that each copy is a page of its own.

The pages are those of the shared data (WARC files, and the test pages of readability). One copy in ten keeps its words
but for one in fifty: a near duplicate of the page before it.
"""

import gzip
import io
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from fastwarc import ArchiveIterator, WarcRecordType
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from gpt2lab.webtext.pages.page import decode_page

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"
PAGES_PER_FILE = 500
EXCHANGED, EXCHANGED_IN_NEAR_DUPLICATES, NEAR_DUPLICATES = 0.4, 0.02, 0.1

_TEXT = re.compile(r">([^<]{20,})<")
_WORD = re.compile(r"[^\W\d_]{4,}")
_HIDDEN = re.compile(r"(<(?:script|style)\b.*?</(?:script|style)>)", re.DOTALL | re.IGNORECASE)


def real_pages(data: Path = SHARED_DATA) -> list[str]:
    """The HTML of all readable pages, in a fixed order."""
    found = [
        gzip.decompress(path.read_bytes()) for path in sorted(data.glob("web-extract/readability/*/source.html.gz"))
    ]
    for path in sorted(data.glob("warc/dolma/*.warc.gz")) + sorted(data.glob("warc/resiliparse/warcfile.warc.gz")):
        with path.open("rb") as handle:
            records = ArchiveIterator(handle, record_types=WarcRecordType.response, auto_decode="all")
            found += [record.reader.read() for record in records if (record.http_content_type or "").endswith("html")]
    if not found:
        sys.exit(f"error: {data}: the pages to vary are not here; give --data FOLDER with web-extract/ and warc/.")
    return [page for data in found if (page := decode_page(data)) and len(page) < 1 << 20]


def varied(html: str, words: list[str], share: float, chance: random.Random) -> str:
    """The page with a share of the longer words of its text exchanged for others of `words`."""

    def exchanged(match: re.Match[str]) -> str:
        return chance.choice(words) if chance.random() < share else match[0]

    parts = _HIDDEN.split(html)
    for n in range(0, len(parts), 2):
        parts[n] = _TEXT.sub(lambda match: f">{_WORD.sub(exchanged, match[1])}<", parts[n])
    return "".join(parts)


def write_crawl(folder: Path, pages: int, seed: int = 0, data: Path = SHARED_DATA) -> int:
    """Write `pages` pages as WARC files of PAGES_PER_FILE; returns the bytes of HTML."""
    folder.mkdir(parents=True)
    size = 0
    numbered = enumerate(_pages(pages, seed, data))
    for start in range(0, pages, PAGES_PER_FILE):
        with (folder / f"crawl-{start // PAGES_PER_FILE:05d}.warc.gz").open("wb") as handle:
            writer = WARCWriter(handle, gzip=True)
            for number, html in (next(numbered) for _ in range(min(PAGES_PER_FILE, pages - start))):
                body = html.encode(errors="replace")
                size += len(body)
                headers = [("Content-Type", "text/html; charset=utf-8"), ("Content-Length", str(len(body)))]
                url = f"https://site{number % 997}.example.com/{number}"
                http = StatusAndHeaders("200 OK", headers, protocol="HTTP/1.1")
                writer.write_record(
                    writer.create_warc_record(url, "response", payload=io.BytesIO(body), http_headers=http)
                )
    return size


def _pages(count: int, seed: int, data: Path) -> Iterator[str]:
    originals = real_pages(data)
    vocabulary = [_WORD.findall(page) or ["nothing"] for page in originals]
    chance = random.Random(seed)
    before = originals[0]
    for number in range(count):
        which = number % len(originals)
        if number and chance.random() < NEAR_DUPLICATES:
            yield varied(before, vocabulary[which], EXCHANGED_IN_NEAR_DUPLICATES, chance)
        else:
            before = varied(originals[which], vocabulary[which], EXCHANGED, chance)
            yield before
