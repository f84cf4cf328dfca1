"""How fast, how large and how polite is the fetcher? Ours beside a plain Scrapy spider, from a server on loopback.

`python -m benchmarks.fetch [--json FILE] [--quick] [--scrapy PYTHON]` (`make bench-fetch` sets up Scrapy's environment
first). Each run is a process that starts, fetches 10,000 pages of 200 hosts into gzipped WARC files, and ends; its
whole wall-clock time counts. Runs of the two are interleaved; medians are shown with the spread.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from warcio.archiveiterator import ArchiveIterator

from benchmarks.web_server import LATENCY_SECONDS, Manners, host_address, manners, web_server
from gpt2lab.base.machine import describe_machine, describe_versions

GAP_SECONDS = 0.1
HOSTS = 200
SCRAPY_PYTHON = Path(".venv-scrapy/bin/python")
PACKAGES = ("gpt2lab", "aiohttp", "warcio", "protego", "yarl", "pyarrow")


@dataclass(frozen=True)
class Run:
    """One crawl by one crawler: pages found in its WARC files, wall-clock and processor seconds, and its manners."""

    who: str
    pages: int
    seconds: float
    cpu_seconds: float
    peak_memory_mb: float
    warc_mb: float
    server: Manners

    @property
    def pages_per_second(self) -> float:
        """Pages over the whole wall-clock time."""
        return self.pages / self.seconds


def main() -> None:
    """Run it, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="1,000 pages, one run each")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--scrapy", type=Path, default=SCRAPY_PYTHON, help="a Python that has Scrapy and warcio")
    asked = parser.parse_args()
    pages, times = (1_000, 1) if asked.quick else (10_000, asked.runs)
    crawlers = ["gpt2lab"]
    if asked.scrapy.exists():
        crawlers.append("scrapy")
    runs = []
    for number in range(times):
        for who in crawlers if number % 2 == 0 else crawlers[::-1]:
            runs.append(measure(who, pages, asked.scrapy))
            print(f"{who}: {runs[-1].pages_per_second:,.0f} pages/s", file=sys.stderr)
    figures = summarize(runs, pages)
    print_table(runs, figures)
    if asked.json:
        versions = describe_versions(PACKAGES)
        if "scrapy" in crawlers:
            versions["scrapy"] = output_of(asked.scrapy, "-c", "import scrapy; print(scrapy.__version__)").strip()
        raw = [asdict(run) | {"pages_per_second": run.pages_per_second} for run in runs]
        whole = figures | {"raw": raw, "machine": describe_machine(), "versions": versions}
        asked.json.write_text(json.dumps(whole, indent=2) + "\n")


def measure(who: str, pages: int, scrapy_python: Path) -> Run:
    """One crawl by a process of its own, from a server that is new too."""
    with tempfile.TemporaryDirectory(prefix="gpt2lab-bench-") as name:
        folder = Path(name)
        out, links = folder / "pages", folder / "links.txt"
        out.mkdir()
        with web_server(HOSTS, folder / "server.json") as port:
            every = [f"http://{host_address(n % HOSTS)}:{port}/{n // HOSTS}/page.html" for n in range(pages)]
            random.Random(0).shuffle(every)
            links.write_text("\n".join(every) + "\n")
            if who == "gpt2lab":
                command = [sys.executable, "-m", "gpt2lab", "fetch", str(links), "--out", str(out), "--allow-private"]
                command += ["--minimum-gap-seconds", str(GAP_SECONDS), "--concurrency", str(HOSTS), "--json"]
            else:
                spider = Path(__file__).with_name("scrapy_spider.py")
                command = [str(scrapy_python), str(spider), str(links), str(out / "pages.warc.gz")]
                command += [str(GAP_SECONDS), str(HOSTS)]
            start = time.monotonic()
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.monotonic() - start
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                sys.exit(f"error: {who} ended with {process.returncode}: {' '.join(command)}")
        found = archived_links(out)
        if found != set(every):
            sys.exit(f"error: {who} archived {len(found):,} of {pages:,} pages; the run counts for nothing.")
        size = sum(file.stat().st_size for file in out.glob("*.warc.gz"))
        return Run(
            who,
            len(found),
            seconds,
            usage.ru_utime + usage.ru_stime,
            usage.ru_maxrss / 1024,
            size / 1e6,
            manners(folder / "server.json", GAP_SECONDS),
        )


def archived_links(out: Path) -> set[str]:
    """The addresses of all responses in the WARC files of a folder."""
    found = []
    for path in out.glob("*.warc.gz"):
        with path.open("rb") as handle:
            records = ArchiveIterator(handle)
            found += [r.rec_headers.get_header("WARC-Target-URI") for r in records if r.rec_type == "response"]
    if len(found) != len(set(found)):
        sys.exit(f"error: {out}: some pages were archived twice; the run counts for nothing.")
    return set(found)


def output_of(*command: str | Path) -> str:
    """What a command prints."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def limit_pages_per_second() -> float:
    """What gap and latency allow when nothing else takes time."""
    return HOSTS / (GAP_SECONDS + statistics.mean(LATENCY_SECONDS))


def summarize(runs: Sequence[Run], pages: int) -> dict[str, Any]:
    """The figures of the claim; a ratio against an absent peer is missing."""
    ours = [run for run in runs if run.who == "gpt2lab"]
    theirs = [run for run in runs if run.who == "scrapy"]
    figures: dict[str, Any] = {
        "pages_per_second": statistics.median(run.pages_per_second for run in ours),
        "peak_memory_mb": max(run.peak_memory_mb for run in ours),
        "gap_violations": sum(run.server.gap_violations for run in ours),
        "overlaps": sum(run.server.overlaps for run in ours),
        "pages": pages,
        "hosts": HOSTS,
        "gap_seconds": GAP_SECONDS,
        "limit_pages_per_second": limit_pages_per_second(),
    }
    if theirs:
        theirs_median = statistics.median(run.pages_per_second for run in theirs)
        figures["vs_scrapy"] = figures["pages_per_second"] / theirs_median
    return figures


def print_table(runs: Sequence[Run], figures: dict[str, Any]) -> None:
    """Ours, the peer, the limit, the ratio."""
    print(f"{figures['pages']:,} pages of {HOSTS} hosts, a gap of {GAP_SECONDS} s, latency of 20 to 50 ms")
    print(f"{'':12}{'pages/s':>10}{'(range)':>16}{'CPU ms/page':>13}{'memory MB':>11}{'WARC MB':>9}{'short gaps':>12}")
    for who in ("gpt2lab", "scrapy"):
        some = [run for run in runs if run.who == who]
        if not some:
            print(f"{who:12}{'absent':>10}")
            continue
        rates = [run.pages_per_second for run in some]
        cpu = statistics.median(run.cpu_seconds / run.pages * 1000 for run in some)
        spread = f"({min(rates):,.0f} to {max(rates):,.0f})"
        print(
            f"{who:12}{statistics.median(rates):>10,.0f}{spread:>16}{cpu:>13.2f}"
            f"{max(run.peak_memory_mb for run in some):>11,.0f}{some[-1].warc_mb:>9,.1f}"
            f"{sum(run.server.gap_violations for run in some):>12,}"
        )
    print(f"{'limit':12}{limit_pages_per_second():>10,.0f}   (gap and latency alone)")
    ratio = f"{figures['vs_scrapy']:.2f}" if "vs_scrapy" in figures else "unknown: Scrapy is absent"
    print(f"{'ours/Scrapy':12}{ratio:>10}")


if __name__ == "__main__":
    main()
