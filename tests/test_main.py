"""`python -m delayplug` is the command line."""

import subprocess
import sys

import delayplug


def test_the_module_is_the_command_line() -> None:
    command = [sys.executable, "-m", "delayplug", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == f"delayplug {delayplug.__version__}"
