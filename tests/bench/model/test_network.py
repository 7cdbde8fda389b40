"""The same parameters and the same input give the same spikes and gradients in every backend."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import delayplug
from delayplug import ArgumentError, ExchangeError, SequenceError
from delayplug.bench.config import Neuron, RunConfig
from delayplug.bench.model.network import DelayNetwork, HeldDropout, class_scores
from delayplug.bench.variants import VARIANTS, Variant
from delayplug.layers.exact import is_exact
from delayplug.neurons.fused import fused_neurons
from delayplug.toolkits import plugins
from tests.layers.kernels import DEVICE, needs_triton, running
from tests.layers.launches import launches

BACKENDS = ("snntorch", "norse", "spikingjelly")


def relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())


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
        network = DelayNetwork((20, 24, 24, 5), toolkit, RunConfig(delays=delays, max_delay=8, tau=tau, dropout=0.0))
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


def test_scores_of_the_classes() -> None:
    membrane = torch.tensor([[[0.0, 3.0]], [[4.0, 1.0]], [[0.5, 1.0]]], dtype=torch.float64)  # (T, B, classes)
    assert class_scores(membrane, "mean")[0].tolist() == pytest.approx([1.5, 5 / 3])
    assert class_scores(membrane, "max").tolist() == [[4.0, 3.0]]
    first = sum(1 / (1 + math.exp(b - a)) for a, b in ((0.0, 3.0), (4.0, 1.0), (0.5, 1.0)))
    assert class_scores(membrane)[0].tolist() == pytest.approx([first, 3 - first])
    assert torch.equal(class_scores(membrane), class_scores(membrane, "sum"))


@pytest.mark.parametrize("hidden", [(), (6,), (6, 5), (6, 5, 4)])
@pytest.mark.parametrize("backend", BACKENDS)
def test_any_number_of_hidden_layers(hidden: tuple[int, ...], backend: str) -> None:
    """Each has its delays, lengthens the sequence, and learns."""
    torch.manual_seed(0)
    config = RunConfig(hidden=hidden, max_delay=4, tau=2.0)
    network = DelayNetwork((9, *hidden, 3), plugins.toolkit(backend), config)
    activity = network.activity((torch.rand(12, 5, 9) < 0.5).float())
    assert [part.shape for part in activity] == [(12 + 2 * (n + 1), 5, size) for n, size in enumerate((*hidden, 3))]
    class_scores(activity[-1], "max").square().sum().backward()
    assert len(network.delays_now()) == len(hidden) + 1
    assert all(layer.weights.delays.grad.abs().sum() > 0 for layer in network.layers)


def test_networks_with_adaptive_neurons_agree() -> None:
    """Drawn from the same seed, they are the same in every backend: spikes exactly, gradients to 1e-4."""
    x = (torch.rand(30, 16, 20, generator=torch.Generator().manual_seed(0)) < 0.2).float()
    results = []
    for backend in BACKENDS:
        torch.manual_seed(1)
        config = RunConfig(max_delay=8, dropout=0.0, neuron="adlif")
        network = DelayNetwork((20, 24, 24, 5), plugins.toolkit(backend), config)
        assert [layer.size for layer in network.adaptive] == [24, 24]
        plain = DelayNetwork((20, 24, 24, 5), plugins.toolkit(backend), RunConfig(max_delay=8))
        assert network.trainable() - plain.trainable() == 4 * (24 + 24)
        assert plain.adaptive == []
        spikes = _hidden_spikes(network, x)
        class_scores(network(x))[:, 0].sum().backward()
        results.append((spikes, [p.grad for p in network.parameters() if p.grad is not None]))
    spikes, gradients = results[0]
    assert all(0.01 < float(layer.mean()) < 0.9 for layer in spikes)
    for others, other_gradients in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(others, spikes, strict=True))
        for ours, theirs in zip(other_gradients, gradients, strict=True):
            assert relative(ours, theirs) < 1e-4


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_reason_why_adaptive_neurons_are_not_written_as_nir(backend: str) -> None:
    """Also where the benchmark runs them without calling them, so that their operations seem to be the model's."""
    network = DelayNetwork((6, 5, 3), plugins.toolkit(backend), RunConfig(max_delay=2, neuron="adlif")).eval()
    with pytest.raises(
        ExchangeError, match=r"^neurons\.0 \(Adaptive\w+\): expected a neuron that NIR can describe, got an"
    ):
        delayplug.to_nir(network, torch.zeros(7, 2, 6), dt=1e-2)


def _hidden_spikes(network: DelayNetwork, x: Tensor) -> list[Tensor]:
    """The spikes of each hidden layer."""
    with torch.no_grad():
        return network.activity(x)[:-1]


@pytest.mark.parametrize("delays", VARIANTS)
@pytest.mark.parametrize("fan_in", [0, 5])
def test_dropout_scales_weights_and_leaves_spikes_as_they_are(delays: Variant, fan_in: int) -> None:
    """The network is the one whose spikes are scaled, and delays see zeros and ones that are marked as exact."""
    torch.manual_seed(0)
    config = RunConfig(delays=delays, fan_in=fan_in, max_delay=4, dropout=0.4)
    network = DelayNetwork((9, 8, 7, 3), plugins.toolkit("spikingjelly"), config).double()
    x, seen = torch.randint(0, 3, (12, 5, 9)), []
    masks = network.draw_masks(5)
    assert [mask.shape for mask in masks] == [(1, 5, 8), (1, 5, 7)]
    for layer in network.layers[1:]:
        layer.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    membrane = network(x.double(), masks)
    assert len(seen) == 2
    assert all(is_exact(each) and set(each.unique().tolist()) == {0.0, 1.0} for each in seen)
    membrane.square().sum().backward()
    found = [p.grad.clone() for p in network.parameters() if p.grad is not None]
    network.zero_grad()
    for layer in network.layers:
        plain = layer.forward
        layer.forward = lambda x, tail, scale, plain=plain: plain(x if scale == 1 else x * scale, tail)
    expected = network(x.to(torch.uint8), masks)
    expected.square().sum().backward()
    torch.testing.assert_close(membrane, expected)
    for ours, theirs in zip(found, [p.grad for p in network.parameters() if p.grad is not None], strict=True):
        torch.testing.assert_close(ours, theirs)


@needs_triton
@pytest.mark.parametrize("neuron", ["lif", "adlif"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_training_step_in_kernels(backend: str, neuron: Neuron) -> None:
    """Spikes equal to those of the loops, gradients to 1e-4, and few launches: each counts."""
    torch.manual_seed(0)
    config = RunConfig(dropout=0.4, max_delay=6, tau=2.0, neuron=neuron)
    network = DelayNetwork((20, 16, 16, 5), plugins.toolkit(backend), config).to(DEVICE)
    x, y = (torch.rand(12, 3, 20) < 0.3).to(DEVICE, torch.uint8), torch.arange(3, device=DEVICE)
    results = []
    for fused in (False, True):
        for synapse in network.layers:
            synapse.weights.engine = "products" if fused else "direct"
        network.zero_grad()
        with running() if fused else fused_neurons(False), launches() as names:
            masks = network.draw_masks(3, torch.Generator(DEVICE).manual_seed(0))
            activity = network.activity(x, masks)
            torch.nn.functional.cross_entropy(class_scores(activity[-1]), y).backward()
        results.append((activity, [p.grad.clone() for p in network.parameters() if p.grad is not None]))
    (loops, expected), (kernels, found) = results
    for a, b in zip(loops[:-1], kernels[:-1], strict=True):
        assert torch.equal(a, b)
        assert 0 < float(a.mean()) < 1
    assert len(expected) == len(found) >= 10
    for ours, theirs in zip(found, expected, strict=True):
        assert relative(ours, theirs) < 1e-4
    # Norse computes with numbers on the CPU, which count here; snnTorch brings the factor of each layer into 0 to 1.
    assert backend == "norse" or neuron == "adlif" or len(names) == {"spikingjelly": 53, "snntorch": 56}[backend]


@pytest.mark.cpu("the numbers of its generator")
def test_masks_are_those_of_dropout() -> None:
    """On a CPU the numbers of `nn.functional.dropout`, whatever generator they are drawn from."""
    dropout = HeldDropout(0.4)
    torch.manual_seed(5)
    expected = torch.nn.functional.dropout(torch.ones(1, 50, 40), 0.4)
    mask = dropout.draw(torch.ones(()), (50, 40), torch.Generator().manual_seed(5))
    assert torch.equal(mask != 0, expected != 0)
    torch.manual_seed(5)
    torch.testing.assert_close(dropout(torch.ones(3, 50, 40)), expected.expand(3, -1, -1))


def test_dropout_holds_its_mask_over_time() -> None:
    torch.manual_seed(0)
    dropped = HeldDropout(0.4)(torch.ones(7, 50, 40))
    assert torch.equal(dropped, dropped[:1].expand_as(dropped))
    assert abs(float((dropped == 0).float().mean()) - 0.4) < 0.05
    assert dropped.unique().tolist() == pytest.approx([0.0, 1 / 0.6])
    assert not torch.equal(dropped[0, 0], dropped[0, 1])
    assert torch.equal(HeldDropout(0.4).eval()(torch.ones(2, 3, 4)), torch.ones(2, 3, 4))


@pytest.mark.parametrize("options", [{"fan_in": 4, "taps": 2}, {"recurrent": "plain"}, {"recurrent": "synaptic"}])
def test_fan_outs_count_the_weights_that_are_not_zero(options: Any) -> None:
    network = DelayNetwork((9, 8, 7, 3), plugins.toolkit("spikingjelly"), RunConfig(max_delay=4, **options))
    fan_outs = network.fan_outs()
    assert [len(fan_out) for fan_out in fan_outs] == [9, 8, 7]
    synapses = sum(int((layer.weights_now() != 0).sum()) for layer in network.layers)
    assert sum(int(fan_out.sum()) for fan_out in fan_outs) == synapses + (8 * 8 + 7 * 7 if network.connections else 0)
    if "fan_in" in options:
        assert synapses == 2 * 4 * (8 + 7 + 3)
    else:
        assert fan_outs[1].tolist() == [7 + 8] * 8


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("neuron", ["lif", "adlif"])
@pytest.mark.parametrize("delays", VARIANTS)
def test_a_stream_is_the_sequence(delays: Variant, neuron: Neuron, backend: str) -> None:
    """Without its tail: what arrives late comes with the steps of silence that follow."""
    torch.manual_seed(4)
    config = RunConfig(delays=delays, max_delay=6, tau=2.0, neuron=neuron, taps=1, fan_in=12)
    network = DelayNetwork((20, 16, 16, 5), plugins.toolkit(backend), config)
    x = torch.rand(24, 3, 20) < 0.4
    with torch.no_grad():
        network(x)  # in training: batch norm sees something
        network.eval()
        wanted = network(x)[: len(x)]
    stream = delayplug.stream(network)
    steps = torch.stack([stream.push(x_t) for x_t in x])
    torch.testing.assert_close(steps, wanted, atol=1e-4, rtol=1e-4)
    stream.reset()
    torch.testing.assert_close(
        torch.cat([stream.push_chunk(part) for part in x.split([1, 9, 2, 12])]), wanted, atol=1e-4, rtol=1e-4
    )
    delayplug.stream(network).restore(stream.state())


def test_what_cannot_be_streamed() -> None:
    toolkit = plugins.toolkit("spikingjelly")
    network = DelayNetwork((20, 16, 5), toolkit, RunConfig(max_delay=6, recurrent="axonal"))
    with pytest.raises(ArgumentError, match="expected a network in eval"):
        network.chunk(torch.zeros(3, 2, 20))
    with pytest.raises(SequenceError, match="the network has recurrent connections"):
        delayplug.stream(network.eval()).push(torch.zeros(2, 20))
