"""Ways to drive a network that public bug reports of the toolkits tell of, one test per kind.

The right value is that of the plain network with its input moved by the delay, each stream and sequence for itself.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import norse.torch as norse
import pytest
import snntorch
import torch
from spikingjelly.activation_based import base, functional, layer, neuron, rnn
from spikingjelly.activation_based.functional.conv_bn_fusion import fuse_conv_bn_eval_modules
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils.checkpoint import checkpoint

import delayplug
from delayplug import SequenceError, add_delays
from tests.surgery.networks import shifted

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:snntorch")

T, B, I, O, D = 14, 4, 6, 8, 2  # noqa: E741


def spikes(seed: int = 0, batch: int = B) -> Tensor:
    return (torch.rand(T, batch, I, generator=torch.Generator().manual_seed(seed)) < 0.4).float()


def delayed(make: Callable[[], nn.Module], gain: float = 5.0, **options: Any) -> tuple[nn.Module, nn.Module]:
    """A network with delays of D steps everywhere, and the same without."""
    torch.manual_seed(1)
    plain = make()
    with torch.no_grad():
        for parameter in plain.parameters():
            if parameter.dim() > 1:
                parameter.mul_(gain)
    return add_delays(copy.deepcopy(plain), 5, init=D, interpolation="linear", **options), plain


@contextmanager
def refused() -> Iterator[None]:
    with pytest.raises(SequenceError, match=r"reset_delays.*select_delays.*set_delay_state.*new_sequence"):
        yield


def same(y: Tensor, expected: Tensor) -> None:
    assert expected.any()
    torch.testing.assert_close(y, expected)


def norse_cell() -> nn.Module:
    return norse.LIFBoxCell(norse.LIFBoxParameters(tau_mem_inv=torch.tensor(400.0)))


class Step(nn.Module):
    """One step of a layer and a neuron whose state is passed, under whatever name its parts have."""

    def __init__(self, node: nn.Module, norm: bool = False) -> None:
        super().__init__()
        self.fc, self.norm, self.node = nn.Linear(I, O), nn.LayerNorm(O) if norm else nn.Identity(), node

    def forward(self, x: Tensor, *state: Any) -> tuple[Tensor, Any]:
        out, *state = self.node(self.norm(self.fc(x)), *state)
        return out, state


class Over(nn.Module):
    """A whole sequence from a start."""

    def __init__(self, node: nn.Module, start: Callable[[Tensor], Any], norm: bool = False) -> None:
        super().__init__()
        self.cell, self.start = Step(node, norm), start

    def forward(self, x: Tensor) -> Tensor:
        state, out = self.start(x[0]), []
        for x_t in x:
            spikes, state = self.cell(x_t, *state)
            out.append(spikes)
        return torch.stack(out)


def run(net: nn.Module, x: Tensor) -> Tensor:
    """A network with held states over a sequence or a part of one, whatever its mode."""
    node = next((m for m in net.modules() if isinstance(m, neuron.BaseNode)), None)
    return net(x) if node is not None and node.step_mode == "m" else torch.stack([net(x_t) for x_t in x])


def jelly(node: Callable[[], nn.Module] = neuron.LIFNode, mode: str = "s", depth: int = 1) -> nn.Module:
    parts = [(layer.Linear(I if i == 0 else O, O, bias=depth == 1), node()) for i in range(depth)]
    net = nn.Sequential(*(module for pair in parts for module in pair))
    functional.set_step_mode(net, mode)
    return net


def hidden(depth: int = 1) -> nn.Module:
    parts = [
        (nn.Linear(I if i == 0 else O, O, bias=depth == 1), snntorch.Leaky(beta=0.9, init_hidden=True))
        for i in range(depth)
    ]
    return nn.Sequential(*(module for pair in parts for module in pair))


def reset(net: nn.Module) -> None:
    """Not `snntorch.utils.reset`, which does not know deep copies of neurons."""
    for module in net.modules():
        if isinstance(module, snntorch.SpikingNeuron):
            module.reset_mem()
    functional.reset_net(net)


# ---------------------------------------------------------------------------------------- resets and start values


class Adaptive(neuron.LIFNode):
    """A user's own neuron with a state of its own, which a reset writes in place."""

    def __init__(self) -> None:
        super().__init__()
        self.register_memory("fatigue", torch.full((B, O), 0.1))

    def neuronal_charge(self, x: Tensor) -> None:
        super().neuronal_charge(x - self.fatigue)

    def neuronal_reset(self, spike: Tensor) -> None:
        super().neuronal_reset(spike)
        self.fatigue = 0.9 * self.fatigue + 0.3 * spike


def resting(value: float, kind: Callable[[], Any] = neuron.LIFNode) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        node = kind()
        node.set_reset_value("v", torch.full((B, O), value))
        node.reset()
        return node

    return make


@pytest.mark.parametrize("mode", ["s", "m"])
@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize(
    "node",
    [resting(0.0), resting(0.3), resting(0.3, neuron.IFNode), resting(0.2, neuron.ParametricLIFNode), Adaptive],
    ids=["zero", "value", "if", "learned-tau", "own-state"],
)
def test_a_reset_in_place(node: Callable[[], nn.Module], mode: str, grad: bool) -> None:
    net, plain = delayed(lambda: jelly(node, mode))
    x = spikes()
    with torch.set_grad_enabled(grad):
        for _ in range(3):
            reset(net)
            reset(plain)
            same(run(net, x), run(plain, shifted(x, D)))
            reset(net)
            reset(plain)
            parts = torch.cat([run(net, x[:5]), run(net, x[5:])])
            expected = run(plain, shifted(x, D))
            same(parts, expected)
    if grad:
        parts.sum().backward()
        expected.sum().backward()
        same(net[0].weight.grad, plain[0].weight.grad)


@pytest.mark.parametrize("make", [jelly, hidden])
def test_a_state_written_in_place_outside_of_the_reset_is_refused(make: Callable[..., nn.Module]) -> None:
    net, plain = delayed(make)
    x, node = spikes(), net[1]
    with torch.no_grad():
        run(net, x)
        (node.v if isinstance(node, neuron.LIFNode) else node.mem).fill_(0.3)
        with refused():
            net(x[0])
        delayplug.reset_delays(net)
        run(plain, x)
        (plain[1].v if isinstance(node, neuron.LIFNode) else plain[1].mem).fill_(0.3)
        same(run(net, x), run(plain, shifted(x, D)))


STATES = {
    "leaky": (lambda: snntorch.Leaky(beta=0.9), lambda x: (x.new_zeros(x.shape[0], O),)),
    "two": (lambda: snntorch.Synaptic(alpha=0.8, beta=0.9), lambda x: (x.new_zeros(x.shape[0], O),) * 2),
    "tuple": (
        lambda: snntorch.DeltaLeaky(beta=0.9, delta_threshold=0.5),
        lambda x: ((x.new_zeros(x.shape[0], O),) * 2,),
    ),
    "norse": (norse_cell, lambda x: ()),
    "norse-current": (lambda: norse.LIFCell(norse.LIFParameters(tau_mem_inv=torch.tensor(400.0))), lambda x: (None,)),
    "constant": (lambda: snntorch.Leaky(beta=0.9), lambda x: (torch.full((x.shape[0], O), 0.3),)),
}


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("example", [False, True])
@pytest.mark.parametrize("state", STATES)
def test_a_state_that_is_passed_under_any_name(state: str, example: bool, norm: bool) -> None:
    make, start = STATES[state]
    net, plain = delayed(lambda: Over(make(), start, norm), **({"example": spikes()} if example else {}))
    for seed in range(3):
        x = spikes(seed)
        same(net(x), plain(shifted(x, D)))
        with torch.no_grad():
            same(net(x), plain(shifted(x, D)))


# ---------------------------------------------------------------------------------------------- several streams


class Branches(nn.Module):
    """Two inputs through one layer and neuron, from a start that is learned."""

    def __init__(self, node: nn.Module, start: float, in_turns: bool) -> None:
        super().__init__()
        self.cell, self.v0, self.in_turns = Step(node), nn.Parameter(torch.full((O,), start)), in_turns

    def first(self, x: Tensor) -> Any:
        v = self.v0.expand(x.shape[1], -1)
        return [norse.LIFBoxFeedForwardState(v) if isinstance(self.cell.node, norse.LIFBoxCell) else v]

    def forward(self, *inputs: Tensor) -> Tensor:
        states, out = [self.first(x) for x in inputs], [[] for _ in inputs]
        order = [(t, i) for t in range(T) for i in range(len(inputs))]
        for t, i in order if self.in_turns else sorted(order, key=lambda pair: pair[1]):
            spikes, states[i] = self.cell(inputs[i][t], *states[i])
            out[i].append(spikes)
        return torch.cat([torch.stack(part) for part in out], -1)


class Outer(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.inner(*inputs)


@pytest.mark.parametrize("in_turns", [True, False])
@pytest.mark.parametrize("start", [0.0, 0.3])
@pytest.mark.parametrize("node", [lambda: snntorch.Leaky(beta=0.9), norse_cell], ids=["snntorch", "norse"])
def test_two_streams_in_one_forward(node: Callable[[], nn.Module], start: float, in_turns: bool) -> None:
    a, b = spikes(1), spikes(2)
    net, plain = delayed(lambda: Branches(node(), start, in_turns), example=(a, b))
    for model in (net, Outer(net)):
        for _ in range(2):
            y, expected = model(a, b), plain(shifted(a, D), shifted(b, D))
            same(y, expected)
            net.zero_grad()
            plain.zero_grad()
            y.sum().backward()
            expected.sum().backward()
            same(net.v0.grad, plain.v0.grad)
            same(net.cell.fc.weight.grad, plain.cell.fc.weight.grad)
            with torch.no_grad():
                same(model(a, b), expected)


def turns(net: nn.Module, streams: list[Tensor], start: Callable[[Tensor], Any], *, cut: bool = False) -> Tensor:
    """Streams in turns, each with the state that was returned to it."""
    states: list[Any] = [start(x[0]) for x in streams]
    out: list[list[Tensor]] = [[] for _ in streams]
    for t in range(T):
        for i, x in enumerate(streams):
            spikes, states[i] = net(x[t], *states[i])
            if cut:
                states[i] = [s.detach() if isinstance(s, Tensor) else s for s in states[i]]
            out[i].append(spikes)
    return torch.stack([torch.stack(part) for part in out])


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("state", STATES)
def test_streams_that_take_turns(state: str, grad: bool, cut: bool) -> None:
    make, start = STATES[state]
    net, plain = delayed(lambda: Step(make()))
    streams = [spikes(1), spikes(2), spikes(3)]
    with torch.set_grad_enabled(grad):
        y, expected = (
            turns(net, streams, start, cut=cut),
            turns(plain, [shifted(x, D) for x in streams], start, cut=cut),
        )
    same(y, expected)
    if grad and not cut:
        y.sum().backward()
        expected.sum().backward()
        same(net.fc.weight.grad, plain.fc.weight.grad)


def test_streams_of_different_batches_that_take_turns() -> None:
    make, start = STATES["leaky"]
    net, plain = delayed(lambda: Step(make()))
    one, many = spikes(1, batch=1), spikes(2)
    states = [start(one[0]), start(many[0])]
    for t in range(T):
        for i, x in enumerate((one, many)):
            _, states[i] = net(x[t], *states[i])
    for (mem,), x in zip(states, (one, many), strict=True):
        expected = start(x[0])
        for x_t in shifted(x, D):
            _, expected = plain(x_t, *expected)
        same(mem, expected[0])


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("state", STATES)
def test_a_stream_that_forks(state: str, grad: bool) -> None:
    make, start = STATES[state]
    net, plain = delayed(lambda: Step(make()))
    x, other = spikes(1), spikes(2)
    forks = [x, torch.cat([x[:7], other[7:]])]

    def from_start(net: nn.Module, x: Tensor) -> Tensor:
        return turns(net, [x], start)[0]

    with torch.set_grad_enabled(grad):
        before = start(x[0])
        for x_t in x[:7]:
            _, before = net(x_t, *before)
        states, out = [before, before], [[], []]
        for t in range(7, T):
            for i, inputs in enumerate(forks):
                spike, states[i] = net(inputs[t], *states[i])
                out[i].append(spike)
        late, again = before, []
        for x_t in forks[1][7:]:  # and once more, when the others are done
            spike, late = net(x_t, *late)
            again.append(spike)
        for got, inputs in ((out[0], x), (out[1], forks[1]), (again, forks[1])):
            same(torch.stack(got), from_start(plain, shifted(inputs, D))[7:])


@pytest.mark.parametrize(("make", "name"), [(hidden, "mem"), (jelly, "v")])
def test_streams_in_turns_whose_states_are_put_on_the_neuron(make: Callable[..., nn.Module], name: str) -> None:
    net, plain = delayed(make)
    streams = [spikes(1), spikes(2)]

    def swapping(net: nn.Module, streams: list[Tensor]) -> Tensor:
        reset(net)
        states, out = [getattr(net[1], name)] * 2, [[], []]
        for t in range(T):
            for i, x in enumerate(streams):
                setattr(net[1], name, states[i])
                out[i].append(net(x[t]))
                states[i] = getattr(net[1], name)
        return torch.stack([torch.stack(part) for part in out])

    with torch.no_grad():
        for _ in range(2):
            same(swapping(net, streams), swapping(plain, [shifted(x, D) for x in streams]))


class TwoInputs(nn.Module):
    """Two layers feed one neuron."""

    def __init__(self) -> None:
        super().__init__()
        self.on, self.off = nn.Linear(I, O), nn.Linear(I, O)
        self.node = snntorch.Leaky(beta=0.9)

    def forward(self, x: Tensor, mem: Tensor) -> tuple[Tensor, list[Tensor]]:
        y, mem = self.node(self.on(x[..., :I]) + self.off(x[..., I:]), mem)
        return y, [mem]


def test_streams_in_turns_through_two_layers_of_one_neuron() -> None:
    def both(seed: int) -> Tensor:
        return torch.cat([spikes(seed), 1 - spikes(seed)], -1)

    start = STATES["leaky"][1]
    net, plain = delayed(TwoInputs, example=(both(0)[0], *start(both(0)[0])))
    streams = [both(1), both(2)]
    same(turns(net, streams, start), turns(plain, [shifted(x, D) for x in streams], start))
    _, (mem,) = net(streams[0][0], *start(streams[0][0]))
    with refused():
        net(streams[0][1], mem.clone() + 1)


@pytest.mark.parametrize("state", ["leaky", "two", "norse"])
def test_steps_that_are_computed_again_for_their_gradient(state: str) -> None:
    make, start = STATES[state]
    net, plain = delayed(lambda: Step(make()))
    x = spikes(1)

    def loss(net: nn.Module, x: Tensor, *, again: bool) -> Tensor:
        state, out = start(x[0]), []
        for x_t in x:
            spike, state = checkpoint(net, x_t, *state, use_reentrant=False) if again else net(x_t, *state)
            out.append(spike)
        return (torch.stack(out) * torch.arange(T).view(T, 1, 1)).sum()

    loss(net, x, again=True).backward()
    loss(plain, shifted(x, D), again=False).backward()
    same(net.fc.weight.grad, plain.fc.weight.grad)


@pytest.mark.parametrize("cut", [torch.Tensor.detach, torch.Tensor.detach_, lambda mem: mem.data])
@pytest.mark.parametrize("state", ["leaky", "two"])
def test_truncated_backpropagation(state: str, cut: Callable[[Tensor], Tensor]) -> None:
    make, start = STATES[state]
    net, plain = delayed(lambda: Step(make()))
    x = spikes(1)
    for model, inputs in ((net, x), (plain, shifted(x, D))):
        state, loss = start(x[0]), torch.zeros(())
        for t, x_t in enumerate(inputs):
            spike, state = model(x_t, *state)
            loss = loss + (spike * (t + 1)).sum()
            if t % 4 == 3:
                loss.backward()
                loss, state = torch.zeros(()), [cut(part) for part in state]
    same(net.fc.weight.grad, plain.fc.weight.grad)


# ------------------------------------------------------------------------------------------ saved and put back


@pytest.mark.parametrize("mode", ["s", "m"])
@pytest.mark.parametrize("depth", [1, 2])
def test_states_of_spikingjelly_that_are_put_back(mode: str, depth: int) -> None:
    net, plain = delayed(lambda: jelly(mode=mode, depth=depth))
    x = spikes()
    with torch.no_grad():
        expected = run(plain, shifted(x, depth * D))
        first, kept = run(net, x[:7]), list(base.extract_memories(net))
        under_way = delayplug.delay_state(net)
        reset(net)
        run(net, spikes(9))
        reset(net)
        base.load_memories(net, kept)
        same(torch.cat([first, run(net, x[7:])]), expected)  # the very tensors
        run(net, spikes(9))
        base.load_memories(net, [memory.clone() for memory in kept])
        with refused():
            run(net, x[7:])
        delayplug.set_delay_state(net, under_way)
        same(torch.cat([first, run(net, x[7:])]), expected)


@pytest.mark.parametrize("mode", ["s", "m"])
def test_the_functional_forward_of_spikingjelly(mode: str) -> None:
    net, plain = delayed(lambda: jelly(mode=mode))
    x, other = spikes(), spikes(5)
    forward, start = base.to_functional_forward(net), tuple(base.extract_memories(net))
    with torch.no_grad():
        states, out = [start, start], [[], []]
        for parts in zip(*(v.split(7) if mode == "m" else v for v in (x, other)), strict=True):
            for i, part in enumerate(parts):
                (y,), states[i] = forward((part,), states[i])
                out[i].append(y)
        for ys, inputs in zip(out, (x, other), strict=True):
            reset(plain)
            same(torch.cat(ys) if mode == "m" else torch.stack(ys), run(plain, shifted(inputs, D)))


def test_a_hidden_state_that_is_put_back() -> None:
    net, plain = delayed(hidden)
    x = spikes()
    with torch.no_grad():
        expected = run(plain, shifted(x, D))
        first, mem, under_way = run(net, x[:7]), net[1].mem, delayplug.delay_state(net)
        reset(net)
        run(net, spikes(9))
        net[1].mem = mem
        same(torch.cat([first, run(net, x[7:])]), expected)
        net[1].mem = mem.clone()
        with refused():
            net(x[7])
        delayplug.set_delay_state(net, under_way)
        same(torch.cat([first, run(net, x[7:])]), expected)


# ------------------------------------------------------------------------------------ the batch shrinks or changes


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("state", ["leaky", "two", "norse"])
def test_a_batch_that_shrinks(state: str, grad: bool) -> None:
    make, start = STATES[state]
    net, plain = delayed(lambda: Step(make()))
    x = spikes()

    def sliced(state: Any, count: int) -> Any:
        return [norse.LIFBoxFeedForwardState(s.v[:count]) if isinstance(s, tuple) else s[:count] for s in state]

    def shrinking(net: nn.Module, x: Tensor) -> Tensor:
        state, out = start(x[0]), []
        for t in range(T):
            count = B - t // 4
            spikes, state = net(x[t, :count], *sliced(state, count))
            out.append(spikes)
        return torch.cat(out)

    with torch.set_grad_enabled(grad):
        for _ in range(2):
            same(shrinking(net, x), shrinking(plain, shifted(x, D)))


@pytest.mark.parametrize("make", [jelly, hidden])
def test_a_batch_that_shrinks_where_the_neuron_holds_its_state(make: Callable[..., nn.Module]) -> None:
    net, plain = delayed(make)
    x = spikes()

    def shrinking(net: nn.Module, x: Tensor) -> Tensor:
        out, node = [], net[1]
        for t in range(T):
            count = B - t // 4
            if t and count < out[-1].shape[0]:
                if isinstance(node, neuron.LIFNode):
                    node.v = node.v[:count]
                else:
                    node.mem = node.mem[:count]
            out.append(net(x[t, :count]))
        return torch.cat(out)

    with torch.no_grad():
        same(shrinking(net, x), shrinking(plain, shifted(x, D)))


VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    "split": lambda mem: mem.split(2)[1],
    "narrow": lambda mem: mem.narrow(0, 1, 2),
    "every second": lambda mem: mem[::2],
    "slice of a slice": lambda mem: mem[1:][1:],
    "one": lambda mem: mem.unbind(0)[2][None],
    "same shape": lambda mem: mem.view(mem.shape).unsqueeze(0).squeeze(0).contiguous(),
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("state", ["leaky", "two"])
def test_views_of_a_batch_go_on(state: str, view: str) -> None:
    make, start = STATES[state]
    net, plain = delayed(lambda: Step(make()))
    x, index = spikes(1), VIEWS[view](torch.arange(B)[:, None])[:, 0]

    def half(net: nn.Module, x: Tensor) -> Tensor:
        state, out = start(x[0]), []
        for x_t in x[:7]:
            _, state = net(x_t, *state)
        state = [VIEWS[view](part) for part in state]
        for x_t in x[7:, index]:
            spike, state = net(x_t, *state)
            out.append(spike)
        return torch.stack(out)

    same(half(net, x), half(plain, shifted(x, D)))


@pytest.mark.parametrize("index", [torch.tensor([2, 0, 3]), torch.tensor([True, False, True, True])])
@pytest.mark.parametrize("state", ["leaky", "two"])
def test_a_batch_that_is_permuted_or_masked(state: str, index: Tensor) -> None:
    make, start = STATES[state]
    net, plain = delayed(lambda: Step(make()))
    x = spikes()

    def half(net: nn.Module, x: Tensor, select: Callable[[], None]) -> Tensor:
        state, out = start(x[0]), []
        for x_t in x[:7]:
            _, state = net(x_t, *state)
        state = [s[index] for s in state]
        select()
        for x_t in x[7:, index]:
            spikes, state = net(x_t, *state)
            out.append(spikes)
        return torch.stack(out)

    with refused():
        half(net, x, lambda: None)
    y = half(net, x, lambda: delayplug.select_delays(net, index))
    same(y, half(plain, shifted(x, D), lambda: None))


# ------------------------------------------------------------------------------------------------- spiking RNNs


class ByStep(nn.Module):
    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor) -> Tensor:
        state, out = None, []
        for x_t in x:
            state = self.cell(x_t, state)
            out.append(state[0] if isinstance(state, tuple) else state)
        return torch.stack(out)


@pytest.mark.parametrize("example", [False, True])
@pytest.mark.parametrize("kind", [rnn.SpikingLSTMCell, rnn.SpikingVanillaRNNCell, rnn.SpikingGRUCell])
def test_cells_of_spiking_rnns(kind: type[nn.Module], example: bool) -> None:
    x = spikes()
    options = {"example": x} if example else {}
    net, plain = delayed(lambda: ByStep(kind(I, O)), gain=4, granularity="axonal", **options)
    for _ in range(2):
        same(net(x), plain(shifted(x, D)))
    other = x.clone()
    other[:, 0] = 1 - other[:, 0]
    assert torch.equal(net(other)[:, 1:], net(x)[:, 1:])


class Layers(nn.Module):
    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.rnn = kind(I, O, 2)

    def forward(self, x: Tensor, state: Any = None) -> Any:
        return self.rnn(x, state)


@pytest.mark.parametrize("kind", [rnn.SpikingLSTM, rnn.SpikingVanillaRNN])
def test_layers_of_spiking_rnns_go_on_over_chunks(kind: type[nn.Module]) -> None:
    x = spikes()
    net, plain = delayed(lambda: Layers(kind), gain=4, granularity="axonal")
    for _ in range(2):
        a, state = net(x[:6])
        b, _ = net(x[6:], state)
        same(torch.cat([a, b]), plain(shifted(x, D))[0])


# ------------------------------------------------------------------------------------- copies of layers and models


def convolutional() -> nn.Module:
    net = nn.Sequential(layer.Conv2d(2, 4, 3, padding=1), layer.BatchNorm2d(4), neuron.IFNode(v_threshold=0.3))
    functional.set_step_mode(net, "m")
    net[1].running_mean.normal_(0, 0.2)
    net[1].running_var.uniform_(0.5, 2)
    return net.eval()


def fused_by_hand(net: nn.Module) -> nn.Module:
    net[0], net[1] = fuse_conv_bn_eval(net[0], net[1]), nn.Identity()
    return net


@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize("fuse", [fused_by_hand, fuse_conv_bn_eval_modules])
def test_a_batch_norm_folded_into_a_delayed_convolution(fuse: Callable[[nn.Module], nn.Module], used: bool) -> None:
    x = (torch.rand(8, 3, 2, 6, 6, generator=torch.Generator().manual_seed(0)) < 0.4).float()
    net, plain = delayed(convolutional, gain=1)
    with torch.no_grad():
        if used:
            net(x)
        net = fuse(net)
        expected = plain(shifted(x, D))
        for _ in range(3):
            reset(net)
            y = net(x)
            assert (y != expected).float().mean() < 1e-3  # the folded weights round differently
        reset(net)
        assert torch.equal(torch.cat([net(x[:3]), net(x[3:])]), y)


@pytest.mark.real("memory that is copied with what is noted on it")
@pytest.mark.parametrize("make", [jelly, hidden])
def test_a_copy_of_a_layer_in_its_place_or_in_another_model(make: Callable[..., nn.Module]) -> None:
    net, plain = delayed(make)
    x = spikes()
    with torch.no_grad():
        expected = run(plain, shifted(x, D))
        run(net, x)
        net[0] = copy.deepcopy(net[0])
        for _ in range(2):
            reset(net)
            same(run(net, x), expected)
        other = make()
        other[0] = copy.deepcopy(net[0])  # beside a neuron without hooks
        with pytest.raises(SequenceError, match="add delays to that model"):
            run(other, x)


def replicas(model: nn.Module) -> nn.Module:
    """What `DataParallel` makes for one device."""
    made = {id(module): module._replicate_for_data_parallel() for module in model.modules()}
    for module in model.modules():
        replica = made[id(module)]
        for name, child in module._modules.items():
            replica._modules[name] = None if child is None else made[id(child)]
        for name, parameter in module._parameters.items():
            if parameter is None:
                replica._parameters[name] = None
            else:
                setattr(replica, name, parameter.clone())
        for name, buffer in module._buffers.items():
            replica._buffers[name] = None if buffer is None else buffer.clone()
    return made[id(model)]


class Resetting(nn.Module):
    """Batch first, as `DataParallel` needs it, and a fresh state for every call."""

    def __init__(self, net: nn.Module, reset: Callable[[nn.Module], None]) -> None:
        super().__init__()
        self.net, self.reset = net, reset

    def forward(self, x: Tensor) -> Tensor:
        self.reset(self.net)
        return run(self.net, x.transpose(0, 1)).transpose(0, 1)


@pytest.mark.parametrize("make", [lambda: jelly(mode="m", depth=2), lambda: jelly(mode="s", depth=2)], ids=["m", "s"])
def test_replicas_of_data_parallel(make: Callable[[], nn.Module]) -> None:
    x = spikes().transpose(0, 1)
    net, plain = delayed(lambda: Resetting(make(), functional.reset_net))
    expected = plain(shifted(x.transpose(0, 1), 2 * D).transpose(0, 1))
    same(net(x), expected)
    for _ in range(2):
        parts = [replicas(net), replicas(net)]
        y = torch.cat([replica(part) for replica, part in zip(parts, x.split(2), strict=True)])
        same(y, expected)
    net.zero_grad()
    plain.zero_grad()
    y.sum().backward()
    expected.sum().backward()
    same(net.net[0].weight.grad, plain.net[0].weight.grad)


def test_a_replica_that_is_passed_a_state_of_an_earlier_call() -> None:
    net, plain = delayed(lambda: Step(norse_cell()))
    x = spikes()
    with torch.no_grad():
        y, state = replicas(net)(x[0])  # begins, as nothing is passed
        torch.testing.assert_close(y, plain(shifted(x, D)[0])[0])
        with refused():  # what `DataParallel` scatters are copies
            replicas(net)(x[1], *[type(part)(*(value.clone() for value in part)) for part in state])


@pytest.mark.real("memory that is copied with what is noted on it")
@pytest.mark.parametrize("make", [lambda: jelly(mode="m"), jelly, hidden], ids=["m", "s", "hidden"])
def test_a_deep_copy_after_a_training_step(make: Callable[..., nn.Module]) -> None:
    net, plain = delayed(make)
    x = spikes()
    run(net, x).sum().backward()
    reset(net)
    copied = copy.deepcopy(net)
    again = copy.deepcopy(copied)
    expected = run(plain, shifted(x, D))
    for model in (copied, net, again):
        for _ in range(2):
            reset(model)
            same(run(model, x), expected)
    with torch.no_grad():  # in the middle of a sequence both go on, for themselves
        reset(net)
        first = run(net, x[:5])
        copied = copy.deepcopy(net)
        run(net, spikes(7))
        same(torch.cat([first, run(copied, x[5:])]), expected.detach())
