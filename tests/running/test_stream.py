"""A network while its input comes in: equal to the sequence, saved and restored anywhere, bounded, and told apart."""

import copy
import gc
import io
from typing import Any

import norse.torch as norse
import pytest
import snntorch
import torch
from hypothesis import given, settings, strategies as st
from snntorch import utils
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn

import delayplug
from delayplug import ArgumentError, ConvDelay, LearnableDelay, SequenceError, WiringError, freeze_delays, stream
from tests.profiles import examples

F, H, O = 6, 8, 4  # noqa: E741


class Looped(nn.Module):
    """Takes sequences and a state, which its loop carries."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(F, H), snntorch.Leaky(beta=0.8)
        self.fc2, self.lif2 = nn.Linear(H, O), snntorch.Synaptic(alpha=0.7, beta=0.8)

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        mem, pair = (self.lif1.reset_mem(), self.lif2.reset_mem()) if state is None else state
        outputs = []
        for x_t in x.unbind(0):
            spikes, mem = self.lif1(self.fc1(x_t), mem)
            spikes, *pair = self.lif2(self.fc2(spikes), *pair)
            outputs.append(spikes)
        return torch.stack(outputs), (mem, pair)


def hidden() -> nn.Module:
    first, second = (snntorch.Leaky(beta=0.8, init_hidden=True) for _ in range(2))
    return nn.Sequential(nn.Linear(F, H), first, nn.Linear(H, O), second)


def cells() -> nn.Module:
    return norse.SequentialState(nn.Linear(F, H), norse.LIFCell(), nn.Linear(H, O), norse.LIFCell())


def norse_layers() -> nn.Module:
    return norse.SequentialState(nn.Linear(F, H), norse.LIF(), nn.Linear(H, O), norse.LIF())


def jelly(mode: str) -> nn.Module:
    net = nn.Sequential(layer.Linear(F, H), neuron.LIFNode(), layer.Linear(H, O), neuron.LIFNode())
    functional.set_step_mode(net, mode)
    return net


NETS = {
    "snntorch hidden": hidden,
    "snntorch state": Looped,
    "norse cells": cells,
    "norse layers": norse_layers,
    "spikingjelly s": lambda: jelly("s"),
    "spikingjelly m": lambda: jelly("m"),
}
GAINS = {"norse": 25, "snntorch": 3, "spikingjelly": 6}


def build(name: str, kind: str = "frozen", granularity: str = "synaptic", seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    net = NETS[name]()
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.dim() > 1:
                parameter.add_(0.3 * parameter.abs().max()).mul_(GAINS[name.split()[0]])
    if kind != "plain":
        delayplug.add_delays(net, 5, granularity=granularity, example=None if name != "snntorch state" else spikes(3))
    if kind == "frozen":
        freeze_delays(net)
    return net.eval()


@torch.no_grad()
def sequence(name: str, net: nn.Module, x: Tensor) -> Tensor:
    """As its user runs it."""
    if name in ("snntorch state", "norse layers"):
        return net(x)[0]
    if name == "norse cells":
        state, outputs = None, []
        for x_t in x:
            y, state = net(x_t, state)
            outputs.append(y)
        return torch.stack(outputs)
    if name == "snntorch hidden":
        utils.reset(net)
        return torch.stack([net(x_t) for x_t in x])
    functional.reset_net(net)
    return net(x) if name.endswith("m") else torch.stack([net(x_t) for x_t in x])


def spikes(steps: int = 16, batch: int = 2, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(steps, batch, F, generator=generator) < 0.3).float()


@pytest.mark.parametrize("granularity", ["synaptic", "axonal", "dendritic"])
@pytest.mark.parametrize("kind", ["plain", "delayed", "frozen"])
@pytest.mark.parametrize("name", NETS)
def test_steps_and_chunks_are_the_sequence(name, kind, granularity):
    net, x = build(name, kind, granularity), spikes()
    expected = sequence(name, net, x)
    assert 0.02 < expected.mean() < 0.98
    coming = stream(net)
    got = torch.stack([coming.push(x_t) for x_t in x])
    assert coming.steps == len(x)
    torch.testing.assert_close(got, expected)
    assert got.grad_fn is None
    coming.reset()
    chunks = [coming.push_chunk(part) for part in x.split([1, 7, 3, 5])]
    torch.testing.assert_close(torch.cat(chunks), expected)
    if kind != "plain":
        assert not torch.equal(sequence(name, net, x[5:]), expected[5:])  # so what was carried counts


@pytest.mark.slow
@settings(max_examples=examples(25))
@given(st.sampled_from(sorted(NETS)), st.sampled_from(["plain", "delayed", "frozen"]), st.integers(0, 16), st.data())
def test_saved_and_restored_at_any_place_it_goes_on_to_the_bit(name, kind, place, data):
    net, x = build(name, kind), spikes(seed=data.draw(st.integers(0, 99)))
    coming = stream(net)
    first = [coming.push(x_t) for x_t in x[:place]]
    file = io.BytesIO()
    torch.save(coming.state(), file)
    file.seek(0)
    rest = [coming.push(x_t) for x_t in x[place:]]
    other = stream(build(name, kind))  # of another process
    other.restore(torch.load(file, weights_only=True))
    assert other.steps == place
    again = [other.push(x_t) for x_t in x[place:]]
    assert all(torch.equal(a, b) for a, b in zip(again, rest, strict=True))
    assert len(first) == place


@pytest.mark.parametrize("name", NETS)
def test_streams_share_a_model_and_leave_its_own_state(name):
    net, x, other = build(name), spikes(), spikes(seed=2)
    expected, of_other = sequence(name, net, x), sequence(name, net, other)
    outputs: list[list[Tensor]] = [[], [], []]
    one, two = stream(net), stream(net)
    own = stream(net) if name in ("snntorch state", "norse cells", "norse layers") else None
    sequence(name, net, x[:1])  # the model itself is in the middle of a sequence, too
    for x_t, other_t, next_t in zip(x[:-1], other[:-1], x[1:], strict=True):
        outputs[0].append(one.push(x_t))
        outputs[1].append(two.push(other_t))
        with torch.no_grad():
            if own is None:
                y = net(next_t.unsqueeze(0)).squeeze(0) if name.endswith("m") else net(next_t)
                outputs[2].append(y)
    torch.testing.assert_close(torch.stack(outputs[0]), expected[:-1])
    torch.testing.assert_close(torch.stack(outputs[1]), of_other[:-1])
    if own is None:
        torch.testing.assert_close(torch.stack(outputs[2]), expected[1:])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "times"), [("snntorch hidden", 12), ("norse cells", 12), ("spikingjelly m", 80), ("snntorch state", 12)]
)
def test_memory_is_bounded(name, times):
    coming, x = stream(build(name)), spikes(50, batch=1)

    def tensors() -> int:
        gc.collect()
        return sum(1 for thing in gc.get_objects() if type(thing) is Tensor)

    def size() -> int:
        return sum(leaf.nbytes for leaf in coming.state()["state"].values() if isinstance(leaf, Tensor))

    def push_all() -> Tensor:
        return torch.cat([coming.push_chunk(part) for part in x.split(10)])

    y = push_all()
    before, bytes_before = tensors(), size()
    for _ in range(times):
        y = push_all()
    assert coming.steps == 50 * (times + 1)
    assert tensors() <= before + 4
    assert size() == bytes_before
    assert y.grad_fn is None


def test_layers_of_delays_by_themselves():
    x = torch.rand(12, 3, 5)
    for alone in (LearnableDelay(5, 4, max_delay=6, taps=2, bias=True), LearnableDelay(5, max_delay=6)):
        for freeze in (False, True):
            if freeze:
                freeze_delays(alone)
            coming = stream(alone.eval())
            with torch.no_grad():
                torch.testing.assert_close(torch.stack([coming.push(x_t) for x_t in x]), alone(x))
            assert "forward" not in vars(alone)
    mixed = nn.Sequential(LearnableDelay(5, 4, max_delay=6), neuron.LIFNode(step_mode="m"), nn.Linear(4, 2)).eval()
    with torch.no_grad():
        mixed[0].weight.mul_(8)
        expected = mixed(x)
    functional.reset_net(mixed)
    coming = stream(mixed)
    got = [coming.push(x_t) for x_t in x[:5]]
    again = stream(copy.deepcopy(mixed))
    again.restore(coming.state())
    torch.testing.assert_close(torch.stack([*got, *(again.push(x_t) for x_t in x[5:])]), expected)


def test_a_convolution_of_delays_with_weights_from_elsewhere():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(2, 3, 3)
            self.delay = ConvDelay(self.conv, max_delay=4)
            self.spikes = neuron.LIFNode(step_mode="m")

        def forward(self, x: Tensor) -> Tensor:
            return self.spikes(5 * self.delay(x, weight=self.conv.weight))

    net, x = Net().eval(), torch.rand(9, 2, 2, 8)
    with torch.no_grad():
        expected = net(x)
    coming = stream(net)
    torch.testing.assert_close(torch.stack([coming.push(x_t) for x_t in x]), expected)


def test_advance_carries_what_the_model_takes_in_its_own_way():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.lif = nn.Linear(F, H), snntorch.Leaky(beta=0.8, threshold=0.2)

        def forward(self, x: Tensor, mem: Tensor) -> tuple[Tensor, Tensor]:
            return self.lif(self.fc(x), mem)

    def advance(net: Any, x: Tensor, mem: Any) -> tuple[Tensor, Any]:
        outputs, mem = [], torch.zeros(x.shape[1], H) if mem is None else mem
        for x_t in x:
            y, mem = net(x_t, mem)
            outputs.append(y)
        return torch.stack(outputs), mem

    net, x = delayplug.add_delays(Net(), 4).eval(), spikes()
    with torch.no_grad():
        expected = advance(net, x, None)[0]
    coming = stream(net, advance=advance)
    torch.testing.assert_close(torch.stack([coming.push(x_t) for x_t in x]), expected)
    with pytest.raises(TypeError, match="mem"):
        stream(net).push(x[0])


# ------------------------------------------------------------------------------------------------ refusals


class MadeAnew(Looped):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[0]


class Resets(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.net = hidden() if kind == "snntorch" else jelly("m")
        with torch.no_grad():
            for parameter in self.net.parameters():
                parameter.mul_(8)

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.net[1], neuron.LIFNode):
            functional.reset_net(self.net)
            return self.net(x)
        utils.reset(self.net)
        return torch.stack([self.net(x_t) for x_t in x])


class Feedback(nn.Module):
    """A variable of its own that nobody carries."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.lif = nn.Linear(F, H), snntorch.Leaky(beta=0.8, init_hidden=True, threshold=0.1)

    def forward(self, x: Tensor) -> Tensor:
        last, outputs = torch.zeros(x.shape[1], H), []
        for x_t in x.unbind(0):
            last = self.lif(self.fc(x_t) + 0.5 * last)
            outputs.append(last)
        return torch.stack(outputs)


class AddsUp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = jelly("m")

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).mean(0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (MadeAnew, r"lif1 \(Leaky\) begins anew"),
        (lambda: Resets("snntorch"), r"net.1 \(Leaky\) begins anew"),
        (lambda: Resets("spikingjelly"), r"net.1 \(LIFNode\) begins anew"),
        (lambda: nn.Sequential(nn.Linear(F, H), snntorch.StateLeaky(0.5, H)), r"1 \(StateLeaky\) begins anew"),
        (lambda: nn.Sequential(norse.Lift(nn.Linear(F, H)), norse.LIF()), r"1 \(LIF\) begins anew"),
        (lambda: nn.Sequential(nn.Linear(F, H), neuron.SlidingPSN(2, step_mode="m")), "does not go on where it was"),
        (Feedback, "does not go on where it was"),
        (AddsUp, "does not go on where it was"),
    ],
)
@pytest.mark.parametrize("delays", [False, True])
def test_what_cannot_go_on_is_refused_by_name(make, message, delays):
    torch.manual_seed(0)
    net, x = make(), spikes()
    if delays:
        delayplug.add_delays(net, 3, example=x)
    coming = stream(net.eval())
    before = {key: value.clone() for key, value in net.state_dict().items()}
    for _ in range(2):
        with pytest.raises(SequenceError, match=message):
            coming.push(x[0])
    assert coming.steps == 0
    assert all(torch.equal(value, net.state_dict()[key]) for key, value in before.items())


def test_an_appended_tail_and_a_layer_that_runs_twice_are_refused():
    class Tail(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.delay = LearnableDelay(F, max_delay=3)

        def forward(self, x: Tensor) -> Tensor:
            return self.delay(x, tail=2)

    with pytest.raises(SequenceError, match="delay appends 2 steps: a stream has no end"):
        stream(Tail().eval()).push(spikes()[0])
    shared = LearnableDelay(F, max_delay=3)
    with pytest.raises(SequenceError, match="runs more than once"):
        stream(nn.Sequential(shared, shared).eval()).push(spikes()[0])


def test_what_is_pushed_is_checked():
    coming, x = stream(build("norse cells")), spikes()
    coming.push(x[0])
    for wrong in (x[0, :1], x[0].double(), torch.rand(2, F + 1)):
        with pytest.raises(ArgumentError, match="as before"):
            coming.push(wrong)
    for wrong in ([1.0], x[:0]):
        with pytest.raises(ArgumentError, match="steps"):
            coming.push_chunk(wrong)
    with pytest.raises(ArgumentError, match="finite"):
        coming.push(torch.full_like(x[0], float("nan")))
    assert coming.steps == 1
    coming.reset()
    coming.push(x[0, :1])
    coming.model.train()
    with pytest.raises(ArgumentError, match=r"eval\(\)"):
        coming.push(x[0, :1])
    with pytest.raises(WiringError, match="no neurons"):
        stream(nn.Linear(3, 2))
    with pytest.raises(ArgumentError, match="model"):
        stream("net")


def test_an_error_in_the_middle_leaves_the_stream_where_it_was():
    net, x = build("snntorch hidden"), spikes()
    expected = sequence("snntorch hidden", net, x)
    coming, got = stream(net), []
    for t, x_t in enumerate(x):
        if t == 7:
            handle = net[2].register_forward_pre_hook(lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                coming.push(x_t)
            handle.remove()
        got.append(coming.push(x_t))
    torch.testing.assert_close(torch.stack(got), expected)
    assert not any(m.delay_memory.carried for m in (net[0], net[2]))


# ---------------------------------------------------------------------------------------------- hostile states


def leaf(state: dict[str, Any], part: str) -> str:
    return next(key for key, value in state["state"].items() if part in key and isinstance(value, Tensor))


HOSTILE = {
    "no dictionary": (lambda s: [s], "what Stream.state"),
    "an entry less": (lambda s: {k: v for k, v in s.items() if k != "dtype"}, "what Stream.state"),
    "negative steps": (lambda s: {**s, "steps": -1}, "steps >= 0"),
    "steps of text": (lambda s: {**s, "steps": "3"}, "steps >= 0"),
    "no such dtype": (lambda s: {**s, "dtype": "rand"}, "shape and dtype"),
    "another kind of shape": (lambda s: {**s, "shape": [2, -6]}, "shape and dtype"),
    "a huge shape": (lambda s: {**s, "shape": [2**40, 6]}, "shape and dtype"),
    "features": (lambda s: {**s, "shape": [2, 7]}, "x: expected shape|step that the model runs on"),
    "batch": (lambda s: {**s, "shape": [3, 6]}, "of shape"),
    "a leaf less": (
        lambda s: {**s, "state": {k: v for k, v in s["state"].items() if k != leaf(s, "history")}},
        "entry",
    ),
    "a leaf more": (lambda s: {**s, "state": {**s["state"], "other": torch.ones(1)}}, "nothing but"),
    "nan": (lambda s: {**s, "state": {**s["state"], leaf(s, ""): s["state"][leaf(s, "")] * float("nan")}}, "finite"),
    "another type": (lambda s: {**s, "state": {**s["state"], leaf(s, "history"): 3}}, "a tensor of shape"),
    "integers": (lambda s: {**s, "state": {**s["state"], leaf(s, ""): s["state"][leaf(s, "")].long()}}, "of shape"),
    "another network": (lambda s: stream_state("spikingjelly s", s), "Is it the state of another network"),
}


def stream_state(name: str, like: dict[str, Any]) -> dict[str, Any]:
    other = "norse cells" if any("norse" in key or ".user.1" in key for key in like["state"]) else name
    coming = stream(build("snntorch state" if other == name else name))
    coming.push(spikes()[0])
    return coming.state()


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize("name", ["snntorch hidden", "norse cells"])
def test_hostile_states_are_refused_and_change_nothing(name, case):
    spoil, message = HOSTILE[case]
    net, x = build(name), spikes()
    expected = sequence(name, net, x)
    coming = stream(net)
    got = [coming.push(x_t) for x_t in x[:6]]
    with pytest.raises(ArgumentError, match=message):
        coming.restore(spoil(coming.state()))
    assert coming.steps == 6
    got += [coming.push(x_t) for x_t in x[6:]]
    torch.testing.assert_close(torch.stack(got), expected)


def test_what_is_no_tensor_cannot_be_saved():
    class Mine:
        pass

    def advance(net: Any, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        return net(x), Mine()

    coming = stream(build("spikingjelly m"), advance=advance)
    coming.push(spikes()[0])
    with pytest.raises(ArgumentError, match=r"Mine. It cannot be saved"):
        coming.state()
