"""Files that are written as a whole or not at all, and by one process at a time. Imports no torch."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

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
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with uninterrupted():
            temporary.write_bytes(content.encode() if isinstance(content, str) else content)
            temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if not path.parent.is_dir():
            advice = "Make it, or choose another file"
            raise RunError(f"{path}: expected a folder {path.parent} to write it to, got none. {advice}") from error
        raise RunError(f"{path}: expected a file that can be written, got {error}") from error


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
