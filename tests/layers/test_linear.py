import math

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import nn
from torch.nn import functional

from delayplug import ArgumentError, LearnableDelay, freeze_delays
from delayplug.layers.taps import INTERPOLATIONS
from tests import pretended
from tests.devices import DEVICE
from tests.layers import oracle
from tests.layers.running import F64, equal, make, run_chunks, run_steps
from tests.profiles import examples

# ------------------------------------------------------------------------------------ step, sequence, chunks, causality


@st.composite
def empty_inputs(draw):
    """A layer of any kind and engine, and the shape of an input that is empty in the batch or behind the channels."""
    max_delay, steps = draw(st.integers(0, 3)), draw(st.integers(1, 4))
    sizes = draw(st.lists(st.sampled_from([0, 0, 1, 2]), min_size=1, max_size=3).filter(lambda sizes: 0 in sizes))
    if draw(st.booleans()):
        layer = LearnableDelay(3, max_delay=max_delay)
        return layer, (steps, sizes[0], 3, *sizes[1:])
    engine = draw(st.sampled_from(["auto", "fft", "direct", "dcls"]))
    return LearnableDelay(3, 2, max_delay=max_delay, bias=draw(st.booleans()), engine=engine), (steps, *sizes, 3)


@settings(max_examples=examples(60))
@given(empty_inputs(), st.booleans(), st.booleans(), st.sampled_from([torch.float32, torch.float16, torch.bool]))
def test_nothing_comes_of_empty_inputs(drawn, training, frozen, dtype):
    layer, shape = drawn
    layer.train(training)
    if frozen:
        freeze_delays(layer)
    x = torch.rand(shape).to(dtype).requires_grad_(dtype.is_floating_point)
    expected = shape if layer.out_features is None else (*shape[:-1], 2)
    y, steps = layer(x), expected[0]
    assert y.shape == expected
    assert layer(x, tail=layer.max_delay).shape == (steps + layer.max_delay, *expected[1:])
    inputs = [value for value in (x, *layer.parameters()) if value.requires_grad]
    if y.requires_grad:
        gradients = torch.autograd.grad(y.sum(), inputs, create_graph=True, allow_unused=True)
        assert not any(gradient.any() for gradient in gradients if gradient is not None)
    with torch.no_grad():
        for grad in (False, True):
            with torch.set_grad_enabled(grad):
                assert run_chunks(layer, x, 2)[0].shape == expected
                state = None
                for x_t in x:
                    y_t, state = layer.step(x_t, state)
                    assert y_t.shape == expected[1:]
    if DEVICE.type != pretended.NAME:
        assert torch.func.vmap(layer)(x.detach().unsqueeze(0)).shape == (1, *expected)


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


def test_initial_state():
    assert make(4, 3).initial_state(2, 5).history.shape == (6, 2, 5, 4)
    assert make(4).initial_state(2, trailing=(7, 8)).history.shape == (6, 2, 4, 7, 8)
    state = make(4).initial_state()
    assert state.history.shape == (6, 4)
    assert state.history.dtype == F64
    assert not state.history.any()
    assert state.kernel is None


# --------------------------------------------------------------------------------------------------- laws of the delays


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
    assert torch.allclose(layer.eval()(x), x @ layer.weight[..., 0].T, rtol=1e-4, atol=1e-5)


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


# ---------------------------------------------------------------------------------------------------- input and weights


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
    assert torch.allclose(bare(x, weight=linear.weight) + linear.bias, linear(x), rtol=1e-4, atol=1e-5)


SYNAPSE, CHANNEL = LearnableDelay(4, 3, max_delay=5), LearnableDelay(4, max_delay=5)


def test_weight_errors():
    x = torch.zeros(9, 2, 4)
    with pytest.raises(ArgumentError, match="weight: expected a tensor, since this layer does not hold the weights"):
        LearnableDelay(4, 3, max_delay=5, weight=False)(x)
    with pytest.raises(ArgumentError, match=r"weight: expected shape \(3, 4, 1\) .\.\.\., taps., got \(4, 3, 1\)"):
        SYNAPSE(x, weight=torch.zeros(4, 3))
    with pytest.raises(ArgumentError, match=r"weight: expected None for delays per channel, .* got \(4, 4\)"):
        CHANNEL(x, weight=torch.zeros(4, 4))


# ----------------------------------------------------------------------------------------------------- the layer itself


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
        ({"engine": "gpu"}, "engine: expected one of auto, fft, direct, products, dcls for .*, got 'gpu'"),
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


@pytest.mark.real("torch.export")
@pytest.mark.parametrize("engine", ["fft", "direct", "auto"])
def test_export(engine):
    layer = LearnableDelay(4, 3, max_delay=5, engine=engine).eval()
    x = torch.randn(19, 2, 4)  # a length that no other test has cached
    program = torch.export.export(layer, (x,))
    assert torch.allclose(program.module()(x), layer(x), atol=1e-6)
    assert type(layer(x)) is torch.Tensor
    layer(x).sum().backward()
