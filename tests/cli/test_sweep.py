"""`delayplug bench sweep`, as a user meets it."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from delayplug.bench.search.trials import read_sweep_record
from delayplug.cli import main
from delayplug.cli.bench import bench
from tests.bench.runs import write_recordings
from tests.bench.search.sweeps import SEARCH, SMALL
from tests.cli.command import begin, delayplug

pytest.importorskip("optuna")  # the commands run in processes of their own

DATA = "dataset = 'digits'\n"
ON_CPU = ["--accelerator", "cpu", "--threads", "1"]


def write_digits(folder: Path) -> None:
    (folder / "digits").mkdir()
    for part, number in (("train", 32), ("valid", 8), ("test", 6)):
        write_recordings(folder / "digits" / f"digits_{part}.h5", number, seconds=0.2)


def printed_by(*args: str) -> str:
    """What `delayplug bench ARGS` prints, in this process."""
    done = CliRunner().invoke(bench, args, env={"COLUMNS": "140"})
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.slow
@pytest.mark.trains
def test_a_sweep_its_tables_and_its_report(tmp_path: Path) -> None:
    write_digits(tmp_path)
    (tmp_path / "mine.toml").write_text(f"{DATA}budget = 2\nseeds = [0, 1]\nfinal_seeds = [0, 1]\n{SMALL}{SEARCH}")
    done = delayplug("bench", "sweep", "mine.toml", *ON_CPU, "--out", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for words in ("digits: 3 settings tried", "dropout", "preset", "Chosen: setting", "Test set:", "2 seeds"):
        assert words in done.stdout
    assert (tmp_path / "out" / "sweep.png").exists()
    record = read_sweep_record(tmp_path / "out")
    assert record is not None
    assert record["command"] == "delayplug bench sweep mine.toml --out out"

    assert "3 settings tried" in printed_by("report", str(tmp_path / "out"))
    assert (tmp_path / "out" / "report.html").exists()
    numbers = (tmp_path / "out" / "results.csv").read_text()
    assert {"official", "validation"} == {line.split(",")[2] for line in numbers.splitlines()[1:]}

    other = (tmp_path / "mine.toml").read_text().replace("budget = 2", "budget = 3")
    (tmp_path / "mine.toml").write_text(other)
    refused = delayplug("bench", "sweep", "mine.toml", *ON_CPU, "--out", "out", cwd=tmp_path)
    assert refused.returncode == 1
    assert "out/sweep.json is of another sweep (budget: 2 there, 3 here)" in refused.stderr


@pytest.mark.slow
@pytest.mark.trains
def test_a_sweep_that_is_stopped_goes_on(tmp_path: Path) -> None:
    write_digits(tmp_path)
    text = f"{DATA}budget = 1\nfinal_seeds = []\n{SMALL}{SEARCH}".replace("epochs = 1", "epochs = 60")
    (tmp_path / "mine.toml").write_text(text)
    args = ["bench", "sweep", "mine.toml", *ON_CPU, "--out", "out"]
    process = begin(*args, cwd=tmp_path)
    while not list(tmp_path.glob("out/trials/001/*/checkpoint.pt")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGTERM)
    _, printed = process.communicate(timeout=30)
    assert process.returncode == 143
    assert printed == "stopped by SIGTERM: run again to go on; finished runs: 1\n"
    done = delayplug(*args, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "The test set was not read." in done.stdout
    assert "held-out" in printed_by("report", str(tmp_path / "out"))


def test_errors_are_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.toml").write_text(f"{SMALL}{SEARCH}tau = {{ low = 1.0, high = 3.0 }}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.setattr(sys, "argv", ["delayplug", "bench", "sweep", "mine.toml"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 1
    assert "error: search.tau.low: expected a number > 1, got 1.0" in capsys.readouterr().err
    assert not (tmp_path / "sweep").exists()
