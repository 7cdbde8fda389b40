"""Files of tensors that hold a checksum of their content, so that a damaged or edited one is refused."""

import hashlib
import io
import warnings
import zipfile
from pathlib import Path
from typing import IO, Any

import torch

from ..errors import shortened
from .whole_files import write_whole

_SEAL = "delayplug-sha256"  # a member of the zip archive that `torch.save` writes; `torch.load` does not look at it
_PIECE = 1 << 20


class UnreadableTensorsError(Exception):
    """A file does not hold what was written to it; the message says why, and does not name the file."""


def save_sealed(path: Path, content: object) -> None:
    """Write a file of tensors and plain values as a whole, with the SHA-256 of its content; `torch.load` reads it, too.

    Raises:
        RunError: it cannot be written.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with zipfile.ZipFile(buffer, "a") as archive:
        folder = archive.namelist()[0].partition("/")[0]  # torch asks for one folder that has all members
        archive.writestr(f"{folder}/{_SEAL}", _digest(archive))
    write_whole(path, buffer.getvalue())


def load_sealed(path: Path) -> Any:
    """The content of a file that `save_sealed` wrote, on the CPU.

    Raises:
        FileNotFoundError, NotADirectoryError: there is no such file.
        UnreadableTensorsError: it is damaged, was edited, or was not written by `save_sealed`.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            seals = [name for name in archive.namelist() if name.endswith(f"/{_SEAL}")]
            if len(seals) != 1:
                raise UnreadableTensorsError("it has no checksum: it was edited, or is of an earlier version")
            if archive.read(seals[0]).decode() != _digest(archive):
                raise UnreadableTensorsError("its checksum is not that of its content: it was edited or damaged")
    except (FileNotFoundError, NotADirectoryError, UnreadableTensorsError):
        raise
    except Exception as error:  # whatever a damaged archive raises
        raise UnreadableTensorsError(f"not a whole archive ({_first_line(error)})") from error
    return load_tensors(path, mmap=True)


def load_tensors(file: Path | IO[bytes], *, mmap: bool = False) -> Any:
    """The tensors and plain values of a file that `torch.save` wrote, on the CPU. No code in it is run.

    Raises:
        UnreadableTensorsError: it is damaged, or holds something else.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:  # whatever unpickling raises
        raise UnreadableTensorsError(_first_line(error)) from error


def _digest(archive: zipfile.ZipFile) -> str:
    """SHA-256 of the names and contents of all members but the seal itself."""
    digest = hashlib.sha256()
    for name in sorted(name for name in archive.namelist() if not name.endswith(f"/{_SEAL}")):
        digest.update(f"{name} {archive.getinfo(name).file_size}\n".encode())
        with archive.open(name) as member:
            while piece := member.read(_PIECE):
                digest.update(piece)
    return digest.hexdigest()


def _first_line(error: Exception) -> str:
    """The first sentence of an error: torch's go on for paragraphs, with the advice to run the code in a file."""
    text = str(error).strip().partition("\n")[0].partition(". ")[0] or type(error).__name__
    return shortened(text).strip("'\"")
