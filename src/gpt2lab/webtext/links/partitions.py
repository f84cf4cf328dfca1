"""Tables larger than memory, grouped by a hash: rows go to disk in partitions, and are read back a part at a time.

A file of ours is an Arrow file whose batch number n belongs to partition n mod PARTITIONS. The first column is `hash`,
64 bits; a partition holds a range of it, so parts read in order come in the order of their hashes.
"""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.compute
import pyarrow.ipc

PARTITION_BITS = 8
PARTITIONS = 1 << PARTITION_BITS
ROWS_BUFFERED = 1 << 16
ROWS_AT_ONCE = 200_000  # read back for one part; some 150 MB while it is worked on
_RANGE_BITS = 64 - PARTITION_BITS


class PartitionWriter:
    """Writes rows, tuples in the schema's order, in bounded memory; use as a context manager."""

    def __init__(self, handle: Any, schema: pyarrow.Schema) -> None:
        options = pyarrow.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
        self._writer = pyarrow.ipc.new_file(handle, schema, options=options)
        self._schema = schema
        self._rows: list[list[tuple[Any, ...]]] = [[] for _ in range(PARTITIONS)]
        self._buffered = 0
        self.rows = [0] * PARTITIONS
        """rows written to each partition"""

    def __enter__(self) -> "PartitionWriter":
        return self

    def __exit__(self, *failure: object) -> None:
        if failure[0] is None:
            self._flush()
        self._writer.close()

    def add(self, row: tuple[Any, ...]) -> None:
        """Take a row; its first value is the hash."""
        self._rows[row[0] >> _RANGE_BITS].append(row)
        self._buffered += 1
        if self._buffered >= ROWS_BUFFERED:
            self._flush()

    def _flush(self) -> None:
        if not self._buffered:
            return
        columns = zip(*itertools.chain.from_iterable(self._rows), strict=True)
        arrays = [pyarrow.array(list(values), field.type) for values, field in zip(columns, self._schema, strict=True)]
        batch = pyarrow.RecordBatch.from_arrays(arrays, schema=self._schema)
        start = 0
        for number, rows in enumerate(self._rows):
            self._writer.write_batch(batch.slice(start, len(rows)))
            start += len(rows)
            self.rows[number] += len(rows)
            rows.clear()
        self._buffered = 0


def read_parts(files: Sequence[Path], rows: Sequence[Sequence[int]]) -> Iterator[pyarrow.Table]:
    """All rows of some files, each hash in one part only, parts in ascending ranges of the hash.

    `rows` are the counts that the writers of the files gave. A part has ROWS_AT_ONCE rows at most, or about so where
    a single partition has more.
    """
    counts = [sum(of_partition) for of_partition in zip(*rows, strict=True)]
    first = 0
    while first < PARTITIONS:
        after = first + 1
        while after < PARTITIONS and sum(counts[first : after + 1]) <= ROWS_AT_ONCE:
            after += 1
        pieces = -(-sum(counts[first:after]) // ROWS_AT_ONCE)
        low, width = first << _RANGE_BITS, (after - first) << _RANGE_BITS
        for piece in range(pieces):
            within = (low + piece * width // pieces, low + (piece + 1) * width // pieces - 1) if pieces > 1 else None
            batches = [
                batch
                for file, of_file in zip(files, rows, strict=True)
                if any(of_file[first:after])
                for batch in _batches(file, range(first, after), within)
            ]
            if batches:
                yield pyarrow.Table.from_batches(batches)
                batches.clear()  # or they would stay while the next ones are read
        first = after


def _batches(file: Path, wanted: range, within: tuple[int, int] | None) -> Iterator[pyarrow.RecordBatch]:
    options = pyarrow.ipc.IpcReadOptions(use_threads=False)  # batches are small
    with pyarrow.OSFile(str(file)) as handle, pyarrow.ipc.open_file(handle, options=options) as reader:
        for number in range(reader.num_record_batches):
            if number % PARTITIONS not in wanted:
                continue
            batch = reader.get_batch(number)
            if within is not None:
                low, high = (pyarrow.scalar(end, pyarrow.uint64()) for end in within)
                hashes = batch.column(0)
                batch = batch.filter(
                    pyarrow.compute.and_(
                        pyarrow.compute.greater_equal(hashes, low), pyarrow.compute.less_equal(hashes, high)
                    )
                )
            if batch.num_rows:
                yield batch
