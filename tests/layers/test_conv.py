"""`ConvDelay`: a convolution each of whose synapses has a delay, against one convolution per delay.

Shapes: T steps, B batch, C channels, K = D + 1.
"""

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from delayplug import ArgumentError, ConvDelay, DelayState, SigmaSchedule, parameter_groups
from delayplug.layers.conv import KernelDelay
from delayplug.layers.taps import INTERPOLATIONS, taps

T, B, D = 9, 2, 4

CONVOLUTIONS = {
    "1d": lambda: nn.Conv1d(3, 4, 3),
    "1d dilated": lambda: nn.Conv1d(4, 6, 3, stride=2, padding=2, dilation=2, groups=2),
    "2d": lambda: nn.Conv2d(2, 3, 3, padding=1),
    "2d oblong": lambda: nn.Conv2d(2, 4, (3, 2), stride=(2, 1), padding=(1, 0), groups=2),
    "2d same": lambda: nn.Conv2d(2, 3, 4, padding="same"),
    "2d reflect": lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"),
    "2d circular": lambda: nn.Conv2d(2, 3, 3, padding=(1, 2), padding_mode="circular"),
    "2d depthwise": lambda: nn.Conv2d(3, 3, 3, groups=3),
    "3d": lambda: nn.Conv3d(2, 3, 2),
    "transposed 1d": lambda: nn.ConvTranspose1d(3, 4, 3, stride=2, padding=1, output_padding=1),
    "transposed 2d": lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2),
    "transposed 3d": lambda: nn.ConvTranspose3d(2, 3, 2, dilation=2),
}


@pytest.fixture(params=CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def conv(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    return request.param().double()


def sample(conv: nn.Module, steps: int = T) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(steps, B, conv.in_channels, *(6,) * len(conv.kernel_size), dtype=torch.double)


def delay_of(conv: nn.Module, **options) -> ConvDelay:
    return ConvDelay(conv, max_delay=D, dtype=torch.double, **options)


def slow(conv: nn.Module, x: Tensor, kernel: Tensor) -> Tensor:
    """Step by step and age by age, with the convolution's own forward."""
    one = copy.deepcopy(conv)
    one.bias = None
    outputs = []
    for t in range(x.shape[0]):
        total = 0
        for k in range(min(t, D) + 1):
            one.weight = nn.Parameter(kernel[k].detach())
            total = total + one(x[t - k])
        outputs.append(total)
    return torch.stack(outputs).detach()


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_a_sequence(conv, interpolation):
    delay, x = delay_of(conv, interpolation=interpolation), sample(conv)
    kernel = taps(delay.delays, conv.weight.unsqueeze(-1), delay.sigma, max_delay=D, interpolation=interpolation)
    torch.testing.assert_close(delay(x, weight=conv.weight), slow(conv, x, kernel))


@pytest.mark.parametrize("training", [True, False])
def test_step_and_chunks_are_the_sequence(conv, training):
    delay, x = delay_of(conv).train(training), sample(conv)
    whole = delay(x, weight=conv.weight)
    state: DelayState | None = delay.initial_state(*x.shape[1:2], *x.shape[3:])
    steps = []
    for x_t in x:
        y, state = delay.step(x_t, state, weight=conv.weight)
        steps.append(y)
    torch.testing.assert_close(torch.stack(steps), whole)
    state, parts = None, []
    for part in x.split([1, 5, 3]):
        y, state = delay.chunk(part, state, weight=conv.weight)
        parts.append(y)
    torch.testing.assert_close(torch.cat(parts), whole)
    torch.testing.assert_close(delay(x, tail=2, weight=conv.weight)[:T], whole)


def test_gradients(conv):
    delay, x = delay_of(conv, sigma=1.5, learn_sigma=True), sample(conv, steps=3)
    x = x[:, :1, ..., :4] if len(conv.kernel_size) < 3 else x[:, :1, ..., :3]

    def run(x: Tensor, weight: Tensor, delays: Tensor, sigma: Tensor) -> Tensor:
        return torch.func.functional_call(delay, {"delays": delays, "sigma": sigma}, (x,), {"weight": weight})

    inputs = [v.detach().requires_grad_() for v in (x, conv.weight, delay.delays, delay.sigma)]
    assert torch.autograd.gradcheck(run, inputs, fast_mode=True, nondet_tol=1e-9)  # cuDNN adds up in any order


def test_gradients_by_steps_are_those_of_the_sequence(conv):
    delay, x = delay_of(conv), sample(conv)
    y = delay(x, weight=conv.weight)
    grad = torch.randn_like(y)
    expected = torch.autograd.grad(y, (delay.delays, conv.weight), grad)
    state, steps = None, []
    for x_t in x:
        y_t, state = delay.step(x_t, state, weight=conv.weight)
        steps.append(y_t)
    torch.testing.assert_close(torch.autograd.grad(torch.stack(steps), (delay.delays, conv.weight), grad), expected)


def test_whole_delays_shift_each_synapse(conv):
    delay, x = delay_of(conv, interpolation="linear"), sample(conv)
    with torch.no_grad():
        delay.delays.copy_(torch.randint(0, D + 1, delay.delays.shape))
    kernel = torch.stack([conv.weight * (delay.delays.squeeze(-1) == k) for k in range(D + 1)])
    torch.testing.assert_close(delay(x, weight=conv.weight), slow(conv, x, kernel))


def test_rounds_in_eval_only():
    conv = nn.Conv1d(2, 2, 1, bias=False)
    delay = ConvDelay(conv, max_delay=D, interpolation="linear", init=1.5).eval()
    x = torch.zeros(5, 1, 2, 1)
    x[0] = 1
    assert torch.equal(delay(x, weight=conv.weight)[2], conv(x[0]))
    delay.round_in_eval = False
    torch.testing.assert_close(delay(x, weight=conv.weight)[1], conv(x[0]) / 2)


@pytest.mark.real("another dtype")
def test_spikes_of_any_type_and_half_precision():
    conv = nn.Conv2d(2, 3, 3)
    delay = ConvDelay(conv, max_delay=D)
    x = torch.rand(T, B, 2, 5, 5) < 0.3
    torch.testing.assert_close(delay(x, weight=conv.weight), delay(x.float(), weight=conv.weight))
    half = delay(x.to(torch.bfloat16), weight=conv.weight.to(torch.bfloat16))
    assert half.dtype == torch.bfloat16
    assert delay.to(torch.bfloat16).delays.dtype == torch.float32


def test_is_a_layer_of_delays_to_everything_else():
    conv = nn.Conv2d(2, 3, 3)
    net = nn.ModuleDict({"conv": conv, "delay": ConvDelay(conv, max_delay=24)})
    groups = {group["name"]: group["params"] for group in parameter_groups(net, lr=1e-3)}
    assert groups["delays"][0] is net["delay"].delays
    schedule = SigmaSchedule(net, epochs=8)
    for _ in range(8):
        schedule.step()
    assert net["delay"].sigma.item() == pytest.approx(0.5)
    optimizer = torch.optim.SGD([net["delay"].delays], lr=1e6)
    net["delay"](torch.rand(30, 1, 2, 4, 4), weight=conv.weight).sum().backward()
    optimizer.step()
    assert 0 <= net["delay"].delays.min() <= net["delay"].delays.max() <= 24
    for copied in (copy.deepcopy(net["delay"]), pickle.loads(pickle.dumps(net["delay"]))):
        assert (
            repr(copied)
            == repr(net["delay"])
            == ("ConvDelay(2, 3, kernel_size=(3, 3), max_delay=24, interpolation='gauss', sigma=0.5)")
        )


def test_errors():
    conv = nn.Conv2d(2, 3, 3)
    delay = ConvDelay(conv, max_delay=D)
    with pytest.raises(ArgumentError, match=r"conv: expected a convolution of torch\.nn, got Linear"):
        ConvDelay(nn.Linear(2, 3), max_delay=D)
    with pytest.raises(ArgumentError, match="weight: expected a tensor"):
        delay(torch.zeros(T, B, 2, 5, 5))
    with pytest.raises(ArgumentError, match=r"weight: expected shape \(3, 2, 3, 3, 1\)"):
        delay(torch.zeros(T, B, 2, 5, 5), weight=torch.zeros(2, 3, 3, 3))
    for shape in ((T, B, 3, 5, 5), (T, 2, 5, 5), (2,)):
        with pytest.raises(ArgumentError, match=r"x: expected shape \(T, B, 2, 2 dimensions of space\)"):
            delay(torch.zeros(shape), weight=conv.weight)
    if conv.weight.device.type == "cpu":
        with pytest.raises(ArgumentError, match="finite"):
            delay(torch.full((T, B, 2, 5, 5), torch.nan), weight=conv.weight)
    with pytest.raises(ArgumentError, match="state: expected a history"):
        delay.step(torch.zeros(B, 2, 5, 5), delay.initial_state(B, 4, 4), weight=conv.weight)


def test_inside_of_a_layer_its_class_is_not_named_like_a_convolution():
    conv = nn.Conv1d(2, 3, 3)
    delay = KernelDelay(conv, max_delay=4, init=1, interpolation="linear")
    assert isinstance(delay, ConvDelay)
    assert not any(word in type(delay).__name__ for word in ("Conv", "Linear", "Norm"))
    x = torch.rand(5, 2, 2, 7)
    y = delay(x, weight=conv.weight)
    torch.testing.assert_close(
        y[1:], ConvDelay(conv, max_delay=4, init=0, interpolation="linear")(x[:-1], weight=conv.weight)
    )


@pytest.mark.parametrize("training", [True, False])
def test_nothing_comes_of_an_empty_batch(conv, training):
    delay, x = delay_of(conv).train(training), sample(conv)
    y, expected = delay(x[:, :0], weight=conv.weight), delay(x, weight=conv.weight)
    assert y.shape == (T, 0, *expected.shape[2:])
    assert not torch.autograd.grad(y.sum(), conv.weight, create_graph=True)[0].any()
    assert delay.chunk(x[:, :0], None, conv.weight)[0].shape == y.shape
    assert delay.step(x[0, :0], None, conv.weight)[0].shape == y.shape[1:]
