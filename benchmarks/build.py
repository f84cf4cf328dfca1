"""How fast is a whole build, WARC in, Parquet out? Ours beside datatrove's blocks in the order FineWeb used them.

`python -m benchmarks.build [--json FILE] [--quick] [--datatrove PYTHON]` (`make bench-build` sets up datatrove's
environment first). The crawl is made of real pages with exchanged words (benchmarks/varied_pages.py). Each run is a
process that starts, reads WARC files, extracts, repairs, filters, removes near duplicates, writes Parquet with what was
removed beside it, and ends; its whole wall-clock time counts. Runs are interleaved; medians are shown with the spread.
Ours runs as it is and with the peer's extractor. Last comes a larger crawl, on which starting the processes no longer
counts: with one worker and with two, and to see whether the rate stays as the input grows.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.varied_pages import SHARED_DATA, write_crawl
from gpt2lab.base.machine import PeakMemory, describe_machine, describe_versions

DATATROVE_PYTHON = Path(".venv-datatrove/bin/python")
PACKAGES = ("gpt2lab", "fastwarc", "resiliparse", "trafilatura", "daft", "rensa", "pyarrow", "ftfy", "py3langid")
OURS = {
    "gpt2lab": ("--workers", "2"),
    "gpt2lab, trafilatura": ("--workers", "2", "--extractor", "trafilatura"),
}
ALONE = {"gpt2lab, one worker": ("--workers", "1")}
PEER = "datatrove"


@dataclass(frozen=True)
class Run:
    """One build by one program: wall-clock seconds, those of its stages, peak memory of its processes, documents."""

    who: str
    pages: int
    seconds: float
    stage_seconds: float
    peak_memory_mb: float
    documents: int

    @property
    def pages_per_second(self) -> float:
        """Pages over the whole wall-clock time."""
        return self.pages / self.seconds


def main() -> None:
    """Run it, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="300 pages, one run each, no larger crawl")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--pages", type=int, default=500)
    parser.add_argument("--growth", type=int, default=100, help="how much larger the large crawl is")
    parser.add_argument("--data", type=Path, default=SHARED_DATA, help="the shared data, for their pages")
    parser.add_argument("--datatrove", type=Path, default=DATATROVE_PYTHON, help="a Python that has datatrove")
    asked = parser.parse_args()
    pages, times, growth = (300, 1, 1) if asked.quick else (asked.pages, asked.runs, asked.growth)
    who = [*OURS, *([PEER] if asked.datatrove.exists() else [])]
    runs, grown = [], []
    with tempfile.TemporaryDirectory(prefix="gpt2lab-bench-") as name:
        crawl = Path(name) / "crawl"
        write_crawl(crawl, pages, data=asked.data)
        for number in range(times):
            for one in who if number % 2 == 0 else who[::-1]:
                runs.append(measure(one, crawl, pages, asked.datatrove))
                say(runs[-1])
        if growth > 1:
            large = Path(name) / "large"
            write_crawl(large, growth * pages, data=asked.data)
            for one in ("gpt2lab", *ALONE):
                grown.append(measure(one, large, growth * pages, asked.datatrove))
                say(grown[-1])
    figures = summarize(runs, grown)
    print_table(runs, grown, figures)
    if asked.json:
        versions = describe_versions(PACKAGES)
        if PEER in who:
            ask = "from importlib.metadata import version as v; print(v('datatrove'), v('trafilatura'))"
            found = subprocess.run([asked.datatrove, "-c", ask], check=True, capture_output=True, text=True)
            versions[PEER], versions["trafilatura of datatrove"] = found.stdout.split()
        raw = [asdict(run) | {"pages_per_second": run.pages_per_second} for run in runs + grown]
        whole = figures | {"raw": raw, "machine": describe_machine(), "versions": versions}
        asked.json.write_text(json.dumps(whole, indent=2) + "\n")


def say(run: Run) -> None:
    """Progress, for who watches."""
    print(f"{run.who}: {run.pages:,} pages, {run.pages_per_second:,.1f} pages/s", file=sys.stderr)


def measure(who: str, crawl: Path, pages: int, datatrove: Path) -> Run:
    """One build by processes of its own into a folder that is deleted."""
    with tempfile.TemporaryDirectory(prefix="gpt2lab-bench-") as name:
        out = Path(name) / "out"
        if who == PEER:
            command = [datatrove, "-P", Path(__file__).with_name("datatrove_build.py"), crawl, out, "2"]
        else:
            command = [sys.executable, "-m", "gpt2lab", "build", crawl, "--out", out, "--json", *(OURS | ALONE)[who]]
        start = time.monotonic()
        with PeakMemory() as memory:
            done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
        seconds = time.monotonic() - start
        if done.returncode:
            sys.exit(f"error: {who} ended with {done.returncode}: {done.stderr[-2000:]}")
        report = {} if who == PEER else json.loads(done.stdout)
        if report and report["pages"] != pages:
            sys.exit(f"error: {who} saw {report['pages']:,} of {pages:,} pages; the run counts for nothing.")
        stages = sum(report["seconds"].values()) if report else seconds
        return Run(who, pages, seconds, stages, memory.peak / 1e6, count_documents(out / "documents"))


def count_documents(folder: Path) -> int:
    """Rows of the Parquet files in a folder."""
    import pyarrow.parquet

    return sum(pyarrow.parquet.read_metadata(file).num_rows for file in folder.glob("*.parquet"))


def rate(runs: Sequence[Run], who: str) -> float | None:
    """Median pages a second; None when it did not run."""
    rates = [run.pages_per_second for run in runs if run.who == who]
    return statistics.median(rates) if rates else None


def summarize(runs: Sequence[Run], grown: Sequence[Run]) -> dict[str, Any]:
    """The figures of the claim; a ratio against an absent peer is missing."""
    ours, same, theirs = (rate(runs, who) for who in ("gpt2lab", "gpt2lab, trafilatura", PEER))
    figures: dict[str, Any] = {"pages_per_second": ours, "pages": runs[0].pages}
    if theirs:
        figures |= {"pages_per_second_vs_datatrove": ours / theirs, "same_extractor_vs_datatrove": same / theirs}
    if grown:
        small = statistics.median(run.pages / run.stage_seconds for run in runs if run.who == "gpt2lab")
        figures["two_core_speedup"] = grown[0].pages_per_second / grown[1].pages_per_second
        figures["growth"] = grown[0].pages / runs[0].pages
        figures["rate_when_grown"] = grown[0].pages_per_second / ours
        figures["stages_rate_when_grown"] = grown[0].pages / grown[0].stage_seconds / small
        figures["memory_when_grown_mb"] = grown[0].peak_memory_mb
    return figures


def print_table(runs: Sequence[Run], grown: Sequence[Run], figures: dict[str, Any]) -> None:
    """Ours, the peer, the ratios."""
    print(f"{'':24}{'pages':>9}{'pages/s':>10}{'(range)':>18}{'memory MB':>11}{'documents':>11}")
    for some in (runs, grown):
        for who in dict.fromkeys(run.who for run in some):
            mine = [run for run in some if run.who == who]
            rates = [run.pages_per_second for run in mine]
            spread = f"({min(rates):,.1f} to {max(rates):,.1f})"
            print(
                f"{who:24}{mine[0].pages:>9,}{statistics.median(rates):>10,.1f}{spread:>18}"
                f"{max(run.peak_memory_mb for run in mine):>11,.0f}{mine[0].documents:>11,}"
            )
    if "pages_per_second_vs_datatrove" not in figures:
        print(f"{PEER:24}{'absent':>19}")
    for name, value in figures.items():
        if name not in ("pages", "pages_per_second", "growth", "memory_when_grown_mb"):
            print(f"{name:40}{value:>8.2f}")


if __name__ == "__main__":
    main()
