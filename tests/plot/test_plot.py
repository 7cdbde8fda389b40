"""What holds for all pictures."""

import copy
import importlib
import runpy
import sys
from pathlib import Path

import pytest
import torch

import delayplug
from delayplug import DelayHistory, plot
from tests.plot.pictures import networks


@pytest.mark.parametrize("name", ["snntorch", "norse", "spikingjelly"])
def test_pictures_leave_the_model_as_it_was(name: str) -> None:
    net = networks()[name]
    before = copy.deepcopy(net.state_dict())
    versions = [p._version for p in net.parameters()]
    history = DelayHistory(net)
    history.record()
    made = [*plot.histograms(net), plot.matrix(net[0]), plot.trajectory(history, "0")]
    made.append(plot.kernel(net[2], (0,) * (net[2].delay.delays.dim() - 1), [3, 1]))
    for ax in made:
        ax.figure.draw_without_rendering()
    assert [p._version for p in net.parameters()] == versions
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in net.parameters())


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("delayplug.plot")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(
        delayplug.ExtraMissingError, match=r"needs matplotlib. Run: pip install 'delayplug\[bench\]'"
    ) as info:
        importlib.import_module("delayplug.plot")
    assert isinstance(info.value, ImportError)


@pytest.mark.cpu("an example whose data is there")
def test_the_gallery(tmp_path: Path) -> None:
    program = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "gallery.py"))
    accuracies = program["main"](tmp_path, samples=50)  # the committed pictures are of 400
    assert min(accuracies) > 2 / 6  # twice chance
    committed = Path(__file__).parents[2] / "docs" / "images"
    names = {"histograms.png", "kernel.png", "matrix.png", "realigned.png", "trajectory.png"}
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in committed.iterdir()} == names
    assert all(1000 < path.stat().st_size < 80_000 for folder in (tmp_path, committed) for path in folder.iterdir())
