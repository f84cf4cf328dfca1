"""How well and how fast do we find the article in a page? Ours beside trafilatura, resiliparse and newspaper4k.

`python -m benchmarks.extract [--json FILE] [--quick] [--data FOLDER]`. F1 is that of article-extraction-benchmark
(scrapinghub): 4-gram shingles of the words of the true and the found text, shares of each page averaged over its 91
pages at hand; the same for the 130 pages of Mozilla's readability, whose rules keep captions, with other sites. Each
page goes through all extractors in turn, HTML string to text, in one process on one core; the time is the process's
own. The standard errors are of 1,000 bootstrap draws of pages.
"""

import argparse
import gzip
import importlib.util
import json
import logging
import random
import re
import statistics
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt2lab.base.machine import describe_machine, describe_versions
from gpt2lab.webtext.extraction.extract import extract
from gpt2lab.webtext.extraction.peers import with_newspaper

PACKAGES = ("gpt2lab", "trafilatura", "Resiliparse", "newspaper4k", "lxml")
DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"
BASELINE = "trafilatura"
OURS = "gpt2lab auto"
DRAWS = 1000

Extract = Callable[[str, str], str]
Shares = tuple[float, float, float]


@dataclass(frozen=True)
class LabelledPage:
    """A page, its address, and the text of its article as people see it."""

    name: str
    html: str
    url: str
    article: str


def main() -> None:
    """Run it, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="every sixth page, two runs")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--data", type=Path, default=DATA, help="the folder with web-extract/ in it")
    parser.add_argument("--thresholds", action="store_true", help="instead: what each threshold of ours is worth")
    asked = parser.parse_args()
    pages = read_article_extraction_benchmark(asked.data / "web-extract" / "article-extraction-benchmark")
    others = read_readability(asked.data / "web-extract" / "readability")
    if not pages:
        sys.exit(f"error: {asked.data}: no labelled pages; name the folder of the shared data with --data.")
    if asked.thresholds:
        try_thresholds(pages, others)
        return
    runs = asked.runs
    if asked.quick:
        pages, others, runs = pages[::6], others[::6], 2
    extractors = all_extractors()
    texts, rates = run_interleaved(extractors, pages, runs)
    figures: dict[str, Any] = {}
    for name, found in texts.items():
        shares = [match_shingles(page.article, text) for page, text in zip(pages, found, strict=True)]
        figures[name] = average(shares) | {f"{key}_se": value for key, value in bootstrap(shares).items()}
        figures[name]["pages_per_second"] = statistics.median(rates[name])
        figures[name]["pages_per_second_runs"] = rates[name]
        # pages are run in the same minute, so that the ratio of one run is surer than the rates themselves
        ratios = [ours / theirs for ours, theirs in zip(rates[name], rates[BASELINE], strict=True)]
        figures[name]["vs_trafilatura"] = statistics.median(ratios)
        figures[name]["vs_trafilatura_runs"] = ratios
        if others:
            unlike = [match_shingles(page.article, extractors[name](page.html, page.url)) for page in others]
            figures[name]["readability_f1"] = average(unlike)["f1"]
            figures[name]["readability_f1_se"] = bootstrap(unlike)["f1"]
    print_table(figures, len(pages), len(others))
    if asked.json:
        whole = {
            "f1": figures[OURS]["f1"],
            "pages_per_second_vs_trafilatura": figures[OURS]["vs_trafilatura"],
            "readability_f1": figures[OURS].get("readability_f1"),
            "pages": len(pages),
            "readability_pages": len(others),
            "raw": figures,
            "machine": describe_machine(),
            "versions": describe_versions(PACKAGES),
        }
        asked.json.write_text(json.dumps(whole, indent=2) + "\n")


def read_article_extraction_benchmark(folder: Path) -> list[LabelledPage]:
    """Its pages, in the order of their names; none where the folder is absent."""
    if not folder.exists():
        return []
    truth = json.loads((folder / "ground-truth.json").read_text())
    pages = []
    for name, item in sorted(truth.items()):
        html = gzip.decompress((folder / "html" / f"{name}.html.gz").read_bytes()).decode(errors="replace")
        pages.append(LabelledPage(name, html, item["url"], item.get("articleBody", "")))
    return pages


def read_readability(folder: Path) -> list[LabelledPage]:
    """Mozilla's test cases; the article is all text in the HTML that readability is to make of the page."""
    from lxml import html as lxml_html

    pages = []
    for case in sorted(path for path in folder.glob("*") if path.is_dir()):
        source, expected = (
            gzip.decompress((case / f"{part}.html.gz").read_bytes()).decode(errors="replace")
            for part in ("source", "expected")
        )
        article = " ".join(lxml_html.fromstring(expected.strip() or "<p></p>").itertext())
        pages.append(LabelledPage(case.name, source, "http://localhost/", article))
    return pages


def all_extractors() -> dict[str, Extract]:
    """Ours and each peer that is installed: a name and a function of HTML and address."""
    extractors: dict[str, Extract] = {OURS: lambda html, url: extract(html, "auto", url=url).text}
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")  # of what the peers bring
    try:
        import trafilatura

        extractors |= {
            "trafilatura": lambda html, url: trafilatura.extract(html, url=url) or "",
            "trafilatura fast": lambda html, url: trafilatura.extract(html, url=url, fast=True) or "",
            "trafilatura precision": lambda html, url: (
                trafilatura.extract(html, url=url, favor_precision=True, include_comments=False) or ""
            ),
        }
    except ImportError:
        sys.exit(
            "error: trafilatura is absent, and all speeds are told against its; install the package's dependencies."
        )
    try:
        from resiliparse.extract.html2text import extract_plain_text

        extractors["resiliparse"] = lambda html, _: extract_plain_text(html, main_content=True, alt_texts=False)
    except ImportError:
        print("resiliparse is absent", file=sys.stderr)
    if importlib.util.find_spec("newspaper"):
        extractors["newspaper4k"] = with_newspaper
    else:
        print("newspaper4k is absent", file=sys.stderr)
    return extractors


def run_interleaved(
    extractors: dict[str, Extract], pages: list[LabelledPage], runs: int
) -> tuple[dict[str, list[str]], dict[str, list[float]]]:
    """The texts, and the pages a second of each run after one that is not counted; each page through all in turn."""
    texts: dict[str, list[str]] = {}
    rates: dict[str, list[float]] = {name: [] for name in extractors}
    order = list(extractors)
    for number in range(runs + 1):
        seconds = dict.fromkeys(extractors, 0.0)
        texts = {name: [] for name in extractors}
        for page in pages:
            order = order[1:] + order[:1]  # none always follows the same one
            for name in order:
                start = time.process_time()
                text = extractors[name](page.html, page.url)
                seconds[name] += time.process_time() - start
                texts[name].append(text)
        if number:
            for name in extractors:
                rates[name].append(len(pages) / seconds[name])
            print(f"run {number}: {OURS} {rates[OURS][-1]:,.0f} pages/s", file=sys.stderr)
    return texts, rates


def match_shingles(article: str, found: str) -> Shares:
    """True positives, false positives and false negatives among the 4-grams of words, as shares of their sum."""
    true, positive = count_shingles(article), count_shingles(found)
    counts = ((true & positive).total(), (positive - true).total(), (true - positive).total())
    total = sum(counts)
    return (counts[0] / total, counts[1] / total, counts[2] / total) if total else (0.0, 0.0, 0.0)


def count_shingles(text: str) -> Counter[tuple[str, ...]]:
    """How often each four words in a row occur; a text of fewer is one shingle."""
    words = re.findall(r"\w+", text)
    if not words:
        return Counter()
    return Counter(tuple(words[start : start + 4]) for start in range(max(1, len(words) - 3)))


def average(shares: list[Shares]) -> dict[str, float]:
    """Means of the pages' precision and recall, and the harmonic mean of those two."""
    precision = statistics.mean(true / (true + false) for true, false, _ in shares if true + false)
    recall = statistics.mean(true / (true + missed) for true, _, missed in shares if true + missed)
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return {"f1": f1, "precision": precision, "recall": recall}


def bootstrap(shares: list[Shares]) -> dict[str, float]:
    """Standard errors of the averages, by drawing as many pages with replacement."""
    chooser = random.Random(0)
    draws = [average(chooser.choices(shares, k=len(shares))) for _ in range(DRAWS)]
    return {key: statistics.stdev(draw[key] for draw in draws) for key in draws[0]}


def try_thresholds(pages: list[LabelledPage], others: list[LabelledPage]) -> None:
    """Move each threshold down and up; then choose among these settings on some pages and judge on the rest."""
    from gpt2lab.webtext.extraction import article
    from gpt2lab.webtext.extraction.page_tree import parse_page
    from gpt2lab.webtext.extraction.render import render

    trees = {page.name: parse_page(page.html.encode()) for page in pages + others}

    def shares_with(name: str | None, factor: float, some: list[LabelledPage]) -> list[Shares]:
        usual = getattr(article, name) if name else None
        if name and usual is not None:
            scaled = (
                {key: value * factor for key, value in usual.items()} if isinstance(usual, dict) else usual * factor
            )
            setattr(article, name, scaled)
        found = [render(article.find_article(trees[page.name]), trees[page.name].elements) for page in some]
        if name:
            setattr(article, name, usual)
        return [match_shingles(page.article, text) for page, text in zip(some, found, strict=True)]

    names = [name for name in vars(article) if name.endswith(("_SHARE", "_SIZE", "_WEIGHT"))]
    settings = [(None, 1.0)] + [(name, factor) for name in names for factor in (0.7, 0.85, 1.15, 1.3)]
    shares = {setting: shares_with(*setting, pages) for setting in settings}
    print(f"{'threshold':24}{'times':>7}{'F1':>9}{'F1 readability':>17}")
    for name, factor in settings:
        other = average(shares_with(name, factor, others))["f1"] if others else float("nan")
        print(f"{name or 'as they are':24}{factor:>7}{average(shares[name, factor])['f1']:>9.4f}{other:>17.4f}")
    chooser = random.Random(0)
    held_out = []
    for _ in range(20):
        order = chooser.sample(range(len(pages)), len(pages))
        unseen: list[Shares] = []
        for fold in range(5):
            judged = set(order[fold::5])
            best = max(settings, key=lambda s: average([x for i, x in enumerate(shares[s]) if i not in judged])["f1"])
            unseen += [shares[best][index] for index in judged]
        held_out.append(average(unseen)["f1"])
    spread = f"{min(held_out):.4f} to {max(held_out):.4f}"
    print(f"chosen on four fifths, judged on the rest, 20 times: F1 {statistics.mean(held_out):.4f} ({spread})")


def print_table(figures: dict[str, Any], pages: int, others: int) -> None:
    """Ours and each peer; the more pages a second at an F1, the better."""
    print(f"{pages} pages of article-extraction-benchmark, {others} of readability; one core; ± is one standard error")
    print(
        f"{'':22}{'F1':>14}{'precision':>16}{'recall':>16}{'pages/s (range)':>22}{'vs trafilatura (range)':>25}"
        f"{'F1 readability':>18}"
    )
    for name, row in figures.items():
        rates, ratios = row["pages_per_second_runs"], row["vs_trafilatura_runs"]
        cells = [f"{row[key]:.4f} ±{row[f'{key}_se']:.4f}" for key in ("f1", "precision", "recall")]
        speed = f"{row['pages_per_second']:,.0f} ({min(rates):,.0f} to {max(rates):,.0f})"
        ratio = f"{row['vs_trafilatura']:.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        other = f"{row['readability_f1']:.4f} ±{row['readability_f1_se']:.4f}" if others else "absent"
        print(f"{name:22}{cells[0]:>14}{cells[1]:>16}{cells[2]:>16}{speed:>22}{ratio:>25}{other:>18}")


if __name__ == "__main__":
    main()
