"""Duplicates over all stage files: the same URL, the same words, nearly the same words.

In memory are some 70 bytes a document, and one query of Daft's at a time; texts are read one batch at a time, and of
those documents alone that share a band hash with another one. Everything between is in a scratch folder.
"""

import shutil
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow
import pyarrow.parquet
import xxhash

from gpt2lab.base.control_groups import usable_processors
from gpt2lab.base.errors import explain_full_disk
from gpt2lab.base.progress import Bar, progress_bar
from gpt2lab.webtext.duplicates.gram_file import GramFile, gram_sets
from gpt2lab.webtext.duplicates.groups import Groups, Numbers, group_by_hash, groups_of, load_groups, write_hashes
from gpt2lab.webtext.duplicates.near import Clusters, cluster, similar_pairs
from gpt2lab.webtext.word_hashes import Hashes

KINDS = (None, "url duplicate", "exact duplicate", "near duplicate")
_URL, _EXACT, _NEAR = 1, 2, 3
ROWS_AT_ONCE = 512
DOCUMENTS_A_FILE = 1 << 17
HASHES_A_QUERY = 1 << 20  # several bands go into one query while they are not more; some 170 bytes each in Daft
GROUPS = "groups"


@dataclass(frozen=True)
class FileDecisions:
    """What becomes of the rows of one stage file, a value a row; rows that filters removed count as kept."""

    kinds: npt.NDArray[np.uint8]
    """places in KINDS; 0: it stays"""
    survivors: npt.NDArray[np.bytes_]
    """the id of the document that stays for it, empty where it stays itself"""
    similarities: npt.NDArray[np.float64]
    """Jaccard similarity of its 5-grams and the survivor's; 0 where it stays itself"""


@dataclass(frozen=True)
class Decisions:
    """Which documents are duplicates of which. Numbers are those of documents, counted over all stage files."""

    _documents: "_Documents"
    _kinds: npt.NDArray[np.uint8]
    _survivors: Numbers
    _similarities: npt.NDArray[np.float64]

    def of_file(self, n: int) -> FileDecisions:
        """The decisions on the rows of stage file n."""
        documents = self._documents
        some = slice(documents.starts[n], documents.starts[n + 1])
        rows, size = documents.rows[some], documents.file_rows[n]
        kinds, similarities = np.zeros(size, np.uint8), np.zeros(size)
        survivors = np.zeros(size, documents.ids.dtype)
        kinds[rows], similarities[rows] = self._kinds[some], self._similarities[some]
        survivors[rows] = np.where(self._kinds[some] == 0, b"", documents.ids[self._survivors[some]])
        return FileDecisions(kinds, survivors, similarities)

    def counts(self) -> dict[str, int]:
        """How many documents are removed for each reason."""
        found = np.bincount(self._kinds, minlength=len(KINDS)).tolist()
        return {kind: count for kind, count in zip(KINDS, found, strict=True) if kind and count}

    def cluster_sizes(self) -> dict[int, int]:
        """How many clusters of duplicates have how many documents, the survivor among them; from 2 on, ascending."""
        sizes, clusters = np.unique(np.bincount(self._survivors), return_counts=True)
        return {size: count for size, count in zip(sizes.tolist(), clusters.tolist(), strict=True) if size > 1}


def find_duplicates(stage_files: Sequence[Path], scratch: Path, threshold: float | None) -> Decisions:
    """Decide which documents are duplicates of others.

    Each Parquet file has the columns id, url_key, text, characters, text_hash and bands (`sketch` makes the last two,
    for the same `threshold`), and reason: rows with a reason take no part. First only one document of each URL stays,
    of those one of each text (white space aside), and of those one of everything connected by pairs whose Jaccard
    similarity is at least `threshold` (None: near duplicates stay). It is always the longest one, of equally long ones
    the one with the smallest id, whatever the order of files and rows; removed documents name the one that stays in
    the end. A near duplicate may be less similar than `threshold` to that one, connected to it by others.

    `scratch` is emptied before and removed after. Where Daft is connected to a Ray cluster, all its machines must see
    it. Raises NoSpace when its disk is full.
    """
    with _emptied(scratch), progress_bar("duplicates", unit="steps") as bar:
        documents = _list_documents(stage_files, scratch, threshold)
        bar.grow(4 + 2 * len(documents.band_folders))
        bar.advance()
        kinds = np.zeros(len(documents.rows), np.uint8)
        one_url = _keep_longest(group_by_hash(scratch / "url"), _URL, kinds, documents)
        one_text = _keep_longest(group_by_hash(scratch / "text").only(kinds == 0), _EXACT, kinds, documents)
        bar.advance(2)
        compared = np.zeros(len(kinds), np.bool_)
        compared[kinds == _URL] = compared[one_text[one_url[kinds == _URL]]] = True
        for folder in documents.band_folders:
            groups = group_by_hash(folder).only(kinds == 0)
            groups.save(folder / GROUPS)
            compared[groups.members] = True
            bar.advance()
        numbers = np.flatnonzero(compared)
        with GramFile(scratch / "grams", _read_gram_sets(stage_files, documents, numbers)) as grams:
            bar.advance()
            found = cluster(_groups_in_turn(documents, numbers, bar), grams, 1.0 if threshold is None else threshold)
            roots = np.arange(len(kinds))
            roots[numbers] = numbers[found.roots()]
            one_alike = _keep_longest(groups_of(roots), _NEAR, kinds, documents)
            stays = one_alike[one_text[one_url]]
            similarities = _similarities(kinds, one_text, stays, numbers, grams, found)
    return Decisions(documents, kinds, stays, similarities)


def find_similar_pairs(stage_files: Sequence[Path], scratch: Path, threshold: float) -> dict[tuple[str, str], float]:
    """The pairs of ids, the smaller first, that `find_duplicates` would connect, and their similarities.

    For judging recall: every pair in a common band is compared, whatever else is known of it. Not for large corpora.
    """
    with _emptied(scratch):
        documents = _list_documents(stage_files, scratch, threshold)
        numbers = np.arange(len(documents.rows))
        with GramFile(scratch / "grams", _read_gram_sets(stage_files, documents, numbers)) as grams:
            found = similar_pairs((group_by_hash(folder) for folder in documents.band_folders), grams, threshold)
        ids = [id_.decode() for id_ in documents.ids.tolist()]
        return {(min(ids[a], ids[b]), max(ids[a], ids[b])): similarity for (a, b), similarity in found.items()}


@contextmanager
def _emptied(scratch: Path) -> Iterator[None]:
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        with explain_full_disk(scratch):
            scratch.mkdir(parents=True)
            yield
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@dataclass(frozen=True)
class _Documents:
    """The rows that take part, of all stage files one after the other."""

    starts: list[int]
    """documents starts[n] to starts[n + 1] are in stage file n"""
    file_rows: list[int]
    """rows of each stage file, those that take no part included"""
    rows: npt.NDArray[np.int32]
    """of each document in its file"""
    ids: npt.NDArray[np.bytes_]
    characters: Numbers
    band_folders: list[Path]


def _list_documents(stage_files: Sequence[Path], scratch: Path, threshold: float | None) -> _Documents:
    """Read everything but the texts; the hashes go to `scratch`, a folder for each query."""
    file_rows = [pyarrow.parquet.read_metadata(file).num_rows for file in stage_files]
    bands_a_query = max(1, HASHES_A_QUERY // max(1, sum(file_rows)))
    hashes = _HashFiles(scratch, bands_a_query)
    columns = ["id", "url_key", "characters", "text_hash", "reason", *(["bands"] if threshold is not None else [])]
    starts, rows, ids, characters = [0], [np.empty(0, np.int32)], [np.empty(0, "S1")], [np.empty(0, np.int64)]
    for file in stage_files:
        before = 0
        starts.append(starts[-1])
        with pyarrow.parquet.ParquetFile(file) as table:
            for batch in table.iter_batches(ROWS_AT_ONCE, columns=columns):
                taken = batch["reason"].is_null()
                some = batch.filter(taken)
                rows.append((np.flatnonzero(taken.to_numpy(zero_copy_only=False)) + before).astype(np.int32))
                ids.append(np.array([id_.encode() for id_ in some["id"].to_pylist()], np.bytes_))
                characters.append(some["characters"].to_numpy())
                hashes.add(some, starts[-1])
                before += len(batch)
                starts[-1] += len(some)
    hashes.flush()
    return _Documents(
        starts, file_rows, np.concatenate(rows), np.concatenate(ids), np.concatenate(characters), hashes.band_folders
    )


class _HashFiles:
    """Writes the hashes of documents as `group_by_hash` reads them, DOCUMENTS_A_FILE documents a file."""

    def __init__(self, scratch: Path, bands_a_query: int) -> None:
        self.band_folders: list[Path] = []
        self._scratch, self._bands_a_query = scratch, bands_a_query
        self._urls: list[bytes] = []
        self._with_url: list[int] = []
        self._texts: list[bytes] = []
        self._bands: list[bytes] = []
        self._first = 0

    def add(self, batch: pyarrow.RecordBatch, first: int) -> None:
        """Take the documents of a batch, whose numbers count from `first`."""
        for number, url in enumerate(batch["url_key"].to_pylist(), start=first):
            if url is not None:
                self._urls.append(xxhash.xxh3_128_digest(url.encode()))
                self._with_url.append(number)
        self._texts += batch["text_hash"].to_pylist()
        if "bands" in batch.schema.names:
            self._bands += batch["bands"].to_pylist()
        if len(self._texts) >= DOCUMENTS_A_FILE:
            self.flush()

    def flush(self) -> None:
        """Write what was taken."""
        name = f"{self._first:012d}.parquet"
        documents = np.arange(self._first, self._first + len(self._texts))
        if self._urls:
            write_hashes(self._scratch / "url" / name, _halves(self._urls), np.array(self._with_url))
        if self._texts:
            write_hashes(self._scratch / "text" / name, _halves(self._texts), documents)
        if self._bands:
            bands = np.frombuffer(b"".join(self._bands), "<u8").reshape(len(documents), -1)
            starts = range(0, bands.shape[1], self._bands_a_query)
            self.band_folders = [self._scratch / f"bands-{start:03d}" for start in starts]
            for start, folder in zip(starts, self.band_folders, strict=True):
                some = bands[:, start : start + self._bands_a_query]
                write_hashes(folder / name, [some.ravel()], np.repeat(documents, some.shape[1]))
        self._first += len(self._texts)
        self._urls, self._with_url, self._texts, self._bands = [], [], [], []


def _halves(digests: list[bytes]) -> list[npt.NDArray[np.uint64]]:
    both = np.frombuffer(b"".join(digests), "<u8").reshape(-1, 2)
    return [both[:, 0], both[:, 1]]


def _keep_longest(groups: Groups, kind: int, kinds: npt.NDArray[np.uint8], documents: _Documents) -> Numbers:
    """For each document the one that stays for it, itself where it is in no group; the others get `kind`."""
    members, numbers = groups.members, groups.numbers()
    order = np.lexsort((documents.ids[members], -documents.characters[members], numbers))
    stays = np.arange(len(kinds))
    stays[members[order]] = np.repeat(members[order][groups.starts[:-1]], np.diff(groups.starts))
    kinds[stays != np.arange(len(kinds))] = kind
    return stays


def _read_gram_sets(stage_files: Sequence[Path], documents: _Documents, numbers: Numbers) -> Iterator[Hashes]:
    """The 5-grams of some documents, in order, read by a thread a core; row groups without any of them are not read."""
    threads = usable_processors()
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[list[Hashes]]] = deque()
        for task in _reads(stage_files, documents, numbers):
            waiting.append(pool.submit(_read_some_gram_sets, *task))
            if len(waiting) > 2 * threads:
                yield from waiting.popleft().result()
        for future in waiting:
            yield from future.result()


def _reads(
    stage_files: Sequence[Path], documents: _Documents, numbers: Numbers
) -> Iterator[tuple[Path, int, npt.NDArray[np.int32]]]:
    """File, row group and rows in it of all that is to be read."""
    for n, file in enumerate(stage_files):
        begin, end = np.searchsorted(numbers, documents.starts[n : n + 2]).tolist()
        rows = documents.rows[numbers[begin:end]]
        if not len(rows):
            continue
        metadata = pyarrow.parquet.read_metadata(file)
        last = 0
        for group in range(metadata.num_row_groups):
            first, last = last, last + metadata.row_group(group).num_rows
            some = rows[(rows >= first) & (rows < last)] - first
            if len(some):
                yield file, group, some


def _read_some_gram_sets(file: Path, group: int, rows: npt.NDArray[np.int32]) -> list[Hashes]:
    sets = []
    first = 0
    with pyarrow.parquet.ParquetFile(file) as table:
        for batch in table.iter_batches(ROWS_AT_ONCE, row_groups=[group], columns=["text"], use_threads=False):
            some = rows[(rows >= first) & (rows < first + len(batch))] - first
            sets += gram_sets(batch["text"].take(pyarrow.array(some)).to_pylist())
            first += len(batch)
    return sets


def _groups_in_turn(documents: _Documents, numbers: Numbers, bar: Bar) -> Iterator[Groups]:
    """The groups of each query again, as places in `numbers`."""
    for folder in documents.band_folders:
        groups = load_groups(folder / GROUPS)
        yield Groups(np.searchsorted(numbers, groups.members), groups.starts)
        bar.advance()


def _similarities(
    kinds: npt.NDArray[np.uint8],
    one_text: Numbers,
    stays: Numbers,
    numbers: Numbers,
    grams: GramFile,
    clusters: Clusters,
) -> npt.NDArray[np.float64]:
    """Of each removed document and the one that stays."""
    similarities = np.zeros(len(kinds))
    compared = np.flatnonzero((kinds == _URL) | (kinds == _NEAR))
    compared = compared[np.argsort(stays[compared], kind="stable")]
    own, other = np.searchsorted(numbers, compared), np.searchsorted(numbers, stays[compared])
    values = clusters.similarities(own, other)
    for n in np.flatnonzero(np.isnan(values)).tolist():
        values[n] = grams.jaccard(int(own[n]), int(other[n]))
    similarities[compared] = values
    exact = np.flatnonzero(kinds == _EXACT)
    same_words = one_text[exact]
    similarities[exact] = np.where(kinds[same_words] == 0, 1.0, similarities[same_words])
    return similarities
