"""Checkpoints of the paper's code: the network that they are of, with the neurons of any toolkit."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from spikingjelly.activation_based import layer, neuron
from torch import nn

from delayplug import ArgumentError, DataError, freeze_delays, from_snn_delays, to_nir
from tests.surgery.own_delays import F, H, O, SnnDelays, spikes

X = spikes()


def checkpoint(path: Path, **options: Any) -> tuple[SnnDelays, Path]:
    torch.manual_seed(3)
    model = SnnDelays(**options).eval()
    torch.save(model.state_dict(), path / "best.pt")
    return model, path / "best.pt"


@pytest.mark.parametrize("backend", ["snntorch", "norse", "spikingjelly"])
@pytest.mark.parametrize("options", [{}, {"version": "max"}, {"norm": False}, {"sizes": (F, O)}, {"size": 8}])
def test_the_network_is_that_of_the_checkpoint(options: Any, backend: str, tmp_path: Path) -> None:
    model, path = checkpoint(tmp_path, **options)
    size, version = options.get("size", 7), options.get("version", "gauss")
    if size == 8:  # the largest position would be outside of the kernel
        for module in model.model:
            if hasattr(module, "P"):
                module.P.data.clamp_(max=3)
        torch.save(model.state_dict(), path)
    arguments = {"max_delay": size - 1, "tau": 1.5, "version": version, "backend": backend}
    network = from_snn_delays(path, **arguments)
    assert not network.training
    with torch.no_grad():
        for synapses in network.layers:
            synapses.weights.round_in_eval = False
        wanted = model(X)
        assert wanted.std() > 0.01
        torch.testing.assert_close(network(X), wanted, atol=1e-4, rtol=1e-4)
        rounded = from_snn_delays(dict(model.state_dict()), **arguments)
        model.round_positions()
        torch.testing.assert_close(rounded(X), model(X), atol=1e-4, rtol=1e-4)


def test_it_can_be_trained_frozen_and_exported(tmp_path: Path) -> None:
    network = from_snn_delays(checkpoint(tmp_path)[1], max_delay=6, tau=1.5)
    with torch.no_grad():
        before = network(X)
    assert len(to_nir(network, X, dt=1e-2).nodes) > 10
    network.train()(X).sum().backward()
    assert all(synapses.weights.delays.grad is not None for synapses in network.layers)
    network.eval()
    other = copy.deepcopy(network)
    freeze_delays(other)
    assert other(X).shape == before.shape


def test_learned_time_constants_and_biases() -> None:
    model = SnnDelays(sizes=(F, H, O)).eval()
    state = dict(model.state_dict())
    state |= {"model.0.bias": torch.rand(H), "model.2.w": torch.tensor(0.3), "model.5.w": torch.tensor(0.7)}
    network = from_snn_delays(state, max_delay=6)
    assert torch.equal(network.layers[0].weights.bias, state["model.0.bias"])
    for made, value in ((network.neurons[0], 0.3), (network.readout, 0.7)):
        assert isinstance(made, neuron.LIFNode)
        assert made.tau == pytest.approx(1 / torch.tensor(value).sigmoid().item())


def test_what_is_refused(tmp_path: Path) -> None:
    model, path = checkpoint(tmp_path)
    state = dict(model.state_dict())
    with pytest.raises(ArgumentError, match=r"tau: expected the time constant .* in steps.*init_tau / time_step"):
        from_snn_delays(path, max_delay=6)
    with pytest.raises(ArgumentError, match=r"model\.0\.P: .*Is max_delay that of its configuration"):
        from_snn_delays(path, max_delay=4, tau=1.5)
    with pytest.raises(ArgumentError, match="version"):
        from_snn_delays(path, max_delay=6, tau=1.5, version="v1")  # type: ignore[arg-type]
    for change, reason in [
        ({"fc.weight": torch.ones(2, 2)}, "got the key 'fc.weight'"),
        ({"model.0.P": torch.ones(1, H, F + 1, 1)}, r"model\.0: expected weight .*P \(1, 6, 6, 1\)"),
        ({"model.0.SIG": torch.rand(1, H, F, 1)}, r"model\.0\.SIG: expected one width"),
        ({"model.3.scale": torch.ones(2)}, r"got model\.3\.scale"),
    ]:
        with pytest.raises(DataError, match=reason):
            from_snn_delays(state | change, max_delay=6, tau=1.5)
    shifted = {
        key.replace("model.4.", "model.5."): value for key, value in state.items() if not key.startswith("model.5")
    }
    with pytest.raises(DataError, match=r"model\.4: expected the next DCLS convolution.*SynapseFilter"):
        from_snn_delays(shifted, max_delay=6, tau=1.5)
    with pytest.raises(DataError, match="whose first module is a DCLS convolution"):
        from_snn_delays(nn.Sequential(layer.Linear(2, 2)).state_dict(prefix="model."), max_delay=6, tau=1.5)
    (tmp_path / "text.pt").write_text("no checkpoint")
    for file in ("text.pt", "missing.pt"):
        with pytest.raises(DataError, match=f"{file}: expected a checkpoint of SNN-delays"):
            from_snn_delays(tmp_path / file, max_delay=6, tau=1.5)
    torch.save([1], tmp_path / "list.pt")
    with pytest.raises(DataError, match="expected the state dict of a network, got list"):
        from_snn_delays(tmp_path / "list.pt", max_delay=6, tau=1.5)
