"""Layers with whole delays: what they compute, keep, save and load."""

import copy
import io
import pickle

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn

from delayplug import ArgumentError, ConvDelay, Frozen, FrozenConvDelay, LearnableDelay, WiringError, freeze_delays
from delayplug.layers.conv import KernelDelay
from tests.profiles import examples


def in_steps(layer, x: Tensor, weight: Tensor | None = None, cut: int = 10**9) -> Tensor:
    """By single steps up to a place, and in one chunk from there."""
    state, outputs = None, []
    for x_t in x[:cut]:
        y, state = layer.step(x_t, state, weight)
        outputs.append(y.unsqueeze(0))
    if cut < len(x):
        outputs.append(layer.chunk(x[cut:], state, weight)[0])
    return torch.cat(outputs)


@st.composite
def layers(draw):
    """A layer of any kind with delays among which are halves, and its input."""
    kind, max_delay = draw(st.sampled_from(["synapse", "channel", "conv"])), draw(st.integers(0, 9))
    width = {"interpolation": draw(st.sampled_from(["gauss", "triangle", "linear"]))}
    if width["interpolation"] != "linear":
        width["learn_sigma"] = draw(st.booleans())
    torch.manual_seed(draw(st.integers(0, 1000)))
    weight, batch, steps = None, draw(st.integers(1, 3)), draw(st.integers(1, 14))
    if kind == "synapse":
        taps, engine = draw(st.integers(1, 3)), draw(st.sampled_from(["auto", "fft", "direct"]))
        layer = LearnableDelay(5, 4, max_delay=max_delay, taps=taps, bias=draw(st.booleans()), engine=engine, **width)
        shape = (steps, batch, 5)
    elif kind == "channel":
        layer, shape = LearnableDelay(5, max_delay=max_delay, **width), (steps, batch, 5, 2)
    else:
        conv = draw(st.sampled_from([nn.Conv1d(4, 6, 3, groups=2), nn.ConvTranspose1d(4, 6, 3, stride=2)]))
        layer, weight = ConvDelay(conv, max_delay=max_delay, **width), conv.weight.detach()
        shape = (steps, batch, 4, 7)
    with torch.no_grad():
        layer.delays.mul_(4).round_().div_(4)
    x = (torch.rand(shape) < draw(st.sampled_from([0.05, 0.5]))).float() * torch.rand(shape)
    return layer, x, weight


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """To the bit on a CPU; elsewhere engines are chosen by what is known of their arguments."""
    return torch.equal(a, b) if a.device.type == "cpu" else torch.allclose(a, b, rtol=1e-4, atol=1e-5)


@settings(max_examples=examples(60))
@given(layers(), st.integers(0, 14))
def test_frozen_is_eval_to_the_bit(drawn, cut):
    layer, x, weight = drawn
    layer.eval()
    tail = {"tail": layer.max_delay, "weight": weight}
    with torch.no_grad():
        expected = layer(x, **tail), in_steps(layer, x, weight), in_steps(layer, x, weight, cut)
    learned = layer(x, weight=weight)
    whole = (layer.delays.detach() + 0.5).floor()
    freeze_delays(layer)
    assert isinstance(layer, Frozen)
    assert layer.delays.dtype == torch.uint8
    assert torch.equal(layer.delays.float(), whole)
    for training in (False, True):
        layer.train(training)
        with torch.no_grad():
            got = layer(x, **tail), in_steps(layer, x, weight), in_steps(layer, x, weight, cut)
        assert all(same(a, b) for a, b in zip(got, expected, strict=True))
        assert same(layer(x, weight=weight), learned)


@settings(max_examples=examples(25))
@given(layers())
def test_saved_copied_and_loaded_it_is_the_same(drawn):
    layer, x, weight = drawn
    fresh = copy.deepcopy(layer)
    freeze_delays(layer)
    with torch.no_grad():
        fresh.delays.uniform_(0, fresh.max_delay)
        freeze_delays(fresh)
        expected = layer(x, weight=weight)
        file = io.BytesIO()
        torch.save(layer.state_dict(), file)
        file.seek(0)
        fresh.load_state_dict(torch.load(file, weights_only=True), strict=True)
        for same in (fresh, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
            assert type(same) is type(layer)
            assert torch.equal(same(x, weight=weight), expected)


def frozen(**options) -> LearnableDelay:
    layer = LearnableDelay(3, 2, max_delay=6, **options)
    freeze_delays(layer)
    return layer


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.full((2, 3, 1), -1, dtype=torch.int16), "between 0 and 6"),
        (torch.full((2, 3, 1), 7, dtype=torch.uint8), "between 0 and 6"),
        (torch.full((2, 3, 1), 2**40), "between 0 and 6"),
        (torch.full((2, 3, 1), float("nan")), "integer dtype"),
        (torch.full((2, 3, 1), 2.5), "integer dtype"),
        (torch.ones((2, 3, 1), dtype=torch.bool), "integer dtype"),
        (torch.ones((2, 3, 1), dtype=torch.complex64), "integer dtype"),
    ],
    ids=["negative", "too large", "huge", "nan", "fractions", "bool", "complex"],
)
def test_hostile_delays_are_refused(value, message):
    layer = frozen()
    before, state = layer.delays.clone(), layer.state_dict()
    with pytest.raises(ArgumentError, match=message):
        layer.load_state_dict({**state, "delays": value})
    assert torch.equal(layer.delays, before)


def test_other_shapes_and_learned_checkpoints_are_refused():
    layer = frozen()
    with pytest.raises(RuntimeError, match="size mismatch"):
        layer.load_state_dict({**layer.state_dict(), "delays": torch.zeros(2, 4, 1, dtype=torch.uint8)})
    with pytest.raises(ArgumentError, match=r"before delayplug\.freeze_delays"):
        layer.load_state_dict(LearnableDelay(3, 2, max_delay=6).state_dict())
    with pytest.raises(RuntimeError, match="sigma"):
        LearnableDelay(3, 2, max_delay=6).load_state_dict(layer.state_dict())


def test_longer_integers_of_a_file_are_those_of_the_layer():
    layer = frozen()
    layer.load_state_dict({**layer.state_dict(), "delays": torch.full((2, 3, 1), 5)})
    assert layer.delays.dtype == torch.uint8
    assert layer.delays.unique().tolist() == [5]


def test_weights_train_and_delays_do_not():
    layer, x = frozen(), torch.rand(9, 4, 3)
    delays = layer.delays.clone()
    assert [name for name, _ in layer.named_parameters()] == ["weight"]
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    before = layer.weight.detach().clone()
    layer(x).square().sum().backward()
    stepped, state = [], layer.initial_state(4)
    for x_t in x:
        y, state = layer.step(x_t, state)
        stepped.append(y)
    (by_steps,) = torch.autograd.grad(torch.stack(stepped).square().sum(), layer.weight)
    torch.testing.assert_close(by_steps, layer.weight.grad, rtol=1e-4, atol=1e-4)
    optimizer.step()
    assert not torch.equal(layer.weight, before)
    assert torch.equal(layer.delays, delays)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_moved_to_another_precision_it_is_as_the_learned_layer(dtype):
    layer, x = LearnableDelay(3, 2, max_delay=6).eval(), torch.rand(9, 4, 3).to(dtype)
    learned = copy.deepcopy(layer).to(dtype)
    freeze_delays(layer)
    layer.to(dtype)
    assert layer.delays.dtype == torch.uint8
    assert layer.weight.dtype == dtype
    assert torch.equal(layer(x), learned(x))
    assert layer.initial_state(4).history.dtype == learned.initial_state(4).history.dtype == learned.delays.dtype


def test_it_says_what_it_is_and_cannot_be_made_or_drawn_anew():
    layer = frozen(taps=2)
    assert repr(layer) == "FrozenDelay(3, 2, max_delay=6, delays=uint8, bias=False, taps=2)"
    with pytest.raises(WiringError, match="frozen"):
        layer.reset_parameters()
    with pytest.raises(TypeError, match="freeze_delays"):
        type(layer)()


def test_dcls_takes_it():
    layer, x = frozen(taps=2), torch.rand(9, 4, 3)
    module = layer.to_dcls()
    expected = module(nn.functional.pad(x.permute(1, 2, 0), (6, 0))).permute(2, 0, 1)
    torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-5)


def test_inside_of_a_layer_it_leaves_that_name_to_the_layer():
    delay = KernelDelay(nn.Conv1d(2, 3, 3), max_delay=4)
    freeze_delays(delay)
    assert isinstance(delay, FrozenConvDelay)
    assert isinstance(delay, KernelDelay)
    assert type(delay).__name__ == "FrozenKernelDelay"
