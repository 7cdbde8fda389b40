"""Recurrent connections of the benchmark's network, with the neurons of each toolkit."""

from typing import Any

import pytest
import snntorch
import torch
from torch import Tensor, nn

from delayplug import BackendError, LearnableDelay, SigmaSchedule, freeze_delays, parameter_groups
from delayplug.bench.config import RunConfig
from delayplug.bench.model.network import DelayNetwork, class_scores
from delayplug.bench.model.recurrent import Recurrent
from delayplug.toolkits import plugins
from tests.layers.kernels import DEVICE, needs_triton, running
from tests.layers.launches import launches

BACKENDS = ("snntorch", "norse", "spikingjelly")
KINDS = ("plain", "axonal", "synaptic")
T, B, H = 16, 3, 6


def made(kind: str, **options: Any) -> Recurrent:
    torch.manual_seed(2)
    connection = Recurrent(H, RunConfig(recurrent=kind, max_delay=4, **options)).double()
    with torch.no_grad():
        connection.weights.weight.mul_(2)  # so that it matters
    return connection


def network(backend: str, **options: Any) -> DelayNetwork:
    torch.manual_seed(1)
    settings = {"hidden": (7, 6), "max_delay": 4, "tau": 2.0, "dropout": 0.0, "recurrent": "axonal", "backend": backend}
    return DelayNetwork((9, 7, 6, 3), plugins.toolkit(backend), RunConfig(**{**settings, **options}))


def spikes_of_steps(backend: str, neuron: nn.Module, x: list[Tensor]) -> Tensor:
    """The spikes of the last step by a toolkit's own neuron, run over all of them from a fresh state."""
    return plugins.toolkit(backend).run(neuron, torch.stack(x))[-1].double()  # snnTorch gives float32


@pytest.mark.parametrize("reset", ["zero", "subtract"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_steps_of_the_layers_are_the_sequence(backend: str, kind: str, reset: str) -> None:
    """With wide kernels: the toolkit's own neuron, and `LearnableDelay.step` on the spikes of the step before."""
    toolkit, connection = plugins.toolkit(backend), made(kind)
    neuron = toolkit.spiking_neuron(tau=2.0, reset=reset).double()
    x = (torch.rand(T, B, H, dtype=torch.float64) * 1.2).requires_grad_()
    spikes, drives, states = [torch.zeros(B, H, dtype=torch.float64)], [], {}
    for x_t in x.unbind(0):
        arriving = spikes[-1]
        for layer in (connection.delay, connection.weights):
            if isinstance(layer, LearnableDelay):
                arriving, states[layer] = layer.step(arriving, states.get(layer))
            elif layer is not None:
                arriving = layer(arriving)
        drives.append(x_t + arriving)
        spikes.append(spikes_of_steps(backend, neuron, drives))
    expected, found = torch.stack(spikes[1:]), connection.run(toolkit, neuron, x)
    assert torch.equal(found.round(), expected.round())
    assert 0.1 < float(expected.detach().mean()) < 0.9
    weight, inputs = torch.randn_like(x), [x, *connection.parameters()]
    wanted = torch.autograd.grad((expected * weight).sum(), inputs)
    for ours, theirs in zip(torch.autograd.grad((found * weight).sum(), inputs), wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_whole_delays_shift_what_is_fed_back(backend: str, kind: str) -> None:
    """A spike arrives 1 + d steps later, by sums over single neurons in Python; delays are rounded in `eval()`."""
    toolkit, connection = plugins.toolkit(backend), made(kind).eval()
    neuron, x = toolkit.spiking_neuron(tau=1.5).double(), torch.rand(T, B, H, dtype=torch.float64) * 1.2
    weight = connection.weights.weight.detach().view(H, H)
    delays = torch.zeros(H, H)
    if connection.delays is not None:
        delays = delays + (connection.delays.delays.detach() + 0.5).floor().view(-1, H)  # (H,) is by the sender
        assert delays.unique().numel() > 2
    v, spikes = torch.zeros(B, H, dtype=torch.float64), []
    for t in range(T):
        drive = x[t].clone()
        for o in range(H):
            for i in range(H):
                source = t - 1 - int(delays[o, i])
                if source >= 0:
                    drive[:, o] += weight[o, i] * spikes[source][:, i]
        v = v * (1 - 1 / 1.5) + drive
        spikes.append((v > 1).double())
        v = v * (v <= 1)
    found = connection.run(toolkit, neuron, x)
    assert torch.equal(found, torch.stack(spikes))
    assert not torch.equal(found, toolkit.run(neuron, x))


@pytest.mark.parametrize("neurons", [{"reset": "zero"}, {"reset": "subtract"}, {"neuron": "adlif"}])
@pytest.mark.parametrize("kind", KINDS)
def test_networks_agree(kind: str, neurons: dict[str, str]) -> None:
    """Spikes exactly, gradients to 1e-4, in the three toolkits; each parameter learns."""
    x, y, state, results = (torch.rand(12, 5, 9) < 0.5).float(), torch.arange(5) % 3, None, []
    for backend in BACKENDS:
        net = network(backend, recurrent=kind, **neurons)
        own = {name: value for name, value in net.state_dict().items() if not name.startswith(("neurons", "readout"))}
        state = own if state is None else state
        net.load_state_dict({**net.state_dict(), **state})
        activity = net.activity(x)
        torch.nn.functional.cross_entropy(class_scores(activity[-1]), y).backward()
        found = {n: p.grad for n, p in net.named_parameters() if p.grad is not None}
        assert all(float(gradient.abs().max()) > 0 for gradient in found.values())
        results.append((activity[:-1], {n: grad for n, grad in found.items() if not n.startswith("neurons")}))
    spikes, gradients = results[0]
    assert {"plain": 2, "axonal": 4, "synaptic": 4}[kind] == sum(name.startswith("recurrent") for name in gradients)
    for others, other_gradients in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(spikes, others, strict=True))
        assert other_gradients.keys() == gradients.keys()
        for name, gradient in gradients.items():
            assert (other_gradients[name] - gradient).abs().max() < 1e-4 * gradient.abs().max(), name


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_groups_and_schedules(kind: str) -> None:
    net, plain = network("spikingjelly", recurrent=kind), network("spikingjelly", recurrent="none")
    added = {"plain": 49 + 36, "axonal": 49 + 7 + 36 + 6, "synaptic": 2 * (49 + 36)}[kind]
    assert net.trainable() == plain.trainable() + added
    assert net.trainable() == sum(p.numel() for p in net.parameters() if p.requires_grad)
    assert len(net.delays_now()) == (3 if kind == "plain" else 5)
    groups = {group["name"]: {id(p) for p in group["params"]} for group in parameter_groups(net, 1e-3)}
    for connection in net.connections:
        assert id(connection.weights.weight) in groups["weights"]
        if connection.delays is not None:
            assert id(connection.delays.delays) in groups["delays"]
    schedule = SigmaSchedule(net, 8)
    for _ in range(2):
        schedule.step()
    assert len(schedule.after(2)) == (3 if kind == "plain" else 5)
    assert all(float(c.delays.sigma) == pytest.approx(0.5) for c in net.connections if c.delays is not None)


def test_delays_are_drawn_and_weights_are_small() -> None:
    connection = Recurrent(256, RunConfig(recurrent="axonal", max_delay=24))
    delays, weights = connection.delays.delays, connection.weights.weight
    assert delays.shape == (256,)
    assert 10 < float(delays.detach().mean()) < 14
    assert float(weights.detach().abs().max()) <= 1 / 16
    assert float(weights.detach().std()) == pytest.approx(1 / (16 * 3**0.5), rel=0.02)
    wide, narrow = (Recurrent(4, RunConfig(recurrent="axonal", delays=kind)) for kind in ("learned", "constant"))
    assert float(wide.delay.sigma) == pytest.approx(12.27)
    assert float(narrow.delay.sigma) == pytest.approx(0.5)


def test_a_layer_hears_spikes_that_dropout_takes_from_the_next_one() -> None:
    net, x = network("snntorch", dropout=0.4), (torch.rand(12, 5, 9) < 0.5).float()
    masks = net.draw_masks(5)
    whole, dropped = net.activity(x, [torch.ones_like(mask) for mask in masks])[0], net.activity(x, masks)[0]
    assert torch.equal(dropped, whole * masks[0])
    assert not torch.equal(dropped, whole)


def test_frozen_it_computes_what_it_computed() -> None:
    net, x = network("norse").eval(), (torch.rand(12, 5, 9) < 0.5).float()
    with torch.no_grad():
        before = net(x)
        freezing = freeze_delays(net)
        assert torch.equal(net(x), before)
    assert {change.layer for change in freezing.changes} > {"recurrent.0.delay", "recurrent.1.delay"}


def test_toolkits_that_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    toolkit = plugins.toolkit("snntorch")
    monkeypatch.setattr(type(toolkit), "run_dynamics", lambda self, neuron: None)
    with pytest.raises(BackendError, match="SnnTorch does not say what a step of its neurons computes"):
        network("snntorch")(torch.zeros(5, 2, 9))
    monkeypatch.setattr(type(toolkit), "spiking_neuron", lambda self, *, tau: snntorch.Leaky(beta=0.5))
    with pytest.raises(BackendError, match="'snntorch' has no neurons with the reset 'subtract'"):
        network("snntorch", reset="subtract")
    network("snntorch")


def test_what_computes_it_is_named() -> None:
    assert network("snntorch").implementation(torch.device("cpu")) == "recurrent loop, loop"


@needs_triton
@pytest.mark.parametrize("backend", BACKENDS)
def test_launches_of_a_training_step(backend: str) -> None:
    """Few for each step of the loop, forward and backward: they are what a recurrent layer costs on a GPU."""
    counts = []
    for steps in (6, 10):
        net = network(backend, delays="none").to(DEVICE)
        x = (torch.rand(steps, 3, 9) < 0.5).to(DEVICE, torch.uint8)
        with running(), launches() as names:
            class_scores(net(x, net.draw_masks(3))).sum().backward()
        counts.append(len(names))
    assert (counts[1] - counts[0]) / 4 / 2 == 4  # of two layers
