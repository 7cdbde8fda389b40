"""Files that are written as a whole or not at all."""

import contextlib
import io
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def path_to_write(path: "str | Path") -> Path:
    """The path of a file to be written, or OSError: its folder does not exist, or it is a folder itself."""
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path} cannot be written: there is no folder {path.parent}")
    if path.is_dir():
        raise IsADirectoryError(f"{path} cannot be written: it is a folder")
    return path


def replace_file(path: Path, content: bytes | str) -> None:
    """Write a file: another one in the same folder, which then replaces it.

    Raises:
        OSError: it cannot be written: the disk is full, perhaps. What was there before is there still, and nothing
            else is left.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def picture_of(figure: "Figure", path: Path, dpi: int = 150) -> bytes:
    """The content of a picture file, in the format that the end of its name says; PNG if it has none.

    Raises:
        ValueError: matplotlib does not know that format; the message lists those that it knows.
    """
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # names of others: a box stands for it
        figure.savefig(buffer, format=path.suffix[1:].lower() or "png", dpi=dpi)
    return buffer.getvalue()
