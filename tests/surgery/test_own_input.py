"""Delays at the synapses of neurons that weigh their input themselves: Norse's recurrent cells and layers."""

import copy
import pickle
from typing import Any

import norse.torch as norse
import pytest
import torch
from norse.torch.module.coba_lif import CobaLIFCell
from torch import Tensor, nn

import delayplug
from delayplug import add_delays, plan_delays, remove_delays
from delayplug.testing.oracle import MAX_DELAY, draw_whole_delays, shift_cell, shift_inputs
from tests.surgery.networks import layers, reasons

T, B, F, H = 10, 3, 4, 5
CELLS = [
    norse.LIFRecurrentCell,
    norse.LSNNRecurrentCell,
    norse.LIFAdExRecurrentCell,
    norse.LIFExRecurrentCell,
    norse.LIFRefracRecurrentCell,
]
SEQUENCES = [norse.LIFRecurrent, norse.LSNNRecurrent]


def spikes(*shape: int, seed: int = 0) -> Tensor:
    return (torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < 0.5).float()


X = spikes(T, B, F)


def made(kind: Any, *sizes: int, **options: Any) -> Any:
    """A neuron whose spikes depend on its inputs."""
    torch.manual_seed(0)
    neuron = kind(*sizes or (F, H), **options)
    with torch.no_grad():
        neuron.input_weights.mul_(20).add_(4)
    return neuron


def run(net: Any, x: Tensor = X, state: Any = None) -> Tensor:
    if isinstance(net, (*SEQUENCES, norse.SequentialState)):
        y: Tensor = net(x, state)[0]
        return y
    out = []
    for x_t in x:
        y, state = net(x_t, state)
        out.append(y)
    return torch.stack(out)


def expected(neuron: Any, delays: Tensor) -> Tensor:
    """What a copy of a plain neuron, with more inputs, gives."""
    plain = copy.deepcopy(neuron)
    if isinstance(plain, tuple(SEQUENCES)):  # for the oracle, whose past is in steps: the cell with the same weights
        cell = {norse.LIFRecurrent: norse.LIFRecurrentCell, norse.LSNNRecurrent: norse.LSNNRecurrentCell}[type(plain)]
        plain = cell(F, H, p=plain.p)
        plain.load_state_dict(neuron.state_dict())
    shift_cell(plain, delays, "input_weights")
    return run(plain)


@pytest.mark.parametrize("kind", [*CELLS, *SEQUENCES, norse.LILinearCell])
def test_delays_are_shifts_of_single_inputs(kind: Any) -> None:
    plain = made(kind)
    names = {"filter_fn": [""]} if kind is norse.LILinearCell else {}
    net = add_delays(copy.deepcopy(plain), MAX_DELAY, init=0, interpolation="linear", **names)
    torch.testing.assert_close(run(net), run(plain))
    delays = draw_whole_delays(net)[""]
    assert delays.shape == (H, F, 1)
    got = run(net)
    torch.testing.assert_close(got, expected(plain, delays))
    assert not torch.equal(got, run(plain))
    torch.testing.assert_close(run(net), got)  # the next sequence


@pytest.mark.parametrize(("cell", "sequence"), [*zip(CELLS[:2], SEQUENCES, strict=True)])
@pytest.mark.parametrize("training", [False, True])
def test_steps_are_the_sequence_and_parts_of_it(cell: Any, sequence: Any, training: bool) -> None:
    steps, whole = (add_delays(made(kind), MAX_DELAY).train(training) for kind in (cell, sequence))
    whole.load_state_dict(steps.state_dict())
    y = run(steps)
    torch.testing.assert_close(run(whole), y, atol=1e-5, rtol=1e-5)
    state, parts = None, []
    for part in X.split(3):
        z, state = whole(part, state)
        parts.append(z)
    torch.testing.assert_close(torch.cat(parts), y, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", [norse.LIFRecurrentCell, norse.LSNNRecurrentCell, norse.LSNNRecurrent])
def test_gradients_are_those_of_the_neuron(kind: Any) -> None:
    """With delays of zero, those of its weights and of its input; and delays learn."""
    plain = made(kind)
    net = add_delays(copy.deepcopy(plain), MAX_DELAY, init=0, interpolation="linear")
    for neuron in (plain, net):
        if not neuron.recurrent_weights._backward_hooks:  # which copies lose
            neuron.recurrent_weights.register_hook(lambda g: g.clone().fill_diagonal_(0.0))
    of_plain, of_net = (X.clone().requires_grad_() for _ in range(2))
    weight = torch.rand(H)
    (run(plain, of_plain) @ weight).sum().backward()
    (run(net, of_net) @ weight).sum().backward()
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(net.get_parameter(name).grad, parameter.grad, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(of_net.grad, of_plain.grad, atol=1e-4, rtol=1e-4)
    with torch.no_grad():
        net.delay.delays.fill_(1.5)
    net.zero_grad()
    (run(net) @ weight).sum().backward()
    assert net.delay.delays.grad.any()


def test_the_neuron_stays_what_it_is() -> None:
    cell = made(norse.LIFRecurrentCell)
    plain, parameters, state = copy.deepcopy(cell), dict(cell.named_parameters()), set(cell.state_dict())
    assert add_delays(cell, MAX_DELAY) is cell
    assert isinstance(cell, norse.LIFRecurrentCell)
    assert all(cell.get_parameter(name) is parameter for name, parameter in parameters.items())
    assert set(cell.state_dict()) == state | {"delay.delays"} | ({"delay.sigma"} & set(cell.state_dict()))
    run(cell)
    assert "input_weights" not in vars(cell)
    cell.load_state_dict(plain.state_dict())
    for other in (copy.deepcopy(cell), *([pickle.loads(pickle.dumps(cell))] if can_pickle(plain) else [])):
        assert torch.equal(run(other.eval()), run(cell.eval()))
    with pytest.raises(delayplug.ArgumentError, match="shape"):
        cell(torch.rand(B, F + 1))
    assert "input_weights" not in vars(cell)  # after an error, too
    remove_delays(cell)
    assert type(cell) is norse.LIFRecurrentCell
    assert torch.equal(run(cell), run(plain))


def can_pickle(module: nn.Module) -> bool:
    try:
        pickle.dumps(module)
    except (AttributeError, pickle.PicklingError):
        return False
    return True


def test_the_weights_of_the_delays_are_those_of_the_neuron() -> None:
    cell = add_delays(made(norse.LIFRecurrentCell), MAX_DELAY)
    frozen = delayplug.freeze_delays(cell.eval(), weight_bits=4)
    assert frozen.changes[-1].number > 0
    largest = cell.input_weights.detach().abs().amax(1, keepdim=True)
    whole = cell.input_weights.detach() / largest * 7
    torch.testing.assert_close(whole, whole.round())


# -------------------------------------------------------------------------------- a convolution in front of it


def lifted(*rest: nn.Module) -> Any:
    torch.manual_seed(0)
    net = norse.SequentialState(norse.Lift(nn.Conv2d(1, 2, 3)), nn.Flatten(2), *rest)
    with torch.no_grad():
        net[0].lifted_module.weight.mul_(3)
    return net


class Stepped(nn.Module):
    """The convolution sees the sequence, the cell its steps."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.cell = norse.Lift(nn.Conv2d(1, 2, 3)), made(norse.LIFRecurrentCell, 8, H)

    def forward(self, x: Tensor, state: Any = None) -> Tensor:
        out = []
        for z in self.conv(x).flatten(2):
            z, state = self.cell(z, state)
            out.append(z)
        return torch.stack(out)


IMAGES = spikes(T, B, 1, 4, 4)


@pytest.mark.parametrize("names", [["0"], ["0", "cell"], ["cell"]])
@pytest.mark.parametrize("which", ["layers", "lifted", "stepped"])
def test_a_lifted_convolution_before_a_recurrent_neuron(which: str, names: list[str]) -> None:
    cell = "2.lifted_module" if which == "lifted" else "cell" if which == "stepped" else "2"
    conv = "conv" if which == "stepped" else "0"

    def build() -> Any:
        if which == "stepped":
            return Stepped()
        inner = made(norse.LIFRecurrentCell, 8, H)
        if which == "lifted":
            return lifted(norse.Lift(inner))
        layer = norse.LIFRecurrent(8, H)
        layer.load_state_dict(inner.state_dict())
        return lifted(layer)

    def call(net: Any) -> Tensor:
        y = net(IMAGES)
        while isinstance(y, tuple):
            y = y[0]
        return y

    wanted = [{"0": conv, "cell": cell}[name] for name in names]
    zero = add_delays(build(), MAX_DELAY, example=IMAGES, filter_fn=wanted, init=0, interpolation="linear")
    assert torch.equal(call(zero), call(build()))
    net = add_delays(build(), MAX_DELAY, example=IMAGES, filter_fn=wanted, interpolation="linear")
    drawn = draw_whole_delays(net)
    assert set(drawn) == set(wanted)
    plain = Stepped()
    if which != "stepped":
        plain.conv.load_state_dict(build()[0].state_dict())
    if conv in drawn:
        shift_inputs(plain.conv, plain.conv.lifted_module, drawn[conv], "synaptic", "sequences", B)
    if cell in drawn:
        shift_cell(plain.cell, drawn[cell], "input_weights")
    assert torch.equal(call(net), plain(IMAGES))


def test_by_default_the_last_weights_before_the_neuron_are_delayed() -> None:
    plan = plan_delays(lifted(made(norse.LIFRecurrent, 8, H)), IMAGES)
    assert layers(plan) == ["2"]
    assert "each synapse of the input of LIFRecurrent" in str(plan)
    assert "name it in filter_fn" in reasons(plan)["0"]


# ------------------------------------------------------------------------------------------- what is refused


class Own(norse.LIFRecurrentCell):
    def forward(self, x: Tensor, state: Any = None) -> Any:
        return super().forward(x * self.input_weights.sum(), state)


def own_step(x: Tensor, state: Any, w: Tensor, r: Tensor, p: Any, dt: float) -> Any:
    return norse.functional.lif_step(x.abs(), state, w, r, p, dt)


def with_own_step() -> nn.Module:
    cell = norse.LIFRecurrentCell(F, H)
    cell.activation = own_step
    return cell


def adjoint() -> nn.Module:
    """Its backward is its own: of its weights not what follows from that of its input."""
    return norse.LSNNRecurrent(F, H, adjoint=True)


@pytest.mark.parametrize("make", [lambda: Own(F, H), with_own_step, adjoint, lambda: CobaLIFCell(F, H)])
def test_a_neuron_that_may_do_more_with_its_weights_has_delays_per_channel(make: Any) -> None:
    told = reasons(plan_delays(make()))[""]
    assert "weights of its own for its input" in told
    assert "granularity='axonal'" in told
    assert layers(plan_delays(make(), granularity="axonal")) == [""]


def test_dendritic_delays_of_it_are_refused() -> None:
    told = reasons(plan_delays(norse.LIFRecurrentCell(F, H), granularity="dendritic"))[""]
    assert "granularity='synaptic' or 'axonal'" in told
