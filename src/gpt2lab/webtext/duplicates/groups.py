"""Documents that have a hash in common, found by Daft: on this machine, or on the cluster that it is connected to."""

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow
import pyarrow.parquet

from gpt2lab.webtext.engine import daft_engine

Numbers = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Groups:
    """Sets of two or more document numbers."""

    members: Numbers
    """of all groups, one after the other, ascending in each"""
    starts: Numbers
    """group n is members[starts[n]:starts[n + 1]]"""

    def numbers(self) -> Numbers:
        """Which group each of `members` is in."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))

    def only(self, wanted: npt.NDArray[np.bool_]) -> "Groups":
        """The same without the documents that are not `wanted` (a value a document), and groups of one."""
        kept = wanted[self.members]
        return _groups(self.numbers()[kept], self.members[kept])

    def save(self, path: Path) -> None:
        """Write them to a file that `load_groups` reads."""
        with path.open("wb") as handle:  # not by numpy.save, whose errors don't say when the disk is full
            for numbers in (np.array([len(self.starts)]), self.starts, self.members):
                handle.write(numbers.data)


def load_groups(path: Path) -> Groups:
    """What `Groups.save` wrote."""
    numbers = np.fromfile(path, np.int64)
    end = 1 + int(numbers[0])
    return Groups(numbers[end:], numbers[1:end])


def write_hashes(path: Path, hashes: Sequence[Hashes], documents: Numbers) -> None:
    """Write one file of a folder for `group_by_hash`: columns hash_0, hash_1 and so on, and the document."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {f"hash_{n}": values for n, values in enumerate(hashes)}
    pyarrow.parquet.write_table(pyarrow.table({**columns, "document": documents}), path, compression="none")


def group_by_hash(folder: Path) -> Groups:
    """All documents in the files of a folder that share all their hashes with another one, in a certain order."""
    files = sorted(folder.glob("*.parquet"))
    if not files:
        return _groups(np.empty(0, np.int64), np.empty(0, np.int64))
    daft = daft_engine()
    rows = daft.read_parquet([glob.escape(str(file.absolute())) for file in files])
    keys = [name for name in rows.column_names if name != "document"]
    # Counts first: lists of members for every hash would take three times the memory, and most hashes are alone.
    copies = rows.groupby(*keys).agg(rows["document"].count().alias("copies"))
    repeated = copies.where(copies["copies"] > 1).select(*keys)
    table = rows.join(repeated, on=keys, how="semi").to_arrow()
    documents = table["document"].to_numpy()
    hashes = [table[key].to_numpy() for key in keys]
    order = np.lexsort((documents, *hashes))
    new = np.ones(len(order), np.bool_)
    if len(order):
        new[1:] = np.any([column[order][1:] != column[order][:-1] for column in hashes], axis=0)
    return _groups(np.cumsum(new), documents[order])


def groups_of(values: Numbers) -> Groups:
    """The places of equal values, one group for each value that is there more than once."""
    order = np.argsort(values, kind="stable")
    return _groups(values[order], order)


def _groups(numbers: Numbers, members: Numbers) -> Groups:
    """Groups of members that follow each other with the same number, those of one left out."""
    starts = np.flatnonzero(np.diff(numbers, prepend=-1)) if len(numbers) else np.empty(0, np.int64)
    sizes = np.diff(starts, append=len(numbers))
    kept = np.repeat(sizes > 1, sizes)
    return Groups(members[kept].astype(np.int64), np.concatenate([[0], np.cumsum(sizes[sizes > 1])]).astype(np.int64))
