"""How commands take arguments and explain what is wrong with them."""

import re
from pathlib import Path

import pytest

from delayplug.cli.usage import spread
from tests.cli.command import delayplug


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--a", "1", "2", "3"], ["--a", "1", "--a", "2", "--a", "3"]),
        (["--a", "1", "--b", "2", "3"], ["--a", "1", "--b", "2", "3"]),
        (["--a", "1", "--a", "2"], ["--a", "1", "--a", "2"]),
        (["--a=1", "2", "--b", "3"], ["--a=1", "--a", "2", "--b", "3"]),
        (["--b", "x", "--a", "1", "2", "--b", "y"], ["--b", "x", "--a", "1", "--a", "2", "--b", "y"]),
        ([], []),
    ],
)
def test_several_values_after_one_option(args: list[str], expected: list[str]) -> None:
    assert spread(args, {"--a"}) == expected


@pytest.mark.parametrize(
    ("args", "meant"),
    [
        ("bakcends", "backends"),
        ("bench rnu", "run"),
        ("bench run --epoch 3", "--epochs"),
        ("backends --hlp", "--help"),
        ("bench run --preset quik", "quick"),
        ("bench run --launcher lokal", "local"),
        ("data download sdh", "shd"),
        ("data download shd --packing zi", "zip"),
    ],
)
def test_a_misspelt_word_of_the_command_line(args: str, meant: str) -> None:
    done = delayplug(*args.split())
    assert done.returncode == 2
    assert done.stdout == ""
    first, second = done.stderr.splitlines()
    assert first.startswith("error: ")
    assert first.endswith(f"Did you mean {meant!r}?")
    assert re.fullmatch(r"Try: delayplug [\w ]*--help", second)


@pytest.mark.parametrize(
    ("args", "meant"),
    [
        ("bench run --delays lerned --backend norse", "learned"),
        ("bench run --backend nors", "norse"),
        ("bench run --accelerator gpuu --backend norse", "gpu"),
        ("bench run --dataset synthetc", "synthetic"),
        ("bench run --dataset shr", "shdr"),
        ("bench run --config misspelt.toml", "epochs"),
        ("bench run --config choice.toml", "quick"),
        ("data info shr", "shdr"),
        ("speed --backend nors", "norse"),
        ("speed --device cudaa", "cuda"),
        ("speed --against spax", "sparx"),
        ("speed --only kernle", "kernel"),
    ],
)
@pytest.mark.slow
def test_a_misspelt_name(args: str, meant: str, tmp_path: Path) -> None:
    (tmp_path / "shdr").mkdir()
    (tmp_path / "misspelt.toml").write_text("epoch = 3")
    (tmp_path / "choice.toml").write_text('preset = "quik"')
    done = delayplug(*args.split(), cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert f"Did you mean {meant!r}?" in line
    assert not (tmp_path / "runs").exists()
