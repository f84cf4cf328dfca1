"""The one way to fail: a `UserError` says what is wrong, where, and what to do. The CLI prints it as one line."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class UserError(Exception):
    """Something the user can mend. The message names the thing, the place and the remedy, in one line."""


class BadInput(UserError):
    """A file or folder given by the user can't be used."""


class BadOption(UserError):
    """An option, a recipe key or an argument has a value that can't be used."""


class NoSpace(UserError):
    """The disk is full; whatever was whole before is still whole."""


@contextmanager
def explain_full_disk(path: Path) -> Iterator[None]:
    """Turn the operating system's "no space left" into a `NoSpace` that names `path` (the outermost, where nested)."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise _no_space(path, error) from error
        raise
    except NoSpace as error:
        if isinstance(error.__cause__, OSError):
            raise _no_space(path, error.__cause__) from error.__cause__
        raise


def _no_space(path: Path, error: OSError) -> NoSpace:
    return NoSpace(
        f"{path}: the disk is full ({error.strerror}); nothing half-written was left and what was there before is"
        " whole. Free some space and run the same command again."
    )
