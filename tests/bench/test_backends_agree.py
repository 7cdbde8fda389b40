"""The same parameters and the same input give the same spikes and gradients in every backend."""

import pytest
import torch
from torch import Tensor

from delayplug import plugins
from delayplug.bench.network import DelayNetwork, class_scores

BACKENDS = ("snntorch", "norse", "spikingjelly")


def relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())


def reference_neuron(x: Tensor, tau: float) -> Tensor:
    """The paper's neuron, as slow and plain as it gets; the gradient of its spikes is the arctan surrogate."""
    v, spikes = torch.zeros_like(x[0]), []
    for x_t in x.unbind(0):
        v = v * (1 - 1 / tau) + x_t
        z = v - 1
        smooth = torch.atan(torch.pi / 2 * 5 * z) / torch.pi  # its derivative is 5 / 2 / (1 + (pi / 2 * 5 z)^2)
        s = (z > 0).to(x.dtype) + smooth - smooth.detach()
        v = v * (1 - s.detach())
        spikes.append(s)
    return torch.stack(spikes)


@pytest.mark.parametrize("tau", [1.005, 1.5, 2.0])
@pytest.mark.parametrize("backend", BACKENDS)
def test_neuron_is_the_papers(backend: str, tau: float) -> None:
    toolkit = plugins.toolkit(backend)
    torch.manual_seed(0)
    x = (torch.rand(60, 8, 32) * 1.5).requires_grad_()
    weight = torch.randn(60, 8, 32)
    expected = reference_neuron(x, tau)
    actual = toolkit.run(toolkit.spiking_neuron(tau=tau), x)
    assert 0.05 < float(expected.detach().mean()) < 0.95
    assert torch.equal(actual.detach().round(), expected.detach().round())
    (wanted,) = torch.autograd.grad((expected * weight).sum(), x)
    (got,) = torch.autograd.grad((actual * weight).sum(), x)
    assert relative(got, wanted) < 1e-4


@pytest.mark.parametrize("tau", [1.005, 1.5, 2.0])
@pytest.mark.parametrize("backend", BACKENDS)
def test_readout_is_a_leaky_membrane(backend: str, tau: float) -> None:
    toolkit = plugins.toolkit(backend)
    x = torch.randn(20, 3, 4)
    v, expected = torch.zeros(3, 4), []
    for x_t in x:
        v = v * (1 - 1 / tau) + x_t
        expected.append(v)
    readout = toolkit.readout_neuron(tau=tau)
    for _ in range(2):  # the second run starts afresh
        torch.testing.assert_close(toolkit.run(readout, x), torch.stack(expected), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("delays", ["none", "fixed", "learned"])
@pytest.mark.parametrize("tau", [1.005, 1.5, 2.0])
def test_networks_agree(delays: str, tau: float) -> None:
    """Spikes exactly, gradients of every parameter to 1e-4, through two hidden layers and the paper's loss."""
    torch.manual_seed(1)
    x = (torch.rand(30, 16, 20) < 0.2).float()
    y = torch.arange(16) % 5
    results = {}
    state = None
    for backend in BACKENDS:
        toolkit = plugins.toolkit(backend)
        network = DelayNetwork((20, 24, 24, 5), toolkit, delays=delays, max_delay=8, tau=tau, dropout=0.0)
        own = {
            name: value for name, value in network.state_dict().items() if name.split(".")[0] in ("synapses", "norms")
        }
        state = own if state is None else state
        network.load_state_dict({**network.state_dict(), **state})
        spikes = _hidden_spikes(network, x)
        loss = torch.nn.functional.cross_entropy(class_scores(network(x)), y)
        loss.backward()
        gradients = {name: p.grad for name, p in network.named_parameters() if p.requires_grad and p.grad is not None}
        results[backend] = (spikes, gradients)
    spikes, gradients = results["spikingjelly"]
    assert all(0 < float(layer.mean()) < 1 for layer in spikes)
    assert len(gradients) >= 7
    for backend in ("snntorch", "norse"):
        others, other_gradients = results[backend]
        for a, b in zip(others, spikes, strict=True):
            assert torch.equal(a, b)
        assert other_gradients.keys() == gradients.keys()
        for name, gradient in gradients.items():
            assert relative(other_gradients[name], gradient) < 1e-4, (backend, name)


def _hidden_spikes(network: DelayNetwork, x: Tensor) -> list[Tensor]:
    """What the dropout module sees: the spikes of each hidden layer."""
    seen: list[Tensor] = []
    hook = network.dropout.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach().clone()))
    with torch.no_grad():
        network(x)
    hook.remove()
    return seen
