"""The laws of sequences: what is under way in a delay belongs to the state from which a call goes on, or is refused."""

import contextlib
import copy
import unittest
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..errors import SequenceError
from ..layers.state import DelayState
from ..surgery.delayed import Delayed, StatefulDelayed
from ..surgery.underway import delay_state, reset_delays, select_delays, set_delay_state
from ..toolkits.capabilities import Streams, streams
from ..toolkits.states import mapped, with_own_containers
from .cases import Cases
from .networks import Network
from .oracle import draw_whole_delays


class Carried(NamedTuple):
    """All that a sequence goes on from.

    state: the user's.
    kept: what the modules keep on themselves, by their names.
    """

    state: Any
    kept: dict[str, dict[str, Any]]

    def map(self, change: Callable[[Any], Any]) -> "Carried":
        """The same with other tensors and delay states."""
        return Carried(mapped(self.state, change), mapped(self.kept, change))


class SequenceLaws(Cases):
    """Where a sequence begins, and what it goes on from."""

    # ------------------------------------------------------------------------------------- what must go on

    def test_carried_streams_in_turns_are_each_by_itself(self, network: Network) -> None:
        net = self._with_whole_delays(network)
        samples = [network.sample(steps=8, batch=batch, seed=seed) for batch, seed in ((3, 1), (3, 4), (2, 5))]
        expected = [network.run(net, x) for x in samples]
        for detached in (False, True):
            carried = [self._begin(network, net) for _ in samples]
            got: list[list[Tensor]] = [[] for _ in samples]
            for start, stop in ((0, 3), (3, 4), (4, 8)):
                for i, x in enumerate(samples):
                    y, carried[i] = self._go_on(network, net, x[start:stop], carried[i])
                    got[i].append(y)
                    if detached:
                        carried[i] = carried[i].map(_detached)
            for parts, wanted in zip(got, expected, strict=True):
                self.assert_equal(torch.cat(parts), wanted)

    def test_carried_states_put_aside_are_gone_on_from_later(self, network: Network) -> None:
        net, x = self._with_whole_delays(network), network.sample(steps=8)
        expected = network.run(net, x)
        _, aside = self._go_on(network, net, x[:3], self._begin(network, net))
        y, end = self._go_on(network, net, x[3:], aside)
        self.assert_equal(y, expected[3:])
        network.run(net, torch.ones_like(x))
        for _ in range(2):
            self.assert_equal(self._go_on(network, net, x[3:], aside)[0], expected[3:])
        after = self._go_on(network, net, x, end)[0]
        self.assert_equal(after, network.run(net, torch.cat((x, x)))[8:])

    def test_carried_slices_of_a_batch_go_on(self, network: Network) -> None:
        net, x = self._with_whole_delays(network), network.sample(steps=8, batch=4)
        expected = network.run(net, x)
        for samples in (slice(0, 3), slice(1, 4), slice(0, 4, 2)):
            _, carried = self._go_on(network, net, x[:4], self._begin(network, net))
            cut = carried.map(_selected(samples, batch=4))
            self.assert_equal(self._go_on(network, net, x[4:, samples], cut)[0], expected[4:, samples])

    def test_carried_deep_copies_in_the_middle_go_on(self, network: Network) -> None:
        net, x = self._with_whole_delays(network), network.sample(steps=8)
        with torch.no_grad():
            expected = network.run(net, x)
            _, state = network.advance(net, x[:4], network.start(net))
            copied = copy.deepcopy(net)
            for model in (net, copied):
                y, _ = network.advance(model, x[4:], with_own_containers(state))
                self.assert_equal(y, expected[4:])
            self.assert_equal(network.run(net, x), expected)

    # ---------------------------------------------------------------------------------- what the user says

    def test_carried_any_state_begins_after_a_reset_of_the_delays(self, network: Network) -> None:
        net, x = self._with_whole_delays(network), network.sample(steps=8)
        self._skip_if_the_caller_has_the_delays(net)
        _, carried = self._go_on(network, net, x[:4], self._begin(network, net))
        copied = carried.map(_cloned)
        other = self._with_whole_delays(network)  # which has nothing under way, and has seen no state
        self._begin(network, other)
        expected, _ = self._go_on(network, other, x[4:], copied.map(_cloned))
        for state in (carried, copied):
            network.run(net, torch.ones_like(x))
            reset_delays(net)
            self.assert_equal(self._go_on(network, net, x[4:], state)[0], expected)

    def test_carried_delay_states_are_put_back(self, network: Network) -> None:
        net, x = self._with_whole_delays(network), network.sample(steps=8)
        self._skip_if_the_caller_has_the_delays(net)
        expected = network.run(net, x)
        _, carried = self._go_on(network, net, x[:4], self._begin(network, net))
        under_way, copied = delay_state(net), carried.map(_cloned)
        self._go_on(network, net, x[4:], carried)
        network.run(net, torch.ones_like(x))
        for _ in range(2):
            set_delay_state(net, under_way)
            self.assert_equal(self._go_on(network, net, x[4:], copied.map(_cloned))[0], expected[4:])

    def test_carried_batches_are_selected(self, network: Network) -> None:
        net, x = self._with_whole_delays(network), network.sample(steps=8, batch=4)
        self._skip_if_the_caller_has_the_delays(net)
        expected = network.run(net, x)
        for index in (torch.tensor([2, 0, 3, 1]), torch.tensor([1, 3]), torch.tensor([0, 0, 1, 2, 3])):
            _, carried = self._go_on(network, net, x[:4], self._begin(network, net))
            select_delays(net, index)
            selected = carried.map(_selected(index, batch=4))
            self.assert_equal(self._go_on(network, net, x[4:, index], selected)[0], expected[4:, index])

    # ------------------------------------------------------------------------------ right or refused, never wrong

    def test_carried_copies_are_never_wrong(self, network: Network) -> None:
        net, x = self._with_whole_delays(network), network.sample(steps=8, batch=4)
        expected = network.run(net, x)
        for index in (torch.arange(4), torch.tensor([2, 0, 3, 1]), torch.tensor([1, 3])):
            _, carried = self._go_on(network, net, x[:4], self._begin(network, net))
            changed = carried.map(_selected(index, batch=4))
            with contextlib.suppress(SequenceError):
                y, _ = self._go_on(network, net, x[4:, index], changed)
                self.assert_equal(y, expected[4:, index])
            reset_delays(net)
            self.assert_equal(network.run(net, x), expected)

    # ----------------------------------------------------------------------------------- what the toolkit says

    def test_a_fresh_state_is_told_from_one_that_was_left(self, network: Network) -> None:
        net, x = network.build().eval(), network.sample()
        seen: dict[nn.Module, list[Tensor | bool | None]] = {}

        def look(neuron: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            passed = self.toolkit.passed_state(neuron, args, kwargs)
            values = self.toolkit.held_state(neuron) if passed is None else passed
            state = tuple(value for value in values if isinstance(value, Tensor) and value.numel())
            answers = seen.setdefault(neuron, [])
            if state or answers:  # without a state the toolkit makes a fresh one within the call
                answers.append(self.toolkit.is_fresh(neuron, state) if state else None)
            else:
                answers.append(None)

        handles = [
            module.register_forward_pre_hook(look, with_kwargs=True)
            for module in net.modules()
            if self.toolkit.is_neuron(module)
        ]
        for _ in range(2):
            seen.clear()
            network.run(net, x)
            for neuron, (first, *later) in seen.items():
                name = type(neuron).__name__
                assert first is None or bool(first), f"{name}: its first state is not said to be fresh"
                told = [answer for answer in later if answer is not None]
                assert not told or not all(map(bool, told)), f"{name}: the states that it left are said to be fresh"
        for handle in handles:
            handle.remove()

    def test_carried_resets_by_methods_begin_a_sequence(self, network: Network) -> None:
        x, plain = network.sample(), network.build().eval()
        expected = network.run(plain, x)
        if not self._reset_by_methods(plain) or network.start(plain) is not None:
            raise unittest.SkipTest("its neurons are not reset by methods of theirs")
        network.run(plain, x)
        self._reset_by_methods(plain)
        if not torch.equal(network.advance(plain, x, None)[0], expected):
            raise unittest.SkipTest("the network has a state beside that of its neurons")
        net = self._with_whole_delays(network)
        expected = network.run(net, x)
        for steps in (2, 5):
            network.run(net, torch.ones_like(x[:steps]))
            self._reset_by_methods(net)
            self.assert_equal(network.advance(net, x, None)[0], expected)

    # --------------------------------------------------------------------------------------------- helpers

    def _with_whole_delays(self, network: Network) -> nn.Module:
        net = self.delayed(network).eval()
        draw_whole_delays(net)
        return net

    def _begin(self, network: Network, net: nn.Module) -> Carried:
        return self._carried(net, network.start(net))

    def _go_on(self, network: Network, net: nn.Module, x: Tensor, carried: Carried) -> tuple[Tensor, Carried]:
        """A part of a sequence, from what it carries to what it carries then."""
        toolkit = streams(self.toolkit)
        for name, kept in carried.kept.items():
            toolkit.put_state(net.get_submodule(name), dict(kept))
        y, state = network.advance(net, x, with_own_containers(carried.state))
        return y, self._carried(net, state)

    def _carried(self, net: nn.Module, state: Any) -> Carried:
        toolkit = streams(self.toolkit)
        neurons = [module for module in net.modules() if self.toolkit.is_neuron(module)]
        if any(map(self.toolkit.held_state, neurons)):
            self.skip_without(Streams)  # which takes it out
        return Carried(state, {n: dict(kept) for n, m in net.named_modules() if (kept := toolkit.kept_state(m))})

    def _reset_by_methods(self, net: nn.Module) -> bool:
        """Reset all neurons by methods of their own; False if not all of them have one."""
        toolkit = streams(self.toolkit)
        all_have = True
        for module in net.modules():
            if not self.toolkit.is_neuron(module):
                toolkit.reset(module)
                continue
            methods = toolkit.reset_methods(module)
            all_have = all_have and bool(methods)
            for method in methods:
                getattr(module, method)()
        return all_have

    def _skip_if_the_caller_has_the_delays(self, net: nn.Module) -> None:
        if any(isinstance(module, StatefulDelayed) for module in net.modules()):
            raise unittest.SkipTest("the state of its delays is the caller's")
        assert any(isinstance(module, Delayed) for module in net.modules())


def _detached(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor | DelayState) else value


def _cloned(value: Any) -> Any:
    return DelayState(value.history.clone()) if isinstance(value, DelayState) else _tensor(value, Tensor.clone)


def _selected(index: slice | Tensor, batch: int) -> Callable[[Any], Any]:
    """What takes these samples of every part of a state."""

    def select(value: Any) -> Any:
        if isinstance(value, DelayState):
            return value.select(index)
        return _tensor(value, lambda t: t[index] if t.dim() and t.shape[0] == batch else t)

    return select


def _tensor(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    return change(value) if isinstance(value, Tensor) else value
