"""Files that are there whole or not at all: atomic writes, payloads with their checksum, and a lock for a folder."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import filelock

from paperlib.errors import PaperlibError

ABANDONED = 3600.0  # seconds after which a temporary file is nobody's: no file here takes minutes to write
Buffer = TypeVar("Buffer", bytes, memoryview)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file by way of a temporary one beside it.  On any error the old file stays and no new one is left.

    A process that is killed here leaves the temporary file.  The next one that writes the same file removes it, once it
    is so old that nobody can still be writing it.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "there is something else than an ordinary file in its place", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_scraps(path.parent, glob.escape(path.name), older_than=ABANDONED)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as f:
            f.write(content)
            f.flush()
            os.fsync(f.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def remove_scraps(folder: Path, pattern: str = "*", older_than: float = 0.0) -> None:
    """Remove what processes that were killed in :func:`write_atomically` left of files like ``pattern``.

    Without an age in seconds, ``older_than``, nobody else may be writing such files.  What cannot be removed stays.
    """
    for scrap in folder.glob(f".{pattern}.*.tmp"):
        with contextlib.suppress(OSError):
            if not older_than or time.time() - scrap.stat().st_mtime > older_than:
                scrap.unlink()


def seal(payload: bytes) -> bytes:
    """The payload with its SHA-256 in front, so that a damaged file is found before anything in it is believed."""
    return hashlib.sha256(payload).digest() + payload


def unseal(raw: Buffer) -> Buffer | None:
    """What :func:`seal` was given; None if ``raw`` is damaged or something else."""
    return raw[32:] if hashlib.sha256(raw[32:]).digest() == raw[:32] else None


@contextlib.contextmanager
def locked(folder: Path, what: str) -> Iterator[None]:
    """Make the folder of a ``what`` (``"run"``, ``"grid"``) and keep other processes out of it within the block.

    Raises
    ------
    PaperlibError
        Another process is at it, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / ".lock").acquire(timeout=0)
    except filelock.Timeout:
        raise PaperlibError(f"another process is working on this {what} ({folder}): wait for it or stop it") from None
    except OSError as e:
        raise PaperlibError(
            f"the {what}'s folder {folder} cannot be written ({e.strerror or e}): set PAPERLIB_RUNS to another one"
        ) from e
    with lock:
        yield
