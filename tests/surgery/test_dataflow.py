"""Marks on tensors, and a run that leaves no trace."""

from typing import Any

import pytest
import snntorch
import torch
from spikingjelly.activation_based import layer, neuron
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from delayplug import WiringError, add_delays, plan_delays
from delayplug.surgery.dataflow import StorageMarks, drive, preserved, results_of, trace
from tests.networks import F, H
from tests.surgery.networks import leaky


def test_a_mark_reaches_every_view_and_nothing_else() -> None:
    marks, x = StorageMarks[str](), torch.zeros(4, 3)
    marks.put([x[1:]], "a")
    assert [marks.get(value) for value in (x, x.view(-1), x.clone(), 3, None)] == ["a", "a", None, None, None]
    marks.put(["no tensor", x], "b")
    assert marks.get(x.T) == "b"
    marks.put([x], None)
    assert marks.get(x) is None


def test_a_mark_does_not_pass_to_a_tensor_that_comes_later() -> None:
    marks = StorageMarks[int]()
    for i in range(100):
        x = torch.zeros(1000)
        assert marks.get(x) is None
        marks.put([x], i)


class Operations(TorchDispatchMode):
    """Records the results of all operations."""

    def __init__(self) -> None:
        super().__init__()
        self.results: list[list[Tensor]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.results.append(results_of(func, args, out))
        return out


def test_results_are_what_is_returned_and_what_is_written_to() -> None:
    x, target = torch.ones(3), torch.zeros(4, 3)
    with Operations() as operations:
        torch.add(x, 1)
        target[0].copy_(x)
        x.split(1)
    added, selected, copied, parts = operations.results
    assert len(added) == len(selected) == 1
    assert len(parts) == 3
    assert all(value.untyped_storage()._cdata == target.untyped_storage()._cdata for value in (*selected, *copied))


class Noisy(nn.Module):
    """Changes whatever a module can change when it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.norm = nn.Linear(3, 3), nn.BatchNorm1d(3)
        self.seen: list[int] = []
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.seen.append(self.calls)
        with torch.no_grad():
            self.fc.weight.add_(1)
        y: Tensor = self.norm(self.fc(x) + torch.rand(3))
        return y


def test_what_a_run_changes_is_put_back() -> None:
    net = Noisy()
    net.fc.weight.grad = torch.ones(3, 3)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    random = torch.get_rng_state()
    with preserved(net):
        net(torch.rand(4, 3)).sum().backward()
        assert net.calls == 1
        assert not torch.equal(net.fc.weight, before["fc.weight"])
    assert net.calls == 0
    assert net.seen == []
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.equal(net.fc.weight.grad, torch.ones(3, 3))
    assert net.fc.bias.grad is None
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize(
    "example",
    [torch.zeros(2, 3), (torch.zeros(2, 3),), {"input": torch.zeros(2, 3)}, lambda net: net(torch.zeros(2, 3))],
)
def test_every_form_of_an_example_runs(example: Any) -> None:
    net, seen = nn.Linear(3, 2), []
    net.register_forward_hook(lambda module, args, output: seen.append(output.shape))
    drive(net, example)
    assert seen == [torch.Size((2, 2))]


class Written(nn.Module):
    """Writes the result of a layer into a buffer, of which a neuron takes a view."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.fire = nn.Linear(3, 3), nn.Threshold(0.5, 0.0)

    def forward(self, x: Tensor) -> Tensor:
        currents = x.new_zeros(len(x), 2, 3)
        for t, x_t in enumerate(x):
            currents[t] = self.fc(x_t)
        y: Tensor = self.fire(currents.transpose(0, 1).reshape(-1, 3))
        return y


def test_a_trace_follows_writes_in_place_and_views() -> None:
    net = Written()
    flow = trace(net, torch.rand(5, 2, 3), {"fc": net.fc}, {"fire": net.fire}, lambda neuron: True)
    calls = [(call.name, call.is_neuron, call.is_sequence, set(call.layers)) for call in flow.calls]
    assert calls == [("fc", False, False, set())] * 5 + [("fire", True, True, {"fc"})]
    assert flow.outputs == {"fc": torch.Size((2, 3)), "fire": torch.Size((10, 3))}
    assert flow.moved == {"fc"}


LAYOUTS = {
    "one step": (
        lambda: nn.Sequential(nn.Conv2d(2, 3, 3), leaky()),
        torch.rand(4, 2, 2, 5, 5),
        r"It runs on x\[0\]: it takes single steps",
    ),
    "sequences": (
        lambda: nn.Sequential(layer.Conv2d(2, 3, 3, step_mode="m"), neuron.LIFNode(step_mode="m")),
        torch.rand(4, 2, 5, 5),
        r"It runs on several such steps: time must come first, \(T, B, ...\)",
    ),
    "batch first": (
        lambda: OneByOne(),
        torch.rand(3, 7, F),
        r"first two dimensions exchanged: time must come first, example=x.transpose\(0, 1\)",
    ),
}


class OneByOne(nn.Module):
    """Its state is of a batch of three."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.lif = nn.Linear(F, H), snntorch.Leaky(0.9)

    def forward(self, x: Tensor) -> Tensor:
        mem = x.new_zeros(3, H)
        for x_t in x:
            spk, mem = self.lif(self.fc(x_t) + mem * 0, mem)
        return spk


@pytest.mark.parametrize(("make", "example", "match"), LAYOUTS.values(), ids=LAYOUTS)
def test_an_example_with_the_time_elsewhere_is_told_so(make, example, match) -> None:
    net = make()
    before = {name: (type(module), dict(module.__dict__)) for name, module in net.named_modules()}
    for ask in (plan_delays, lambda net, example: add_delays(net, 3, example=example)):
        with pytest.raises(WiringError, match=f"does not run on the example.*{match}"):
            ask(net, example)
    assert {name: (type(module), dict(module.__dict__)) for name, module in net.named_modules()} == before


def test_an_example_that_fits_in_no_way_is_only_told_the_error() -> None:
    with pytest.raises(WiringError, match=r"does not run on the example: .*\)$"):
        plan_delays(nn.Sequential(nn.Linear(F, H), leaky()), torch.rand(7, 3, F + 1))
