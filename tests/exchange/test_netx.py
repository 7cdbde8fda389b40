"""`to_netx`: files for Loihi 2, read and run in whole numbers, and in Lava itself where there is one."""

import os
import subprocess
from pathlib import Path

import h5py
import norse.torch as norse
import numpy as np
import pytest
import snntorch as snn
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn

import delayplug
from delayplug import ExchangeError, to_netx

from .loihi import layers_of, run

pytestmark = pytest.mark.usefixtures("_seed")
HERE = Path(__file__).parent
T = 80


@pytest.fixture
def _seed() -> None:
    torch.manual_seed(0)


def leaky(**options) -> nn.Module:
    return snn.Leaky(beta=0.875, init_hidden=True, reset_mechanism="zero", **options)


def synaptic() -> nn.Module:
    return snn.Synaptic(alpha=0.75, beta=0.875, init_hidden=True, reset_mechanism="zero", reset_delay=False)


def box(**options) -> nn.Module:
    return norse.LIFBoxCell(norse.LIFBoxParameters(tau_mem_inv=torch.tensor(125.0), **options))


def cell() -> nn.Module:
    return norse.LIFCell(norse.LIFParameters(tau_mem_inv=torch.tensor(125.0), tau_syn_inv=torch.tensor(250.0)))


def two(first: nn.Module, second: nn.Module, bias: bool = False, kind=nn.Linear, chain=nn.Sequential) -> nn.Module:
    return chain(kind(12, 20, bias=bias), first, kind(20, 6, bias=bias), second)


def jelly(first: nn.Module, second: nn.Module, bias: bool = False) -> nn.Module:
    net = two(first, second, bias, kind=layer.Linear)
    functional.set_step_mode(net, "m")
    return net


# Leaks are parts of 4096, so that Loihi has them exactly.
NETS = {
    "Leaky": lambda: two(leaky(), leaky()),
    "Synaptic": lambda: two(synaptic(), synaptic()),
    "LIFBoxCell": lambda: two(box(), box(), chain=norse.SequentialState),
    "LIFCell": lambda: two(cell(), cell(), chain=norse.SequentialState),
    "LIFNode": lambda: jelly(neuron.LIFNode(tau=4.0), neuron.LIFNode(tau=2.0)),
    "IFNode": lambda: jelly(neuron.IFNode(), neuron.IFNode()),
}


def grid(net: nn.Module, size: float) -> nn.Module:
    """Weights of -8..8 times a size, which 8 bits hold exactly."""
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                module.weight.copy_(torch.randint(-8, 9, module.weight.shape) * (size / 8))
                module.weight.flatten()[0] = size
    return net


SIZES = {"Leaky": 0.9, "Synaptic": 0.8, "LIFBoxCell": 9.0, "LIFCell": 9.0, "LIFNode": 3.0, "IFNode": 0.7}


def spikes() -> Tensor:
    return (torch.rand(T, 1, 12) < 0.3).float()


@torch.no_grad()
def model_spikes(net: nn.Module, x: Tensor) -> np.ndarray:
    return delayplug.unroll(net, x)[:, 0].cpu().numpy()


def delayed(kind: str, granularity: str = "synaptic", max_delay: int = 20) -> nn.Module:
    return delayplug.add_delays(grid(NETS[kind](), SIZES[kind]), granularity=granularity, max_delay=max_delay).eval()


@pytest.mark.parametrize("granularity", ["synaptic", "axonal", "dendritic"])
@pytest.mark.parametrize("kind", NETS)
def test_the_device_fires_as_the_model_one_step_later_for_each_layer(
    kind: str, granularity: str, tmp_path: Path
) -> None:
    net, x = delayed(kind, granularity), spikes()
    file = to_netx(net, tmp_path / "net.net")
    expected, got = model_spikes(net, x), run(file.path, x[:, 0].cpu().numpy())
    assert file.latency == 2
    assert all(made.weight_error < 1e-3 for made in file.layers)
    assert expected.sum() > 10
    wrong = (got[2:] != expected[:-2]).sum()
    assert wrong <= (0 if kind == "IFNode" else 0.05 * expected.sum())  # products are cut
    assert wrong < (got[1:-1] != expected[:-2]).sum() / 4  # and not one step earlier


def test_what_lava_computed() -> None:
    """Spikes of Lava's own simulation, recorded: the test's reader is right."""
    recorded = np.load(HERE / "netx" / "recorded.npz")
    got = run(HERE / "netx" / "recorded.net", recorded["inputs"])
    assert recorded["outputs"].sum() > 10
    np.testing.assert_array_equal(got, recorded["outputs"])


LAVA = os.environ.get("DELAYPLUG_LAVA", "")  # an interpreter that has lava-dl


@pytest.mark.slow
@pytest.mark.skipif(not LAVA, reason="DELAYPLUG_LAVA names no interpreter that has lava-dl")
@pytest.mark.parametrize("kind", NETS)
def test_lava_reads_the_file_and_fires_as_the_reader_here(kind: str, tmp_path: Path) -> None:
    net, x = delayed(kind), spikes()
    path = to_netx(net, tmp_path / "net.net").path
    np.save(tmp_path / "in.npy", x[:, 0].cpu().numpy())
    command = [LAVA, str(HERE / "run_in_lava.py"), str(path), str(tmp_path / "in.npy"), str(tmp_path / "out.npy")]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(command, check=True, env=environment, capture_output=True)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), run(path, x[:, 0].cpu().numpy()))


def test_layout(tmp_path: Path) -> None:
    net = delayed("Leaky")
    path = to_netx(net, tmp_path / "net.net").path
    first, second = layers_of(path)
    assert (first["type"], first["neuron"]["type"]) == ("dense", "CUBA")
    assert (int(first["inFeatures"]), int(first["outFeatures"]), first["shape"].tolist()) == (12, 20, [20])
    assert first["weight"].shape == first["delay"].shape == (20, 12)
    np.testing.assert_array_equal(first["delay"], net[0].delay.delays.detach().cpu().round().squeeze(-1))
    assert set(first["neuron"]) >= {"iDecay", "vDecay", "vThMant", "refDelay"}
    assert int(first["neuron"]["iDecay"]) == 4096  # no current
    assert int(second["neuron"]["vDecay"]) == 512
    assert not (first["weight"] % 2).any()
    assert np.abs(first["weight"]).max() <= 254
    with h5py.File(path) as file:
        assert file["layer/0/type"].shape == (1,)


def test_rounding_is_told_and_within_half_a_step(tmp_path: Path) -> None:
    net = delayplug.add_delays(two(leaky(), leaky()), max_delay=20).eval()
    file = to_netx(net, tmp_path / "net.net")
    for made, name, stored in zip(file.layers, ("0", "2"), layers_of(file.path), strict=True):
        weight = net.get_submodule(name).weight.detach().cpu().numpy()
        error = np.abs(stored["weight"] / made.scale - weight).max() / np.abs(weight).max()
        assert made.weight_error == pytest.approx(100 * error, rel=1e-3)
        assert 0 < error <= 1 / 200
        assert made.threshold_error == 0
        assert int(stored["neuron"]["vThMant"]) / made.scale == pytest.approx(1.0)
        assert made.decay_error <= 100 / 4096
    assert "0.4" in str(file) or "0.3" in str(file)
    assert "one step later" in str(file)


def test_a_readout_keeps_its_membrane(tmp_path: Path) -> None:
    net = delayplug.add_delays(two(leaky(), snn.Leaky(beta=0.9, init_hidden=True, reset_mechanism="none")), max_delay=9)
    file = to_netx(net.eval(), tmp_path / "net.net", outputs=["3"])
    assert int(layers_of(file.path)[-1]["neuron"]["vThMant"]) == 2**17 - 1


def test_biases_are_written_with_a_warning(tmp_path: Path) -> None:
    net = jelly(neuron.IFNode(), neuron.IFNode(), bias=True)
    with pytest.warns(UserWarning, match="reset_offset=1"):
        file = to_netx(net, tmp_path / "net.net")
    assert "input arrives 1 step later" in file.notes[0]
    assert "input arrives 2 steps later" in file.notes[1]
    assert len(file.notes) == 2
    stored = layers_of(file.path)[0]["bias"]
    np.testing.assert_allclose(
        stored / file.layers[0].scale, net[0].bias.detach().cpu(), atol=0.6 / file.layers[0].scale
    )


def test_convolutions_without_delays(tmp_path: Path) -> None:
    conv, flat = layer.Conv2d(2, 4, 3, stride=2, padding=1, bias=False), layer.Flatten()
    net = nn.Sequential(conv, neuron.LIFNode(), flat, layer.Linear(48, 6, bias=False), neuron.LIFNode())
    functional.set_step_mode(net, "m")
    x = torch.rand(9, 1, 2, 8, 6).round()
    delayplug.add_delays(net, filter_fn=lambda module, name: name == "3", max_delay=9)
    first, flatten, dense = layers_of(to_netx(net, tmp_path / "net.net", example=x).path)
    assert (first["type"], flatten["type"], dense["type"]) == ("conv", "flatten", "dense")
    assert first["shape"].tolist() == [4, 4, 3]
    assert first["weight"].shape == (4, 2, 3, 3)
    assert (first["stride"].tolist(), first["padding"].tolist(), int(first["groups"])) == ([2, 2], [1, 1], 1)
    assert "delay" not in first
    assert dense["delay"].shape == (6, 48)


def conv_with_delays() -> nn.Module:
    net = nn.Sequential(layer.Conv2d(2, 4, 3, bias=False), neuron.LIFNode())
    functional.set_step_mode(net, "m")
    return delayplug.add_delays(net, max_delay=9)


REFUSED = {
    "delays of up to 100 steps": lambda: delayplug.add_delays(two(leaky(), leaky()), max_delay=100, init=100.0),
    "reset by the rule 'subtract": lambda: two(snn.Leaky(beta=0.9, init_hidden=True), leaky()),
    "a readout in the middle": lambda: two(norse.LICell(), norse.LIFBoxCell(), chain=norse.SequentialState),
    "a bias in front of a neuron with a current": lambda: two(synaptic(), synaptic(), bias=True),
    "one leak for all neurons": lambda: two(
        snn.Leaky(beta=torch.rand(20), init_hidden=True, reset_mechanism="zero"), leaky()
    ),
    "all zero": lambda: grid(two(leaky(), leaky()), 0.0),
    "a threshold of": lambda: grid(two(leaky(threshold=1e-3), leaky()), 0.9),
    "a reset to 0.5 and a rest of 0": lambda: two(
        box(v_reset=torch.tensor(0.5)),
        box(),
        chain=norse.SequentialState,
    ),
}


@pytest.mark.parametrize("reason", REFUSED)
@pytest.mark.filterwarnings("ignore")
def test_what_the_device_has_no_counterpart_for_is_refused_and_nothing_is_written(reason: str, tmp_path: Path) -> None:
    net = REFUSED[reason]().eval()
    with pytest.raises(ExchangeError, match=reason):
        to_netx(net, tmp_path / "net.net")
    assert list(tmp_path.iterdir()) == []


def test_convolutions_with_delays_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ExchangeError, match="a convolution with delays"):
        to_netx(conv_with_delays(), tmp_path / "net.net", example=torch.rand(9, 1, 2, 8, 6).round())


def test_a_current_that_can_overflow_is_told(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(2000, 3, bias=False), synaptic())
    nn.init.constant_(net[0].weight, 0.1)
    with pytest.warns(UserWarning, match="leaves the 24 bits"):
        to_netx(net, tmp_path / "net.net")


def test_a_file_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        to_netx(delayed("Leaky"), tmp_path / "missing" / "net.net")
    assert list(tmp_path.iterdir()) == []
