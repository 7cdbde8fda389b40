"""The memory of a delay inside of its neuron: of its own input, or of weights that it calls itself."""

import copy
from typing import Any

import pytest
import snntorch
import torch
from torch import Tensor, nn

import delayplug
from delayplug import SequenceError, add_delays, named_delays
from delayplug.surgery.inner import InnerMemory
from tests.surgery.networks import shifted

T, B, I, D = 10, 3, 5, 2  # noqa: E741


class Cell(nn.Module):
    """A cell with weights of its own, which is passed its state."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = snntorch.SLSTM(I, I, threshold=0.05)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        spikes, syn, mem = self.cell(x, *state)
        return spikes, (syn, mem)


def cells() -> tuple[Cell, Cell]:
    torch.manual_seed(0)
    plain = Cell()
    net = add_delays(copy.deepcopy(plain), 4, granularity="axonal", init=D, interpolation="linear")
    assert isinstance(net.cell.delay_memory, InnerMemory)
    return net, plain


def zeros() -> tuple[Tensor, Tensor]:
    return torch.zeros(B, I), torch.zeros(B, I)


def steps(net: nn.Module, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    out = []
    for x_t in x:
        y, state = net(x_t, state)
        out.append(y)
    return torch.stack(out), state


def inputs(seed: int) -> Tensor:
    return torch.rand(T, B, I, generator=torch.Generator().manual_seed(seed)) * 3


@pytest.mark.parametrize("grad", [True, False])
def test_streams_in_turns_with_their_states(grad: bool) -> None:
    net, plain = cells()
    streams, states, out = [inputs(1), inputs(2)], [zeros(), zeros()], [[], []]
    with torch.set_grad_enabled(grad):
        for t in range(T):
            for i, x in enumerate(streams):
                y, states[i] = net(x[t], states[i])
                out[i].append(y)
        for i, x in enumerate(streams):
            expected, _ = steps(plain, shifted(x, D), zeros())
            assert expected.any()
            torch.testing.assert_close(torch.stack(out[i]), expected)


def test_slices_go_on_and_copies_are_refused_with_a_way_out() -> None:
    net, plain = cells()
    x = inputs(1)
    with torch.no_grad():
        expected, _ = steps(plain, shifted(x, D), zeros())
        first, (syn, mem) = steps(net, x[:4], zeros())
        under_way = delayplug.delay_state(net)
        y, _ = steps(net, x[4:, :2], (syn[:2], mem[:2]))
        assert torch.equal(torch.cat([first[:, :2], y]), expected[:, :2])
        copies = syn.clone(), mem.clone()
        with pytest.raises(SequenceError, match=r"reset_delays.*set_delay_state"):
            net(x[4], copies)
        delayplug.set_delay_state(net, under_way)
        y, _ = steps(net, x[4:], copies)
        assert torch.equal(torch.cat([first, y]), expected)


def test_a_sequence_begins_without_a_word_from_zeros_of_the_user_s() -> None:
    net, plain = cells()
    for seed in range(3):
        expected, _ = steps(plain, shifted(inputs(seed), D), zeros())
        torch.testing.assert_close(steps(net, inputs(seed), zeros())[0], expected)


class Recurrent(nn.Module):
    """The neuron feeds its spikes back through a layer, which it calls twice a step where it resets to zero."""

    def __init__(self, mechanism: str) -> None:
        super().__init__()
        self.fc = nn.Linear(I, 6)
        self.node = snntorch.RLeaky(beta=0.8, linear_features=6, reset_mechanism=mechanism, threshold=0.3)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        spikes, mem = self.node(self.fc(x), *state)
        return spikes, (spikes, mem)


@pytest.mark.parametrize("mechanism", ["zero", "subtract"])
def test_recurrent_delays_of_streams_in_turns(mechanism: str) -> None:
    torch.manual_seed(0)
    net = add_delays(Recurrent(mechanism), 4, recurrent=True, init=D, interpolation="linear")
    assert [name for name, _ in named_delays(net)] == ["fc", "node.recurrent"]

    def start() -> tuple[Tensor, Tensor]:
        return torch.zeros(B, 6), torch.zeros(B, 6)

    streams = [inputs(1), inputs(2)]
    with torch.no_grad():
        alone = [steps(copy.deepcopy(net), x, start())[0] for x in streams]
        states, out = [start(), start()], [[], []]
        for t in range(T):
            for i, x in enumerate(streams):
                y, states[i] = net(x[t], states[i])
                out[i].append(y)
        for i in range(2):
            assert torch.equal(torch.stack(out[i]), alone[i])
        late = copy.deepcopy(net)
        late.node.recurrent.delay.delays.zero_()
        assert not torch.equal(steps(late, streams[0], start())[0], alone[0])


def test_a_state_carried_by_somebody_else_and_put_back() -> None:
    net, _ = cells()
    memory, x = net.cell.delay_memory, inputs(1)
    with torch.no_grad():
        _, state = steps(net, x[:4], zeros())
        before = memory.snapshot()
        with memory.carry(None):
            net(x[0], zeros())
            carried = memory.state
        assert torch.equal(carried.history[-1], x[0])
        assert not carried.history[:-1].any()
        assert memory.snapshot() is before
        net(x[4], state)
        assert torch.equal(memory.state.history, x[1:5])
