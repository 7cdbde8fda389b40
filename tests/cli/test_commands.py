"""The command line in a terminal, in pipes, and when it is interrupted."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.command import delayplug

MAIN = "import sys; from delayplug.cli import main; main()"


def in_terminal(*args: str, columns: int, cwd: Path, stdout: int | None = None, **more: str) -> tuple[int, str]:
    """The exit code of `delayplug ARGS` and what it writes to a terminal, its stderr and, by default, its stdout."""
    master, slave = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm", "OMP_NUM_THREADS": "1", **more}
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, *args], stdin=slave, stdout=stdout or slave, stderr=slave, cwd=cwd, env=environment
    )
    os.close(slave)
    written = b""
    while True:
        ready, _, _ = select.select([master], [], [], 0.2)
        try:
            if ready and (piece := os.read(master, 4096)):
                written += piece
            elif process.poll() is not None:
                break
        except OSError:  # the other end is closed
            break
    os.close(master)
    return process.wait(60), written.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("command", ["", "bench", "bench run", "bench sweep", "bench report", "data info", "speed"])
def test_help_is_readable(command: str, columns: int, tmp_path: Path) -> None:
    code, shown = in_terminal(*command.split(), "--help", columns=columns, cwd=tmp_path)
    assert code == 0
    assert "…" not in shown
    examples = [line for line in shown.splitlines() if line.startswith("      delayplug")]
    assert all(len(line) <= columns for line in shown.splitlines() if line not in examples)
    indents = [len(line) - len(line.lstrip()) for line in shown.splitlines()]
    assert max(indents) <= 30  # 50 columns are left for the texts
    assert not re.search(r"\w\.\.\.$", shown, flags=re.MULTILINE)  # cut


def test_the_settings_of_a_run_stand_under_headings(tmp_path: Path) -> None:
    shown = delayplug("bench", "run", "--help").stdout
    for heading in ("What is compared", "Network", "Training", "Data", "Augmentation", "Protocol"):
        assert f"\n{heading}:\n" in shown


@pytest.mark.slow
def test_bars_are_on_stderr_and_the_table_on_stdout(tmp_path: Path) -> None:
    args = ["bench", "run", "--backend", "snntorch", "--delays", "none", "--epochs", "1", "--hidden", "4"]
    with (tmp_path / "out").open("w") as out:
        code, shown = in_terminal(*args, columns=80, cwd=tmp_path, stdout=out.fileno())
    assert code == 0, shown
    assert "0:00:0" in shown
    assert "1/1" in shown
    printed = (tmp_path / "out").read_text()
    assert "\x1b" not in printed
    assert "0:00" not in printed
    assert "1 epoch," in printed
    assert "Next: delayplug bench report runs\n" in printed


@pytest.mark.slow
@pytest.mark.parametrize("more", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {}])
def test_colours(more: dict[str, str], tmp_path: Path) -> None:
    _, shown = in_terminal("data", "info", "nowhere[/x]", columns=40, cwd=tmp_path, **more)
    assert ("\x1b[31m" in shown) == (not more)
    plain = re.sub(r"\x1b\[\d*m", "", shown)
    assert "error: nowhere[/x]: expected a folder with" in " ".join(plain.split())
    assert all(len(line) <= (80 if "TERM" in more else 40) for line in plain.splitlines())


def test_a_reader_that_has_read_enough(tmp_path: Path) -> None:
    command = f"{sys.executable} -c '{MAIN}' bench run --help | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path)
    assert done.stdout == "Usage: delayplug bench run [OPTIONS]\n"
    assert done.stderr == ""


def test_a_full_disk() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-c", MAIN, "--version"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert done.stderr == "error: writing: No space left on device\n"


@pytest.mark.parametrize("where", ["typer", "rich.console", "delayplug.bench.config", "torch", "torch.nn"])
def test_an_interrupt_while_importing(where: str) -> None:
    """A real signal, at the import of a module; some packages catch every exception there."""
    code = f"""
import builtins, os, signal, sys
class Interrupts:
    def find_spec(self, name, path, target=None):
        if name == {where!r}:
            os.kill(os.getpid(), signal.SIGINT)
from delayplug.cli import main
sys.meta_path.insert(0, Interrupts())
sys.argv = ["delayplug", "backends"]
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (130, "")
    *proceeds, last = done.stderr.splitlines()
    assert last == "stopped by Ctrl-C"
    assert all(line.startswith("importing the toolkits (") for line in proceeds)  # on a slow machine


@pytest.mark.slow
def test_an_interrupt_at_any_time(tmp_path: Path) -> None:
    """From the first line of the package on; Python's own start is not ours."""
    (tmp_path / "delayplug").write_text(
        "import sys; print('now', flush=True)\nfrom delayplug.cli import main\nmain()\n"
    )
    for wait in (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0):
        process = subprocess.Popen(
            [sys.executable, tmp_path / "delayplug", "backends"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.03 + wait)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert "Traceback" not in errors
        assert process.returncode == 130
