"""Files that are written as a whole or not at all, and by one process at a time. Imports no torch."""

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from .._files import replace_file
from ..errors import RunError
from .stopping import uninterrupted

try:
    import fcntl
except ImportError:  # no POSIX: two processes are not kept from one folder
    fcntl = None  # type: ignore[assignment]

_PATIENCE = 5.0  # seconds: a process that was told to end takes a moment


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file: another one in the same folder, which then replaces it.

    Raises:
        RunError: it cannot be written: the disk is full, perhaps. What was there before is there still.
    """
    try:
        with uninterrupted():
            replace_file(path, content)
    except OSError as error:
        if not path.parent.is_dir():
            advice = "Make it, or choose another file"
            raise RunError(f"{path}: expected a folder {path.parent} to write it to, got none. {advice}") from error
        advice = "Make room, or choose another place"
        raise RunError(f"{path}: expected a file that can be written, got {error}. {advice}") from error


def make_folder(folder: Path) -> None:
    """Make a folder, with those around it, and check that files can be written to it.

    Raises:
        RunError: it cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise RunError(f"out: expected a folder that can be written to, got {folder}: {error}") from error


def remove_leftovers(folder: Path) -> None:
    """Remove what processes that were killed while they wrote have left in a folder."""
    for temporary in folder.glob("*.tmp"):
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from this block for the same folder. A lock ends with its process, however that ends.

    Raises:
        RunError: another process is in this block, and stays there.
    """
    if fcntl is None:
        yield
        return
    latest = time.monotonic() + _PATIENCE
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if time.monotonic() > latest:
                    advice = "Wait for it, or choose another --out"
                    raise RunError(f"{folder}: another process is making this run. {advice}") from error
                time.sleep(0.1)
                continue
            except OSError:
                pass  # a file system without locks
            break
        yield
    finally:
        os.close(descriptor)
