"""Everything documented runs: README blocks, docstrings, examples, commands."""

import doctest
import importlib
import inspect
import os
import pkgutil
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import delayplug
from delayplug import cli

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("block", blocks("python"), ids=lambda block: re.sub(r"\W+", " ", block)[:40])
def test_readme_block(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # for the files that it writes
    script = tmp_path / "readme.py"
    script.write_text(block)
    exec(compile(block, str(script), "exec"), {"__name__": "readme"})


def test_readme_has_a_block_per_toolkit() -> None:
    text = "".join(blocks("python"))
    assert all(toolkit in text for toolkit in ("snntorch", "norse", "spikingjelly"))


def commands() -> list[list[str]]:
    lines = [line for block in blocks("console") for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line.removeprefix("$ "), comments=True) for line in lines if line.startswith("$ ")]


def test_readme_commands_exist() -> None:
    group = typer.main.get_command(cli.app)
    makefile = (ROOT / "Makefile").read_text()
    seen = set()
    for command in commands():
        if command[0] in ("torchrun", "srun"):  # whatever starts it
            command = command[command.index("delayplug") :]
        seen.add(command[0])
        if command[0] == "delayplug":
            found, words = group, command[1:]
            while hasattr(found, "commands"):
                found, words = found.commands[words[0]], words[1:]
            found.make_context(command[-len(words) - 1], words)
        elif command[0] == "make":
            assert re.search(rf"^{command[1]}:", makefile, flags=re.MULTILINE), command
        else:
            assert command[:2] in (["pip", "install"], ["python", "examples/snntorch_class.py"]), command
    assert {"delayplug", "make", "pip"} <= seen


def modules() -> list[str]:
    found = pkgutil.walk_packages(delayplug.__path__, "delayplug.")
    return ["delayplug", *(module.name for module in found)]


@pytest.mark.parametrize("name", modules())
def test_docstrings(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__, "a module says what it is for"
    assert doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL).failed == 0


def test_public_names_are_documented() -> None:
    for name in delayplug.__all__:
        thing = getattr(delayplug, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert thing.__doc__, name


# The gallery takes a folder, and tests/plot runs it.
PROGRAMS = [path for path in sorted((ROOT / "examples").glob("*.py")) if path.stem != "gallery"]


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_example_gains_from_delays(path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, path], capture_output=True, text=True, env=environment, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    without, with_delays = (float(number) for number in re.findall(r"([\d.]+)%", done.stdout))
    assert with_delays > 80
    assert without < with_delays / 2
