"""Files that are written as a whole or not at all."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from delayplug import RunError
from delayplug.bench import whole_files
from delayplug.bench.whole_files import locked, make_folder, remove_leftovers, write_whole


def test_a_file_is_replaced(tmp_path: Path) -> None:
    for content in ("old", b"new"):
        write_whole(tmp_path / "file", content)
    assert (tmp_path / "file").read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_whole(tmp_path / "file", "old")

    def full(path: Path, content: bytes) -> None:
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(RunError, match=r"file: expected a file that can be written, got .*No space left"):
        write_whole(tmp_path / "file", "new")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "old")]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"page.md: expected a folder .*docs to write it to, got none. Make it"):
        write_whole(tmp_path / "docs" / "page.md", "new")


def test_folders_are_made(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"out: expected a folder that can be written to, got .*file"):
        make_folder(tmp_path / "file" / "c")


def test_leftovers_of_killed_processes(tmp_path: Path) -> None:
    for name in ("checkpoint.pt", "checkpoint.pt.123.tmp", "record.json.4.tmp"):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


HOLD = """
import sys, time
from pathlib import Path
from delayplug.bench.whole_files import locked

with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.mark.skipif(os.name != "posix", reason="locks of POSIX")
def test_a_lock_ends_with_its_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    with monkeypatch.context() as patch:
        patch.setattr(whole_files, "_PATIENCE", 0.0)
        with pytest.raises(RunError, match="another process is making this run"), locked(tmp_path):
            pass
    process.kill()
    with locked(tmp_path):
        assert list(tmp_path.iterdir()) == []  # no file is left behind
    process.communicate(timeout=20)


DISK = """
import os, sys
from pathlib import Path
from delayplug import RunError
from delayplug.bench.whole_files import write_whole
from delayplug.bench.sealed import save_sealed

disk = Path(sys.argv[1])
write_whole(disk / "old", "old")
room = os.statvfs(disk)
(disk / "fill").write_bytes(bytes(room.f_bavail * room.f_frsize - 8192))
for write in (lambda: write_whole(disk / "old", bytes(20000)), lambda: save_sealed(disk / "new", list(range(20000)))):
    try:
        write()
    except RunError as error:
        assert "No space left on device. Make room" in str(error), error
    else:
        raise SystemExit("written")
assert sorted(path.name for path in disk.iterdir()) == ["fill", "old"]
assert (disk / "old").read_text() == "old"
print("all is well")
"""


@pytest.mark.slow
def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    """A small disk in memory, in a namespace of its own, where such a namespace can be made."""
    mount = f"mount -t tmpfs -o size=128k tmpfs {tmp_path} && exec '{sys.executable}' -c \"$0\" {tmp_path}"
    unshare = ["unshare", "--mount", "--map-root-user", "sh", "-c"]
    try:
        subprocess.run([*unshare, f"mount -t tmpfs tmpfs {tmp_path}"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no namespaces of the system's users")
    done = subprocess.run([*unshare, mount, DISK], capture_output=True, text=True, timeout=200, check=False)
    assert done.stdout.strip() == "all is well", done.stderr
