"""Published evaluation sets: which files they are, where they are found, and what was found.

A reader (one file a set beside this one) asks a `DataSource` for its files and makes items of them.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Generic, TypeVar

from gpt2lab.base.errors import BadInput, BadOption
from gpt2lab.base.files import sha256_of
from gpt2lab.datasets.fetching import cache_folder, fetched, in_cache, unpacked
from gpt2lab.datasets.texts import COMPRESSIONS, open_bytes

Item = TypeVar("Item")
Restore = Callable[[Path], bytes]


class AbsentSet(BadInput):
    """A set is nowhere to be found; the message says where to get it."""


@dataclass(frozen=True)
class PublishedFile:
    """A file as its makers publish it.

    `patterns` are globs of the ends of paths below a data folder, in lower case, the best first; `sha256` is that of
    the file itself, and None where no official one is known; `url` is where it, or the archive it is `member` of, can
    be had.
    """

    name: str
    patterns: tuple[str, ...]
    sha256: str | None
    url: str | None
    licence: str
    member: str | None = None
    archive_sha256: str | None = None

    @property
    def archive(self) -> str | None:
        """The name of the archive it is published in."""
        return PurePosixPath(self.url).name if self.url and self.member else None


@dataclass(frozen=True)
class FoundFile:
    """A file that was read; `official` says whether its hash is the published one (None: none is known).

    `sha256` is that of what is in it, decompressed; `name` says as which published file it was taken.
    """

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

    def file(self, *editions: PublishedFile, restore: Restore | None = None) -> FoundFile:
        """A set's file, as any of its `editions`; see `find`. Raises AbsentSet, which says where to get it."""
        there = self.find(*editions, restore=restore)
        if there is not None:
            return there
        wanted = editions[0]
        if self.fetch and wanted.url is not None:
            return _fetched_file(wanted)
        names = " or ".join(dict.fromkeys(_names(editions)))
        where = f"below {self.folder}" if self.folder else f"in the cache ({cache_folder()})"
        raise AbsentSet(f"{wanted.name}: no {names} {where}; {_remedy(wanted, self.fetch)}.")

    def find(self, *editions: PublishedFile, restore: Restore | None = None) -> FoundFile | None:
        """A set's file, as any of its `editions`, where there is one below the folder or in the cache.

        A file is what its hash says, not its name: of several that match, the one with a published hash is taken.
        `restore` undoes what copies of this set are known to have changed, such as the format; a file is the published
        one, too, where what that gives has its hash. Raises BadInput where there are only files of the right name with
        a wrong hash, unless changed data are allowed.
        """
        below = list(_files_below(self.folder)) if self.folder is not None else []
        best: FoundFile | None = None
        broken: BadInput | None = None
        for edition, path in _matches(below, editions):
            try:
                found = _as_found(edition, path, editions, restore)
            except BadInput as error:
                broken = error
                continue
            if found.official:
                return found
            if best is None or (best.official is False and found.official is None):
                best = found
        for edition in editions:
            for name, path in below:
                if edition.archive and edition.member and name.endswith(f"/{edition.archive.lower()}"):
                    return self._accepted(_from_archive(edition, path, sha256_of(path)), editions)
        if best is not None:
            return self._accepted(best, editions)
        if broken is not None:
            raise broken
        return next(filter(None, map(_in_cache, editions)), None)

    def _accepted(self, found: FoundFile, editions: Sequence[PublishedFile]) -> FoundFile:
        if found.official is False and not self.allow_changed:
            hashes = " or ".join(edition.sha256 for edition in editions if edition.sha256)
            raise BadInput(
                f"{found.path}: not the published file of {found.name}: its SHA-256 is {found.sha256}, not {hashes};"
                f" {_remedy(editions[0], self.fetch)}, or take it as it is with --allow-changed-data."
            )
        return found

    def check_count(self, found: FoundFile, count: int, published: int, what: str = "items") -> FoundFile:
        """The file; not the official one, whatever its hash, where it has more or fewer items than the published one.

        Raises BadInput for that unless changed data are allowed, and where there are no items.
        """
        if not count:
            raise BadInput(f"{found.path}: no {what} in it, where {found.name} has {published:,}; get the file again.")
        if count != published and not self.allow_changed:
            difference = f"{abs(published - count):,} {'are missing' if count < published else 'too many'}"
            raise BadInput(
                f"{found.path}: {count:,} {what}, where {found.name} has {published:,}: {difference}; get the whole"
                " file, or take it as it is with --allow-changed-data."
            )
        return found if count == published else replace(found, official=False)


def _names(editions: Sequence[PublishedFile]) -> Iterator[str]:
    for edition in editions:
        yield PurePosixPath(edition.member).name if edition.member else edition.patterns[0]
        if edition.archive:
            yield edition.archive


def _remedy(wanted: PublishedFile, fetching: bool) -> str:
    if wanted.url is None:
        return "put it below --data"
    get = f"get {wanted.url}" + (f" ({wanted.member} in it)" if wanted.member else "") + ", put it below --data"
    return get if fetching else f"{get}, or let --fetch do that"


def _files_below(folder: Path) -> Iterator[tuple[str, Path]]:
    """All files below a folder in sorted order; with each its path from the folder's name on, in lower case."""
    if not folder.is_dir():
        raise BadOption(f"--data {folder}: {'not a folder' if folder.exists() else 'no such folder'}.")
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(place)) in seen:
            folders.clear()  # a link to a folder above
            continue
        seen.add(real)
        folders.sort()
        inside = "/".join((folder.resolve().name, *Path(place).relative_to(folder).parts))
        for name in sorted(names):
            if (path := Path(place, name)).is_file():
                yield f"/{inside}/{name}".lower(), path


def _matches(
    below: Sequence[tuple[str, Path]], editions: Sequence[PublishedFile]
) -> Iterator[tuple[PublishedFile, Path]]:
    """Files whose names are those of an edition, compressed or not; the best names first, each file once."""
    seen: set[Path] = set()
    for edition in editions:
        for pattern in edition.patterns:
            for name, path in below:
                compressed = PurePosixPath(name).suffix in COMPRESSIONS
                names = (name, name.rpartition(".")[0]) if compressed else (name,)
                if path not in seen and any(fnmatchcase(one, f"*/{pattern}") for one in names):
                    seen.add(path)
                    yield edition, path


def _as_found(
    named: PublishedFile, path: Path, editions: Sequence[PublishedFile], restore: Restore | None
) -> FoundFile:
    """What a file is: the edition of its hash, or else the one it is named after."""
    published = {edition.sha256: edition.name for edition in editions if edition.sha256}
    with open_bytes(path) as handle:
        content = hashlib.file_digest(handle, "sha256").hexdigest()  # type: ignore[arg-type]
    if content in published:
        return FoundFile(published[content], str(path), content, official=True)
    if restore is not None:
        try:
            restored = hashlib.sha256(restore(path)).hexdigest()
        except BadInput:
            restored = ""
        if restored in published:
            return FoundFile(published[restored], str(path), content, official=True)
    return FoundFile(named.name, str(path), content, official=None if named.sha256 is None else False)


def _from_archive(edition: PublishedFile, archive: Path, archive_sha256: str) -> FoundFile:
    """A file that is a member of an archive: official where its own hash is, or, where none is known, the archive's."""
    path = unpacked(archive, archive_sha256, edition.member or "")
    content = sha256_of(path)
    official = None
    if edition.sha256 is not None:
        official = content == edition.sha256
    elif edition.archive_sha256 is not None:
        official = archive_sha256 == edition.archive_sha256 or None
    return FoundFile(edition.name, str(path), content, official)


def _fetched_file(wanted: PublishedFile) -> FoundFile:
    url = wanted.url or ""
    path = fetched(url, wanted.archive_sha256 if wanted.member else wanted.sha256)
    found = _as_fetched(wanted, path)
    if found.official is False:
        path.unlink()
        raise BadInput(
            f"{url}: {wanted.member} in it is not the published one (SHA-256 {found.sha256}, not {wanted.sha256});"
            " put the right one below --data."
        )
    return found


def _in_cache(edition: PublishedFile) -> FoundFile | None:
    if edition.url is None:
        return None
    path = in_cache(edition.url, edition.archive_sha256 if edition.member else edition.sha256)
    found = None if path is None else _as_fetched(edition, path)
    return None if found is None or found.official is False else found


def _as_fetched(edition: PublishedFile, path: Path) -> FoundFile:
    content = sha256_of(path)
    if edition.member:
        return _from_archive(edition, path, content)
    return FoundFile(edition.name, str(path), content, None if edition.sha256 is None else content == edition.sha256)
