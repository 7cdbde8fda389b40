"""`delayplug bench`, as a user meets it."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from delayplug import RunError
from delayplug.bench.resources import Resources
from delayplug.bench.training.checkpoints import read_checkpoint
from delayplug.cli import main
from delayplug.cli.bench import bench
from tests.bench.runs import folds_and_refits
from tests.cli.command import begin, delayplug, running


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
        (["bench", "run", "--epochs", "0"], ["Invalid value for", "--epochs"]),
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


@pytest.mark.parametrize(("options", "expected"), [([], True), (["--graph"], True), (["--no-graph"], False)], ids=str)
def test_graphs_can_be_switched_off(
    options: list[str], expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Resources] = []

    def compare(*_: object, resources: Resources, **__: object) -> None:
        seen.append(resources)
        raise RunError("this is as far as it goes")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("delayplug.bench.comparison.compare.compare", compare)
    monkeypatch.setattr(sys, "argv", ["delayplug", "bench", "run", "--backend", "norse", *options])
    with pytest.raises(SystemExit):
        main()
    assert [each.graph for each in seen] == [expected]


SMALL = ["bench", "run", "--backend", "spikingjelly", "--hidden", "16", "--accelerator", "cpu", "--threads", "1"]


@pytest.mark.slow
@pytest.mark.trains
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="it looks at all processes as Linux shows them")
@pytest.mark.parametrize(
    ("how", "number", "to_all", "code"),
    [
        ([], signal.SIGINT, False, 130),
        (["--devices", "2"], signal.SIGTERM, False, 143),
        (["--launcher", "local"], signal.SIGINT, True, 130),
        (["--launcher", "local"], signal.SIGKILL, False, -signal.SIGKILL),
    ],
)
def test_a_run_that_is_stopped(how: list[str], number: int, to_all: bool, code: int, tmp_path: Path) -> None:
    """Ctrl-C goes to all processes of a terminal, other signals to one."""
    process = begin(*SMALL, "--delays", "none", "learned", "--epochs", "40", *how, cwd=tmp_path)
    while not list(tmp_path.glob("runs/*/checkpoint.pt")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    assert len(running(process.pid)) > bool(how)
    (os.killpg if to_all else os.kill)(process.pid, number)
    _, printed = process.communicate(timeout=30)
    assert process.returncode == code
    patience = time.monotonic() + 10
    while running(process.pid) and time.monotonic() < patience:
        time.sleep(0.05)
    assert running(process.pid) == []
    assert "Traceback" not in printed
    kept = {path.parent.name: read_checkpoint(path) for path in tmp_path.glob("runs/*/checkpoint.pt")}
    if code > 0:
        words = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
        assert printed.startswith(f"stopped by {words}: run again to go on from epoch ")
        for name, each in kept.items():
            assert f"epoch {each.epochs + 1} of 40 (runs/{name})" in printed
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.slow
@pytest.mark.trains
def test_what_was_stopped_goes_on(tmp_path: Path) -> None:
    args = [*SMALL, "--delays", "none", "--epochs", "4"]
    process = begin(*args, cwd=tmp_path)
    while not list(tmp_path.glob("runs/*/checkpoint.pt")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 143
    (checkpoint,) = tmp_path.glob("runs/*/checkpoint.pt")
    epochs = read_checkpoint(checkpoint).epochs
    done = delayplug(*args, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    name = checkpoint.parent.name
    assert f"{name} goes on from epoch {epochs + 1} of 4: {epochs} of 4 epochs are trained and skipped" in done.stderr
    record = json.loads((checkpoint.parent / "record.json").read_text())
    assert [entry["epoch"] for entry in record["epochs"]] == [1, 2, 3, 4]
    assert "1 of 1 run is finished already and skipped" in delayplug(*args, cwd=tmp_path).stderr


def test_report_on_several_folders_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They need not hold networks. The page goes into the first folder, or where --out says."""
    monkeypatch.chdir(tmp_path)
    records = folds_and_refits()
    for folder, own in {"a": records[:6], "b": records[6:9]}.items():
        for n, record in enumerate(own):
            (tmp_path / folder / str(n)).mkdir(parents=True)
            (tmp_path / folder / str(n) / "record.json").write_text(json.dumps(record))
    (tmp_path / "more.json").write_text(json.dumps(records[9:]))
    sources = ["a", "b", "more.json"]
    for options, folder in (([], "a"), (["--out", "page"], "page")):
        done = CliRunner().invoke(bench, ["report", *sources, *options], env={"COLUMNS": "120"})
        assert done.exit_code == 0, done.output
        assert "learned, tau 2" in done.output
        lines = (tmp_path / folder / "results.csv").read_text().splitlines()
        assert len(lines) == 1 + len(records)
        assert "held-out speakers" in (tmp_path / folder / "report.html").read_text()
    assert not (tmp_path / "b" / "report.html").exists()
