"""Files of tensors with a checksum of their content."""

import zipfile
from pathlib import Path

import pytest
import torch

from delayplug.bench.sealed import UnreadableTensorsError, load_sealed, load_tensors, save_sealed
from tests.damage import broken_bytes

CONTENT = {"a": torch.arange(100), "epochs": [{"seconds": 1.5}], "text": "x"}


def test_what_is_written_is_read_by_torch_too(tmp_path: Path) -> None:
    path = tmp_path / "file.pt"
    save_sealed(path, CONTENT)
    for content in (load_sealed(path), torch.load(path, weights_only=True), torch.load(path, mmap=True)):
        assert torch.equal(content["a"], CONTENT["a"])  # type: ignore[arg-type]
        assert content["epochs"] == CONTENT["epochs"]
    assert [each.name for each in tmp_path.iterdir()] == ["file.pt"]


def reason(path: Path) -> str:
    """Why a file is refused; "" if it is not, and has what was written to it."""
    try:
        content = load_sealed(path)
    except UnreadableTensorsError as error:
        return str(error)
    assert torch.equal(content["a"], CONTENT["a"])  # type: ignore[arg-type]
    return ""


def test_damage_is_noticed(tmp_path: Path) -> None:
    """Each part that is missing; and each byte that is another one is refused, or changes nothing that is read."""
    path = tmp_path / "file.pt"
    save_sealed(path, CONTENT)
    reasons: dict[str, str] = {}
    for name, damaged in broken_bytes(path.read_bytes()):
        path.write_bytes(damaged)
        reasons[name] = reason(path)
    assert all(text for name, text in reasons.items() if name.startswith("first"))
    assert len([text for text in reasons.values() if text]) > 30
    assert not any("\n" in text for text in reasons.values())


def test_edited_files(tmp_path: Path) -> None:
    path = tmp_path / "file.pt"
    save_sealed(path, CONTENT)
    torch.save({**torch.load(path, weights_only=True), "text": "y"}, path)
    with pytest.raises(UnreadableTensorsError, match="it has no checksum: it was edited, or is of an earlier version"):
        load_sealed(path)
    save_sealed(path, CONTENT)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/data/7", b"more")
    with pytest.raises(UnreadableTensorsError, match="its checksum is not that of its content"):
        load_sealed(path)


def test_files_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_sealed(tmp_path / "none.pt")
    with pytest.raises(UnreadableTensorsError, match="not a whole archive"):
        load_sealed(tmp_path)
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
    with pytest.raises(UnreadableTensorsError, match=r"^Weights only load failed$"):
        load_tensors(tmp_path / "module.pt")
