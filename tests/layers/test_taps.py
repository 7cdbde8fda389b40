import math

import pytest
import torch
from hypothesis import given, settings, strategies as st

from delayplug import ArgumentError
from delayplug.layers import taps as kernels
from delayplug.layers.taps import INTERPOLATIONS, SIGMA_FLOOR, integer_taps, round_delays, taps
from tests.layers.oracle import FLOORS, dcls_taps, tap
from tests.profiles import examples

SHAPE = (3, 4)  # outputs, inputs


def arguments(max_delay, count, interpolation, width, *, per_synapse=False, dtype=torch.float64):
    """Delays with the borders, whole steps and halves among them; weights; sigma; all wanting gradients."""
    delays = torch.rand(*SHAPE, count, dtype=dtype) * max_delay
    special = [0.0, max_delay, max_delay // 2, max_delay / 2]
    delays.view(-1)[: len(special)] = torch.tensor(special, dtype=dtype)
    weights = torch.randn(*SHAPE, count, dtype=dtype)
    sigma = None
    if interpolation != "linear":
        sigma = torch.tensor(max(width, FLOORS[interpolation] + 0.01), dtype=dtype)
        if per_synapse:
            sigma = sigma * (1 + torch.rand(*SHAPE, count, dtype=dtype))
    return [None if a is None else a.requires_grad_() for a in (delays, weights, sigma)]


def values_and_gradients(function, inputs, **options):
    out = function(*inputs, **options)
    wanted = [a for a in inputs if a is not None]
    upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(out.dtype)
    return [out.detach(), *torch.autograd.grad(out, wanted, upstream)]


def close(a, b, tolerance):
    return (a - b).abs().max() <= tolerance * max(1.0, b.abs().max().item())


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_taps_follow_the_formula(interpolation):
    delays, weights, sigma = arguments(6, 2, interpolation, 1.3, per_synapse=True)
    found = taps(delays, weights, sigma, max_delay=6, interpolation=interpolation)
    for k in range(7):
        for o, i in ((0, 0), (1, 2), (2, 3)):
            expected = sum(
                tap(
                    k,
                    delays[o, i, n].item(),
                    weights[o, i, n].item(),
                    None if sigma is None else sigma[o, i, n].item(),
                    6,
                    interpolation,
                )
                for n in range(2)
            )
            assert found[k, o, i].item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("per_synapse", [False, True], ids=["scalar", "per_synapse"])
@pytest.mark.parametrize("width", [0.28, 0.5, 3.0, 40.0])
@pytest.mark.parametrize("max_delay", [0, 1, 5, 24])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_taps_equal_dcls(interpolation, count, max_delay, width, per_synapse, dtype):
    inputs = arguments(max_delay, count, interpolation, width, per_synapse=per_synapse, dtype=dtype)
    options = {"max_delay": max_delay, "interpolation": interpolation}
    ours = values_and_gradients(taps, inputs, **options)
    # In float32 DCLS's own rounding (of its positions) is up to 1e-5: ask it in float64.
    exact = [None if a is None else a.detach().double().requires_grad_() for a in inputs]
    theirs = values_and_gradients(dcls_taps, exact, **options)
    tolerance = 1e-9 if dtype == torch.float64 else 1e-5
    for name, a, b in zip(("taps", "delays", "weights", "sigma"), ours, theirs, strict=False):
        assert a.dtype == dtype
        assert close(a, b, tolerance), name


@settings(max_examples=examples(40))
@given(
    data=st.data(),
    interpolation=st.sampled_from(INTERPOLATIONS),
    max_delay=st.integers(0, 12),
    count=st.integers(1, 3),
)
def test_any_taps_equal_dcls(data, interpolation, max_delay, count):
    # Multiples of 1/64: DCLS's positions lose what is smaller than their own rounding, and with it the side of a kink.
    parts = data.draw(st.lists(st.integers(0, 64 * max_delay), min_size=2 * count, max_size=2 * count))
    delays = torch.tensor(parts, dtype=torch.float64).div(64).view(1, 2, count).requires_grad_()
    weights = torch.linspace(-1, 2, 2 * count, dtype=torch.float64).view(1, 2, count).requires_grad_()
    sigma = None
    if interpolation != "linear":
        width = data.draw(st.floats(FLOORS[interpolation] + 1e-3, 30))
        sigma = torch.tensor(width, dtype=torch.float64, requires_grad=True)
    options = {"max_delay": max_delay, "interpolation": interpolation}
    ours = values_and_gradients(taps, (delays, weights, sigma), **options)
    theirs = values_and_gradients(dcls_taps, (delays, weights, sigma), **options)
    for a, b in zip(ours, theirs, strict=True):
        assert close(a, b, 1e-8)


@pytest.mark.parametrize("per_synapse", [False, True])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_gradcheck(interpolation, count, per_synapse):
    # Off the kinks, where a difference quotient means nothing.
    delays = (torch.randint(0, 4, (2, 2, count)) + 0.2 + 0.15 * torch.rand(2, 2, count)).double().requires_grad_()
    weights = torch.randn(2, 2, count, dtype=torch.float64, requires_grad=True)
    sigma = None
    if interpolation != "linear":
        sigma = torch.full((2, 2, count) if per_synapse else (), 1.5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda *a: taps(*a, max_delay=4, interpolation=interpolation), (delays, weights, sigma)
    )


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("per_synapse", [False, True])
def test_gradients_that_will_be_differentiated_are_the_same(interpolation, per_synapse):
    """At the kinks too: delays of whole steps are among them."""
    inputs = arguments(4, 2, interpolation, 1.0, per_synapse=per_synapse)
    wanted = [a for a in inputs if a is not None]
    out = taps(*inputs, max_delay=4, interpolation=interpolation)
    upstream = torch.randn_like(out)
    expected = torch.autograd.grad(out, wanted, upstream, retain_graph=True)
    for found, right in zip(torch.autograd.grad(out, wanted, upstream, create_graph=True), expected, strict=True):
        assert found.requires_grad
        assert close(found, right, 1e-12)


@pytest.mark.parametrize("weights", [None, torch.ones(3, 1)], ids=["channel", "synapse"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0, 5.0])
def test_whole_delays_out_of_range_make_nan(value, weights):
    delays = torch.tensor([[1.0], [value], [4.4]])
    kernel = integer_taps(delays, weights, max_delay=4)
    assert kernel[:, 1].isnan().any()
    assert kernel[:, 0].tolist() == [0, 1, 0, 0, 0]
    assert kernel[:, 2].tolist() == [0, 0, 0, 0, 1]


@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 2)])
def test_gradients_of_a_part(wanted):
    inputs = arguments(6, 2, "gauss", 1.2, per_synapse=True)
    options = {"max_delay": 6, "interpolation": "gauss"}
    everything = values_and_gradients(taps, inputs, **options)[1:]
    part = [a.detach().requires_grad_(n in wanted) for n, a in enumerate(inputs)]
    out = taps(*part, **options)
    upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    out.backward(upstream)
    for n, a in enumerate(part):
        assert (a.grad is None) if n not in wanted else torch.equal(a.grad, everything[n])


@pytest.mark.cpu("kernels are built in parts there")
@pytest.mark.parametrize("block", [1, 13, 40, 1 << 16])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_parts_change_nothing(monkeypatch, interpolation, count, block):
    inputs = arguments(10, count, interpolation, 2.0, per_synapse=True)
    options = {"max_delay": 10, "interpolation": interpolation}
    whole = values_and_gradients(taps, inputs, **options)
    monkeypatch.setattr(kernels, "_CPU_PART", block)
    monkeypatch.setattr(kernels, "_LEAST_SYNAPSES", 1)
    parts = list(kernels._parts(11, inputs[0][..., 0].flatten()))
    assert parts[0].stop == max(1, block // 11)
    assert parts[-1].stop >= inputs[0][..., 0].numel()
    for a, b in zip(values_and_gradients(taps, inputs, **options), whole, strict=True):
        assert close(a, b, 1e-13)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_per_channel_has_weights_of_one(interpolation):
    delays = (torch.rand(5, 1, dtype=torch.float64) * 6).requires_grad_()
    sigma = None if interpolation == "linear" else torch.full((5, 1), 1.4, dtype=torch.float64, requires_grad=True)
    options = {"max_delay": 6, "interpolation": interpolation}
    ones = torch.ones(5, 1, dtype=torch.float64)
    found = values_and_gradients(lambda d, s: taps(d, None, s, **options), (delays, sigma))
    expected = values_and_gradients(lambda d, s: taps(d, ones, s, **options), (delays, sigma))
    assert found[0].shape == (7, 5)
    for a, b in zip(found, expected, strict=True):
        assert close(a, b, 1e-13)
    assert torch.allclose(found[0].sum(0), ones[:, 0], atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("delay", [0, 3, 7])
def test_linear_taps_of_whole_delays_are_exactly_the_weight(dtype, delay):
    weights = torch.randn(20, 30, 1).to(dtype)
    found = taps(torch.full_like(weights, delay), weights, None, max_delay=7, interpolation="linear")
    assert torch.equal(found[delay], weights[..., 0])
    assert found.count_nonzero() == weights.count_nonzero()


def test_narrow_kernels_stay_finite_in_float32():
    delays = torch.tensor([0.0, 0.5, 24.0, 12.5]).view(1, 4, 1).requires_grad_()
    sigma = torch.tensor(SIGMA_FLOOR["gauss"], requires_grad=True)
    out = taps(delays, torch.ones(1, 4, 1), sigma, max_delay=24, interpolation="gauss")
    out.square().sum().backward()
    assert torch.allclose(out.sum(0), torch.ones(1, 4))
    assert delays.grad.isfinite().all()
    assert sigma.grad.isfinite()


def test_integer_taps():
    delays = torch.tensor([[[0.0, 2.49], [2.5, 4.0]]], requires_grad=True)
    weights = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]], requires_grad=True)
    found = integer_taps(delays, weights, max_delay=4)
    assert found[:, 0].tolist() == [[1, 0], [0, 0], [2, 0], [0, 3], [0, 4]]
    found.backward(torch.arange(10.0).view(5, 1, 2))
    assert weights.grad.tolist() == [[[0, 4], [7, 9]]]
    assert delays.grad is None


def test_integer_taps_add_where_two_fall_together():
    found = integer_taps(torch.tensor([[[1.2, 0.8]]]), torch.tensor([[[1.0, 2.0]]]), max_delay=2)
    assert found[:, 0, 0].tolist() == [0, 3, 0]


def test_integer_taps_per_channel():
    found = integer_taps(torch.tensor([[0.4], [1.6], [2.0]]), None, max_delay=2)
    assert found.tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 1]]


def test_halves_are_rounded_up():
    delays = torch.tensor([0.0, 0.49, 0.5, 1.5, 2.5, 3.49, 24.0], requires_grad=True)
    rounded = round_delays(delays)
    assert rounded.tolist() == [0, 0, 1, 2, 3, 3, 24]
    assert not rounded.requires_grad


@pytest.mark.parametrize(
    ("sigma", "interpolation", "expected"),
    [
        (None, "cubic", "interpolation: expected one of gauss, triangle, linear, got 'cubic'"),
        (None, "gauss", "sigma: expected a width in steps with interpolation='gauss', got None"),
        (torch.tensor(1.0), "linear", "sigma: expected None with interpolation='linear', got 1.0"),
    ],
)
def test_errors(sigma, interpolation, expected):
    with pytest.raises(ArgumentError) as caught:
        taps(torch.zeros(1, 1, 1), None, sigma, max_delay=2, interpolation=interpolation)
    assert str(caught.value).replace("tensor(1.)", "1.0") == expected
