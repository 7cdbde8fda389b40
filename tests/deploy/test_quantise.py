"""Few delays and short weights, against searches that try everything."""

import itertools

import torch
from hypothesis import example, given, settings, strategies as st
from torch import nn

from delayplug.deploy.quantise import few_delays, quantised, rows_of
from tests.profiles import examples


def best_by_trying(values: list[float], count: int, max_delay: int) -> float:
    """The least sum of squared moves to so many whole steps."""
    choices = itertools.combinations(range(max_delay + 1), min(count, max_delay + 1))
    return min(sum(min((v - c) ** 2 for c in chosen) for v in values) for chosen in choices)


# Sixteenths of a step, so that halves and middles come up, and sums are exact.
delays = st.integers(0, 7).flatmap(
    lambda most: st.tuples(st.just(most), st.lists(st.integers(0, 16 * most), min_size=1, max_size=12))
)


@settings(max_examples=examples(60))
@given(delays, st.integers(1, 9))
def test_no_other_choice_of_delays_is_nearer(drawn, count):
    max_delay, sixteenths = drawn
    values = torch.tensor([sixteenths, sixteenths[::-1]]) / 16
    few = few_delays(values, count, max_delay)
    assert few.dtype == torch.int64
    assert ((few >= 0) & (few <= max_delay)).all()
    for row, moved in zip(values, few, strict=True):
        assert len(moved.unique()) <= count
        assert ((moved - row) ** 2).sum().item() == best_by_trying(row.tolist(), count, max_delay)
    if count > max_delay:
        assert torch.equal(few, (values + 0.5).floor().long())
    assert torch.equal(few, few_delays(values, count, max_delay))


def test_each_neuron_has_its_own_choice():
    values = torch.tensor([[0.0, 0.1, 6.0, 6.2], [3.0, 3.0, 3.1, 5.0]])
    assert few_delays(values, 2, 8).tolist() == [[0, 0, 6, 6], [3, 3, 3, 5]]


def test_large_layers_are_done_some_neurons_at_a_time(monkeypatch):
    values = torch.rand(7, 30) * 40
    expected = few_delays(values, 5, 40)
    monkeypatch.setattr("delayplug.deploy.quantise._ELEMENTS", 1)
    assert torch.equal(few_delays(values, 5, 40), expected)


@settings(max_examples=examples(40))
@given(st.integers(2, 16), st.integers(0, 1000), st.sampled_from([torch.float64, torch.float32]))
@example(16, 50, torch.float32)  # off by more than half a scale when computed in float32
def test_weights_are_the_nearest_whole_multiples(bits, seed, dtype):
    torch.manual_seed(seed)
    weight = torch.randn(6, 5, 2, dtype=dtype)
    weight[2] = 0
    short, scale = quantised(weight, rows_of((6, 5, 2)), bits)
    most = 2 ** (bits - 1) - 1
    multiples = (short.double() / scale.where(scale > 0, 1).view(-1, 1, 1)).round()
    assert multiples.abs().max() == most
    assert (multiples.abs().flatten(1).amax(1) == most).tolist() == [True, True, False, True, True, True]
    assert not short[2].any()
    check_quantised(weight, short, scale, multiples)


@given(st.integers(2, 16), st.integers(0, 1000), st.sampled_from([torch.bfloat16, torch.float16]))
@settings(max_examples=examples(40))
def test_weights_of_half_precision_are_off_by_their_own_rounding_at_most(bits, seed, dtype):
    torch.manual_seed(seed)
    weight = torch.randn(6, 5, 2).to(dtype)
    short, scale = quantised(weight, rows_of((6, 5, 2)), bits)
    multiples = (weight.double() / scale.view(-1, 1, 1)).round()
    check_quantised(weight, short, scale, multiples)


def check_quantised(weight, short, scale, multiples):
    """The law that `quantised` states."""
    assert short.dtype == weight.dtype
    scale, kind = scale.view(-1, 1, 1), torch.finfo(weight.dtype)
    rounding = kind.eps / 2 * short.double().abs() + kind.smallest_normal * kind.eps / 2
    float64 = 1e-11 * scale  # the law's own arithmetic, here and there
    assert ((short.double() - multiples * scale).abs() <= rounding + float64).all()
    assert ((short.double() - weight.double()).abs() <= scale / 2 + rounding + float64).all()
    if weight.dtype == torch.float64:
        return
    largest = weight.abs() == weight.abs().flatten(1).amax(1).view(-1, 1, 1)
    assert torch.equal(short[largest], weight[largest])


def test_the_rows_of_a_transposed_convolution_are_its_outputs():
    conv = nn.ConvTranspose1d(4, 6, 3, groups=2, bias=False)
    rows = rows_of(tuple(conv.weight.shape), conv.groups)
    assert rows.shape == (6, 2 * 3)
    with torch.no_grad():
        conv.weight.zero_()
        conv.weight.view(-1)[rows[4]] = 1
    y = conv(torch.ones(1, 4, 8))
    assert [bool(channel.any()) for channel in y[0]] == [False, False, False, False, True, False]
