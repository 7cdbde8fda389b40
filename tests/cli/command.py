"""The command line in a process of its own."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path


def delayplug(*args: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """What `delayplug ARGS` does in a terminal of 140 columns."""
    command = [sys.executable, "-c", "from delayplug.cli import main; main()", *args]
    environment = {**os.environ, "COLUMNS": "140", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=300, check=False)


def begin(*args: str, cwd: Path) -> "subprocess.Popen[str]":
    """`delayplug ARGS` in a session of its own, which is still running."""
    return subprocess.Popen(
        [sys.executable, "-m", "delayplug", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env={**os.environ, "COLUMNS": "140", "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )


def running(session: int) -> list[int]:
    """The processes of a session on Linux, those that have ended and wait to be noticed left out."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, belongs_to = stat.read_text().rpartition(")")[2].split()[:4]
            if int(belongs_to) == session and state != "Z":
                found.append(int(stat.parent.name))
    return found
