"""The trained network of a run."""

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from delayplug import RunError
from delayplug.bench.comparison.records import MODEL, RECORD, write_run
from delayplug.bench.comparison.trained import load_trained, read_delays, read_example, read_model
from delayplug.bench.config import configure
from delayplug.bench.training.outcome import Outcome
from tests.bench.runs import record_of
from tests.damage import broken_bytes, is_one_line

CONFIG = configure("shd", dataset="d", backend="norse", hidden=(4,), epochs=2)


def written(folder: Path) -> Path:
    """A run with a network of two tensors; the path of its file."""
    folder.mkdir(exist_ok=True)
    outcome = Outcome(
        state={"weight": torch.ones(2, 3), "steps": torch.tensor(4)},
        delays={"before": [torch.zeros(2, 3, 1)], "after": [torch.full((2, 3, 1), 1.5)]},
        example=[torch.tensor([[0, 1, 1], [2, 0, 5]]), torch.zeros(2, 0, dtype=torch.int64)],
    )
    write_run(folder, CONFIG, record_of(CONFIG, 0.5), outcome)
    return folder / MODEL


def test_what_is_written_is_read(tmp_path: Path) -> None:
    written(tmp_path)
    assert torch.equal(read_model(tmp_path)["state"]["weight"], torch.ones(2, 3))
    ((before, after),) = read_delays(tmp_path)
    assert (float(before.max()), float(after.max())) == (0, 1.5)
    assert [each.shape[1] for each in read_example(tmp_path)] == [3, 0]


def test_damaged_files(tmp_path: Path) -> None:
    """Whatever is in its place, and each changed byte: one line that says what to do."""
    path = written(tmp_path)
    content = path.read_bytes()
    for name, damaged in broken_bytes(content):
        path.write_bytes(damaged)
        with pytest.raises(RunError, match=r"Move the folder away to make the run again") as caught:
            read_model(tmp_path)
        assert is_one_line(caught.value, str(path)), name
    path.unlink()
    with pytest.raises(RunError, match="No such file"):
        read_model(tmp_path)
    path.mkdir()
    with pytest.raises(RunError, match="directory"):
        read_model(tmp_path)


class Code:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("ran",)


def test_no_code_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path)
    monkeypatch.chdir(tmp_path)
    torch.save({"state": Code(), "delays": {}, "example": []}, path)
    with pytest.raises(RunError, match=r"model\.pt: expected a trained network") as caught:
        read_model(tmp_path)
    assert "weights_only=False" not in str(caught.value)
    path.write_bytes(pickle.dumps(Code()))
    with pytest.raises(RunError, match=r"model\.pt: expected a trained network"):
        read_model(tmp_path)
    assert not Path("ran").exists()


NAN = torch.full((2, 3), float("nan"))


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"state": None}, "state should be a valid dictionary, got None"),
        ({"state": {"weight": 1}}, "state.weight should be an instance of Tensor, got 1"),
        ({"state": {"weight": NAN}}, "state.weight is not a number everywhere"),
        ({"state": {"weight": torch.ones(2).to("meta")}}, "state.weight is torch.float32 on meta"),
        ({"state": {"weight": torch.eye(2).to_sparse()}}, "state.weight is torch.float32"),
        ({"state": {"weight": torch.zeros(2).to(torch.float8_e5m2)}}, "state.weight is torch.float8_e5m2"),
        ({"delays": {"before": [NAN], "after": [NAN.to("meta")]}}, r"delays.after\[0\] is torch.float32 on meta"),
        ({"delays": {"before": [NAN * 1j], "after": [NAN]}}, r"delays.before\[0\] is torch.complex64"),
        ({"example": [torch.zeros(2, 3, dtype=torch.int64).to_sparse()]}, r"example\[0\] is torch.int64"),
        ({"example": [torch.full((2, 3), -1)]}, r"example is not \(time, channel\) of events"),
        ({"delays": {}}, "delays has nothing"),
        (
            {"delays": {"before": [], "after": [NAN]}},
            "delays before and after training are not those of the same layers",
        ),
        ({"delays": {"before": [NAN], "after": [NAN.T]}}, "are not those of the same layers"),
        ({"delays": {"before": [NAN], "after": [torch.full((2, 3), torch.inf)]}}, "are not those of the same layers"),
        ({"example": []}, r"example is not \(time, channel\) of events"),
        ({"example": [torch.zeros(3, 3, dtype=torch.int64)]}, r"example is not \(time, channel\) of events"),
        ({"example": [torch.zeros(())]}, r"example is not \(time, channel\) of events"),
    ],
)
def test_other_content(changes: dict[str, object], wrong: str, tmp_path: Path) -> None:
    """In a folder of an earlier version, whose record has no checksum of its network."""
    path = written(tmp_path)
    torch.save({**torch.load(path, weights_only=True), **changes}, path)
    (tmp_path / RECORD).unlink()
    with pytest.raises(RunError, match=wrong) as caught:
        read_model(tmp_path)
    assert is_one_line(caught.value, str(path))


def test_a_network_that_its_run_did_not_write(tmp_path: Path) -> None:
    """One number edited: the record has the checksum of what the run wrote."""
    path = written(tmp_path)
    content = torch.load(path, weights_only=True)
    content["state"]["weight"][0, 0] = 2
    torch.save(content, path)
    with pytest.raises(RunError, match=r"got another one, whose checksum is not that in record\.json"):
        read_model(tmp_path)
    record = json.loads((tmp_path / RECORD).read_text())
    del record["model"]
    (tmp_path / RECORD).write_text(json.dumps(record))
    assert read_model(tmp_path)["state"]["weight"][0, 0] == 2


def test_tensors_of_another_network() -> None:
    network = torch.nn.Linear(3, 2)
    with pytest.raises(RunError, match=r"weight is torch\.float32 \(2, 2\), expected torch\.float32 \(2, 3\)"):
        load_trained(network, {**network.state_dict(), "weight": torch.ones(2, 2)}, Path("model.pt"))
    with pytest.raises(RunError, match=r"model\.pt: .* bias is missing, expected torch\.float32 \(2,\)"):
        load_trained(network, {"weight": torch.ones(2, 3)}, Path("model.pt"))
    load_trained(network, {"weight": torch.ones(2, 3), "bias": torch.zeros(2)}, Path("model.pt"))
    assert float(network.weight.sum()) == 6
