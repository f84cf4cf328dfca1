"""How much of a test set is in the training set: the 8-gram overlap of the paper's section 4 and table 6."""

import json
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gpt2lab.base.errors import BadOption
from gpt2lab.base.progress import progress_bar
from gpt2lab.base.workers import Advance
from gpt2lab.datasets.evaluation_texts import named_set, read_evaluation_texts
from gpt2lab.webtext.overlap.bloom import FALSE_POSITIVES, fill_filter, load_filter, save_filter
from gpt2lab.webtext.overlap.gram_table import GramTable
from gpt2lab.webtext.overlap.grams import WORDS_PER_GRAM, batches, hash_grams, normalise
from gpt2lab.webtext.overlap.training_texts import Part, read_part, training_parts
from gpt2lab.webtext.word_hashes import Hashes, Numbers
from gpt2lab.webtext.workers import run_tasks

EXAMPLES = 3
LONGEST_EXAMPLE_WORDS = 120
_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class OverlapOptions:
    """What is compared how."""

    own_train: tuple[str, ...] = ()
    """a set's own training file, NAME=PATH: the paper's other row"""
    bloom: bool = False
    """the paper's direction: the documents' grams go into a Bloom filter, false positives <= 1e-8 (38 bits a gram)"""
    save_filter: Path | None = None
    """keep the Bloom filter in this file"""
    filter: Path | None = None
    """ask a kept Bloom filter instead of documents"""
    workers: int = 0
    """processes; 0: one a core"""


@dataclass(frozen=True)
class DocumentOverlap:
    """8-grams of one test document, and how many of them are in the training set."""

    grams: int
    overlapping: int

    @property
    def share(self) -> float:
        """Overlapping over all 8-grams, 0 to 1; 0 for a text of fewer than eight words."""
        return self.overlapping / self.grams if self.grams else 0.0


@dataclass(frozen=True)
class Overlap(DocumentOverlap):
    """The same over all test documents, and each one's figures in their order."""

    per_document: tuple[DocumentOverlap, ...] = ()


@dataclass(frozen=True)
class PaperFigures:
    """Shares that the paper gives, 0 to 1: of the set's own training set, and of WebText's."""

    own_train: float | None
    webtext: float


PAPER_MEAN = PaperFigures(0.059, 0.032)
PAPER: dict[str, PaperFigures] = {
    "ptb": PaperFigures(0.0267, 0.0088),
    "wikitext2": PaperFigures(0.0066, 0.0163),
    "enwik8": PaperFigures(0.0750, 0.0631),
    "text8": PaperFigures(0.0234, 0.0394),
    "wikitext103": PaperFigures(0.0909, 0.0242),
    "1bw": PaperFigures(0.1319, 0.0375),
    "lambada": PaperFigures(None, 0.012),  # "an average of 1.2%": compare the mean over passages
}
"""Table 6 of Radford et al. 2019, and section 4 for LAMBADA."""
PAPER_WORDS = {
    "coqa": "about 15 % of the news documents are in WebText, worth 3 F1 there and 0.5 to 1.0 F1 over all",
    "winograd": "10 schemata overlap with WebText at all, and one of them gives its answer away",
}
_OTHER_NAMES = {"penn": "ptb", "lm1b": "1bw", "billion": "1bw", "newsen": "1bw", "wsc": "winograd"}


@dataclass(frozen=True)
class Example:
    """The longest run of overlapping grams of one item, as normalised words, and where it first is in training."""

    item: int
    share: float
    words: str
    words_in_run: int
    training_file: str | None
    training_row: int | None


@dataclass(frozen=True)
class SetOverlap:
    """One evaluation set's figures. Shares are 0 to 1; every occurrence of a gram counts but in the distinct ones."""

    name: str
    path: str
    items: int
    items_with_grams: int
    items_overlapping: int
    items_mostly_overlapping: int
    grams: int
    overlapping: int
    share: float
    mean_item_share: float
    distinct_grams: int
    distinct_overlapping: int
    distinct_share: float
    own_train_share: float | None
    paper: PaperFigures | None
    paper_words: str | None
    examples: tuple[Example, ...]
    per_item: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class OverlapReport:
    """The overlap of some sets with a training set; `method` is exact or bloom, and what is of a filter else None."""

    method: str
    training: tuple[str, ...]
    training_texts: int
    training_grams: int
    training_bytes: int
    seconds: float
    filter_bytes: int | None
    filter_false_positives: float | None
    random_hits: int | None
    sets: tuple[SetOverlap, ...]


@dataclass(frozen=True)
class _TestSet:
    name: str
    path: Path
    grams: Hashes
    grams_of: Numbers


@dataclass(frozen=True)
class _Scan:
    """Where each wanted gram is first: a part's number and a row, _NEVER where it is nowhere."""

    parts: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    texts: int
    grams: int
    bytes: int

    @property
    def found(self) -> npt.NDArray[np.bool_]:
        return np.not_equal(self.rows, _NEVER)


def overlap(test_texts: Iterable[str], train_texts: Iterable[str]) -> Overlap:
    """Of all 8-grams of the test texts, every occurrence counted, those that are somewhere in the training texts.

    The test side is held in memory (8 bytes an 8-gram), the training side is streamed. The paper asks Bloom
    filters with one false positive in 10^8; 64-bit hashes are wrong once in 2^64 for each gram of the test set.
    """
    grams, grams_of = _hash_all(test_texts)
    table = GramTable.of(grams)
    found = _scan(table, train_texts, lambda _: None).found
    counted = _count_by_item(found[np.searchsorted(table.hashes, grams)], grams_of)
    per_document = tuple(map(DocumentOverlap, grams_of.tolist(), counted.tolist()))
    return Overlap(grams.size, int(counted.sum()), per_document)


def overlap_with_documents(
    sets: Mapping[str, Sequence[str]], documents: Sequence[Path], workers: int = 0
) -> dict[str, Overlap]:
    """The overlap of several sets' texts with training documents, which are read once for all of them.

    Raises BadInput where a place holds no documents or can't be read. `workers` 0: a process a core.
    """
    hashed = {name: _hash_all(texts) for name, texts in sets.items()}
    table = GramTable.of(np.concatenate([np.empty(0, np.uint64), *(grams for grams, _ in hashed.values())]))
    found = _scan_parts(table, training_parts(documents), workers).found
    overlaps = {}
    for name, (grams, grams_of) in hashed.items():
        counted = _count_by_item(found[np.searchsorted(table.hashes, grams)], grams_of)
        per_document = tuple(map(DocumentOverlap, grams_of.tolist(), counted.tolist()))
        overlaps[name] = Overlap(grams.size, int(counted.sum()), per_document)
    return overlaps


def measure_overlap(
    documents: Sequence[Path], sets: Sequence[str], options: OverlapOptions = OverlapOptions()
) -> OverlapReport:
    """The overlap of evaluation sets, NAME=PATH or PATH each, with training documents, over all cores.

    Raises BadInput for files that can't be read, and BadOption where the options don't go together.
    """
    start = time.monotonic()
    _check(documents, sets, options)
    named = [named_set(given) for given in sets]
    own = dict(named_set(given) for given in options.own_train)
    if unknown := [name for name in own if name not in dict(named)]:
        raise BadOption(f"--own-train {unknown[0]}: no set of this name; sets are {', '.join(dict(named))}.")
    tests = [_TestSet(name, path, *_hash_all(read_evaluation_texts(path))) for name, path in named]
    table = GramTable.of(np.concatenate([test.grams for test in tests]))
    parts = training_parts(documents)
    kept = None
    if options.filter or options.bloom or options.save_filter:
        if options.filter:
            kept = load_filter(options.filter)
        else:
            kept = fill_filter(lambda: (text for part in parts for text in read_part(part)))
            if options.save_filter:
                save_filter(kept, options.save_filter)
        nowhere = np.full(table.hashes.size, _NEVER)
        rows = np.where(kept.holds(table.hashes), -1, nowhere)
        scan = _Scan(rows, rows, kept.texts, kept.grams, kept.text_bytes)
    else:
        scan = _scan_parts(table, parts, options.workers)
    own_shares = {test.name: _own_share(test, own[test.name], options.workers) for test in tests if test.name in own}
    return OverlapReport(
        method="bloom" if kept else "exact",
        training=tuple(map(str, [options.filter] if options.filter else documents)),
        training_texts=scan.texts,
        training_grams=scan.grams,
        training_bytes=scan.bytes,
        seconds=time.monotonic() - start,
        filter_bytes=kept.size_bytes if kept else None,
        filter_false_positives=FALSE_POSITIVES if kept else None,
        random_hits=kept.random_hits() if kept else None,
        sets=tuple(_figures(test, table, scan, parts, own_shares.get(test.name)) for test in tests),
    )


def _check(documents: Sequence[Path], sets: Sequence[str], options: OverlapOptions) -> None:
    if not sets:
        raise BadOption("no evaluation sets: name them, as in --sets lambada=lambada_test.jsonl.")
    if options.filter and (documents or options.bloom or options.save_filter):
        raise BadOption("--filter asks a kept filter: give it no documents, --bloom or --save-filter.")
    if not options.filter and not documents:
        raise BadOption("no training documents: give a folder that `gpt2lab build` made, or files, or --filter FILE.")


def paper_key(name: str) -> str | None:
    """The set of the paper that a name speaks of."""
    plain = "".join(filter(str.isalnum, name.lower()))
    known = {key: key for key in (*PAPER, *PAPER_WORDS)} | _OTHER_NAMES
    return next((key for words, key in known.items() if words in plain), None)


def _hash_all(texts: Iterable[str]) -> tuple[Hashes, Numbers]:
    hashed = [hash_grams(batch) for batch in batches(texts)]
    return (
        np.concatenate([*(grams for grams, _ in hashed), np.empty(0, np.uint64)]),
        np.concatenate([*(counts for _, counts in hashed), np.empty(0, np.int64)]),
    )


def _scan(table: GramTable, texts: Iterable[str], advance: Advance, part: int = 0, first_row: int = 0) -> _Scan:
    rows = np.full(table.hashes.size, _NEVER)
    row, total, size = first_row, 0, 0
    for batch in batches(texts):
        grams, grams_of = hash_grams(batch)
        at, places = table.find(grams)
        row_of = row + np.searchsorted(np.cumsum(grams_of), at, side="right")
        rows[places[::-1]] = np.minimum(rows[places[::-1]], row_of[::-1])  # the last one that is written stays
        row += len(batch)
        total += grams.size
        read = sum(len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass")) for text in batch)
        size += read
        advance(read)
    return _Scan(np.where(rows == _NEVER, _NEVER, part), rows, row - first_row, total, size)


def _scan_parts(table: GramTable, parts: Sequence[Part], workers: int) -> _Scan:
    """All parts, in several processes; which of them ends first makes no difference."""
    with tempfile.TemporaryDirectory(prefix="gpt2lab-overlap-") as folder, progress_bar("overlap", None, "MB") as bar:
        table.save(Path(folder))
        tasks = [(Path(folder), number, part) for number, part in enumerate(parts)]
        run_tasks(_scan_part, tasks, workers, lambda size: bar.advance(size / 1e6))
        scans = (_load_scan(Path(folder), number, table.hashes.size) for number in range(len(parts)))
        return _merged(scans, table.hashes.size)


def _scan_part(folder: Path, number: int, part: Part, advance: Advance) -> None:
    scan = _scan(GramTable.load(folder), read_part(part), advance, number, part.first_row)
    places = np.flatnonzero(scan.found)
    np.save(folder / f"found-{number}.npy", np.stack([places, scan.rows[places]]))
    (folder / f"counts-{number}.json").write_text(json.dumps([scan.texts, scan.grams, scan.bytes]))


def _load_scan(folder: Path, number: int, size: int) -> _Scan:
    places, at = np.load(folder / f"found-{number}.npy")
    parts, rows = np.full((2, size), _NEVER)
    parts[places], rows[places] = number, at
    return _Scan(parts, rows, *json.loads((folder / f"counts-{number}.json").read_text()))


def _merged(scans: Iterator[_Scan], size: int) -> _Scan:
    """Of scans in the order of their parts: the first place of each gram, and the sums."""
    parts, rows = np.full((2, size), _NEVER)
    texts = grams = read = 0
    for scan in scans:
        fresh = (rows == _NEVER) & scan.found
        parts[fresh], rows[fresh] = scan.parts[fresh], scan.rows[fresh]
        texts, grams, read = texts + scan.texts, grams + scan.grams, read + scan.bytes
    return _Scan(parts, rows, texts, grams, read)


def _own_share(test: _TestSet, own_train: Path, workers: int) -> float:
    table = GramTable.of(test.grams)
    found = _scan_parts(table, training_parts([own_train]), workers).found
    return _share(int(found[np.searchsorted(table.hashes, test.grams)].sum()), test.grams.size)


def _count_by_item(overlapping: npt.NDArray[np.bool_], grams_of: Numbers) -> Numbers:
    before = np.concatenate([[0], np.cumsum(overlapping)])
    ends = np.cumsum(grams_of)
    return np.asarray(before[ends] - before[ends - grams_of], np.int64)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _figures(
    test: _TestSet, table: GramTable, scan: _Scan, parts: Sequence[Part], own_train_share: float | None
) -> SetOverlap:
    places = np.searchsorted(table.hashes, test.grams)
    overlapping = scan.found[places]
    counted = _count_by_item(overlapping, test.grams_of)
    shares = counted / np.maximum(test.grams_of, 1)
    distinct = np.unique(places)
    some = int(np.count_nonzero(test.grams_of))
    key = paper_key(test.name)
    return SetOverlap(
        name=test.name,
        path=str(test.path),
        items=test.grams_of.size,
        items_with_grams=some,
        items_overlapping=int(np.count_nonzero(counted)),
        items_mostly_overlapping=int(np.count_nonzero(shares > 0.5)),
        grams=test.grams.size,
        overlapping=int(counted.sum()),
        share=_share(int(counted.sum()), test.grams.size),
        mean_item_share=float(shares.sum() / max(some, 1)),
        distinct_grams=distinct.size,
        distinct_overlapping=int(scan.found[distinct].sum()),
        distinct_share=_share(int(scan.found[distinct].sum()), distinct.size),
        own_train_share=own_train_share,
        paper=PAPER.get(key or ""),
        paper_words=PAPER_WORDS.get(key or ""),
        examples=_examples(test, places, overlapping, shares, scan, parts),
        per_item=tuple(zip(test.grams_of.tolist(), counted.tolist(), strict=True)),
    )


def _examples(
    test: _TestSet,
    places: npt.NDArray[np.int64],
    overlapping: npt.NDArray[np.bool_],
    shares: npt.NDArray[np.float64],
    scan: _Scan,
    parts: Sequence[Part],
) -> tuple[Example, ...]:
    """The items with the longest runs of overlapping grams, the longest first."""
    item_of = np.repeat(np.arange(test.grams_of.size), test.grams_of)
    padded = np.concatenate([[False], overlapping, [False]])
    breaks = np.concatenate([[True], item_of[1:] != item_of[:-1], [True]]) if item_of.size else np.ones(1, bool)
    starts = np.flatnonzero(padded[1:] & (~padded[:-1] | breaks))
    ends = np.flatnonzero(padded[:-1] & (~padded[1:] | breaks))
    chosen: dict[int, tuple[int, int]] = {}
    for run in np.lexsort((starts, starts - ends)).tolist():
        chosen.setdefault(int(item_of[starts[run]]), (int(starts[run]), int(ends[run])))
        if len(chosen) == EXAMPLES:
            break
    texts = {number: text for number, text in enumerate(read_evaluation_texts(test.path)) if number in chosen}
    before = np.cumsum(test.grams_of) - test.grams_of
    examples = []
    for item, (start, end) in chosen.items():
        first = start - int(before[item])
        words = normalise(texts[item]).split()[first : first + end - start + WORDS_PER_GRAM - 1]
        shown = " ".join(words[:LONGEST_EXAMPLE_WORDS]) + (" …" if len(words) > LONGEST_EXAMPLE_WORDS else "")
        part, row = int(scan.parts[places[start]]), int(scan.rows[places[start]])
        where = (str(parts[part].path), row) if row >= 0 else (None, None)  # a filter doesn't say where
        examples.append(Example(item, float(shares[item]), shown, len(words), *where))
    return tuple(examples)
