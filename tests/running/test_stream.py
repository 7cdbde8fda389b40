"""A network while its input comes in: equal to the sequence, saved and restored anywhere, bounded, and told apart."""

import gc
import io
from typing import Any

import norse.torch as norse
import pytest
import snntorch
import torch
from hypothesis import given, settings, strategies as st
from snntorch import utils
from spikingjelly.activation_based import functional, neuron
from torch import Tensor, nn

import delayplug
from delayplug import ArgumentError, SequenceError, WiringError, stream
from tests.profiles import examples
from tests.running.models import NETS, F, H, Looped, build, hidden, jelly, sequence, spikes


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


class MakesItsState(Looped):
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
        (MakesItsState, r"lif1 \(Leaky\) starts from a fresh state"),
        (lambda: Resets("snntorch"), r"net.1 \(Leaky\) starts from a fresh state"),
        (lambda: Resets("spikingjelly"), r"net.1 \(LIFNode\) starts from a fresh state"),
        (
            lambda: nn.Sequential(nn.Linear(F, H), snntorch.StateLeaky(0.5, H)),
            r"1 \(StateLeaky\) starts from a fresh state",
        ),
        (lambda: nn.Sequential(norse.Lift(nn.Linear(F, H)), norse.LIF()), r"1 \(LIF\) starts from a fresh state"),
        (
            lambda: nn.Sequential(nn.Linear(F, H), neuron.SlidingPSN(2, step_mode="m")),
            "does not continue where it stopped",
        ),
        (Feedback, "does not continue where it stopped"),
        (AddsUp, "does not continue where it stopped"),
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


def test_what_is_pushed_is_checked():
    coming, x = stream(build("norse cells")), spikes()
    coming.push(x[0])
    for wrong in (x[0, :1], x[0].double(), torch.rand(2, F + 1)):
        with pytest.raises(ArgumentError, match="as before"):
            coming.push(wrong)
    for wrong in ([1.0], x[:0]):
        with pytest.raises(ArgumentError, match="steps"):
            coming.push_chunk(wrong)
    if x.device.type == "cpu":
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
