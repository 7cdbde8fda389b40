"""The command line, as a user meets it."""

import json
import os
import subprocess
import sys
import typing
from pathlib import Path

import pytest

from delayplug.bench.config import PRESETS, Protocol
from delayplug.cli import bench, data, main
from delayplug.cli.console import spread
from delayplug.data import Binning, HoldOut
from delayplug.data.download import DataSet, Packing


def delayplug(*args: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from delayplug.cli import main; main()", *args]
    environment = {**os.environ, "COLUMNS": "140", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=300, check=False)


def test_help_names_every_command_and_option() -> None:
    assert all(word in delayplug("--help").stdout for word in ("backends", "bench", "data", "speed", "--version"))
    text = delayplug("bench", "run", "--help").stdout
    options = [
        "--dataset",
        "--preset",
        "--backend",
        "--delays",
        "--epochs",
        "--batch-size",
        "--seeds",
        "--devices",
        "--out",
    ]
    assert all(option in text for option in options)
    assert "delayplug bench run --backend snntorch norse --delays learned --seeds 0 1 2" in text


@pytest.mark.slow
def test_backends_lists_the_three() -> None:
    text = delayplug("backends").stdout
    assert all(name in text for name in ("snntorch", "norse", "spikingjelly"))
    assert text.count("ready") == 3


def test_choices_are_the_librarys() -> None:
    assert set(typing.get_args(bench.Preset)) == set(PRESETS)
    assert typing.get_args(bench.Binning) == typing.get_args(Binning)
    assert typing.get_args(bench.HoldOut) == typing.get_args(HoldOut)
    assert typing.get_args(bench.Protocol) == typing.get_args(Protocol)
    assert typing.get_args(data.DataSet) == typing.get_args(DataSet)
    assert typing.get_args(data.Packing) == typing.get_args(Packing)


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


@pytest.mark.slow
@pytest.mark.trains
def test_bench_end_to_end(tmp_path: Path) -> None:
    args = [
        "bench",
        "run",
        "--backend",
        "norse",
        "snntorch",
        "--delays",
        "none",
        "learned",
        "--epochs",
        "1",
        "--seeds",
        "3",
    ]
    first = delayplug(*args, "--accelerator", "cpu", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    for word in ("norse", "snntorch", "learned", "epoch %", "learning_curves.png"):
        assert word in first.stdout
    records = sorted(tmp_path.glob("runs/*/record.json"))
    assert len(records) == 4
    assert {json.loads(path.read_text())["config"]["seed"] for path in records} == {3}
    assert (tmp_path / "runs" / "learning_curves.png").exists()
    assert (tmp_path / "runs" / "synthetic-quick-norse-learned-seed3" / "delays.png").exists()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["bench", "run", "--backend", "spikingjely"], ["expected one of", "'spikingjely'", "'spikingjelly'"]),
        (["bench", "run", "--dataset", "no/such/folder", "--backend", "norse"], ["no/such/folder"]),
        (["bench", "run", "--delays", "sometimes"], ["delays", "none, fixed, constant, learned", "'sometimes'"]),
        (["bench", "run", "--epochs", "0"], ["--epochs", "greater than or equal to 1"]),
    ],
)
def test_errors_are_one_message_without_traceback(
    args: list[str],
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In this process: a traceback would be an exception here."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.setattr(sys, "argv", ["delayplug", *args])
    with pytest.raises(SystemExit) as end:
        main()
    printed = capsys.readouterr().err
    assert end.value.code not in (None, 0)
    assert "Traceback" not in printed
    assert all(word in printed for word in words), printed


def test_without_the_extra_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['typer'] = None; import delayplug.cli"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert done.stderr.strip() == "The command line needs typer. Run: pip install 'delayplug[bench]'"
