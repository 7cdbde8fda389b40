"""`delayplug data`, as a user meets it."""

import os
import signal
import socket
from pathlib import Path

import pytest

from tests.bench.runs import write_recordings
from tests.cli.command import begin, delayplug


def test_info(tmp_path: Path) -> None:
    write_recordings(tmp_path / "digits_train.h5", 8)
    write_recordings(tmp_path / "digits_test.h5", 4)
    done = delayplug("data", "info", str(tmp_path), "--plot", str(tmp_path / "digits.png"))
    assert done.returncode == 0, done.stderr
    assert "train" in done.stdout
    assert (tmp_path / "digits.png").read_bytes()[:4] == b"\x89PNG"


def test_times_in_milliseconds(tmp_path: Path) -> None:
    for name, number in (("train", 8), ("test", 4)):
        write_recordings(tmp_path / f"digits_{name}.h5", number, seconds=300.0)
    args = ("data", "info", str(tmp_path), "--plot", str(tmp_path / "digits.png"))
    refused = delayplug(*args)
    assert refused.returncode == 1
    assert "--time-unit ms" in " ".join(refused.stderr.split())
    done = delayplug(*args, "--time-unit", "ms")
    assert done.returncode == 0, done.stderr
    assert "0.2" in done.stdout  # seconds


def test_a_folder_without_recordings(tmp_path: Path) -> None:
    for command in ("info", "speed"):
        done = delayplug("data", command, str(tmp_path))
        assert done.returncode == 1
        assert done.stderr.startswith("error: ")


def test_unknown_frames_sets_and_archives() -> None:
    for args in (["download", "mnist"], ["download", "shd", "--packing", "tar"]):
        done = delayplug("data", *args)
        assert done.returncode == 2
        assert "is not one of" in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_download_that_is_stopped(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        process = begin("data", "download", "shd", "--url", url, cwd=tmp_path)
        silent.settimeout(60)
        connection, _ = silent.accept()
        process.send_signal(signal.SIGINT)
        _, printed = process.communicate(timeout=20)
        connection.close()
    assert process.returncode == 130
    assert printed == "stopped by Ctrl-C: run again to go on with the download\n"


def test_folders_whose_names_look_like_markup(tmp_path: Path) -> None:
    done = delayplug("data", "info", "no[/such]folder", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: no[/such]folder: expected")
    folder = tmp_path / "digits[bold]"
    folder.mkdir()
    write_recordings(folder / "x_train.h5", 8)
    write_recordings(folder / "x_test.h5", 4)
    done = delayplug("data", "info", folder.name, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert folder.name in done.stdout.splitlines()[0]
    assert "Picture" not in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]  # no picture that nobody asked for
    done = delayplug("data", "info", folder.name, "--plot", "[x].png", cwd=tmp_path)
    assert "Picture: [x].png" in done.stdout
    assert (tmp_path / "[x].png").exists()


def test_a_picture_that_cannot_be_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "x_train.h5").write_text("not read")
    (tmp_path / "x_test.h5").write_text("not read")
    for name in ("p.xyz", "p.pn", "p"):
        done = delayplug("data", "info", str(tmp_path), "--plot", name, cwd=tmp_path)
        assert done.returncode == 1
        assert done.stderr.startswith("error: plot: expected a file that ends in ")
        assert len(done.stderr.splitlines()) == 1
