"""Published evaluation sets: which files they are, where they are found, and what was found.

A reader (one file a set beside this one) asks a `DataSource` for its files and makes items of them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class PublishedFile:
    """A file as its makers publish it.

    `patterns` are globs below a data folder (the first that matches is taken); `sha256` is that of the file itself,
    and None where no official one is known; `url` is where it, or the archive it is `member` of, can be had.
    """

    name: str
    patterns: tuple[str, ...]
    sha256: str | None
    url: str | None
    licence: str
    member: str | None = None
    archive_sha256: str | None = None


@dataclass(frozen=True)
class FoundFile:
    """A file that was read; `official` says whether its hash is the published one (None: none is known)."""

    name: str
    path: str
    sha256: str
    official: bool | None


@dataclass(frozen=True)
class EvaluationSet(Generic[Item]):
    """The items of a set in the order of its files."""

    items: tuple[Item, ...]
    files: tuple[FoundFile, ...]


@dataclass(frozen=True)
class DataSource:
    """Where sets are looked for: below `folder`, then in the cache, then (if `fetch`) at their makers'.

    A file whose hash, or whose count of items, is not the published one is refused unless `allow_changed`.
    """

    folder: Path | None = None
    allow_changed: bool = False
    fetch: bool = False
