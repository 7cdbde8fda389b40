"""The laws that an adapter must keep, as a test class."""

import copy
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from ..deploy.freeze import freeze_delays
from ..learning.schedules import parameter_groups
from ..surgery.apply import add_delays, remove_delays
from ..surgery.delayed import Delayed
from ..surgery.find import named_delays
from ..surgery.inventory import Network as Inventory
from ..surgery.plan import plan_delays
from ..surgery.underway import detach_delays, reset_delays
from ..toolkits.capabilities import containers, own_weights
from ..toolkits.states import tensors_in
from ..toolkits.vocabulary import Granularity, Mode
from .capability_laws import CapabilityLaws
from .networks import Network
from .oracle import MAX_DELAY, draw_whole_delays, shift_cell, shift_inputs
from .sequence_laws import SequenceLaws
from .snapshots import can_pickle, copies, is_same, snapshot, states

EXACT: dict[str, Any] = {"init": 0, "interpolation": "linear"}


class Laws(SequenceLaws, CapabilityLaws):
    """The laws, as a test class for pytest: subclass it and give it a backend and networks.

    Attributes:
        backend: name of the backend.
        networks: networks of its toolkit, at least one for each way of keeping time and state that it has.
        tolerance: absolute and relative, for outputs that should be equal.
    """

    # ----------------------------------------------------------------------------------------------- wiring

    def test_an_example_shows_the_wiring(self, network: Network) -> None:
        plan = plan_delays(network.build(), network.example)
        assert plan.backend == self.backend
        assert tuple(c.layer for c in plan.connections) == network.layers, str(plan)
        modules = dict(network.build().named_modules())
        toolkit = self.toolkit
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

    def test_a_readout_gives_no_spikes(self, network: Network) -> None:
        net = network.build()
        inventory = Inventory(net, self.toolkit)
        given: dict[str, list[Tensor]] = {name: [] for name in inventory.neurons}
        for name, neuron in inventory.neurons.items():
            neuron.register_forward_hook(lambda _, args, out, name=name: given[name].extend(tensors_in(out)[:1]))
        network.run(net, network.sample(steps=16))
        for name, outputs in given.items():
            values = torch.cat([out.detach().flatten() for out in outputs]) if outputs else torch.zeros(0)
            if inventory.is_readout(name) and bool(values.any()):
                # Spikes are a few values, all of them often; a membrane hardly ever has the same value twice.
                assert values.unique().numel() > 0.1 * values.numel(), f"{name} gives spikes"
        for c in plan_delays(net, network.example).connections:
            assert not inventory.is_readout(c.neuron), c

    # ------------------------------------------------------------------------------------- what is computed

    def test_zero_delay_is_the_plain_network(self, network: Network, granularity: Granularity, training: bool) -> None:
        plain = network.build().train(training)
        net = self.delayed(network, granularity=granularity, **EXACT).train(training)
        names, cells = set(network.layers), set(network.cells)
        of_kind = {Granularity.AXONAL: names | cells, Granularity.DENDRITIC: names - cells}
        assert {name for name, _ in named_delays(net)} == of_kind.get(granularity, names)
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
        toolkit = self.toolkit
        for name, delays in draw_whole_delays(net).items():
            layer: Any = plain.get_submodule(name)
            weights = layer.get_submodule(containers(toolkit).lifted(layer))  # "": the layer itself
            if toolkit.is_neuron(layer):
                whole = toolkit.mode(layer) is Mode.SEQUENCE
                shift_cell(layer, delays, own_weights(toolkit).input_weights(layer), takes_sequences=whole)
            else:
                shift_inputs(layer, weights, delays, granularity, network.sees_of(name), batch=x.shape[1])
        got = network.run(net, x)
        self.assert_equal(got, network.run(plain, x))
        assert not torch.allclose(got, undelayed, atol=1e-3), "the delays of this test make no difference"

    def test_each_sequence_starts_fresh(self, network: Network) -> None:
        net = self.delayed(network).eval()
        draw_whole_delays(net)
        x = network.sample()
        louder = torch.ones_like(x)
        first = network.run(net, x)
        network.run(net, louder)
        assert torch.equal(network.run(net, x), first)
        network.run(net, louder[:2, :1].expand(2, 5, *x.shape[2:]))
        assert torch.equal(network.run(net, x), first)
        with torch.no_grad():  # where steps may be event-driven, and sums are made in another order
            silent = network.run(net, x)
            self.assert_equal(silent, first)
            network.run(net, louder[:1])
            assert torch.equal(network.run(net, x), silent)

    def test_frozen_delays_compute_what_eval_does(self, network: Network, granularity: Granularity) -> None:
        net = self.delayed(network, granularity=granularity, interpolation="gauss").eval()
        x, names = network.sample(), [name for name, _ in named_delays(net)]
        expected, before = network.run(net, x), dict(net.named_modules())
        parameters = snapshot(net, self.toolkit)["parameters"]
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
        frozen = snapshot(net, self.toolkit)
        for name in names:
            del parameters[f"{name}.delay.delays"]
        assert frozen["parameters"] == parameters
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            freeze_delays(net)
        assert any("frozen already" in str(warning.message) for warning in caught)
        assert snapshot(net, self.toolkit) == frozen
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
            changed = [not torch.equal(now, then) for now, then in pairs if now.grad is not None and now.grad.any()]
            assert all(changed)
            assert len(changed) > len(delays)
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
        net = network.build()
        before, kinds = snapshot(net, self.toolkit), {name: (m, type(m)) for name, m in net.named_modules()}
        lengths = {name: len(m) for name, m in net.named_modules() if hasattr(m, "__len__")}
        assert add_delays(net, MAX_DELAY, example=network.example) is net
        after = snapshot(net, self.toolkit)
        for name, (module, kind) in kinds.items():
            assert net.get_submodule(name) is module
            assert isinstance(module, kind)
        assert before["parameters"].items() <= after["parameters"].items()
        added = {f"{name}.delay.{key}" for name in network.layers for key in ("delays", "sigma")}
        assert set(after["keys"]) == set(before["keys"]) | added
        assert {name: len(m) for name, m in net.named_modules() if hasattr(m, "__len__")} == lengths
        assert before["values"].items() <= after["values"].items()

    def test_twice_is_once(self, network: Network) -> None:
        net = self.delayed(network)
        before = snapshot(net, self.toolkit)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert add_delays(net, MAX_DELAY + 1, example=network.example) is net
        assert any("delays already" in str(warning.message) for warning in caught)
        assert snapshot(net, self.toolkit) == before

    def test_removed_is_plain_again(self, network: Network) -> None:
        x = network.sample()
        expected = network.run(network.build().eval(), x)
        for ran in (False, True):
            net = network.build()
            before = snapshot(net, self.toolkit)
            add_delays(net, MAX_DELAY, example=network.example)
            if ran:
                network.run(net.eval(), x)
                net.train()
            assert remove_delays(net) is net
            after = snapshot(net, self.toolkit)
            # Neurons that ran may have made attributes and buffers of their own.
            unchanged = ("types", "hooks", "parameters", "stateful") if ran else before
            for key in unchanged:
                assert after[key] == before[key], key
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
                assert snapshot(copied, self.toolkit)["hooks"] == snapshot(reference, self.toolkit)["hooks"]
            assert tuple(name for name, _ in named_delays(net)) == network.layers
        assert can_pickle(net) == can_pickle(network.build())

    def test_an_example_leaves_no_trace(self, network: Network) -> None:
        net = network.build()
        torch.manual_seed(3)
        network.run(net, network.sample())  # states and statistics worth keeping
        before, held, random = snapshot(net, self.toolkit), states(net, self.toolkit), torch.get_rng_state()

        def example(model: nn.Module) -> None:
            torch.rand(3)
            network.example(model)

        plan_delays(net, example)
        assert snapshot(net, self.toolkit) == before
        assert torch.equal(torch.get_rng_state(), random)
        add_delays(net, MAX_DELAY, example=example, init=1)
        for key, (value, content) in held.items():
            assert states(net, self.toolkit)[key][0] is value, key
            assert is_same(value, content), key
        assert not any(m.delay_memory.state for m in net.modules() if isinstance(m, Delayed))
        remove_delays(net)
        assert snapshot(net, self.toolkit) == before
