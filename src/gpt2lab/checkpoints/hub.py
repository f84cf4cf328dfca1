"""Models of the Hugging Face hub: which words name one, and its files in the local cache, verified.

The network and the cache are huggingface_hub's, with its settings (HF_HOME, HF_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE), so
what transformers has fetched is not fetched again. What is done here beside it: the published models are pinned to a
commit and a checksum, every file's hash is checked, and a download that was cut off goes on where it was.
"""

import errno
import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from gpt2lab.base.errors import BadInput, BadOption, NoSpace, explain_full_disk
from gpt2lab.base.files import read_json, whole_file, write_json
from gpt2lab.base.progress import Bar, progress_bar
from gpt2lab.checkpoints.config_file import config_from_json
from gpt2lab.tokens.tokenizer_files import TOKENIZER_FILES

HUB = "hub:"
"""What a name starts with that is not to be taken for a path."""


@dataclass(frozen=True)
class HubModel:
    """A model of the hub: OWNER/NAME, the commit, and the folder of the local cache that holds its files."""

    name: str
    commit: str
    folder: Path


@dataclass(frozen=True)
class _Published:
    """A published model: the commit that a bare name means here, and the SHA-256 of its model.safetensors."""

    commit: str
    weights: str


# As several public repositories state them independently, and the hub's own pages of these files.
_PUBLISHED = {
    "openai-community/gpt2": _Published(
        "607a30d783dfa663caf39e06633721c8d4cfcd7e", "248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707"
    ),
    "openai-community/gpt2-medium": _Published(
        "6dcaa7a952f72f9298047fd5137cd6e4f05f41da", "fc5a354a19255ad494f3d71549390baca1ccf61d1d822b9408971705c687c9cd"
    ),
    "openai-community/gpt2-large": _Published(
        "32b71b12589c2f8d625668d2335a01cac3249519", "5f47f3e12f91cd33b662ce7e433b6150ad5512b5884a2cee961b50e9c3bbebce"
    ),
    "openai-community/gpt2-xl": _Published(
        "15ea56dee5df4983c59b2538573817e1667135e2", "0f8b28eb05a8075f48b61b6f35332978c74fc7763fa9fb4051a1c30511736a6a"
    ),
    "distilbert/distilgpt2": _Published(
        "2290a62682d06624634c1f46a6ad5be0f47f38aa", "e1ff18884359fe8beb795a5f414feb85a6ce3d929ad019c0d958c039d2b94a1b"
    ),
}
_ALIASES = {name.partition("/")[2]: name for name in _PUBLISHED}

_WORD = r"\w(?:[\w.-]{0,94}\w)?"  # the hub's own rule
_NAME = re.compile(rf"(?P<owner>{_WORD})/{_WORD}", re.ASCII)
_PATH_ENDINGS = (
    ".bin .ckpt .gguf .h5 .index .json .meta .msgpack .npz .onnx .ot .pt .pth .safetensors .tflite .zip".split()
)
_COMMIT = re.compile("[0-9a-f]{40}")
_HASH = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")

_CONFIG = "config.json"
_SMALL_FILES = (
    *("vocab.json", "encoder.json", "tokenizer_config.json", "generation_config.json", "provenance.json"),
    *TOKENIZER_FILES,
)
# The first of these that a repository has is taken: one file, or an index and its shards.
_WEIGHTS = (
    ("model.safetensors", None),
    ("model.safetensors.index.json", re.compile(r"model-\d+-of-\d+\.safetensors")),
    ("pytorch_model.bin", None),
    ("pytorch_model.bin.index.json", re.compile(r"pytorch_model-\d+-of-\d+\.bin")),
    ("quantized.safetensors", None),
)
_OTHER_WEIGHTS = (".gguf", ".h5", ".msgpack", ".onnx", ".ot", ".pt", ".bin")
_HASHED_EVERY_TIME = 16 << 20  # bytes; a tokenizer's few megabytes take milliseconds


@dataclass(frozen=True)
class _File:
    """A file of a repository: git's SHA-1 of it or, where it is large, its SHA-256; its bytes (None: not known)."""

    hash: str
    size: int | None

    def is_whole(self, path: Path) -> bool:
        """Whether a file has this hash."""
        with path.open("rb") as handle:
            if len(self.hash) == 64:
                return hashlib.file_digest(handle, "sha256").hexdigest() == self.hash
            body = handle.read()
        return hashlib.sha1(b"blob %d\0" % len(body) + body, usedforsecurity=False).hexdigest() == self.hash


def hub_name(source: str | Path) -> str | None:
    """The OWNER/NAME (or OWNER/NAME@REVISION) on the hub that `source` means; None where it is a path.

    A `Path` is always a path, and so is a string that exists here, names a file by its ending, starts with `.`, `/` or
    `~`, or has other than one slash. `hub:` before a name makes it one of the hub. Raises BadOption for a short name
    (gpt2) that exists here, too, and for a name in a folder that exists here without it: a mistyped path.
    """
    if isinstance(source, Path):
        return None
    forced = source.startswith(HUB)
    bare, at, revision = source.removeprefix(HUB).partition("@")
    name = _ALIASES.get(bare, bare)
    found = _NAME.fullmatch(name)
    if found is None or (at and not revision) or "--" in name or ".." in name:
        if forced:
            raise BadOption(f"{source}: no name of the hub; those are OWNER/NAME, {', '.join(_ALIASES)}.")
        return None
    if not forced:
        path = Path(source)
        if bare in _ALIASES and path.exists():
            raise BadOption(
                f"{source}: both a {'folder' if path.is_dir() else 'file'} here and a model of the hub; write"
                f" ./{source} or {HUB}{source}."
            )
        if path.exists() or path.suffix in _PATH_ENDINGS or path.with_name(f"{path.name}.index").exists():
            return None
        if bare not in _ALIASES and Path(found["owner"]).exists():
            raise BadOption(
                f"{source}: no such file or folder in {found['owner']}/; for a model of the hub write {HUB}{source}."
            )
    return name + at + revision


def as_path(path: Path) -> str:
    """A path as `hub_name` takes it for one, whatever it is called."""
    return f"./{path}" if str(path) in _ALIASES else str(path)


def fetch_model(name: str, revision: str | None = None) -> HubModel:
    """The files of a model of the hub, fetched where the cache lacks them, and checked.

    `name` is what `hub_name` gives. `revision` is a branch, tag or commit; without one, the published models are those
    of a known commit, others are `main`. Without a network the cache serves. Raises BadInput or BadOption that says
    why there is no such model, or none that can be had now.
    """
    name, _, told = name.partition("@")
    if told and revision is not None:
        raise BadOption(f"--revision {revision}: {name}@{told} names a revision already; leave one of them out.")
    published = _PUBLISHED.get(name)
    revision = told or revision or (published.commit if published else "main")
    with _explained(name, revision), _without_telemetry():
        commit, files, trusted = _find(name, revision)
        if published and commit == published.commit:
            _check_published(name, published, files)
        folder = _cache_of(name) / "snapshots" / commit
        _complete(name, commit, folder, files, trusted)
        if not trusted:
            _written(_listing(name, commit), {file: vars(found) for file, found in files.items()})
    return HubModel(name, commit, folder)


def _find(name: str, revision: str) -> tuple[str, dict[str, _File], bool]:
    """The commit of a revision, the files wanted of it, and whether the cache has them all as far as it knows.

    One request; none for a commit that was complete before.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import OfflineModeIsEnabled, RevisionNotFoundError

    given = revision if _COMMIT.fullmatch(revision) else None
    if given and (before := _complete_before(name, given)):
        return given, before, True
    try:
        api = HfApi(headers=_user_agent())
        found = api.model_info(name, revision=revision, files_metadata=True, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except RevisionNotFoundError:
        raise
    except (OfflineModeIsEnabled, _http_error()):
        # Not reached, or it wants another token, or has the model no more: what the cache holds is as good as ever.
        commit = given or _remembered_commit(name, revision)
        files = (_complete_before(name, commit) or _left_by_others(name, commit)) if commit else {}
        if not commit or not files:
            raise
        return commit, files, True
    except (ValueError, TypeError, KeyError, AttributeError):
        raise BadInput(
            f"{name}: {constants.ENDPOINT} does not answer as a hub does; is HF_ENDPOINT right, or a login page of the"
            " network in the way?"
        ) from None
    commit = found.sha or ""
    if not _COMMIT.fullmatch(commit) or (given and commit != given):
        raise BadInput(
            f"{name}: {constants.ENDPOINT} tells the commit {commit!r} for {revision}; is HF_ENDPOINT right?"
        )
    if not given and _remembered_commit(name, revision) != commit:
        _written(_cache_of(name) / "refs" / revision, commit)
    if before := _complete_before(name, commit):
        return commit, before, True
    listed = {
        entry.rfilename: _File(entry.lfs.sha256 if entry.lfs else entry.blob_id or "", entry.size)
        for entry in found.siblings or ()
    }
    return commit, _wanted(name, listed), False


def _wanted(name: str, listed: Mapping[str, _File]) -> dict[str, _File]:
    """The files to fetch, weights last. Only names that are known are ever taken: none leads out of the folder."""
    if _CONFIG not in listed:
        raise BadInput(f"{name}: not a model as transformers keeps them (no {_CONFIG} in it).")
    wanted = [_CONFIG, *(file for file in _SMALL_FILES if file in listed)]
    first, shards = next((weights for weights in _WEIGHTS if weights[0] in listed), (None, None))
    if first is None:
        others = [file for file in listed if Path(file).suffix in _OTHER_WEIGHTS]
        only = f" (only {', '.join(others[:3])})" if others else ""
        raise BadInput(f"{name}: has no weights as safetensors or of PyTorch{only}.")
    wanted += [first, *sorted(file for file in listed if shards and shards.fullmatch(file))]
    for file in wanted:
        if not _HASH.fullmatch(listed[file].hash):
            raise BadInput(f"{name}: the hub tells no hash of {file}.")
    return {file: listed[file] for file in wanted}


def _check_published(name: str, published: _Published, files: Mapping[str, _File]) -> None:
    found = files.get("model.safetensors")
    if found is not None and found.hash != published.weights:
        raise BadInput(
            f"{name}: its weights at commit {published.commit[:7]} are not the published ones (SHA-256"
            f" {found.hash[:12]}..., published {published.weights[:12]}...); is HF_ENDPOINT right?"
        )


def _complete(name: str, commit: str, folder: Path, files: Mapping[str, _File], trusted: bool) -> None:
    """Fetch what the folder lacks and check what it has; large files only where they are not `trusted` yet."""
    from huggingface_hub import hf_hub_download

    missing = [file for file in files if not (folder / file).exists()]
    megabytes = sum(files[file].size or 0 for file in missing) / 1e6
    with progress_bar("download", megabytes, "MB") if missing else _no_bar() as bar:
        for file, expected in files.items():
            if file in missing:
                shown: Any = _shown_on(bar)
                if len(expected.hash) == 64:
                    _fetch_large(name, commit, file, expected, shown)
                hf_hub_download(name, file, revision=commit, headers=_user_agent(), tqdm_class=shown)
            _check(name, folder / file, expected, thorough=not trusted or file in missing)
            if file == _CONFIG:
                _check_config(name, folder / file)


def _check(name: str, path: Path, expected: _File, thorough: bool) -> None:
    size = path.stat().st_size
    hashed = thorough or size <= _HASHED_EVERY_TIME
    if expected.size in (None, size) and (not hashed or expected.is_whole(path)):
        return
    while path.is_symlink():  # from the snapshot to the blob, and maybe on to one shared between models
        target = path.parent / path.readlink()
        path.unlink()
        path = target
    path.unlink(missing_ok=True)
    raise BadInput(
        f"{name}: {path} does not hold what the hub has (hash {expected.hash[:12]}...); it was deleted: run the same"
        " command again to fetch it anew."
    )


def _check_config(name: str, path: Path) -> None:
    """Refuse another architecture before gigabytes of it are fetched."""
    try:
        config_from_json(path)
    except BadInput as error:
        raise BadInput(f"{name}: {error}") from None


def _fetch_large(name: str, commit: str, file: str, expected: _File, shown: Any) -> None:
    """Put a large file into the cache, going on where an earlier download was cut off.

    The client of itself starts anew in each process: since its version 2 its partial files have random names.
    """
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import WeakFileLock, build_hf_headers  # type: ignore[attr-defined]

    cache = _cache_of(name)
    blob = cache / "blobs" / expected.hash
    partial = blob.with_name(f"{blob.name}.incomplete")
    # The client's own lock of this blob, so that two programs do not write one file.
    lock = cache.parent / ".locks" / cache.name / f"{blob.name}.lock"
    for place in (blob, lock):
        place.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):
        if blob.exists():
            return
        done = partial.stat().st_size if partial.exists() else 0
        if expected.size is not None and done > expected.size:
            partial.unlink()
            done = 0
        with partial.open("ab") as handle:
            http_get(
                hf_hub_url(name, file, revision=commit),
                handle,
                resume_size=done,
                # Compressed, a server may not give a range.
                headers=build_hf_headers(headers=_user_agent() | {"accept-encoding": "identity"}),
                expected_size=expected.size,
                displayed_filename=file,
                tqdm_class=shown,
            )
        partial.rename(blob)


def _shown_on(bar: Bar) -> type:
    """What the client takes for a tqdm bar, drawn on ours."""

    class Shown:
        def __init__(self, *, initial: float = 0, **_: object) -> None:
            bar.skip(initial / 1e6)

        def update(self, count: float | None = 1) -> None:
            bar.advance((count or 0) / 1e6)

        def close(self) -> None:
            pass

        def __enter__(self) -> "Shown":
            return self

        def __exit__(self, *_: object) -> None:
            pass

    return Shown


@contextmanager
def _no_bar() -> Iterator[Bar]:
    yield Bar("download", None, "MB")


def _cache_of(name: str) -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).expanduser() / f"models--{name.replace('/', '--')}"


def _left_by_others(name: str, commit: str) -> dict[str, _File]:
    """The files of a snapshot that another program fetched, if it is a model with its tokenizer; else none.

    The cache's links lead to files that are named by their hash.
    """
    folder = _cache_of(name) / "snapshots" / commit
    links = [path for path in folder.iterdir() if path.is_symlink() and path.exists()] if folder.is_dir() else []
    present = {path.name: _File(path.readlink().name, None) for path in links}
    if not any(file in present for file in TOKENIZER_FILES):
        return {}
    try:
        return _wanted(name, present)
    except BadInput:
        return {}


def _listing(name: str, commit: str) -> Path:
    return _cache_of(name) / "gpt2lab" / f"{commit}.json"


def _complete_before(name: str, commit: str) -> dict[str, _File] | None:
    """The files of a commit that was fetched and verified before; None for another."""
    try:
        return {file: _File(found["hash"], found["size"]) for file, found in read_json(_listing(name, commit)).items()}
    except (BadInput, AttributeError, TypeError, KeyError):
        return None


def _remembered_commit(name: str, revision: str) -> str | None:
    """Which commit a branch or tag was when the hub last told: the client's own note of it."""
    path = _cache_of(name) / "refs" / revision
    commit = path.read_text().strip() if path.is_file() else ""
    return commit if _COMMIT.fullmatch(commit) else None


def _written(path: Path, value: object) -> None:
    """Write a note into the cache; one that is read-only does without."""
    try:
        if isinstance(value, str):
            with whole_file(path, "w") as handle:
                handle.write(value)
        else:
            write_json(path, value)
    except PermissionError:
        pass
    except OSError as error:
        if error.errno != errno.EROFS:
            raise


def _user_agent() -> dict[str, str]:
    """Headers that tell the hub this program's name, and nothing of the machine or what is installed on it."""
    return {"user-agent": "gpt2lab"}


@contextmanager
def _without_telemetry() -> Iterator[None]:
    """Keep the client from telling what is installed here, and from asking the hub how to recognise coding agents."""
    from huggingface_hub import constants

    before = constants.HF_HUB_DISABLE_TELEMETRY
    constants.HF_HUB_DISABLE_TELEMETRY = True
    try:
        yield
    finally:
        constants.HF_HUB_DISABLE_TELEMETRY = before


def _http_error() -> type[Exception]:
    """The base of what the client's network library raises: httpx, or httpx2 since the client's version 2."""
    from huggingface_hub.errors import HfHubHTTPError

    return cast(type[Exception], HfHubHTTPError.__bases__[0])


@contextmanager
def _explained(name: str, revision: str) -> Iterator[None]:
    """Turn what the client raises into one line that says what to do."""
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    hub, cache = constants.ENDPOINT, _cache_of(name)
    try:
        with explain_full_disk(cache):
            yield
    except NoSpace:
        raise NoSpace(
            f"{cache}: the disk is full; free some space and run the same command again, it goes on where it was."
        ) from None
    except HFValidationError:
        raise BadOption(f"{name}: no name of the hub; those are OWNER/NAME.") from None
    except OfflineModeIsEnabled:
        raise BadInput(
            f"{name}: not (wholly) in the cache ({cache}), and HF_HUB_OFFLINE forbids to fetch it; run once without it."
        ) from None
    except RevisionNotFoundError:
        raise BadInput(f"{name}: has no revision {revision}; name a branch, tag or commit of it.") from None
    except GatedRepoError:
        raise BadInput(
            f"{name}: its owner lets in only who asks; accept the terms at {hub}/{name}, then set HF_TOKEN."
        ) from None
    except RepositoryNotFoundError:
        raise BadInput(
            f"{name}: no such model on {hub}, or a private one (set HF_TOKEN); and no such path here."
        ) from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        remedy = "set HF_TOKEN to a token that may read it" if status in (401, 403) else "try again later"
        raise BadInput(f"{name}: {hub} answered with HTTP status {status}; {remedy}.") from None
    except (LocalEntryNotFoundError, _http_error()) as error:
        reason = " ".join(str(error.__cause__ or error).split()) or type(error).__name__
        raise BadInput(
            f"{name}: not (wholly) in the cache ({cache}), and {hub} can't be reached or broke off ({reason}); with a"
            " network, the same command goes on where it was."
        ) from None
    except OSError as error:
        if error.filename is not None:
            raise BadInput(
                f"{error.filename}: can't be written or read ({error.strerror}); set HF_HOME to a folder of yours."
            ) from None
        raise BadInput(f"{name}: {' '.join(str(error).split())}; run the same command again to go on.") from None
