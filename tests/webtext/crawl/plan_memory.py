"""Plans synthetic links in a process of its own, prints its peak memory: python plan_memory.py FOLDER LINKS HOSTS."""

import json
import sys
import time
from pathlib import Path

from tests.peak_memory import peak_memory_bytes

from gpt2lab.webtext.crawl.plan import Plan

folder, links, hosts = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
start = time.monotonic()
# A multiplier prime to all of them, so that the links of a host are far apart as in a real list.
stream = (f"https://www.host{n * 48271 % hosts}.example/section/article-{n}.html?from=reddit" for n in range(links))
with Plan(folder / "plan.sqlite", stream) as plan:
    planned = time.monotonic() - start
    read = sum(1 for queue in plan.queues() for _ in plan.links_of(queue))
    size = (folder / "plan.sqlite").stat().st_size
print(
    json.dumps(
        {
            "links": read,
            "peak_mb": peak_memory_bytes() / 1e6,
            "plan_mb": size / 1e6,
            "plan_seconds": planned,
            "read_seconds": time.monotonic() - start - planned,
        }
    )
)
