"""`delayplug data`, as a user meets it."""

from pathlib import Path

import h5py
import numpy as np

from tests.cli.command import delayplug


def write(path: Path, number: int) -> None:
    """Recordings in the layout of SHD."""
    rng = np.random.default_rng(number)
    with h5py.File(path, "w") as file:
        times = file.create_dataset("spikes/times", (number,), h5py.vlen_dtype(np.float16))
        units = file.create_dataset("spikes/units", (number,), h5py.vlen_dtype(np.uint16))
        for n in range(number):
            times[n] = np.sort(rng.uniform(0, 0.2, 30)).astype(np.float16)
            units[n] = rng.integers(0, 700, 30).astype(np.uint16)
        file["labels"] = np.arange(number, dtype=np.uint16) % 2
        file["extra/keys"] = np.array([b"zero", b"one"])


def test_info(tmp_path: Path) -> None:
    write(tmp_path / "digits_train.h5", 8)
    write(tmp_path / "digits_test.h5", 4)
    done = delayplug("data", "info", str(tmp_path), "--plot", str(tmp_path / "digits.png"))
    assert done.returncode == 0, done.stderr
    assert "train" in done.stdout
    assert (tmp_path / "digits.png").read_bytes()[:4] == b"\x89PNG"


def test_a_folder_without_recordings(tmp_path: Path) -> None:
    for command in ("info", "speed"):
        done = delayplug("data", command, str(tmp_path))
        assert done.returncode == 1
        assert done.stderr.startswith("error: ")


def test_unknown_data_sets_and_archives() -> None:
    for args in (["download", "mnist"], ["download", "shd", "--packing", "tar"]):
        done = delayplug("data", *args)
        assert done.returncode == 2
        assert "is not one of" in done.stderr
