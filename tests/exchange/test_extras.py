"""Without the packages that read and write files, the error says what to install; and frozen layers are exported."""

import importlib.util
from pathlib import Path

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

import delayplug
from delayplug import ExtraMissingError
from tests.devices import DEVICE
from tests.exchange.models import from_nir


def network(granularity: str = "synaptic") -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(layer.Linear(6, 8), neuron.LIFNode(), layer.Linear(8, 3), neuron.LIFNode())
    functional.set_step_mode(model, "m")
    delayplug.add_delays(model, max_delay=7, granularity=granularity)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(4)
    return model.eval()


WRITERS = {
    "nir": ("nir", lambda folder: delayplug.to_nir(network(), dt=1e-3)),
    "onnx": ("onnx", lambda folder: delayplug.to_onnx(network(), folder / "a.onnx")),
    "h5py": ("netx", lambda folder: delayplug.to_netx(network(), folder / "a.net")),
}


@pytest.mark.parametrize("package", WRITERS)
def test_missing_packages(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *of: None if name == package else find(name, *of))
    extra, write = WRITERS[package]
    with pytest.raises(ExtraMissingError, match=rf"needs {package}\. Run: pip install 'delayplug\[{extra}\]'"):
        write(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("granularity", ["synaptic", "axonal", "dendritic"])
def test_frozen_networks_are_exported(granularity: str) -> None:
    model = network(granularity)
    x = (torch.rand(30, 4, 6) < 0.3).float()
    with torch.no_grad():
        expected = model(x)
        functional.reset_net(model)
        delayplug.freeze_delays(model)
        graph = delayplug.to_nir(model, dt=1e-3)
        for backend in ("snntorch", "norse", "spikingjelly"):
            assert torch.equal(from_nir(graph, backend=backend, dt=1e-3)(x), expected)
    assert 0 < float(expected.mean()) < 1 or DEVICE.type != "cpu"  # whose random numbers are others
