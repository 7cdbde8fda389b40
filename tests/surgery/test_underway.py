"""The user says what the next call goes on from: begin, cut the graph, save and put back, select, one sequence."""

import copy
import io
from collections.abc import Callable
from typing import Any

import norse.torch as norse
import pytest
import snntorch
import torch
from torch import Tensor, nn

import delayplug
from delayplug import ArgumentError, DelayState, add_delays
from tests.surgery.networks import shifted

T, B, D = 10, 3, 2


class Net(nn.Module):
    """Two layers whose neurons get their state; `depth` steps late in all."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(4, 6, bias=False), snntorch.Leaky(beta=0.9)
        self.fc2, self.lif2 = nn.Linear(6, 5, bias=False), snntorch.Leaky(beta=0.8)

    def forward(self, x: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        spikes, first = self.lif1(self.fc1(x), states[0])
        spikes, second = self.lif2(self.fc2(spikes), states[1])
        return spikes, [first, second]


def zeros(batch: int = B) -> list[Tensor]:
    return [torch.zeros(batch, 6), torch.zeros(batch, 5)]


def nets() -> tuple[Net, Net]:
    torch.manual_seed(0)
    plain = Net()
    with torch.no_grad():
        for parameter in (plain.fc1.weight, plain.fc2.weight):
            parameter.mul_(4)
    return add_delays(copy.deepcopy(plain), 4, init=D, interpolation="linear"), plain


def steps(net: nn.Module, x: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    out = []
    for x_t in x:
        spikes, states = net(x_t, states)
        out.append(spikes)
    return torch.stack(out), states


def inputs(batch: int = B, seed: int = 3) -> Tensor:
    return torch.rand(T, batch, 4, generator=torch.Generator().manual_seed(seed))


def whole(plain: nn.Module, x: Tensor) -> Tensor:
    """The right value: nothing at first, then the input through both layers, D steps late in each."""
    expected, _ = steps(plain, shifted(x, 2 * D), zeros(x.shape[1]))
    assert expected.any()
    return expected


def clones(states: list[Tensor]) -> list[Tensor]:
    return [state.clone() for state in states]


def test_reset_begins_a_sequence_whatever_the_state() -> None:
    net, plain = nets()
    x = inputs()
    _, states = steps(net, x, zeros())
    delayplug.reset_delays(net)
    assert set(delayplug.delay_state(net)) == {"fc1", "fc2"}
    assert delayplug.delay_state(net) == {"fc1": None, "fc2": None}
    y, _ = steps(net, x, clones(zeros()))
    assert torch.equal(y, whole(plain, x))
    del states


def test_what_is_under_way_is_the_last_inputs() -> None:
    net, _ = nets()
    x = inputs()
    steps(net, x[:6], zeros())
    state = delayplug.delay_state(net)
    assert torch.equal(state["fc1"].history, x[2:6])
    kept = state["fc1"].history.clone()
    steps(net, x, zeros())
    assert torch.equal(state["fc1"].history, kept)


def through_a_file(state: dict[str, DelayState | None]) -> Any:
    file = io.BytesIO()
    torch.save({name: part.detach() for name, part in state.items()}, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("kept", [lambda state: state, copy.deepcopy, through_a_file], ids=["same", "copy", "file"])
def test_states_are_saved_and_put_back(kept: Callable[[Any], Any]) -> None:
    net, plain = nets()
    x = inputs()
    with torch.no_grad():
        first, states = steps(net, x[:5], zeros())
        saved, mems = kept(delayplug.delay_state(net)), clones(states)
        steps(net, inputs(seed=9), zeros())
        for model in (net, copy.deepcopy(net)):
            delayplug.set_delay_state(model, saved)
            second, _ = steps(model, x[5:], mems)
            assert torch.equal(torch.cat([first, second]), whole(plain, x))


def test_none_begins_in_the_layers_that_it_is_for() -> None:
    net, _ = nets()
    x = inputs()
    _, states = steps(net, x, zeros())
    state = delayplug.delay_state(net)
    delayplug.set_delay_state(net, {**state, "fc2": None})
    net(x[0], states)
    after = delayplug.delay_state(net)
    assert torch.equal(after["fc1"].history, torch.cat([x[-3:], x[:1]]))
    assert not after["fc2"].history[:-1].any()
    assert state["fc2"].history[1:].any()


@pytest.mark.parametrize(
    ("index", "new"),
    [
        (slice(1, 3), 0),
        (torch.tensor([2, 0]), 0),
        ([1, 1, 0, -1], 0),
        (torch.tensor([True, False, True]), 0),
        (slice(None), 2),
        ([2], 1),
    ],
)
def test_the_batch_is_cut_permuted_repeated_and_grown(index: Any, new: int) -> None:
    net, plain = nets()
    x = inputs()
    with torch.no_grad():
        _, states = steps(net, x[:5], zeros())
        picked = [torch.cat([state[index], state.new_zeros(new, *state.shape[1:])]) for state in states]
        delayplug.select_delays(net, index, new=new)
        later = torch.cat([x[5:, index], inputs(new, seed=8)[5:]], 1)
        y, _ = steps(net, later, picked)
        earlier = torch.cat([x[:5, index], x.new_zeros(5, new, 4)], 1)
        assert torch.equal(y, whole(plain, torch.cat([earlier, later]))[5:])


def test_one_sequence_whatever_happens_to_the_states() -> None:
    net, plain = nets()
    x = inputs()
    with torch.no_grad():
        steps(net, x, zeros())
        with delayplug.new_sequence(net):
            states, out = zeros(), []
            for x_t in x:
                spikes, states = net(x_t, clones(states))
                out.append(spikes)
        assert torch.equal(torch.stack(out), whole(plain, x))
        with delayplug.new_sequence(net):
            net(x[0], clones(states))
        y, _ = steps(net, x, zeros())
        assert torch.equal(y, whole(plain, x))


def test_the_batch_is_selected_within_one_sequence() -> None:
    net, plain = nets()
    x, order = inputs(), [2, 1, 0]
    with torch.no_grad(), delayplug.new_sequence(net):
        _, states = steps(net, x[:5], zeros())
        delayplug.select_delays(net, order)
        y, _ = steps(net, x[5:, order], [state[order] for state in states])
    assert torch.equal(y, whole(plain, x)[5:, order])


def test_what_is_under_way_is_cut_off_from_the_graph() -> None:
    net, _ = nets()
    x = inputs().requires_grad_()
    _, states = steps(net, x, zeros())
    assert delayplug.delay_state(net)["fc1"].history.requires_grad
    delayplug.detach_delays(net)
    assert not delayplug.delay_state(net)["fc1"].history.requires_grad
    late = torch.rand(4, B, 4)
    steps(net, late, [state.detach() for state in states])[1][1].sum().backward()
    assert x.grad is None
    assert net.fc1.weight.grad.any()


def test_a_state_that_was_put_back_with_its_graph_is_cut_where_the_neurons_is() -> None:
    net, _ = nets()
    x = inputs().requires_grad_()
    for cut in (False, True):
        x.grad = None
        _, states = steps(net, x[:5], zeros())
        delayplug.set_delay_state(net, delayplug.delay_state(net))
        states = [state.detach() if cut else state for state in states]
        steps(net, x[5:].detach(), states)[1][1].sum().backward()
        assert (x.grad is not None) is not cut


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda state: {"fc1": state["fc1"]}, "fc1, fc2"),
        (lambda state: None, "NoneType"),
        (lambda state: [state], "list"),
        (lambda state: {**state, "fc3": None}, "fc3"),
        (lambda state: {**state, "fc2": state["fc2"].history}, "a DelayState or None"),
        (lambda state: {**state, "fc2": DelayState(state["fc2"].history[:2])}, "last 4 inputs"),
    ],
)
def test_what_is_no_state_of_the_model_changes_nothing(change: Callable[[Any], Any], expected: str) -> None:
    net, plain = nets()
    x = inputs()
    first, states = steps(net, x[:5], zeros())
    with pytest.raises(ArgumentError, match=expected):
        delayplug.set_delay_state(net, change(delayplug.delay_state(net)))
    second, _ = steps(net, x[5:], states)
    assert torch.equal(torch.cat([first, second]), whole(plain, x))


@pytest.mark.parametrize(
    "index", [[3], [-4], [0.5], torch.tensor([True, False]), torch.tensor([[0]]), "all", [0, "one"], None]
)
def test_an_index_that_does_not_fit_changes_nothing(index: Any) -> None:
    net, plain = nets()
    x = inputs()
    first, states = steps(net, x[:5], zeros())
    with pytest.raises(ArgumentError, match="index"):
        delayplug.select_delays(net, index)
    second, _ = steps(net, x[5:], states)
    assert torch.equal(torch.cat([first, second]), whole(plain, x))


def test_a_number_of_new_samples_that_is_none_changes_nothing() -> None:
    net, _ = nets()
    steps(net, inputs(), zeros())
    before = delayplug.delay_state(net)
    with pytest.raises(ArgumentError, match="count"):
        delayplug.select_delays(net, slice(None), new=-1)
    assert torch.equal(delayplug.delay_state(net)["fc1"].history, before["fc1"].history)


def test_nobody_is_left_is_a_batch_of_none() -> None:
    net, _ = nets()
    _, states = steps(net, inputs(), zeros())
    delayplug.select_delays(net, [])
    y, _ = net(torch.zeros(0, 4), [state[:0] for state in states])
    assert y.shape == (0, 5)


def test_states_that_the_caller_has_are_not_here() -> None:
    net = norse.SequentialState(nn.Linear(4, 6), norse.LIFCell())
    add_delays(net, 3)
    net(torch.rand(2, 4))
    assert delayplug.delay_state(net) == {}
    delayplug.reset_delays(net)
    delayplug.select_delays(net, [5])
    delayplug.set_delay_state(net, {})
    with pytest.raises(ArgumentError, match="no layer"):
        delayplug.set_delay_state(net, {"0": None})


@pytest.mark.parametrize("what", [delayplug.reset_delays, delayplug.delay_state, delayplug.detach_delays])
def test_what_is_no_model_is_told(what: Callable[[Any], Any]) -> None:
    with pytest.raises(ArgumentError, match=r"torch\.nn\.Module"):
        what("no model")


def test_samples_of_a_batch_of_several_dimensions_are_refused() -> None:
    """Delays per channel have all of its dimensions in one, so that the samples of the first are not theirs."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.lif = nn.Linear(3, 4), snntorch.Leaky(beta=0.9)

        def forward(self, x: torch.Tensor, mem: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            spikes, mem = self.lif(self.fc(x), mem)
            return spikes, mem

    torch.manual_seed(0)
    x = torch.rand(4, 2, 5, 3)
    net = Net()
    plain = copy.deepcopy(net)
    example = (x[0], torch.zeros(2, 5, 4))
    delayplug.add_delays(net, 3, example=example, granularity="axonal", init=1, interpolation="linear")
    mem, expected = torch.zeros(2, 5, 4), torch.zeros(2, 5, 4)
    for x_t, before in zip(x, [torch.zeros_like(x[0]), *x[:-1]], strict=True):
        (_, mem), (_, expected) = net(x_t, mem), plain(before, expected)
    torch.testing.assert_close(mem, expected)
    with pytest.raises(delayplug.ArgumentError, match="several in one"):
        delayplug.select_delays(net, [1, 0])
    with pytest.raises(delayplug.SequenceError, match="several dimensions"):
        net(x[0, :1], mem[:1])


def test_a_state_that_was_saved_on_another_device() -> None:
    net = add_delays(nn.Sequential(nn.Linear(4, 4), snntorch.Leaky(beta=0.9, init_hidden=True)), 3).eval()
    x = inputs(2)
    with torch.no_grad():
        expected = [net(x_t) for x_t in x]
        net[1].reset_mem()
        for x_t in x[:4]:
            net(x_t)
        elsewhere = {name: part and DelayState(part.history.cpu()) for name, part in delayplug.delay_state(net).items()}
        delayplug.set_delay_state(net, elsewhere)
        for x_t, y in zip(x[4:], expected[4:], strict=True):
            assert torch.equal(net(x_t), y)
