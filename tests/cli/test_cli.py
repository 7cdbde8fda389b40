"""The command line, as a user meets it."""

import subprocess
import sys

import pytest

import delayplug as package
from tests.cli.command import delayplug


def test_help_names_every_command() -> None:
    assert all(word in delayplug("--help").stdout for word in ("backends", "bench", "data", "speed", "--version"))


@pytest.mark.parametrize(
    "args", [["--help"], ["--version"], ["bench", "run", "--help"], ["data", "download", "--help"], ["speed", "--help"]]
)
def test_help_needs_no_torch(args: list[str]) -> None:
    code = f"""
import sys
sys.argv = ["delayplug", *{args}]
from delayplug.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code
print(*sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "delayplug.bench.config" in loaded
    assert not loaded & {"torch", "numpy", "lightning", "matplotlib", "h5py"}


def test_run_as_a_module() -> None:
    command = [sys.executable, "-m", "delayplug", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == f"delayplug {package.__version__}\n"


@pytest.mark.slow
def test_backends_lists_the_three() -> None:
    text = delayplug("backends").stdout
    assert all(name in text for name in ("snntorch", "norse", "spikingjelly"))
    assert text.count("ready") == 3
