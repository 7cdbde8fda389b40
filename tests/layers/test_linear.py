import copy
import io
import math
import pickle

import pytest
import torch
from DCLS.construct.modules import Dcls1d
from hypothesis import given, settings, strategies as st
from torch import nn
from torch.nn import functional

from delayplug import ArgumentError, DelayState, LearnableDelay
from delayplug.layers.base import DelayLayer
from delayplug.layers.options import KernelOptions
from delayplug.layers.taps import INTERPOLATIONS
from tests.layers import oracle
from tests.profiles import examples

F64 = torch.float64


def make(*sizes, interpolation="gauss", sigma=None, dtype=F64, **options):
    """A layer with its delays off the whole steps and a sigma for each of them, if it has any."""
    layer = LearnableDelay(*sizes, interpolation=interpolation, dtype=dtype, **{"max_delay": 6, **options})
    if layer.sigma is not None and sigma is None:
        with torch.no_grad():
            if isinstance(layer.sigma, nn.Parameter):
                layer.sigma.copy_(1.1 + 2 * torch.rand_like(layer.sigma))
            else:
                layer.sigma.fill_(1.1 + 2 * torch.rand(()).item())
    return layer


def run_steps(layer, x, **options):
    state = layer.initial_state(*x.shape[1:2], trailing=tuple(x.shape[3:])) if x.dim() > 2 else layer.initial_state()
    if layer.out_features is not None:
        state = layer.initial_state(*x.shape[1:-1])
    rows = []
    for x_t in x.unbind(0):
        y_t, state = layer.step(x_t, state, **options)
        rows.append(y_t)
    return torch.stack(rows), state


def run_chunks(layer, x, sizes, state=None):
    parts = []
    for part in x.split(sizes):
        y, state = layer.chunk(part, state)
        parts.append(y)
    return torch.cat(parts), state


def equal(a, b, tolerance=1e-10):
    return a.shape == b.shape and bool((a - b).abs().max() <= tolerance)


# ------------------------------------------------------------------------------- step, sequence, chunks, causality


@pytest.mark.parametrize("mode", ["train", "eval", "eval_unrounded"])
@pytest.mark.parametrize("learn_sigma", [False, True], ids=["sigma", "learned_sigma"])
@pytest.mark.parametrize("taps", [1, 2])
@pytest.mark.parametrize("engine", ["auto", "fft", "direct", "dcls"])
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_steps_equal_sequence_equal_chunks(interpolation, engine, taps, learn_sigma, mode):
    learn_sigma = learn_sigma and interpolation != "linear"
    layer = make(4, 3, interpolation=interpolation, engine=engine, taps=taps, learn_sigma=learn_sigma, bias=True)
    layer.round_in_eval = mode != "eval_unrounded"
    layer.train(mode == "train")
    x = torch.randn(15, 2, 4, dtype=F64)
    y = layer(x)
    assert equal(run_steps(layer, x)[0], y)
    for sizes in ([5, 5, 5], [1, 2, 12], [15], [1] * 15):
        assert equal(run_chunks(layer, x, sizes)[0], y)
    assert equal(run_chunks(layer, x, [4, 11], layer.initial_state(2))[0], y)


@pytest.mark.parametrize("mode", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("shape", [(), (2,), (2, 5), (2, 3, 2)], ids=str)
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_steps_equal_sequence_per_channel(interpolation, shape, mode):
    layer = make(4, interpolation=interpolation, learn_sigma=interpolation != "linear").train(mode)
    x = torch.randn(11, *shape[:1], 4, *shape[1:], dtype=F64)
    y = layer(x)
    assert equal(y, oracle.convolve_channels(x, layer.kernel(), 11))
    assert equal(run_steps(layer, x)[0], y)
    assert equal(run_chunks(layer, x, [3, 8])[0], y)


@pytest.mark.parametrize("batch", [(), (1,), (2,), (2, 3), (2, 1, 3)], ids=str)
@pytest.mark.parametrize("engine", ["auto", "fft", "direct", "dcls"])
def test_any_batch_dimensions(engine, batch):
    layer = make(4, 3, engine=engine, bias=True)
    x = torch.randn(9, *batch, 4, dtype=F64)
    y = layer(x)
    assert y.shape == (9, *batch, 3)
    expected = oracle.convolve(x.reshape(9, -1, 4), layer.kernel(), 9).reshape(y.shape) + layer.bias
    assert equal(y, expected)
    assert equal(run_steps(layer, x)[0], y)
    assert equal(run_chunks(layer, x, [2, 7])[0], y)


@pytest.mark.parametrize("sizes", [(4, 3), (4,)], ids=["synapse", "channel"])
@pytest.mark.parametrize("max_delay", [0, 1, 20])
def test_any_max_delay(sizes, max_delay):
    layer = make(*sizes, max_delay=max_delay)
    x = torch.randn(7, 2, 4, dtype=F64)
    assert equal(run_steps(layer, x)[0], layer(x))
    assert equal(run_chunks(layer, x, [1, 2, 4])[0], layer(x))
    y, state = layer.chunk(x, None)
    assert state.history.shape == (max_delay, 2, 4)
    assert y.shape[0] == 7


def test_steps_and_chunks_mix():
    layer = make(4, 3)
    x = torch.randn(12, 2, 4, dtype=F64)
    first, state = run_steps(layer, x[:3])
    second, state = layer.chunk(x[3:9], state)
    last, _ = layer.step(x[9], state)
    assert equal(torch.cat((first, second, last[None])), layer(x[:10]))


def test_gradients_of_steps_chunks_and_sequence_agree():
    layer = make(4, 3, taps=2, learn_sigma=True, bias=True)
    x = torch.randn(13, 2, 4, dtype=F64, requires_grad=True)
    inputs = (x, *layer.parameters())
    assert len(inputs) == 5
    upstream = torch.randn(13, 2, 3, dtype=F64)
    expected = torch.autograd.grad(layer(x), inputs, upstream)
    for y in (run_steps(layer, x)[0], run_chunks(layer, x, [4, 4, 5])[0]):
        for a, b in zip(torch.autograd.grad(y, inputs, upstream), expected, strict=True):
            assert equal(a, b)
            assert a.any()


@pytest.mark.parametrize("engine", ["fft", "direct", "dcls"])
def test_engines_have_equal_gradients(engine):
    layer = make(4, 3, taps=2, learn_sigma=True, bias=True)
    x = torch.randn(13, 2, 4, dtype=F64, requires_grad=True)
    inputs = (x, *layer.parameters())
    upstream = torch.randn(13, 2, 3, dtype=F64)
    expected = torch.autograd.grad(layer(x), inputs, upstream)
    layer.engine = engine
    for a, b in zip(torch.autograd.grad(layer(x), inputs, upstream), expected, strict=True):
        assert equal(a, b, 1e-6 if engine == "dcls" else 1e-10)


@settings(max_examples=examples(25))
@given(
    max_delay=st.integers(0, 8),
    steps=st.integers(1, 12),
    cut=st.integers(1, 11),
    taps=st.integers(1, 2),
    interpolation=st.sampled_from(INTERPOLATIONS),
)
def test_any_sequence_can_be_cut(max_delay, steps, cut, taps, interpolation):
    layer = make(3, 2, max_delay=max_delay, taps=taps, interpolation=interpolation)
    x = torch.randn(steps, 2, 3, dtype=F64)
    sizes = [cut, steps - cut] if cut < steps else [steps]
    assert equal(run_chunks(layer, x, sizes)[0], layer(x))
    assert equal(run_steps(layer, x)[0], layer(x))


@pytest.mark.parametrize(("sizes", "engine"), [((4, 3), "fft"), ((4, 3), "direct"), ((4,), "channel")])
def test_causality(sizes, engine):
    layer = make(*sizes, engine=engine)
    x = torch.randn(12, 2, 4, dtype=F64)
    later = x.clone()
    later[5] += 1
    before, after = layer(x), layer(later)
    assert equal(before[:5], after[:5], 1e-13)
    assert ((before - after)[5].abs() > 1e-6).any()


# ------------------------------------------------------------------------------------------------ laws of the delays


@pytest.mark.parametrize("delay", [0, 1, 4, 6])
@pytest.mark.parametrize("engine", ["auto", "fft", "direct", "dcls"])
def test_whole_delays_shift_the_input(engine, delay):
    layer = LearnableDelay(4, 3, max_delay=6, interpolation="linear", init=delay, engine=engine, bias=True, dtype=F64)
    x = torch.randn(12, 2, 4, dtype=F64)
    expected = functional.linear(oracle.shift(x, delay), layer.weight[..., 0], layer.bias)
    assert equal(layer(x), expected, 1e-6)  # DCLS adds 1e-7 to its norm
    layer.eval()
    assert equal(layer(x), expected)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_whole_delays_shift_each_channel(interpolation):
    layer = make(4, interpolation=interpolation)
    with torch.no_grad():
        layer.delays.copy_(torch.tensor([0, 6, 2, 1]))
    x = torch.randn(12, 2, 4, 3, dtype=F64)
    expected = torch.stack([oracle.shift(x[:, :, c], d) for c, d in enumerate((0, 6, 2, 1))], 2)
    assert equal(layer.eval()(x), expected, 0.0)
    if interpolation == "linear":
        assert equal(layer.train()(x), expected, 1e-5)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_no_delay_is_the_plain_layer_in_eval(interpolation):
    layer = LearnableDelay(4, 3, max_delay=6, interpolation=interpolation, init=0)
    x = torch.randn(12, 2, 4)
    assert torch.allclose(layer.eval()(x), x @ layer.weight[..., 0].T, atol=1e-6)


@pytest.mark.parametrize("engine", ["fft", "direct"])
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("steps", [3, 15])
def test_tail_flushes_what_is_under_way(steps, interpolation, engine):
    layer = make(4, 3, interpolation=interpolation, engine=engine, taps=2)
    x = torch.randn(steps, 2, 4, dtype=F64)
    y = layer(x, tail=6)
    assert y.shape == (steps + 6, 2, 3)
    assert torch.allclose(y.sum(0), x.sum(0) @ layer.weight.sum(-1).T, atol=1e-5)
    assert equal(y[:steps], layer(x))
    silent = torch.cat((x, torch.zeros(6, 2, 4, dtype=F64)))
    assert equal(layer(x, tail=4), layer(silent)[: steps + 4])


def test_tail_per_channel():
    layer = make(4)
    x = torch.randn(5, 2, 4, 3, dtype=F64)
    y = layer(x, tail=6)
    assert y.shape == (11, 2, 4, 3)
    assert torch.allclose(y.sum(0), x.sum(0), atol=1e-5)


# -------------------------------------------------------------------------------------------------------- evaluation


@pytest.mark.parametrize("sizes", [(4, 3), (4,)], ids=["synapse", "channel"])
def test_eval_rounds_and_leaves_the_parameters(sizes):
    layer = make(*sizes, learn_sigma=True)
    before = copy.deepcopy(layer.state_dict())
    x = torch.randn(9, 2, 4, dtype=F64)
    trained = layer(x)
    rounded = copy.deepcopy(layer)
    with torch.no_grad():
        rounded.delays.copy_((layer.delays + 0.5).floor())
    evaluated = layer.eval()(x)
    assert not equal(evaluated, trained, 1e-3)
    assert torch.equal(evaluated, rounded.eval()(x))
    kernel = layer.kernel()
    assert (kernel != 0).sum() == layer.delays.numel()
    for name, value in layer.state_dict().items():
        assert torch.equal(value, before[name])
    assert torch.equal(layer.train()(x), trained)


def test_eval_without_rounding():
    layer = make(4, 3, round_in_eval=False)
    x = torch.randn(9, 2, 4, dtype=F64)
    assert torch.equal(layer.eval()(x), layer.train()(x))


def test_weights_train_in_eval_but_delays_get_no_gradient():
    layer = make(4, 3).eval()
    layer(torch.randn(9, 2, 4, dtype=F64)).sum().backward()
    assert layer.weight.grad.any()
    assert layer.delays.grad is None


# ------------------------------------------------------------------------------------------------------------- input


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int8, torch.int64])
@pytest.mark.parametrize("sizes", [(4, 3), (4,)], ids=["synapse", "channel"])
def test_spikes_of_any_type(sizes, dtype):
    layer = make(*sizes, dtype=torch.float32)
    spikes = torch.rand(9, 2, 4) < 0.3
    expected = layer(spikes.float())
    assert expected.dtype == torch.float32
    assert torch.equal(layer(spikes.to(dtype)), expected)
    assert equal(run_steps(layer, spikes.to(dtype))[0], expected, 1e-5)
    assert equal(run_chunks(layer, spikes.to(dtype), [4, 5])[0], expected, 1e-5)


def test_large_finite_input_is_not_taken_for_infinite():
    layer = LearnableDelay(3, max_delay=1, init=0, dtype=torch.float16)
    assert layer.eval()(torch.full((50, 50, 3), 1000.0, dtype=torch.float16)).isfinite().all()


@pytest.mark.parametrize("engine", ["auto", "fft", "direct"])
def test_empty_batch(engine):
    assert LearnableDelay(4, 3, max_delay=2, engine=engine)(torch.zeros(5, 0, 4)).shape == (5, 0, 3)


@pytest.mark.parametrize("engine", ["fft", "direct", "dcls"])
def test_autocast(engine):
    layer = LearnableDelay(8, 6, max_delay=5, engine=engine)
    x = (torch.rand(20, 3, 8) < 0.3).float()
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
        stepped, _ = layer.step(x[0].bfloat16(), layer.initial_state(3))
        layer.chunk(x.bfloat16(), None)
    y.float().sum().backward()
    assert torch.allclose(y.float(), layer(x), atol=0.05)
    assert torch.allclose(stepped.float(), layer(x)[0], atol=0.05)
    assert layer.delays.grad.dtype == torch.float32


def test_transforms_keep_their_precision_under_autocast():
    layer = LearnableDelay(8, 6, max_delay=40, engine="fft")
    x = (torch.rand(150, 3, 8) < 0.3).float()
    expected = layer(x)
    expected.sum().backward()
    gradient, layer.delays.grad = layer.delays.grad, None
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
        assert y.dtype == torch.float32
        y.sum().backward()
    assert torch.allclose(y, expected, atol=1e-5)
    assert torch.allclose(layer.delays.grad, gradient, rtol=1e-3, atol=1e-4 * gradient.abs().max())


# ------------------------------------------------------------------------------------------------------ weights, state


def test_passed_weights():
    own = make(4, 3, taps=2)
    bare = LearnableDelay(4, 3, max_delay=6, taps=2, weight=False, dtype=F64)
    assert bare.weight is None
    assert list(bare.state_dict()) == ["delays", "sigma"]
    bare.load_state_dict(own.state_dict(), strict=False)
    x, weight = torch.randn(9, 2, 4, dtype=F64), own.weight.detach().clone().requires_grad_()
    y = bare(x, weight=weight)
    assert torch.equal(y, own(x))
    assert equal(run_steps(bare, x, weight=weight)[0], y)
    assert equal(bare.chunk(x, None, weight=weight)[0], y)
    y.sum().backward()
    assert weight.grad.any()
    other = torch.randn(3, 4, 2, dtype=F64)
    assert torch.equal(own(x, weight=other), bare(x, weight=other))


def test_passed_weights_of_a_linear_layer():
    linear, bare = nn.Linear(4, 3), LearnableDelay(4, 3, max_delay=6, weight=False, interpolation="linear", init=0)
    x = torch.randn(9, 2, 4)
    assert torch.allclose(bare(x, weight=linear.weight) + linear.bias, linear(x), atol=1e-6)


def count_kernels(layer):
    built = []
    original = layer.kernel
    layer.kernel = lambda weight=None: built.append(1) or original(weight)
    return built


@pytest.mark.parametrize("sizes", [(4, 3), (4,)], ids=["synapse", "channel"])
def test_one_kernel_per_sequence(sizes):
    layer = make(*sizes)
    built = count_kernels(layer)
    _, state = run_steps(layer, torch.randn(9, 2, 4, dtype=F64))
    assert len(built) == 1
    x = torch.randn(2, 4, dtype=F64)
    assert state.kernel.requires_grad
    _, state = layer.step(x, state.detach())
    assert len(built) == 2
    with torch.no_grad():
        y, state = layer.step(x, state)
        assert len(built) == 3
        assert not state.kernel.requires_grad
        _, state = layer.step(x, state)
        assert len(built) == 3
    y, state = layer.step(x, state)
    assert len(built) == 4
    assert y.requires_grad


def test_one_kernel_for_frozen_passed_and_rounded_weights():
    layer = LearnableDelay(4, 3, max_delay=6, weight=False, dtype=F64)
    x = torch.randn(9, 2, 4, dtype=F64)
    built = count_kernels(layer)
    run_steps(layer, x, weight=torch.ones(3, 4, dtype=F64))
    run_steps(layer, x, weight=torch.ones(3, 4, dtype=F64, requires_grad=True))
    layer.eval()
    run_steps(layer, x, weight=torch.ones(3, 4, dtype=F64))
    run_steps(layer, x, weight=torch.ones(3, 4, dtype=F64, requires_grad=True))
    layer.train().delays.requires_grad_(False)
    run_steps(layer, x, weight=torch.ones(3, 4, dtype=F64))
    assert len(built) == 5


def test_truncated_backpropagation():
    layer = make(4, 3)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1e-3)
    state = layer.initial_state(2)
    for _ in range(3):
        optimizer.zero_grad()
        total = 0.0
        for _ in range(4):
            y, state = layer.step(torch.randn(2, 4, dtype=F64), state)
            total = total + y.square().sum()
        total.backward()
        optimizer.step()
        state = state.detach()
        assert state.kernel is None
        assert layer.delays.grad.any()


def test_a_state_does_not_keep_the_sequence_alive():
    layer = make(4)
    _, state = layer.chunk(torch.randn(500, 2, 4, dtype=F64), None)
    assert state.history.untyped_storage().nbytes() == state.history.numel() * 8


def test_initial_state():
    assert make(4, 3).initial_state(2, 5).history.shape == (6, 2, 5, 4)
    assert make(4).initial_state(2, trailing=(7, 8)).history.shape == (6, 2, 4, 7, 8)
    state = make(4).initial_state()
    assert state.history.shape == (6, 4)
    assert state.history.dtype == F64
    assert not state.history.any()
    assert state.kernel is None


def test_second_training_step_after_an_optimizer_step():
    layer = make(4, 3, taps=2, learn_sigma=True, bias=True)
    optimizer = torch.optim.Adam(layer.parameters(), lr=1e-2)
    x, target = torch.randn(12, 2, 4, dtype=F64), torch.randn(12, 2, 3, dtype=F64)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = (layer(x) - target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[1] < losses[0]


def test_a_delay_is_learned():
    layer = LearnableDelay(1, max_delay=10, init=7.0, sigma=3.0)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    x = torch.zeros(20, 1, 1)
    x[2] = 1
    wanted = LearnableDelay(1, max_delay=10, init=3.0, sigma=3.0)(x).detach()
    for _ in range(150):
        optimizer.zero_grad()
        (layer(x) - wanted).square().sum().backward()
        optimizer.step()
    assert layer.delays.item() == pytest.approx(3, abs=0.2)


# --------------------------------------------------------------------------------------------------------------- DCLS


def make_dcls(size=7, count=1, version="gauss", bias=True, learn_sigma=True):
    module = Dcls1d(4, 3, count, dilated_kernel_size=size, bias=bias, version=version).double()
    with torch.no_grad():
        low, high = -(size // 2), size - 1 - size // 2
        module.P.uniform_(low, high)
        module.P.view(-1)[0], module.P.view(-1)[1] = low, high
        if module.SIG is not None:
            module.SIG.uniform_(-3, 3)
            module.SIG.requires_grad_(learn_sigma)
    return module


def run_dcls(module, x):
    """x (T, B, I) through a Dcls1d, padded on the left."""
    padded = functional.pad(x.permute(1, 2, 0), (module.dilated_kernel_size[0] - 1, 0))
    return module(padded).permute(2, 0, 1)


@pytest.mark.parametrize("learn_sigma", [True, False], ids=["trained", "frozen"])
@pytest.mark.parametrize("version", ["gauss", "max", "v1"])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("size", [7, 8, 1])
def test_dcls_there_and_back(size, count, version, learn_sigma):
    module = make_dcls(size, count, version, learn_sigma=learn_sigma)
    if size == 1:
        module.P.data.zero_()
    x = torch.randn(12, 2, 4, dtype=F64)
    layer = LearnableDelay.from_dcls(module)
    assert equal(layer(x), run_dcls(module, x))
    assert isinstance(layer.sigma, nn.Parameter) == (learn_sigma and version != "v1")
    back = layer.to_dcls()
    assert equal(run_dcls(back, x), run_dcls(module, x))
    assert back.version == module.version
    for name, parameter in module.named_parameters():
        found = dict(back.named_parameters())[name]
        assert found.requires_grad == parameter.requires_grad, name
        assert torch.allclose(found, parameter.abs() if name == "SIG" else parameter), name
    again = LearnableDelay.from_dcls(back)
    assert torch.allclose(again.delays, layer.delays)
    assert equal(again(x), layer(x))


def test_dcls_of_a_fresh_layer_and_of_the_engine():
    x = torch.randn(12, 2, 4, dtype=F64)
    for interpolation in INTERPOLATIONS:
        layer = make(4, 3, taps=2, bias=True, interpolation=interpolation)
        assert equal(run_dcls(layer.to_dcls(), x), layer(x))
        assert LearnableDelay.from_dcls(layer.to_dcls(), engine="dcls", round_in_eval=False).engine == "dcls"


@pytest.mark.parametrize("learn_sigma", [True, False])
def test_dcls_of_delays_per_channel(learn_sigma):
    layer = make(4, learn_sigma=learn_sigma)
    module, x = layer.to_dcls(), torch.randn(12, 2, 4, dtype=F64)
    assert equal(run_dcls(module, x), layer(x))
    assert module.groups == 4
    assert not module.weight.requires_grad
    assert module.SIG.requires_grad == learn_sigma


def test_equal_widths_become_the_scalar_a_schedule_moves():
    module = make_dcls(learn_sigma=False)
    module.SIG.data.fill_(2.0)
    assert LearnableDelay.from_dcls(module).sigma.item() == pytest.approx(2.27)


def test_frozen_positions_stay_frozen():
    module = make_dcls()
    module.P.requires_grad_(False)
    layer = LearnableDelay.from_dcls(module)
    assert not layer.delays.requires_grad
    assert not layer.to_dcls().P.requires_grad


def test_converted_tensors_are_copies():
    module = make_dcls()
    layer = LearnableDelay.from_dcls(module)
    before = layer.weight.clone()
    module.weight.data.zero_()
    module.P.data.zero_()
    assert torch.equal(layer.weight, before)
    back = layer.to_dcls()
    layer.weight.data.zero_()
    assert torch.equal(back.weight, before)


def test_position_outside_of_an_even_kernel_is_refused():
    module = make_dcls(8)
    module.P.data.view(-1)[3] = 4.0  # K / 2: DCLS makes no tap of it
    with pytest.raises(ArgumentError, match=r"module.P: expected delays between 0 and 7 steps, got values from -1 to "):
        LearnableDelay.from_dcls(module)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Conv1d(2, 2, 3), "module: expected a DCLS.construct.modules.Dcls1d, got Conv1d"),
        (Dcls1d(2, 2, 1, stride=2, dilated_kernel_size=3), r"module.stride: expected \(1,\), got \(2,\)"),
        (Dcls1d(2, 2, 1, padding=1, dilated_kernel_size=3), r"module.padding: expected \(0,\), got \(1,\)"),
        (Dcls1d(2, 2, 1, groups=2, dilated_kernel_size=3), "module.groups: expected 1, got 2"),
        (Dcls1d(2, 2, 1, dilated_kernel_size=3, version="v0"), "module.version: expected one of gauss, max, v1, got"),
    ],
)
def test_modules_that_are_no_delay(module, message):
    with pytest.raises(ArgumentError, match=message):
        LearnableDelay.from_dcls(module)


def test_no_weights_no_dcls():
    with pytest.raises(ArgumentError, match="weight: expected a tensor"):
        LearnableDelay(4, 3, max_delay=2, weight=False).to_dcls()


# ----------------------------------------------------------------------------------------------------- copies, storage


LAYERS = {
    "synapse": lambda: make(4, 3, taps=2, bias=True),
    "learned": lambda: make(4, 3, learn_sigma=True),
    "channel": lambda: make(4, interpolation="triangle"),
    "linear": lambda: make(4, 3, interpolation="linear"),
}


def saved(layer):
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    return torch.load(io.BytesIO(file.getvalue()), weights_only=True)


@pytest.mark.parametrize("build", LAYERS.values(), ids=LAYERS)
def test_state_dict_deepcopy_and_pickle(build):
    layer, other = build(), build()
    x = torch.randn(9, 2, 4, dtype=F64)
    y = layer(x)
    assert not equal(other(x), y, 1e-3)
    other.load_state_dict(saved(layer))
    for copied in (other, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(copied(x), y)
        assert repr(copied) == repr(layer)
    copied.delays.data.zero_()
    assert torch.equal(layer(x), y)


@pytest.mark.parametrize("value", [-0.1, 6.1, math.nan, math.inf])
@pytest.mark.parametrize("assign", [False, True])
def test_loading_delays_out_of_range(value, assign):
    model = nn.Sequential(make(4, 3))
    state = model.state_dict()
    state["0.delays"] = state["0.delays"].clone()
    state["0.delays"].view(-1)[2] = value
    with pytest.raises(ArgumentError, match=r"0.delays: expected delays between 0 and 6 steps, got values from .*"):
        model.load_state_dict(state, assign=assign)


@pytest.mark.parametrize("learn_sigma", [False, True])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_loading_a_width_that_is_none(value, learn_sigma):
    layer = make(4, 3, learn_sigma=learn_sigma)
    state = {**layer.state_dict(), "sigma": torch.full_like(layer.sigma, value)}
    with pytest.raises(ArgumentError, match=r"sigma: expected finite widths >= 0.27 steps, got values from"):
        layer.load_state_dict(state)


def test_widths_at_the_floor_load_in_every_precision():
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        layer = LearnableDelay(4, 3, max_delay=6, sigma=0.27, dtype=dtype)
        for other in (torch.float64, torch.float32, torch.bfloat16):
            LearnableDelay(4, 3, max_delay=6, dtype=other).load_state_dict(layer.state_dict())


@pytest.mark.parametrize("engine", ["fft", "direct"])
def test_export(engine):
    layer = LearnableDelay(4, 3, max_delay=5, engine=engine).eval()
    x = torch.randn(19, 2, 4)  # a length that no other test has cached
    program = torch.export.export(layer, (x,))
    assert torch.allclose(program.module()(x), layer(x), atol=1e-6)
    assert type(layer(x)) is torch.Tensor
    layer(x).sum().backward()


def test_extra_repr():
    found = LearnableDelay(4, 3, max_delay=24, taps=2, round_in_eval=False, engine="fft")
    assert repr(found) == (
        "LearnableDelay(4, 3, max_delay=24, interpolation='gauss', sigma=12.27, bias=False, taps=2, "
        "engine='fft', round_in_eval=False)"
    )
    assert repr(LearnableDelay(4, max_delay=2, interpolation="linear")) == (
        "LearnableDelay(4, max_delay=2, interpolation='linear')"
    )
    assert "learn_sigma=True" in repr(LearnableDelay(4, max_delay=2, learn_sigma=True))
    assert "max_delay=2" in repr(LearnableDelay(4, max_delay=2, device="meta"))


def test_initialisation():
    layer = LearnableDelay(50, 40, max_delay=10, taps=2, bias=True)
    assert 0 <= layer.delays.min() < 0.1
    assert 9.9 < layer.delays.max() <= 10
    assert layer.delays.mean().item() == pytest.approx(5, abs=0.3)
    assert 0.09 < layer.weight.max() <= 0.1  # 1 / sqrt(inputs * taps)
    assert layer.bias.abs().max() <= 0.1
    assert layer.sigma.item() == pytest.approx(5.27)
    assert LearnableDelay(5, max_delay=10, init=2.5).delays.tolist() == [2.5] * 5
    assert LearnableDelay(5, max_delay=4, interpolation="triangle").sigma.item() == 3


# ------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"in_features": 0}, "in_features: expected an integer >= 1, got 0"),
        ({"in_features": True}, "in_features: expected an integer >= 1, got True"),
        ({"out_features": -1}, "out_features: expected an integer >= 1, got -1"),
        ({"max_delay": -1}, "max_delay: expected an integer >= 0, got -1"),
        ({"max_delay": 2.0}, "max_delay: expected an integer >= 0, got 2.0"),
        ({"taps": 0}, "taps: expected an integer >= 1, got 0"),
        ({"out_features": None, "taps": 2}, "out_features: expected a number of outputs for taps > 1 .* got taps=2"),
        ({"out_features": None, "bias": True}, "out_features: expected .* got taps=1, bias=True"),
        (
            {"out_features": None, "engine": "dcls"},
            "engine: expected one of auto, channel for .*, got 'dcls'",
        ),
        ({"interpolation": "cubic"}, "interpolation: expected one of gauss, triangle, linear, got 'cubic'"),
        ({"engine": "gpu"}, "engine: expected one of auto, fft, direct, dcls for delays per synapse, got 'gpu'"),
        ({"sigma": 0.2}, "sigma: expected a width >= 0.27 steps with interpolation='gauss', got 0.2"),
        ({"sigma": math.nan}, "sigma: expected a width >= 0.27 steps .*, got nan"),
        ({"sigma": math.inf}, "sigma: expected a width >= 0.27 steps .*, got inf"),
        ({"sigma": 0.9, "interpolation": "triangle"}, "sigma: expected a width >= 1.0 steps .*, got 0.9"),
        ({"sigma": 1.0, "interpolation": "linear"}, "sigma: expected None with interpolation='linear'.*, got 1.0"),
        ({"learn_sigma": True, "interpolation": "linear"}, "learn_sigma: expected False with interpolation='linear'"),
        ({"init": "normal"}, "init: expected 'uniform' or a delay in steps, got 'normal'"),
        ({"init": -0.5}, "init: expected a delay between 0 and max_delay=5 steps, got -0.5"),
        ({"init": 5.1}, "init: expected a delay between 0 and max_delay=5 steps, got 5.1"),
        ({"init": math.nan}, "init: expected a delay between 0 and max_delay=5 steps, got nan"),
    ],
)
def test_constructor_errors(options, message):
    arguments = {"in_features": 4, "out_features": 3, "max_delay": 5, **options}
    with pytest.raises(ArgumentError, match=message):
        LearnableDelay(arguments.pop("in_features"), arguments.pop("out_features"), **arguments)


@pytest.mark.parametrize("dtype", [torch.int64, torch.complex64])
def test_dtype_must_be_floating(dtype):
    with pytest.raises(ArgumentError, match=f"dtype: expected a floating point type, got {dtype}"):
        LearnableDelay(4, 3, max_delay=5, dtype=dtype)


SYNAPSE, CHANNEL = LearnableDelay(4, 3, max_delay=5), LearnableDelay(4, max_delay=5)


@pytest.mark.parametrize(
    ("layer", "x", "message"),
    [
        (SYNAPSE, torch.zeros(9, 2, 5), r"x: expected shape \(T, \*batch, 4\), got \(9, 2, 5\)"),
        (SYNAPSE, torch.zeros(4), r"x: expected shape \(T, \*batch, 4\), got \(4,\)"),
        (CHANNEL, torch.zeros(9, 2, 5, 4), r"x: expected shape \(T, B, 4, ...\), got \(9, 2, 5, 4\)"),
        (CHANNEL, torch.zeros(9, 5), r"x: expected shape \(T, B, 4, ...\), got \(9, 5\)"),
        (SYNAPSE, torch.zeros(0, 2, 4), r"x: expected at least one step, got \(0, 2, 4\)"),
        (
            SYNAPSE,
            torch.zeros(9, 2, 4, dtype=F64),
            "x: expected dtype torch.float32, half .*, got torch.float64",
        ),
        (SYNAPSE, torch.zeros(9, 2, 4, dtype=torch.complex64), "x: expected real values, got torch.complex64"),
        (SYNAPSE, torch.zeros(9, 2, 4).index_fill(0, torch.tensor(3), math.nan), "x: expected finite values, got NaN"),
        (CHANNEL, torch.zeros(9, 2, 4).index_fill(1, torch.tensor(1), math.inf), "x: expected finite values, got NaN"),
    ],
)
def test_input_errors(layer, x, message):
    with pytest.raises(ArgumentError, match=message):
        layer(x)
    with pytest.raises(ArgumentError, match=message):
        layer.chunk(x, None)


def test_opposite_infinities_are_found():
    x = torch.zeros(9, 2, 4)
    x[3, 0, 0], x[3, 0, 1] = math.inf, -math.inf
    with pytest.raises(ArgumentError, match="x: expected finite values"):
        SYNAPSE(x)


def test_step_input_errors():
    with pytest.raises(ArgumentError, match=r"x: expected shape \(\*batch, 4\), got \(2, 5\)"):
        SYNAPSE.step(torch.zeros(2, 5), SYNAPSE.initial_state(2))
    with pytest.raises(ArgumentError, match=r"x: expected shape \(B, 4, ...\), got \(2, 5\)"):
        CHANNEL.step(torch.zeros(2, 5), CHANNEL.initial_state(2))


@pytest.mark.parametrize("tail", [-1, 6, 1.5, math.nan])
def test_tail_errors(tail):
    with pytest.raises(ArgumentError, match="tail: expected a number of steps between 0 and max_delay=5, got "):
        SYNAPSE(torch.zeros(9, 2, 4), tail=tail)


@pytest.mark.parametrize("layer", [SYNAPSE, CHANNEL])
def test_state_of_another_batch(layer):
    message = r"state: expected a history of shape \(5, 2, 4\), got \(5, 3, 4\). Start a new sequence"
    with pytest.raises(ArgumentError, match=message):
        layer.step(torch.zeros(2, 4), layer.initial_state(3))
    with pytest.raises(ArgumentError, match=message):
        layer.chunk(torch.zeros(9, 2, 4), layer.initial_state(3))
    with pytest.raises(ArgumentError, match=r"state: .* got \(7, 2, 4\)"):
        layer.step(torch.zeros(2, 4), DelayState(torch.zeros(7, 2, 4)))


def test_weight_errors():
    x = torch.zeros(9, 2, 4)
    with pytest.raises(ArgumentError, match="weight: expected a tensor, since this layer does not hold the weights"):
        LearnableDelay(4, 3, max_delay=5, weight=False)(x)
    with pytest.raises(ArgumentError, match=r"weight: expected shape \(3, 4, 1\) .\.\.\., taps., got \(4, 3, 1\)"):
        SYNAPSE(x, weight=torch.zeros(4, 3))
    with pytest.raises(ArgumentError, match=r"weight: expected None for delays per channel, .* got \(4, 4\)"):
        CHANNEL(x, weight=torch.zeros(4, 4))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("out_features", [5, None])
@pytest.mark.parametrize("train", [True, False])
def test_half_precision_leaves_delays_precise(dtype: torch.dtype, out_features: int | None, train: bool) -> None:
    """Recipe, trap 11: in bfloat16 a delay of 23.55 would be one of 23.5."""
    layer = LearnableDelay(4, out_features, max_delay=24, init=23.55, sigma=1.0).train(train)
    x = (torch.rand(40, 3, 4) < 0.3).float()
    expected = layer(x)
    expected.requires_grad and layer(x).sum().backward()  # a gradient has to be moved along
    layer.to(dtype)
    assert layer.delays.dtype == layer.sigma.dtype == torch.float32
    assert torch.all(layer.delays == 23.55)
    if layer.weight is not None:
        assert layer.weight.dtype == dtype
    y = layer(x.to(dtype))
    assert y.dtype == dtype
    torch.testing.assert_close(y.float(), expected, rtol=2e-2, atol=2e-2)
    state = None
    for t, x_t in enumerate(x.to(dtype)):
        y_t, state = layer.step(x_t, state)
        assert y_t.dtype == dtype
        torch.testing.assert_close(y_t, y[t], rtol=2e-2, atol=2e-2)
    assert y.requires_grad == expected.requires_grad
    y.requires_grad and y.float().sum().backward()


BASE = {"max_delay": 3, "weight": True, "bias": 0, "fan_in": 2, "options": KernelOptions("linear")}
BASE |= {"device": None, "dtype": None}


def test_the_base_of_all_layers_cannot_be_made():
    with pytest.raises(TypeError, match="abstract"):
        DelayLayer((2, 2), **BASE)


@pytest.mark.parametrize("missing", ["_convolve", "_step_kernel", "_convolve_step", "_check_input"])
def test_a_layer_that_does_not_say_how_taps_are_applied_cannot_be_made(missing):
    parts = ("_convolve", "_step_kernel", "_convolve_step", "_check_input")
    whole = {name: getattr(LearnableDelay, name) for name in parts}
    type("Whole", (DelayLayer,), whole)((2, 2), **BASE)
    forgetful = type("Forgetful", (DelayLayer,), {name: part for name, part in whole.items() if name != missing})
    with pytest.raises(TypeError, match=missing):
        forgetful((2, 2), **BASE)


# ------------------------------------------------------------------------------------------ what a state was made from


def from_history(layer, x, state, **options):
    """The step with nothing but the history: whatever else a state holds must make no difference."""
    return layer.step(x, DelayState(state.history.clone()), **options)[0]


@pytest.mark.parametrize("grad", [True, False], ids=["grad", "no_grad"])
@pytest.mark.parametrize("mode", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("engine", ["auto", "direct"])
def test_weights_made_for_each_step_are_used(engine, mode, grad):
    """A weight that is gone leaves its id to the next one."""
    layer = LearnableDelay(4, 3, max_delay=2, weight=False, engine=engine).train(mode)
    x, base, state = torch.randn(8, 2, 4), torch.randn(3, 4), layer.initial_state(2)
    with torch.set_grad_enabled(grad):
        for t in range(8):
            expected = from_history(layer, x[t], state, weight=base * (t + 1))
            y, state = layer.step(x[t], state, weight=base * (t + 1))
            assert torch.allclose(y, expected, atol=1e-5)


@pytest.mark.parametrize("sizes", [(3,), (3, 3)], ids=["channel", "synapse"])
def test_the_state_of_a_layer_that_is_gone_is_used_as_a_history(sizes):
    x = torch.ones(2, 3)
    for _ in range(50):
        _, state = LearnableDelay(*sizes, max_delay=4).eval().step(x, None)
        layer = LearnableDelay(*sizes, max_delay=4, init=0.0).eval()
        expected = from_history(layer, x, state)
        y, _ = layer.step(x, state)
        assert torch.allclose(y, expected, atol=1e-6)


@pytest.mark.parametrize(("sizes", "engine"), [((4,), "auto"), ((4, 3), "auto"), ((4, 3), "direct")])
def test_round_in_eval_switched_within_a_sequence(sizes, engine):
    layer, x, state = LearnableDelay(*sizes, max_delay=5, engine=engine).eval(), torch.rand(12, 2, 4), None
    with torch.no_grad():
        for t in range(12):
            layer.round_in_eval = t % 4 < 2
            expected = layer(x[: t + 1])[t]
            y, state = layer.step(x[t], state)
            assert torch.allclose(y, expected, atol=1e-5)


@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, copy.copy, lambda state: pickle.loads(pickle.dumps(state))],
    ids=["deepcopy", "copy", "pickle"],
)
@pytest.mark.parametrize("mode", [True, False], ids=["train", "eval"])
def test_a_copied_state_is_its_history(copied, mode):
    """In training the kernel has a graph, which neither copies nor pickles; in eval() its outputs may be stale."""
    layer, x = LearnableDelay(4, 3, max_delay=5).train(mode), torch.rand(12, 2, 4)
    _, state = run_steps(layer, x.float()[:8])
    new = copied(state)
    assert isinstance(new, DelayState)
    assert torch.equal(new.history, state.history)
    assert new.history.untyped_storage().nbytes() == state.history.numel() * 4
    assert (new.kernel, new.made_from, new.pending, new.tape) == (None,) * 4
    with torch.no_grad():
        layer.weight.mul_(2)
    assert torch.allclose(layer.step(x[8], new)[0], from_history(layer, x[8], state), atol=1e-6)


@pytest.mark.parametrize("engine", ["auto", "direct"])
def test_a_state_is_used_as_it_is_while_nothing_changes(engine, monkeypatch):
    layer, x = LearnableDelay(4, 3, max_delay=5, engine=engine).eval(), torch.rand(12, 2, 4)
    with torch.no_grad():
        _, state = layer.step(x[0], None)
        built = []
        for name in ("kernel", "_pending", "_launch"):
            monkeypatch.setattr(layer, name, lambda *_, name=name: built.append(name))
        for x_t in x[1:]:
            before, (_, state) = state, layer.step(x_t, state)
            assert state.made_from is before.made_from
    assert not built


def test_compiled_steps_use_the_weights_that_they_get():
    layer, x, base = (
        LearnableDelay(4, 3, max_delay=2, weight=False, engine="direct"),
        torch.randn(6, 2, 4),
        torch.randn(3, 4),
    )
    step = torch.compile(lambda x, state, weight: layer.step(x, state, weight=weight), backend="eager")
    state = layer.initial_state(2)
    with torch.no_grad():
        for t in range(6):
            expected = from_history(layer, x[t], state, weight=base * (t + 1))
            y, state = step(x[t], state, base * (t + 1))
            assert torch.allclose(y, expected, atol=1e-5)
