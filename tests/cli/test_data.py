"""`delayplug data`, as a user meets it."""

from pathlib import Path

from tests.bench.runs import write_recordings
from tests.cli.command import delayplug


def test_info(tmp_path: Path) -> None:
    write_recordings(tmp_path / "digits_train.h5", 8)
    write_recordings(tmp_path / "digits_test.h5", 4)
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
