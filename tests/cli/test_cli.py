"""The command line, as a user meets it."""

import os
import subprocess
import sys
from typing import Any

import pytest
import typer

import delayplug as package
from delayplug import cli
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


def test_every_command_takes_the_short_option_for_help() -> None:
    group = typer.main.get_command(cli.app)

    def check(command: Any, names: list[str], parent: Any) -> int:
        with command.make_context(names[-1], ["-h"], parent=parent, resilient_parsing=True) as context:
            assert {"-h", "--help"} <= set(context.help_option_names), names
        inner = getattr(command, "commands", {})
        return 1 + sum(check(inner[name], [*names, name], context) for name in inner)

    assert check(group, ["delayplug"], None) >= 12
    for args in (["-h"], ["bench", "-h"], ["bench", "run", "-h"], ["backends", "-h"]):
        done = delayplug(*args)
        assert done.returncode == 0
        assert done.stdout == delayplug(*args[:-1], "--help").stdout


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("", {"backends", "bench", "data", "speed"}),
        ("bench ", {"run", "report", "deploy", "sweep", "publish", "collect", "leaderboard"}),
        ("bench run --launcher ", {"here", "local", "ray"}),
        ("data download s", {"shd", "ssc"}),
    ],
)
def test_the_shell_completes(typed: str, offered: set[str]) -> None:
    words = f"delayplug {typed}"
    environment = {
        **os.environ,
        "_DELAYPLUG_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    code = "import sys; sys.argv = ['delayplug']; from delayplug.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert offered <= set(done.stdout.split()), done.stdout + done.stderr


def test_completion_can_be_installed() -> None:
    text = delayplug("--help").stdout
    assert "--install-completion" in text
    assert "--show-completion" in text
