"""What data costs before and while a network is trained."""

from pathlib import Path

from rich.console import Console

from delayplug.bench.measure.loading import measure_loading, table
from tests.bench.runs import write_recordings


def test_parts_are_timed_and_nothing_is_left(tmp_path: Path, monkeypatch) -> None:
    write_recordings(tmp_path / "a_train.h5", 30)
    write_recordings(tmp_path / "a_test.h5", 10)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", None)
    parts: list[str] = []
    found = measure_loading(tmp_path, batch_size=8, seconds=0.05, progress=parts.append)
    assert parts == ["train", "test"]
    assert {name: part.recordings for name, part in found.items()} == {"train": 30, "test": 10}
    for part in found.values():
        assert part.binning > 0
        assert part.opening > 0
        assert part.batches > 0
        assert 0 < part.megabytes < 1
    assert not list((tmp_path / "temporary").iterdir())
    console = Console(width=80)
    with console.capture() as text:
        console.print(table("digits", found, 8))
    shown = " ".join(text.get().split())
    assert "Batches of 8" in shown
    assert "train 30" in shown
