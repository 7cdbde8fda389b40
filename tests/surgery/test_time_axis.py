"""Where the time is in what a layer takes: as many steps as samples in an example, and truncated backpropagation."""

import copy
from collections.abc import Callable
from typing import Any

import norse.torch as norse
import pytest
import snntorch
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn

from delayplug import WiringError, add_delays, plan_delays
from delayplug.testing.oracle import draw_whole_delays, shift_inputs
from tests.surgery.networks import reasons

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:snntorch")
F, H = 4, 5


def loud(net: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.dim() > 1:
                parameter.mul_(8).add_(0.3)
    return net


def spikes(steps: int, batch: int, seed: int = 0) -> Tensor:
    return (torch.rand(steps, batch, F, generator=torch.Generator().manual_seed(seed)) < 0.5).float()


class Hoisted(nn.Module):
    """The layer sees the whole sequence at once; how its neuron gets the steps is `steps_of`."""

    def __init__(self, steps_of: Callable[[Tensor], Any], batch_first: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.lif = nn.Linear(F, H), snntorch.Leaky(beta=0.8)
        self.steps_of, self.batch_first = steps_of, batch_first

    def forward(self, x: Tensor) -> Tensor:
        mem, out = self.lif.init_leaky(), []
        for current in self.steps_of(self.fc(x.transpose(0, 1) if self.batch_first else x)):
            z, mem = self.lif(current, mem)
            out.append(z)
        return torch.stack(out)


TIME_FIRST: dict[str, Callable[[Tensor], Any]] = {
    "iterated": lambda c: c,
    "by index": lambda c: [c[t] for t in range(len(c))],
    "split": lambda c: [part.squeeze(0) for part in c.split(1)],
    "slices": lambda c: [c[t : t + 1].squeeze(0) for t in range(len(c))],
    "time last": lambda c: [c.movedim(0, -1)[..., t] for t in range(len(c))],
    "a function between": lambda c: torch.relu(c) * 1.0,
    "parts of the sequence": lambda c: [step for part in c.split(2) for step in part],
}
BATCH_FIRST: dict[str, Callable[[Tensor], Any]] = {
    "columns": lambda c: [c[:, t] for t in range(c.shape[1])],
    "transposed": lambda c: c.transpose(0, 1),
    "permuted": lambda c: c.permute(1, 0, 2).unbind(0),
}
WAYS = [(name, way, False) for name, way in TIME_FIRST.items()]
WAYS += [(name, way, True) for name, way in BATCH_FIRST.items()]


@pytest.mark.parametrize(("steps", "batch"), [(6, 6), (8, 3)])
@pytest.mark.parametrize("driven", [False, True], ids=["an input", "a function"])
@pytest.mark.parametrize(("way", "batch_first"), [w[1:] for w in WAYS], ids=[w[0] for w in WAYS])
def test_the_layer_is_delayed_along_the_time(
    way: Callable[[Tensor], Any], batch_first: bool, driven: bool, steps: int, batch: int
) -> None:
    x, net = spikes(steps, batch), loud(Hoisted(way, batch_first))
    plain = copy.deepcopy(net)
    add_delays(net, 4, example=(lambda net: net(x)) if driven else x, interpolation="linear")
    delays = draw_whole_delays(net)["fc"]
    shift_inputs(plain.fc, plain.fc, delays, "synaptic", "batch first" if batch_first else "sequences", batch)
    other = spikes(steps, batch, seed=1)
    assert torch.equal(net(other), plain(other))


def test_where_it_does_not_show_another_number_of_steps_is_tried() -> None:
    def gathered(c: Tensor) -> list[Tensor]:
        return [c.index_select(0, torch.tensor(t)).squeeze(0) for t in range(len(c))]

    x, net = spikes(6, 6), loud(Hoisted(gathered, batch_first=False))
    with pytest.raises(WiringError, match="with different numbers of steps and samples"):
        add_delays(net, 4, example=lambda net: net(x))  # whose numbers are the user's
    plain = copy.deepcopy(net)
    add_delays(net, 4, example=x, interpolation="linear")
    shift_inputs(plain.fc, plain.fc, draw_whole_delays(net)["fc"], "synaptic", "sequences", 6)
    assert torch.equal(net(x), plain(x))


def test_an_example_of_a_fixed_size_is_still_asked_about() -> None:
    class Fixed(Hoisted):
        def forward(self, x: Tensor) -> Tensor:
            assert x.shape == (6, 6, F)
            return super().forward(x)

    net = Fixed(lambda c: [c.index_select(0, torch.tensor(t)).squeeze(0) for t in range(6)], batch_first=False)
    assert "with different numbers of steps and samples" in reasons(plan_delays(net, spikes(6, 6)))["fc"]


# -------------------------------------------------------------------------------------- truncated backpropagation


def detached(state: Any) -> Any:
    """As users write it: field by field."""
    if isinstance(state, list):
        return [*map(detached, state)]
    if isinstance(state, tuple):
        return type(state)(*map(detached, state))
    return state if state is None else state.detach()


def leaky() -> nn.Module:
    return nn.Sequential(
        nn.Linear(F, H),
        snntorch.Leaky(beta=0.8, init_hidden=True),
        nn.Linear(H, 3),
        snntorch.Leaky(0.8, init_hidden=True),
    )


def jelly(mode: str) -> nn.Module:
    net = nn.Sequential(layer.Linear(F, H), neuron.LIFNode(), layer.Linear(H, 3), neuron.LIFNode())
    functional.set_step_mode(net, mode)
    return net


def drive_leaky(net: Any, part: Tensor, state: Any) -> Any:
    for module in (net[1], net[3]):
        if state is None:
            module.reset_mem()
        else:
            module.detach_hidden()
    return torch.stack([net(x_t) for x_t in part]), ()


def drive_jelly(net: Any, part: Tensor, state: Any) -> Any:
    if state is None:
        functional.reset_net(net)
    else:
        functional.detach_net(net)
    return net(part) if net[1].step_mode == "m" else torch.stack([net(x_t) for x_t in part]), ()


def drive_cells(net: Any, part: Tensor, state: Any) -> Any:
    out = []
    for x_t in part:
        y, state = net(x_t, state)
        out.append(y)
    return torch.stack(out), detached(state)


def drive_layers(net: Any, part: Tensor, state: Any) -> Any:
    y, state = net(part, state)
    return y, detached(state)


def cells() -> nn.Module:
    return norse.SequentialState(nn.Linear(F, H), norse.LIFCell(), nn.Linear(H, 3), norse.LIFRecurrentCell(3, 3))


def layers() -> nn.Module:
    return norse.SequentialState(nn.Linear(F, H), norse.LIF(), nn.Linear(H, 3), norse.LIFRecurrent(3, 3))


CASES = {
    "snntorch": (leaky, drive_leaky),
    "spikingjelly-s": (lambda: jelly("s"), drive_jelly),
    "spikingjelly-m": (lambda: jelly("m"), drive_jelly),
    "norse-cells": (cells, drive_cells),
    "norse-layers": (layers, drive_layers),
}


@pytest.mark.parametrize(("steps", "batch", "part"), [(6, 6, 3), (6, 3, 3), (6, 2, 2), (6, 6, 6), (6, 4, 3)])
@pytest.mark.parametrize("case", CASES)
def test_a_training_loop_is_an_example(case: str, steps: int, batch: int, part: int) -> None:
    make, advance = CASES[case]
    torch.manual_seed(0)
    net, x = loud(make()), spikes(steps, batch)
    torch.manual_seed(0)
    plain = loud(make())  # no copy: snnTorch does not detach the neurons of one

    def train(net: nn.Module) -> Tensor:
        optimizer, state, outputs = torch.optim.SGD(net.parameters(), lr=1e-4), None, []
        for chunk in x.split(part):
            y, state = advance(net, chunk, state)
            optimizer.zero_grad()
            y.sum().backward()
            optimizer.step()
            outputs.append(y.detach())
        return torch.cat(outputs)

    add_delays(net, 4, example=train, init=0, interpolation="linear")
    names = ["0", "3"] if case.startswith("norse") else ["0", "2"]
    assert [name for name, module in net.named_modules() if hasattr(module, "delay")] == names
    torch.testing.assert_close(train(net), train(plain))
