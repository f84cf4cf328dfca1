"""Files of the web brought into the local cache: whole and verified, or not at all; and members of archives."""

import hashlib
import http.client
import os
import tarfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from gpt2lab.base.errors import BadInput
from gpt2lab.base.files import sha256_of, whole_file
from gpt2lab.base.progress import progress_bar

LARGEST_DOWNLOAD = 4 << 30
LARGEST_MEMBER = 1 << 30
"""Bytes of the largest file taken out of an archive; enwik9 is a little smaller."""
SILENT_SECONDS = 60.0
_PIECE = 1 << 20


def cache_folder() -> Path:
    """Where fetched and unpacked files are kept: `datasets` below $GPT2LAB_CACHE, or below ~/.cache/gpt2lab."""
    root = os.environ.get("GPT2LAB_CACHE")
    return (Path(root) if root else Path.home() / ".cache" / "gpt2lab") / "datasets"


def place_in_cache(key: str, name: str) -> Path:
    """The place of a file in the cache; `key` is the SHA-256 of where it comes from."""
    return cache_folder() / key[:16] / name


def in_cache(url: str, sha256: str | None) -> Path | None:
    """What was fetched of `url`, if it is there and has this hash (None: any)."""
    path = _place_of(url, sha256)
    return path if path.is_file() and sha256 in (None, sha256_of(path)) else None


def _place_of(url: str, sha256: str | None) -> Path:
    return place_in_cache(sha256 or hashlib.sha256(url.encode()).hexdigest(), PurePosixPath(url).name)


def fetched(url: str, sha256: str | None) -> Path:
    """The file at `url` in the cache, fetched unless it is there. Raises BadInput that says what to do instead."""
    if (there := in_cache(url, sha256)) is not None:
        return there
    path = _place_of(url, sha256)
    instead = f"fetch {path.name} by other means and put it below --data"
    with _explained(url, instead):
        _download(url, path, sha256, instead)
    return path


def _download(url: str, path: Path, sha256: str | None, instead: str) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": "gpt2lab"})  # noqa: S310 - addresses of our own
    with urllib.request.urlopen(request, timeout=SILENT_SECONDS) as answer, whole_file(path) as out:  # noqa: S310
        announced = answer.headers.get("Content-Length", "")
        length = int(announced) if announced.isdigit() else None
        found, done = hashlib.sha256(), 0
        with progress_bar(f"fetch {path.name}", length, "bytes") as bar:
            while piece := answer.read(_PIECE):
                done += len(piece)
                if done > LARGEST_DOWNLOAD:
                    raise BadInput(f"{url}: more than {LARGEST_DOWNLOAD >> 30} GiB come; {instead}.")
                found.update(piece)
                out.write(piece)
                bar.advance(len(piece))
        if length is not None and done != length:
            raise BadInput(f"{url}: broke off after {done:,} of {length:,} bytes; run the same command again.")
        if sha256 is not None and found.hexdigest() != sha256:
            raise BadInput(
                f"{url}: what came is not the published file (SHA-256 {found.hexdigest()}, not {sha256});"
                f" try again later, or {instead}."
            )


@contextmanager
def _explained(url: str, instead: str) -> Iterator[None]:
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        raise BadInput(f"{url}: the server answers with {error.code} {error.reason}; {instead}.") from None
    except urllib.error.URLError as error:
        raise BadInput(f"{url}: can't be reached ({error.reason}); {instead}.") from None
    except (http.client.HTTPException, TimeoutError, ConnectionError) as error:
        reason = str(error) or type(error).__name__
        raise BadInput(f"{url}: broke off ({reason}); run the same command again, or {instead}.") from None
    except OSError as error:
        raise BadInput(
            f"{error.filename or cache_folder()}: can't be written ({error.strerror}); set GPT2LAB_CACHE to a folder"
            " of yours."
        ) from None


def unpacked(archive: Path, archive_sha256: str, member: str) -> Path:
    """A member of a zip or tar archive, as a file in the cache. Raises BadInput where it isn't in it, or is damaged.

    `member` is the end of its path in the archive; of the archive's paths only that is ever used for a name.
    """
    path = place_in_cache(archive_sha256, "unpacked") / PurePosixPath(member).name
    note = path.with_name(f"{path.name}.sha256")
    if path.is_file() and note.is_file() and note.read_text().strip() == sha256_of(path):
        return path
    try:
        with _member(archive, member) as source, whole_file(path) as out:
            found, done = hashlib.sha256(), 0
            while piece := source.read(_PIECE):
                done += len(piece)
                if done > LARGEST_MEMBER:
                    raise BadInput(f"{archive}: {member} in it is larger than {LARGEST_MEMBER >> 30} GiB; unpack it.")
                found.update(piece)
                out.write(piece)
        with whole_file(note, "w") as out:
            out.write(found.hexdigest() + "\n")
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, RuntimeError) as error:
        raise BadInput(f"{archive}: can't be unpacked ({error}); fetch it again.") from None
    except OSError as error:
        if error.filename is None:
            raise BadInput(f"{archive}: can't be unpacked ({error}); fetch it again.") from None
        raise BadInput(
            f"{error.filename}: can't be written or read ({error.strerror}); set GPT2LAB_CACHE to a folder of yours."
        ) from None
    return path


@contextmanager
def _member(archive: Path, member: str) -> Iterator[IO[bytes]]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as files:
            for name in files.namelist():
                if f"/{name}".endswith(f"/{member}"):
                    with files.open(name) as source:
                        yield source
                    return
    else:
        with tarfile.open(archive, "r|*") as stream:
            for entry in stream:
                if entry.isfile() and f"/{entry.name}".endswith(f"/{member}"):
                    content = stream.extractfile(entry)
                    if content is not None:
                        yield content
                        return
    raise BadInput(f"{archive}: there is no {member} in it; fetch it again.")
