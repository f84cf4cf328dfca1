"""The peer of `benchmarks.fetch`: a plain Scrapy spider that writes pages to WARC. Runs in Scrapy's own environment.

`python scrapy_spider.py LINKS WARC GAP CONCURRENCY`
"""

import io
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import scrapy
from scrapy.crawler import CrawlerProcess
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

LINKS, WARC, GAP, CONCURRENCY = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])


def pairs(headers: scrapy.http.Headers) -> list[tuple[str, str]]:
    """Headers as warcio wants them."""
    return [(name.decode(), value.decode("latin-1")) for name, values in headers.items() for value in values]


class PagesToWarc(scrapy.Spider):
    """Asks for every link and writes each answer."""

    name = "pages_to_warc"

    async def start(self) -> AsyncIterator[scrapy.Request]:
        """Every link, in the order of the list."""
        self.file = WARC.open("wb")
        self.writer = WARCWriter(self.file, gzip=True, warc_version="1.1")
        for link in LINKS.read_text().split():
            yield scrapy.Request(link)

    def parse(self, response: scrapy.http.Response) -> Iterator[None]:
        """Write the records of one page."""
        http = StatusAndHeaders(f"{response.status} OK", pairs(response.headers), protocol="HTTP/1.1")
        page = self.writer.create_warc_record(
            response.url, "response", payload=io.BytesIO(response.body), length=len(response.body), http_headers=http
        )
        wish = StatusAndHeaders(f"GET {response.url} HTTP/1.1", pairs(response.request.headers), is_http_request=True)
        request = self.writer.create_warc_record(response.url, "request", http_headers=wish)
        self.writer.write_request_response_pair(request, page)
        yield from ()

    def closed(self, _: str) -> None:
        """Close the file."""
        self.file.close()


process = CrawlerProcess(
    {
        "USER_AGENT": "gpt2lab-benchmark-peer/0.1",
        "ROBOTSTXT_OBEY": True,
        "DOWNLOAD_DELAY": GAP,
        "DOWNLOAD_DELAY_JITTER": 0,
        "CONCURRENT_REQUESTS": CONCURRENCY,
        "CONCURRENT_REQUESTS_PER_DOMAIN": 1,
        # What Scrapy's documentation recommends for broad crawls (docs, "Broad Crawls").
        "SCHEDULER_PRIORITY_QUEUE": "scrapy.pqueues.DownloaderAwarePriorityQueue",
        "COOKIES_ENABLED": False,
        "RETRY_ENABLED": False,
        "LOG_LEVEL": "WARNING",
        "TELNETCONSOLE_ENABLED": False,
    }
)
process.crawl(PagesToWarc)
process.start()
