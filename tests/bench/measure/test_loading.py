"""What data costs before and while a network is trained."""

from pathlib import Path

import h5py
import numpy as np
from rich.console import Console

from delayplug.bench.measure.loading import measure_loading, table


def write(path: Path, number: int) -> None:
    rng = np.random.default_rng(number)
    with h5py.File(path, "w") as file:
        times = file.create_dataset("spikes/times", (number,), h5py.vlen_dtype(np.float16))
        units = file.create_dataset("spikes/units", (number,), h5py.vlen_dtype(np.uint16))
        for n in range(number):
            times[n] = np.sort(rng.uniform(0, 0.2, 30)).astype(np.float16)
            units[n] = rng.integers(0, 700, 30).astype(np.uint16)
        file["labels"] = np.arange(number, dtype=np.uint16) % 2
        file["extra/keys"] = np.array([b"zero", b"one"])


def test_parts_are_timed_and_nothing_is_left(tmp_path: Path, monkeypatch) -> None:
    write(tmp_path / "a_train.h5", 30)
    write(tmp_path / "a_test.h5", 10)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", None)
    parts: list[str] = []
    found = measure_loading(tmp_path, batch_size=8, seconds=0.05, progress=parts.append)
    assert parts == ["train", "test"]
    assert {name: part.recordings for name, part in found.items()} == {"train": 30, "test": 10}
    for part in found.values():
        assert part.binning > part.opening > 0
        assert part.batches > 0
        assert 0 < part.megabytes < 1
    assert not list((tmp_path / "temporary").iterdir())
    console = Console(width=80)
    with console.capture() as text:
        console.print(table("digits", found, 8))
    shown = " ".join(text.get().split())
    assert "Batches of 8" in shown
    assert "train 30" in shown
