"""Files that are written as a whole or not at all."""

import errno
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from delayplug._files import path_to_write, picture_of, replace_file


def test_a_file_is_replaced(tmp_path: Path) -> None:
    for content in ("Zürich", b"new"):
        replace_file(tmp_path / "file", content)
        expected = content.encode() if isinstance(content, str) else content
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"file": expected}


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part is written, and then there is no room: the old file stays, and nothing else does."""
    replace_file(tmp_path / "file", "old")
    write = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        write(path, content[:1])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        replace_file(tmp_path / "file", "new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"file": "old"}


def test_pictures_by_the_end_of_their_name() -> None:
    figure = Figure(figsize=(1, 1))
    assert picture_of(figure, Path("a.png"), dpi=20).startswith(b"\x89PNG")
    assert picture_of(figure, Path("a"), dpi=20).startswith(b"\x89PNG")
    assert b"<svg" in picture_of(figure, Path("a.SVG"))
    with pytest.raises(ValueError, match="xyz"):
        picture_of(figure, Path("a.xyz"))


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert path_to_write(str(tmp_path / "file")) == tmp_path / "file"
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        path_to_write(tmp_path / "missing" / "file")
    with pytest.raises(IsADirectoryError, match="it is a folder"):
        path_to_write(tmp_path)


def test_a_name_in_letters_that_no_font_has(recwarn: pytest.WarningsRecorder) -> None:
    figure = Figure(figsize=(1, 1))
    figure.suptitle("\N{GRINNING FACE}")
    picture_of(figure, Path("a.png"), dpi=20)
    assert not [each for each in recwarn if "Glyph" in str(each.message)]
