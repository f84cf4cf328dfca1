"""A crawl as a process of its own, for tests that kill it: python kill_crawl.py LINKS OUT."""

import sys
from pathlib import Path

from gpt2lab.webtext.crawl.fetch import FetchOptions, fetch

fetch(
    Path(sys.argv[1]),
    Path(sys.argv[2]),
    FetchOptions(allow_private=True, minimum_gap_seconds=0.0, concurrency=20, warc_bytes=300_000),
)
