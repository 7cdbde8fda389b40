"""The command line in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path


def delayplug(*args: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """What `delayplug ARGS` does in a terminal of 140 columns."""
    command = [sys.executable, "-c", "from delayplug.cli import main; main()", *args]
    environment = {**os.environ, "COLUMNS": "140", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=300, check=False)
