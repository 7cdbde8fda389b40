"""`delayplug bench`, as a user meets it."""

import json
import sys
from pathlib import Path

import pytest

from delayplug.cli import main
from tests.cli.command import delayplug


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
