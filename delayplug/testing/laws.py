"""The laws that an adapter must keep, as a test class, and the networks that they run on."""

import copy
import io
import pickle
import unittest
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..deploy.freeze import freeze_delays
from ..errors import SequenceError
from ..learning.schedules import parameter_groups
from ..running.stream import stream
from ..surgery.apply import add_delays, detach_delays, named_delays, remove_delays, reset_delays
from ..surgery.delayed import Delayed
from ..surgery.plan import plan_delays
from ..toolkits import plugins
from ..toolkits.capabilities import Benchmarks, containers
from ..toolkits.toolkit import Toolkit
from ..toolkits.vocabulary import Granularity, Mode

Sees = Literal["steps", "sequences", "batch first", "folded"]
Advance = Callable[[Any, Tensor, Any], tuple[Tensor, Any]]


def _no_state(net: nn.Module) -> Any:
    return None


@dataclass(frozen=True)
class Network:
    """A network as a user of a toolkit writes it, and how that user drives it.

    Attributes:
        name: for the test report.
        make: builds the network, with weights large enough that all its neurons spike, and not always, on the samples:
            most laws say little about a silent network, and some say so.
        features: shape of one input step without batch, such as (5,) or (2, 8, 8).
        layers: names of the layers that get delays per synapse when an example is given.
        advance: `advance(net, x, state)` runs a part (T, B, *features) of a sequence from the user's state and returns
            the outputs, one per step and time first, and the next state.
        start: `start(net)` begins a sequence and returns the user's state.
        cut: `cut(net, state)` detaches what the sequence carries, as for truncated backpropagation; None if the network
            can only run whole sequences.
        ordered: whether the structure alone shows the wiring.
        density: of the spikes in the samples.
        cells: names of the neurons that weigh their input themselves, which "axonal" delays, too.
        sees: what a call of each layer is given: single "steps" (B, ...), "sequences" (T, B, ...), sequences "batch
            first" (B, T, ...) or with the time "folded" into the batch (T B, ...); one for all, or by layer.
    """

    name: str
    make: Callable[[], nn.Module]
    features: tuple[int, ...]
    layers: tuple[str, ...]
    advance: Advance
    start: Callable[[Any], Any] = _no_state
    cut: Callable[[Any, Any], Any] | None = None
    ordered: bool = True
    density: float = 0.4
    cells: tuple[str, ...] = ()
    sees: Sees | Mapping[str, Sees] = "steps"

    def __str__(self) -> str:
        return self.name

    def build(self, seed: int = 0) -> nn.Module:
        """The network; the same one for the same seed."""
        torch.manual_seed(seed)
        return self.make()

    def sample(self, steps: int = 9, batch: int = 3, seed: int = 1) -> Tensor:
        """Spikes, (T, B, *features)."""
        generator = torch.Generator().manual_seed(seed)
        return (torch.rand(steps, batch, *self.features, generator=generator) < self.density).float()

    def run(self, net: nn.Module, x: Tensor) -> Tensor:
        """A whole sequence, as the user runs it."""
        return self.advance(net, x, self.start(net))[0]

    def example(self, net: nn.Module) -> None:
        """What the user passes as `example=`."""
        self.run(net, self.sample(steps=3, batch=2, seed=99))

    def sees_of(self, layer: str) -> Sees:
        """What a call of this layer is given."""
        return self.sees[layer] if isinstance(self.sees, Mapping) else self.sees


MAX_DELAY = 4
EXACT: dict[str, Any] = {"init": 0, "interpolation": "linear"}
GRANULARITIES = tuple(Granularity)


class Laws:
    """The laws, as a test class for pytest: subclass it and give it a backend and networks.

    Attributes:
        backend: name of the backend.
        networks: networks of its toolkit, at least one for each way of keeping time and state that it has.
        tolerance: absolute and relative, for outputs that should be equal.
    """

    backend: str
    networks: tuple[Network, ...]
    tolerance: float = 1e-4

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """Run every law on every network, and where it matters for all granularities, while training and not."""
        if not self.networks:
            raise ValueError(f"{type(self).__name__}.networks: expected at least one Network, got none")
        names = metafunc.fixturenames
        if "network" in names:
            law = metafunc.function.__name__
            cases = [n for n in self.networks if n.cut is not None or "carried" not in law]
            cases = [n for n in cases if n.cut is None or "refused" not in law]
            metafunc.parametrize("network", cases, ids=str)
        if "granularity" in names:
            metafunc.parametrize("granularity", GRANULARITIES)
        if "tau" in names:
            metafunc.parametrize("tau", (1.005, 1.5, 2.0))
        if "training" in names:
            metafunc.parametrize("training", (True, False), ids=("train", "eval"))

    def benchmark(self) -> Benchmarks:
        """The toolkit, if it takes part in the benchmark; the law is skipped if it does not."""
        toolkit = plugins.toolkit(self.backend)
        if not isinstance(toolkit, Benchmarks):
            raise unittest.SkipTest(f"the backend {self.backend} takes no part in the benchmark")
        return toolkit

    def delayed(self, network: Network, seed: int = 0, **options: Any) -> nn.Module:
        """The network with delays."""
        options = {"interpolation": "linear", "max_delay": MAX_DELAY, **options}
        return add_delays(network.build(seed), example=network.example, **options)

    def assert_equal(self, got: Tensor, expected: Tensor) -> None:
        torch.testing.assert_close(got, expected, atol=self.tolerance, rtol=self.tolerance)

    # ----------------------------------------------------------------------------------------------- wiring

    def test_an_example_shows_the_wiring(self, network: Network) -> None:
        plan = plan_delays(network.build(), network.example)
        assert plan.backend == self.backend
        assert tuple(c.layer for c in plan.connections) == network.layers, str(plan)
        modules = dict(network.build().named_modules())
        toolkit = plugins.toolkit(self.backend)
        for c in plan.connections:
            neuron = modules[c.neuron]
            assert toolkit.is_neuron(neuron)
            assert toolkit.is_spiking(neuron) is True
            assert toolkit.mode(neuron) in list(Mode)
            assert isinstance(toolkit.held_state(neuron), tuple)
            assert c.reset
            assert c.reset in str(plan)
        assert all(skipped.reason in str(plan) for skipped in plan.skipped)

    def test_the_structure_shows_the_same_or_less(self, network: Network) -> None:
        net = network.build()
        traced = {c.layer: c for c in plan_delays(net, network.example).connections}
        shown = plan_delays(net)
        for c in shown.connections:
            assert c.layer in traced, f"{c.layer} -> {c.neuron} by structure, not by example"
        if network.ordered:
            assert {c.layer: c for c in shown.connections} == traced, str(shown)
        else:
            reasons = {skipped.layer: skipped.reason for skipped in shown.skipped}
            for layer in set(traced) - {c.layer for c in shown.connections}:
                assert "example=" in reasons[layer], reasons[layer]

    # ------------------------------------------------------------------------------------- what is computed

    def test_zero_delay_is_the_plain_network(self, network: Network, granularity: Granularity, training: bool) -> None:
        plain = network.build().train(training)
        net = self.delayed(network, granularity=granularity, **EXACT).train(training)
        cells = network.cells if granularity == "axonal" else ()
        assert {name for name, _ in named_delays(net)} == {*network.layers, *cells}
        for x in (network.sample(), network.sample(batch=5, seed=3), network.sample(steps=4), network.sample()):
            expected = network.run(plain, x)
            assert expected.any(), "the plain network gives nothing but zeros"
            self.assert_equal(network.run(net, x), expected)

    def test_a_whole_delay_is_a_shift_of_the_input(
        self, network: Network, granularity: Granularity, training: bool
    ) -> None:
        net = self.delayed(network, granularity=granularity).train(training)
        plain = network.build().train(training)
        x = network.sample()
        undelayed = network.run(network.build().train(training), x)
        toolkit = plugins.toolkit(self.backend)
        for name, delays in draw_whole_delays(net).items():
            layer: Any = plain.get_submodule(name)
            inner = containers(toolkit).lifted(layer)
            weights = getattr(layer, inner) if inner else layer
            if toolkit.is_neuron(layer):
                shift_cell(layer, delays)
            else:
                shift_inputs(layer, weights, delays, granularity, network.sees_of(name), batch=x.shape[1])
        got = network.run(net, x)
        self.assert_equal(got, network.run(plain, x))
        assert not torch.allclose(got, undelayed, atol=1e-3), "the delays of this test make no difference"

    def test_each_sequence_starts_afresh(self, network: Network) -> None:
        net = self.delayed(network).eval()
        draw_whole_delays(net)
        x = network.sample()
        louder = torch.ones_like(x)
        first = network.run(net, x)
        network.run(net, louder)
        assert torch.equal(network.run(net, x), first)
        network.run(net, louder[:2, :1].expand(2, 5, *x.shape[2:]))
        assert torch.equal(network.run(net, x), first)
        with torch.no_grad():  # where steps may go by events, and sums are made in another order
            silent = network.run(net, x)
            self.assert_equal(silent, first)
            network.run(net, louder[:1])
            assert torch.equal(network.run(net, x), silent)

    def test_frozen_delays_compute_what_eval_does(self, network: Network, granularity: Granularity) -> None:
        toolkit = plugins.toolkit(self.backend)
        net = self.delayed(network, granularity=granularity, interpolation="gauss").eval()
        x, names = network.sample(), [name for name, _ in named_delays(net)]
        expected, before = network.run(net, x), dict(net.named_modules())
        parameters = dict(net.named_parameters())
        size = sum(v.nbytes for v in net.state_dict().values() if isinstance(v, Tensor))
        with torch.no_grad():
            in_steps = network.run(net, x)
        report = freeze_delays(net)
        assert report.model is net
        assert {change.layer for change in report.changes} == set(names)
        for _ in range(2):
            assert torch.equal(network.run(net, x), expected)
        with torch.no_grad():
            assert torch.equal(network.run(net, x), in_steps)
        assert sum(v.nbytes for v in net.state_dict().values() if isinstance(v, Tensor)) < size
        assert all(net.get_submodule(name) is module for name, module in before.items())
        left = dict(net.named_parameters())
        assert all(left[name] is parameter for name, parameter in parameters.items() if name in left)
        assert {name for name in parameters if name not in left} == {f"{name}.delay.delays" for name in names}
        kept = snapshot(net, toolkit)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            freeze_delays(net)
        assert any("frozen already" in str(warning.message) for warning in caught)
        assert snapshot(net, toolkit) == kept
        other = self.delayed(network, seed=3, granularity=granularity, interpolation="gauss").eval()
        freeze_delays(other)
        other.load_state_dict(net.state_dict())
        assert torch.equal(network.run(other, x), expected)
        remove_delays(net)
        assert not list(named_delays(net))

    # -------------------------------------------------------------------------------------------- training

    def test_gradients_reach_every_delay(self, network: Network, granularity: Granularity) -> None:
        net = self.delayed(network, granularity=granularity, init=1.5)
        y = network.run(net, network.sample(steps=16, batch=6))
        (y * torch.randn_like(y)).sum().backward()
        for name, delay in named_delays(net):
            grad = delay.delays.grad
            assert grad is not None, f"no gradient reaches the delays of {name}"
            assert grad.isfinite().all(), name
            assert grad.ne(0).float().mean() > 0.1, f"the delays of {name} have hardly any gradient"

    def test_an_optimizer_made_before_trains_on(self, network: Network) -> None:
        net = network.build()
        weights = [p for p in net.parameters() if p.requires_grad and p.dim() > 1]
        before = torch.optim.SGD(net.parameters(), lr=1e-2)
        add_delays(net, MAX_DELAY, example=network.example)
        after = torch.optim.SGD(parameter_groups(net, lr=0.0, delay_lr=0.1))
        delays = [delay.delays for _, delay in named_delays(net)]
        for seed in (1, 2):
            old = [p.detach().clone() for p in (*weights, *delays)]
            y = network.run(net, network.sample(seed=seed))
            for optimizer in (before, after):
                optimizer.zero_grad()
            (y * torch.randn_like(y)).sum().backward()
            for optimizer in (before, after):
                optimizer.step()
            pairs = zip((*weights, *delays), old, strict=True)
            learned = [(now, then) for now, then in pairs if now.grad is not None and now.grad.any()]
            assert not any(torch.equal(now, then) for now, then in learned)
            assert len(learned) > len(delays)
        assert all(((d >= 0) & (d <= MAX_DELAY)).all() for d in delays)

    # ------------------------------------------------------------------------------------------------ state

    def test_carried_chunks_are_one_sequence(self, network: Network, granularity: Granularity) -> None:
        assert network.cut is not None
        net = self.delayed(network, granularity=granularity).eval()
        draw_whole_delays(net)
        x = network.sample(steps=11)
        expected = network.run(net, x)
        for cut in (False, True):
            state, parts = network.start(net), []
            for part in x.split([3, 1, 2, 5]):
                y, state = network.advance(net, part, state)
                state = network.cut(net, state) if cut else state
                parts.append(y)
            self.assert_equal(torch.cat(parts), expected)
        if granularity == "synaptic":
            assert not torch.equal(network.run(net, x[3:]), expected[3:]), "so the state made no difference"

    def test_carried_truncated_backpropagation(self, network: Network) -> None:
        assert network.cut is not None
        net = self.delayed(network, interpolation="gauss", init=2)
        optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
        reached: set[str] = set()
        for _ in range(2):
            state = network.start(net)
            for part in network.sample(steps=12, batch=6).split(4):
                y, state = network.advance(net, part, state)
                optimizer.zero_grad()
                (y * torch.randn_like(y)).sum().backward()
                for name, delay in named_delays(net):
                    assert delay.delays.grad is not None, name
                    reached |= {name} if delay.delays.grad.any() else set()
                optimizer.step()
                state = network.cut(net, state)
        assert reached == set(network.layers), "some delays have no gradient in any part"

    def test_carried_streams_are_the_sequence(self, network: Network) -> None:
        net = self.delayed(network, granularity="axonal" if network.cells else "synaptic").eval()
        freeze_delays(net)
        x, other = network.sample(steps=8), network.sample(steps=8, seed=4)
        with torch.no_grad():
            expected, of_other = network.run(net, x), network.run(net, other)
        toolkit = plugins.toolkit(self.backend)
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

    def test_carried_delays_can_be_reset_and_detached(self, network: Network) -> None:
        net = self.delayed(network)
        network.advance(net, network.sample(), network.start(net))[0].sum().backward()
        memories = [m.delay_memory for m in net.modules() if isinstance(m, Delayed)]
        detach_delays(net)
        assert not any(m.state is not None and m.state.history.requires_grad for m in memories)
        reset_delays(net)
        assert all(m.state is None for m in memories)

    # ----------------------------------------------------------------------------------------- what stays

    def test_what_the_user_holds_stays_valid(self, network: Network) -> None:
        toolkit = plugins.toolkit(self.backend)
        net = network.build()
        before, kinds = snapshot(net, toolkit), {name: (m, type(m)) for name, m in net.named_modules()}
        lengths = {name: len(m) for name, m in net.named_modules() if hasattr(m, "__len__")}
        assert add_delays(net, MAX_DELAY, example=network.example) is net
        after = snapshot(net, toolkit)
        for name, (module, kind) in kinds.items():
            assert net.get_submodule(name) is module
            assert isinstance(module, kind)
        assert before["parameters"].items() <= after["parameters"].items()
        added = {f"{name}.delay.{key}" for name in network.layers for key in ("delays", "sigma")}
        assert set(after["keys"]) == set(before["keys"]) | added
        assert {name: len(m) for name, m in net.named_modules() if hasattr(m, "__len__")} == lengths
        assert before["values"].items() <= after["values"].items()

    def test_twice_is_once(self, network: Network) -> None:
        toolkit = plugins.toolkit(self.backend)
        net = self.delayed(network)
        before = snapshot(net, toolkit)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert add_delays(net, MAX_DELAY + 1, example=network.example) is net
        assert any("delays already" in str(warning.message) for warning in caught)
        assert snapshot(net, toolkit) == before

    def test_removed_is_plain_again(self, network: Network) -> None:
        toolkit = plugins.toolkit(self.backend)
        x = network.sample()
        expected = network.run(network.build().eval(), x)
        for ran in (False, True):
            net = network.build()
            before = snapshot(net, toolkit)
            add_delays(net, MAX_DELAY, example=network.example)
            if ran:
                network.run(net.eval(), x)
                net.train()
            assert remove_delays(net) is net
            after = snapshot(net, toolkit)
            if ran:  # neurons may have made attributes and buffers of their own
                before, after = (
                    {k: s[k] for k in ("types", "hooks", "parameters", "stateful")} for s in (before, after)
                )
            assert after == before
            self.assert_equal(network.run(net.eval(), x), expected)
            assert not list(named_delays(net))
        add_delays(net, MAX_DELAY, example=network.example)
        assert tuple(name for name, _ in named_delays(net)) == network.layers

    def test_checkpoints_load(self, network: Network) -> None:
        plain, net = network.build(seed=1), self.delayed(network, seed=2)
        fractional = {name: delay.delays.detach().clone() for name, delay in named_delays(net)}
        checkpoint = plain.state_dict()
        keys = list(checkpoint)
        loaded = net.load_state_dict(checkpoint)
        assert not loaded.missing_keys
        assert not loaded.unexpected_keys
        assert list(checkpoint) == keys, "the plain checkpoint was changed"
        for name, parameter in plain.named_parameters():
            assert torch.equal(net.get_parameter(name), parameter)
        for name, delay in named_delays(net):
            assert torch.equal(delay.delays, fractional[name])
        other = self.delayed(network, seed=3)
        other.load_state_dict(net.state_dict())
        assert torch.equal(network.run(other.eval(), network.sample()), network.run(net.eval(), network.sample()))

    def test_copies_are_as_good_as_those_of_the_plain_network(self, network: Network) -> None:
        toolkit = plugins.toolkit(self.backend)
        x = network.sample()
        plain, net = network.build().eval(), self.delayed(network, **EXACT).eval()
        with torch.no_grad():
            # Some toolkits reset every neuron there is: each is copied right after its own run.
            got, copied_nets = network.run(net, x), list(copies(net))
            expected, references = network.run(plain, x), [copy.deepcopy(plain) for _ in copied_nets]
            self.assert_equal(got, expected)
            for copied, reference in zip(copied_nets, references, strict=True):
                originals = set(map(id, net.modules()))
                for module in copied.modules():
                    if isinstance(module, Delayed):
                        assert id(module.delay_memory.neuron) not in originals
                for _ in range(2):
                    self.assert_equal(network.run(copied, x), network.run(reference, x))
                remove_delays(copied)
                assert {n: type(m) for n, m in copied.named_modules()} == {n: type(m) for n, m in plain.named_modules()}
                assert snapshot(copied, toolkit)["hooks"] == snapshot(reference, toolkit)["hooks"]
            assert tuple(name for name, _ in named_delays(net)) == network.layers
        assert can_pickle(net) == can_pickle(network.build())

    def test_an_example_leaves_no_trace(self, network: Network) -> None:
        net = network.build()
        torch.manual_seed(3)
        network.run(net, network.sample())  # states and statistics worth keeping
        toolkit = plugins.toolkit(self.backend)
        before, held, random = snapshot(net, toolkit), states(net, toolkit), torch.get_rng_state()

        def example(model: nn.Module) -> None:
            torch.rand(3)
            network.example(model)

        plan_delays(net, example)
        assert snapshot(net, toolkit) == before
        assert torch.equal(torch.get_rng_state(), random)
        add_delays(net, MAX_DELAY, example=example, init=1)
        for key, (value, content) in held.items():
            now = states(net, toolkit)[key][0]
            assert now is value, key
            same = (
                torch.equal(value, content)
                if isinstance(value, Tensor) and isinstance(content, Tensor)
                else value == content
            )
            assert same, key
        assert not any(m.delay_memory.state for m in net.modules() if isinstance(m, Delayed))
        remove_delays(net)
        assert snapshot(net, toolkit) == before

    # ---------------------------------------------------------------------------------------- the benchmark

    def test_the_benchmarks_neuron_is_the_papers(self, tau: float) -> None:
        toolkit = self.benchmark()
        torch.manual_seed(0)
        x = (torch.rand(60, 8, 32) * 1.5).requires_grad_()
        weight = torch.randn(60, 8, 32)
        expected = reference_neuron(x, tau)
        actual = toolkit.run(toolkit.spiking_neuron(tau=tau), x)
        assert torch.equal(actual.detach().round(), expected.detach().round())
        (wanted,) = torch.autograd.grad((expected * weight).sum(), x)
        (got,) = torch.autograd.grad((actual * weight).sum(), x)
        assert (got - wanted).abs().max() < 1e-4 * wanted.abs().max()

    def test_the_benchmarks_readout_is_a_leaky_membrane(self, tau: float) -> None:
        toolkit = self.benchmark()
        x = torch.randn(20, 3, 4)
        v, expected = torch.zeros(3, 4), []
        for x_t in x:
            v = v * (1 - 1 / tau) + x_t
            expected.append(v)
        readout = toolkit.readout_neuron(tau=tau)
        for _ in range(2):  # the second run starts afresh
            torch.testing.assert_close(toolkit.run(readout, x), torch.stack(expected), rtol=1e-4, atol=1e-5)


# --------------------------------------------------------------------------------------------- the oracle


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


def draw_whole_delays(net: nn.Module, seed: int = 5) -> dict[str, Tensor]:
    """Draw integer delays and put them into a delayed network; returned by layer."""
    generator = torch.Generator().manual_seed(seed)
    drawn = {}
    for name, delay in named_delays(net):
        drawn[name] = torch.randint(0, MAX_DELAY + 1, delay.delays.shape, generator=generator).float()
        with torch.no_grad():
            delay.delays.copy_(drawn[name])
    return drawn


def shift_inputs(
    layer: nn.Module, weights: Any, delays: Tensor, granularity: Granularity, sees: Sees, batch: int
) -> None:
    """Make a plain layer compute, with hooks and lists alone, what whole delays should; for one sequence.

    Args:
        layer: what is called.
        weights: what holds the weights: the layer, or a child of it.
        delays: whole steps, as `LearnableDelay` or `ConvDelay` hold them.
        granularity: of the delays.
        sees: what the layer is given in a call.
        batch: samples, to tell the time from them where it is folded.
    """
    past: list[Tensor] = []

    def split(value: Tensor) -> list[Tensor]:
        if sees == "steps":
            return [value]
        if sees == "folded":
            return list(value.unflatten(0, (-1, batch)).unbind(0))
        return list(value.unbind(0 if sees == "sequences" else 1))

    def join(parts: list[Tensor]) -> Tensor:
        if sees == "steps":
            return parts[0]
        if sees == "folded":
            return torch.cat(parts)
        return torch.stack(parts, 0 if sees == "sequences" else 1)

    def hook(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        value = args[0][0] if isinstance(args[0], tuple) else args[0]
        outputs = []
        for x in split(value):
            past.append(x)
            delayed = [past[-1 - d] if d < len(past) else torch.zeros_like(x) for d in range(MAX_DELAY + 1)]
            outputs.append(_at_delays(weights, delayed, delays, granularity))
        return join(outputs)

    layer.register_forward_hook(hook)


def shift_cell(cell: nn.Module, delays: Tensor) -> None:
    """The same for the input (B, C, ...) of a neuron that steps and weighs it itself."""
    past: list[Tensor] = []

    def hook(module: nn.Module, args: Any) -> Any:
        past.append(args[0])
        delayed = [past[-1 - d] if d < len(past) else torch.zeros_like(args[0]) for d in range(MAX_DELAY + 1)]
        channels = delays.view(-1, *(1,) * (args[0].dim() - 2))
        return (sum(((channels == d) * x for d, x in enumerate(delayed)), torch.zeros(())), *args[1:])

    cell.register_forward_pre_hook(hook)


def _at_delays(weights: Any, delayed: list[Tensor], delays: Tensor, granularity: Granularity) -> Tensor:
    """One step of a layer whose synapses see the inputs of their own delays."""
    transposed = getattr(weights, "transposed", False)
    space = weights.weight.dim() - 2
    if granularity != "synaptic":
        outputs_first = (granularity == "dendritic") != transposed  # is this the first dimension of the weight?
        grouped = weights.weight.shape[1] if not outputs_first else weights.weight.shape[0]
        if grouped != delays.numel():  # a convolution in groups: its inputs are spread over the outputs
            return _grouped(weights, delayed, delays, granularity, space)
        shape = (-1, 1) if outputs_first else (1, -1)
        delays = delays.view(*shape, *(1,) * space).expand(weights.weight.shape).unsqueeze(-1)
    total: Tensor | None = None
    for d, x in enumerate(delayed):
        part = _apply(weights, x, weights.weight * (delays.squeeze(-1) == d))
        total = part if total is None else total + part
    assert total is not None
    return total if weights.bias is None else total + weights.bias.view(-1, *(1,) * space)


def _grouped(weights: Any, delayed: list[Tensor], delays: Tensor, granularity: Granularity, space: int) -> Tensor:
    mask = delays.view(-1, *(1,) * space)
    if granularity == "axonal":
        x = sum((x * (mask == d) for d, x in enumerate(delayed)), torch.zeros_like(delayed[0]))
        y = _apply(weights, x, weights.weight)
    else:
        y = sum((_apply(weights, x, weights.weight) * (mask == d) for d, x in enumerate(delayed)), torch.zeros(()))
    return y if weights.bias is None else y + weights.bias.view(-1, *(1,) * space)


def _apply(weights: Any, x: Tensor, weight: Tensor) -> Tensor:
    if weight.dim() == 2:
        return functional.linear(x, weight)
    if not weights.transposed:
        return weights._conv_forward(x, weight, None)  # type: ignore[no-any-return]
    run = (functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d)[weight.dim() - 3]
    places = (weights.stride, weights.padding, weights.output_padding, weights.groups, weights.dilation)
    return run(x, weight, None, *places)


# ------------------------------------------------------------------------------------------- bookkeeping

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_forward_hooks_with_kwargs", "_forward_pre_hooks_with_kwargs")


class _Content(tuple[Any, ...]):
    """The content of a tensor, comparable."""

    def __new__(cls, tensor: Tensor) -> "_Content":
        return super().__new__(cls, (tensor.shape, tensor.dtype, *tensor.detach().flatten().tolist()))


def snapshot(net: nn.Module, toolkit: Toolkit) -> dict[str, Any]:
    """Everything that a user could notice about a module."""
    modules = dict(net.named_modules())
    return {
        "types": {name: type(module) for name, module in modules.items()},
        "keys": list(net.state_dict()),
        "attributes": {name: set(module.__dict__) for name, module in modules.items()},
        "hooks": {(name, h): len(getattr(module, h)) for name, module in modules.items() for h in _HOOKS},
        "parameters": {name: id(parameter) for name, parameter in net.named_parameters()},
        "stateful": {
            name: [child for child in module._modules if containers(toolkit).is_stateful(module, child)]
            for name, module in modules.items()
        },
        "values": {key: _Content(v) for key, v in net.state_dict().items() if isinstance(v, Tensor)},
    }


def states(net: nn.Module, toolkit: Toolkit) -> dict[str, tuple[object, object]]:
    """Every buffer and state on a network: the object, and a copy of its content."""
    kept: dict[str, object] = {f"{n}.{key}": value for n, m in net.named_modules() for key, value in m._buffers.items()}
    for name, module in net.named_modules():
        if toolkit.is_neuron(module):
            kept |= {f"{name}.state {i}": value for i, value in enumerate(toolkit.held_state(module))}
    return {k: (v, v.detach().clone() if isinstance(v, Tensor) else v) for k, v in kept.items()}


def can_pickle(net: nn.Module) -> bool:
    """Whether a network can be pickled."""
    try:
        pickle.dumps(net)
    except Exception:
        return False
    return True


def copies(net: nn.Module) -> Iterator[nn.Module]:
    """The network copied in every way that it can be."""
    yield copy.deepcopy(net)
    if can_pickle(net):
        yield pickle.loads(pickle.dumps(net))
        file = io.BytesIO()
        torch.save(net, file)
        file.seek(0)
        yield torch.load(file, weights_only=False)
