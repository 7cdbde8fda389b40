"""Every command that reads what runs have written says in one line which file is damaged, and ends with 1."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from delayplug.cli import main
from delayplug.cli.console import be_quiet
from tests.bench.runs import TINY, Comparison, put_checkpoint, write_recordings

RUN = "synthetic-quick-spikingjelly-learned-seed0"
COMMANDS = {
    "report": ["bench", "report", "runs"],
    "collect": ["bench", "collect", "runs", "--out", "all.json"],
    "leaderboard": ["bench", "leaderboard", "runs", "--out", "page.md"],
    "deploy": ["bench", "deploy", f"runs/{RUN}"],
    "publish": ["bench", "publish", f"runs/{RUN}", "net"],
    "run": [
        *("bench", "run", "--backend", "spikingjelly", "--delays", "learned", "--accelerator", "cpu", "--out", "runs"),
        *("--epochs", str(TINY["epochs"]), "--hidden", "8", "--max-delay", "6"),
    ],
}
Ends = Callable[[list[str], str], str]


@pytest.fixture
def ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Ends]:
    """ends(arguments, file) asserts that a command ends with 1 and one line that names the file, and returns it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Figure, "savefig", lambda *_, **__: pytest.fail("drew something"))

    def ends(arguments: list[str], file: str) -> str:
        monkeypatch.setattr("sys.argv", ["delayplug", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        assert caught.value.code == 1
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1, lines
        assert lines[0].startswith("error: ")
        assert file in lines[0]
        return lines[0]

    yield ends
    be_quiet(False)


@pytest.fixture
def runs(comparison: Comparison, tmp_path: Path) -> Path:
    """A copy of a finished run, in a folder of runs."""
    shutil.copytree(comparison.out / RUN, tmp_path / "runs" / RUN)
    return tmp_path / "runs" / RUN


@pytest.mark.trains
@pytest.mark.parametrize("command", COMMANDS)
def test_a_damaged_record(command: str, runs: Path, ends: Ends) -> None:
    record = json.loads((runs / "record.json").read_text())
    for text in (
        "",
        "[" * 100_000,
        '{"format": 1' + "0" * 5000 + "}",
        json.dumps({**record, "epochs": []}),
        json.dumps({**record, "config": {}}),
        json.dumps({**record, "data": {**record["data"], "test": 0}}),
        json.dumps({**record, "accuracy": {"last epoch": 10**400}}),
        json.dumps({**record, "waiting": float("nan")}),
    ):
        (runs / "record.json").write_text(text)
        assert "Move it away to make the run again" in ends(COMMANDS[command], f"runs/{RUN}/record.json")


@pytest.mark.trains
@pytest.mark.parametrize("command", ["deploy", "publish", "report"])
def test_a_damaged_network(command: str, runs: Path, ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    if command == "report":
        monkeypatch.setattr(Figure, "savefig", lambda *_, **__: None)
    path = runs / "model.pt"
    content = path.read_bytes()
    for damaged in (b"", content[:1000], content[:-1]):
        path.write_bytes(damaged)
        ends(COMMANDS[command], "model.pt: expected a trained network, got a damaged file")
    path.write_bytes(content)
    model = torch.load(path, weights_only=True)
    torch.save({**model, "state": {name: value * 2 for name, value in model["state"].items()}}, path)
    ends(COMMANDS[command], "model.pt: expected the network that its run trained, got another one")


def test_a_damaged_checkpoint(tmp_path: Path, ends: Ends) -> None:
    put_checkpoint(tmp_path / "runs" / RUN)
    path = tmp_path / "runs" / RUN / "checkpoint.pt"
    content = torch.load(path, weights_only=True)
    content["delayplug"]["epochs"] *= 2
    for damaged in (path.read_bytes()[:-10], b""):
        path.write_bytes(damaged)
        assert "Delete it to start the run again" in ends(COMMANDS["run"], str(Path("runs", RUN, "checkpoint.pt")))
    torch.save(content, path)
    ends(COMMANDS["run"], "checkpoint.pt: expected a checkpoint of a run, got a damaged file (it has no checksum")


@pytest.mark.parametrize("command", ["run", "info"])
def test_data_that_cannot_be_used(command: str, tmp_path: Path, ends: Ends) -> None:
    arguments = {"run": ["bench", "run", "--dataset", "d", "--backend", "norse"], "info": ["data", "info", "d"]}
    (tmp_path / "d").mkdir()
    for name in ("train", "test"):
        write_recordings(tmp_path / "d" / f"x_{name}.h5", 6)
    with h5py.File(tmp_path / "d" / "x_train.h5", "a") as file:
        for group in ("spikes/times", "spikes/units"):
            for n in range(6):
                file[group][n] = np.zeros(0, h5py.check_vlen_dtype(file[group].dtype))
    ends(arguments[command], "expected spikes")
    with h5py.File(tmp_path / "d" / "x_train.h5", "a") as file:
        del file["labels"]
        file.create_dataset("labels", (2**40,), np.uint16, chunks=(1024,))
    ends(arguments[command], "x_train.h5: expected the entries of labels, got 1,099,511,627,776 that were never")


@pytest.mark.parametrize("line", ["window_ms = nan", "hidden = [1" + "0" * 30 + "]", "lr = 1e300", "[epochs]\na = 1"])
def test_settings_that_cannot_be(line: str, tmp_path: Path, ends: Ends) -> None:
    (tmp_path / "c.toml").write_text(line)
    ends(["bench", "run", "--config", "c.toml", "--backend", "norse"], "c.toml: expected ")
