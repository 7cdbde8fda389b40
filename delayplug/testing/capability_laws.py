"""The laws of the capabilities; those that a toolkit does not have are skipped."""

import copy
import inspect
import io
import unittest
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from ..deploy.freeze import freeze_delays
from ..errors import BackendError, ExchangeError, SequenceError
from ..exchange.to_module import run_neuron
from ..neurons.adaptive import AdaptiveParameters
from ..neurons.dynamics import Dynamics
from ..neurons.fused import fused_neurons
from ..neurons.recurrence import NeuronActivity, in_steps
from ..neurons.surrogates import Surrogate, SurrogateForm
from ..running.loop import over_time
from ..running.stream import stream
from ..toolkits import capabilities
from ..toolkits.toolkit import Toolkit
from ..toolkits.vocabulary import Mode, TimeInside
from .cases import Cases
from .networks import Network
from .oracle import reference_neuron
from .snapshots import is_same, snapshot, states

# run(dynamics, x) gives what the neurons did, or None
Run = Callable[[Dynamics, Tensor], NeuronActivity | None]


class CapabilityLaws(Cases):
    """Laws of `Containers`, `OwnWeights`, `Streams`, `Exchanges`, `Benchmarks` and `FusedNeurons`."""

    # ---------------------------------------------------------------------------- containers and weights of their own

    def test_containers_say_what_they_do_with_time_and_state(self, network: Network) -> None:
        self.skip_without(capabilities.Containers)
        toolkit, net = capabilities.containers(self.toolkit), network.build()
        for module in net.modules():
            children = dict(module.named_children())
            assert toolkit.time_inside(module) in list(TimeInside)
            assert toolkit.lifted(module) in ("", *children)
            if not toolkit.threads_state(module):
                assert not any(toolkit.is_stateful(module, child) for child in children)
                continue
            for child in children:
                before = toolkit.is_stateful(module, child)
                for stateful in (not before, before):
                    toolkit.set_stateful(module, child, stateful)
                    assert toolkit.is_stateful(module, child) is stateful

    def test_weights_of_their_own_are_named(self, network: Network) -> None:
        self.skip_without(capabilities.OwnWeights)
        toolkit, net = capabilities.own_weights(self.toolkit), network.build()
        for name in network.cells:
            channels, space = toolkit.own_input(net.get_submodule(name)) or (0, 0)
            assert channels > 0, f"{name} is said to weigh its input"
            assert space >= 0
            weight = toolkit.input_weights(net.get_submodule(name))
            assert bool(weight) == (name in network.layers), f"{name} has delays per synapse if it names its weights"
            assert not weight or getattr(net.get_submodule(name), weight).shape[1] == channels
        for module in net.modules():
            child = toolkit.recurrent_layer(module)
            if child:
                assert isinstance(module.get_submodule(child), nn.Module)

    # ----------------------------------------------------------------------------------------------- streams

    def test_carried_state_is_taken_out_and_put_back(self, network: Network) -> None:
        self.skip_without(capabilities.Streams)
        toolkit, net = capabilities.streams(self.toolkit), network.build().eval()
        x = network.sample(steps=8)
        with torch.no_grad():
            expected = network.run(net, x)
            _, state = network.advance(net, x[:4], network.start(net))
            taken = {module: kept for module in net.modules() if (kept := toolkit.kept_state(module))}
            for module in net.modules():
                toolkit.reset(module)
            assert taken or state is not None, "the state is neither on the modules nor the caller's"
            for module, values in taken.items():
                toolkit.put_state(module, values)
                now = toolkit.kept_state(module)
                assert now.keys() == values.keys()
                assert all(is_same(now[name], values[name]) for name in now)
            y, _ = network.advance(net, x[4:], state)
        self.assert_equal(y, expected[4:])

    def test_carried_streams_are_the_sequence(self, network: Network) -> None:
        net = self.delayed(network, granularity="axonal" if network.cells else "synaptic").eval()
        freeze_delays(net)
        x, other = network.sample(steps=8), network.sample(steps=8, seed=4)
        with torch.no_grad():
            expected, of_other = network.run(net, x), network.run(net, other)
        toolkit = self.toolkit
        drive: dict[str, Any] = {"advance": network.advance, "start": network.start}
        before, held = snapshot(net, toolkit), states(net, toolkit)
        first, second = stream(net, **drive), stream(net, **drive, check=False)  # that share the network
        got, got_other = ([coming.push(x_t) for x_t in part[:5]] for coming, part in ((first, x), (second, other)))
        for key, (value, _) in states(net, toolkit).items():
            assert value is held[key][0], key
        assert snapshot(net, toolkit)["hooks"] == before["hooks"]
        file = io.BytesIO()
        torch.save(first.state(), file)
        file.seek(0)
        restored = stream(copy.deepcopy(net), **drive, check=False)
        restored.restore(torch.load(file, weights_only=True))
        for coming, part, outputs in ((restored, x, got), (second, other, got_other)):
            outputs += [coming.push(x_t) for x_t in part[5:]]
        self.assert_equal(torch.stack(got), expected)
        self.assert_equal(torch.stack(got_other), of_other)
        assert not any(y.requires_grad for y in got)
        second.reset()
        self.assert_equal(torch.cat([second.push_chunk(part) for part in x.split([3, 1, 4])]), expected)

    def test_a_stream_that_would_begin_anew_is_refused(self, network: Network) -> None:
        net = self.delayed(network).eval()
        try:
            stream(net, advance=network.advance, start=network.start).push(network.sample()[0])
        except SequenceError:
            return
        raise AssertionError("it was not refused")

    # ---------------------------------------------------------------------------------------------- exchange

    def test_neurons_in_numbers_are_rebuilt(self, network: Network) -> None:
        self.skip_without(capabilities.Exchanges)
        toolkit, net = capabilities.exchanges(self.toolkit), network.build()
        generator = torch.Generator().manual_seed(2)
        for neuron in net.modules():
            if not self.toolkit.is_neuron(neuron):
                continue
            try:
                cell = toolkit.describe(neuron)
                made = toolkit.build(cell)
            except ExchangeError:  # some neurons do more than a cell expresses
                continue
            again = toolkit.describe(made)
            gains = toolkit.gains(cell)
            assert any(cell.close(again.gain, gain) for gain in (*gains, cell.gain))
            sizes = {value.numel() for value in (cell.leak, cell.gain, cell.rest, cell.reset) if value.dim()}
            x = torch.rand(12, 3, *(sizes or {4}), generator=generator, device="cpu") * 2 / cell.gain.float()
            with torch.no_grad():
                expected = run_neuron(self.toolkit, toolkit.build(again), x)
                got = run_neuron(self.toolkit, made, x)
            assert got.shape == x.shape
            self.assert_equal(got, expected)

    # ---------------------------------------------------------------------------------------- the benchmark

    def test_the_benchmarks_neuron_is_the_papers(self, tau: float) -> None:
        self.skip_without(capabilities.Benchmarks)
        toolkit = capabilities.benchmarks(self.toolkit)
        torch.manual_seed(0)
        x = (torch.rand(60, 8, 32) * 1.5).requires_grad_()
        weight = torch.randn(60, 8, 32)
        expected = reference_neuron(x, tau)
        actual = toolkit.run(toolkit.spiking_neuron(tau=tau), x)
        assert torch.equal(actual.detach().round(), expected.detach().round())
        (wanted,) = torch.autograd.grad((expected * weight).sum(), x)
        (got,) = torch.autograd.grad((actual * weight).sum(), x)
        assert (got - wanted).abs().max() < 1e-4 * wanted.abs().max()

    def test_the_benchmarks_neuron_with_a_soft_reset(self, tau: float) -> None:
        self.skip_without(capabilities.Benchmarks)
        toolkit = capabilities.benchmarks(self.toolkit)
        if "reset" not in inspect.signature(toolkit.spiking_neuron).parameters:
            raise unittest.SkipTest(f"the backend {self.backend} has no neuron with a soft reset")
        torch.manual_seed(0)
        x = (torch.rand(60, 8, 32) * 3).requires_grad_()  # at times more than two thresholds
        weight = torch.randn(60, 8, 32)
        expected = reference_neuron(x, tau, "subtract")
        actual = toolkit.run(toolkit.spiking_neuron(tau=tau, reset="subtract"), x)
        assert torch.equal(actual.detach().round(), expected.detach().round())
        (wanted,) = torch.autograd.grad((expected * weight).sum(), x)
        (got,) = torch.autograd.grad((actual * weight).sum(), x)
        assert (got - wanted).abs().max() < 1e-4 * wanted.abs().max()

    def test_the_benchmarks_neuron_with_a_mask(self, tau: float) -> None:
        self.skip_without(capabilities.Benchmarks)
        toolkit = capabilities.benchmarks(self.toolkit)
        torch.manual_seed(0)
        x, mask, weight = (torch.rand(12, 8, 5) * 1.5).requires_grad_(), torch.rand(8, 5) < 0.6, torch.randn(12, 8, 5)
        neuron = toolkit.spiking_neuron(tau=tau)
        expected, actual = toolkit.run(neuron, x) * mask, toolkit.run_masked(neuron, x, mask.float())
        assert torch.equal(actual, expected)
        (wanted,) = torch.autograd.grad((expected * weight).sum(), x)
        (got,) = torch.autograd.grad((actual * weight).sum(), x)
        torch.testing.assert_close(got, wanted)

    def test_the_benchmarks_readout_is_a_leaky_membrane(self, tau: float) -> None:
        self.skip_without(capabilities.Benchmarks)
        toolkit = capabilities.benchmarks(self.toolkit)
        x = torch.randn(20, 3, 4)
        v, expected = torch.zeros(3, 4), []
        for x_t in x:
            v = v * (1 - 1 / tau) + x_t
            expected.append(v)
        readout = toolkit.readout_neuron(tau=tau)
        for _ in range(2):  # the second run starts afresh
            torch.testing.assert_close(toolkit.run(readout, x), torch.stack(expected), rtol=1e-4, atol=1e-5)

    def test_the_benchmarks_adaptive_neuron_is_the_papers(self) -> None:
        self.skip_without(capabilities.Benchmarks)
        toolkit = capabilities.benchmarks(self.toolkit)
        torch.manual_seed(0)
        try:
            neuron = toolkit.adaptive_neuron(5, step_ms=10.0, strength=3.0)
        except BackendError:
            raise unittest.SkipTest(f"the backend {self.backend} has no adaptive neurons") from None
        (parameters,) = (module for module in neuron.modules() if isinstance(module, AdaptiveParameters))
        x, mask, weight = (torch.rand(40, 8, 5) * 8).requires_grad_(), torch.rand(8, 5) < 0.6, torch.randn(40, 8, 5)
        dynamics = parameters.dynamics(threshold=1.0, surrogate=Surrogate(SurrogateForm.ARCTAN, 5.0))
        expected, actual = in_steps(dynamics, x).output, toolkit.run(neuron, x)
        assert torch.equal(actual, expected)
        assert torch.equal(toolkit.run_masked(neuron, x, mask.float()), expected * mask)
        leaves = [x, *parameters.parameters()]
        wanted, got = (torch.autograd.grad((y * weight).sum(), leaves) for y in (expected, actual))
        for theirs, ours in zip(wanted, got, strict=True):
            assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()

    # ----------------------------------------------------------------------------------------- fused neurons

    def test_neurons_compute_their_dynamics(self, network: Network) -> None:
        self.skip_without(capabilities.FusedNeurons)
        for neuron in network.build().modules():
            dynamics = capabilities.dynamics(self.toolkit, neuron) if self.toolkit.is_neuron(neuron) else None
            if dynamics is None:
                continue
            generator = torch.Generator().manual_seed(3)
            shape = torch.broadcast_shapes(*(t.shape for t in dynamics.tensors())) or (4,)
            for steps in (1, 24):
                # Multiples of 1/2: some membranes come to their threshold exactly.
                x = torch.randint(-2, 5, (steps, 8, *shape), generator=generator) / 2
                assert_dynamics(self.toolkit, neuron, x)


def assert_dynamics(
    toolkit: Toolkit, neuron: nn.Module, x: Tensor, run: Run = in_steps, learned: Sequence[Tensor] = ()
) -> None:
    """Assert that a neuron and its `dynamics` give equal spikes and states over x (T, B, ...), and the same gradients.

    Args:
        toolkit: the neuron's, with `FusedNeurons`.
        neuron: one that has dynamics; it is left in a fresh state.
        x: the input.
        run: how its dynamics run.
        learned: tensors with gradients besides its parameters.
    """
    assert isinstance(toolkit, capabilities.FusedNeurons)
    others = [*(parameter for parameter in neuron.parameters() if parameter.requires_grad), *learned]
    results = []
    for is_fused in (False, True):
        leaf = x.clone().requires_grad_()
        capabilities.streams(toolkit).reset(neuron)
        if is_fused:
            dynamics = toolkit.dynamics(neuron)
            activity = None if dynamics is None else run(dynamics, leaf)
            assert activity is not None, f"{neuron} does not run by its dynamics"
            out = toolkit.fused_output(neuron, activity)
        else:
            with fused_neurons(False):
                is_sequence = toolkit.mode(neuron) == Mode.SEQUENCE
                out = neuron(leaf) if is_sequence else over_time(toolkit, neuron, neuron.forward, leaf)
        kept = {**capabilities.streams(toolkit).kept_state(neuron)}
        capabilities.streams(toolkit).reset(neuron)
        outputs = [leaf for leaf in tree_leaves((out, kept)) if isinstance(leaf, Tensor)]
        generator = torch.Generator().manual_seed(4)
        total = torch.stack([(torch.randn(y.shape, generator=generator) * y).sum() for y in outputs]).sum()
        grads = torch.autograd.grad(total, [leaf, *others], allow_unused=True) if total.requires_grad else []
        results.append((outputs, [torch.zeros(()) if grad is None else grad for grad in grads]))
    (outputs, grads), (got, got_grads) = results
    assert len(got) == len(outputs), f"{neuron} gives {len(outputs)} tensors, and by its dynamics {len(got)}"
    for expected, value in zip(outputs, got, strict=True):
        assert torch.equal(value, expected), f"{neuron}: {int((value != expected).sum())} values are not equal"
    for expected, value in zip(grads, got_grads, strict=True):
        error = (value - expected).abs().max() / expected.abs().max().clamp_min(1)
        assert error < 1e-5, f"{neuron}: a gradient is wrong by {error:.1e}"
