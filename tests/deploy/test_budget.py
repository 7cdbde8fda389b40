"""Few delays and short weights, against searches that try everything."""

import itertools

import torch
from hypothesis import given, settings, strategies as st
from torch import nn

from delayplug.budget import few_delays, quantised, rows_of


def best_by_trying(values: list[float], count: int, max_delay: int) -> float:
    """The least sum of squared moves to so many whole steps."""
    choices = itertools.combinations(range(max_delay + 1), min(count, max_delay + 1))
    return min(sum(min((v - c) ** 2 for c in chosen) for v in values) for chosen in choices)


# Sixteenths of a step, so that halves and middles come up, and sums are exact.
delays = st.integers(0, 7).flatmap(
    lambda most: st.tuples(st.just(most), st.lists(st.integers(0, 16 * most), min_size=1, max_size=12))
)


@settings(max_examples=60, deadline=None)
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
    monkeypatch.setattr("delayplug.budget._ELEMENTS", 1)
    assert torch.equal(few_delays(values, 5, 40), expected)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 16), st.integers(0, 1000))
def test_weights_are_whole_multiples_and_near(bits, seed):
    torch.manual_seed(seed)
    weight = torch.randn(6, 5, 2)
    weight[2] = 0
    short, scale = quantised(weight, rows_of((6, 5, 2)), bits)
    most = 2 ** (bits - 1) - 1
    whole = short / scale.where(scale > 0, 1).view(-1, 1, 1)
    assert (whole - whole.round()).abs().max() < 0.01
    assert whole.abs().max() < most + 0.5
    assert ((short - weight).abs() <= scale.view(-1, 1, 1) * 0.5001).all()
    assert not short[2].any()


def test_the_rows_of_a_transposed_convolution_are_its_outputs():
    conv = nn.ConvTranspose1d(4, 6, 3, groups=2, bias=False)
    rows = rows_of(tuple(conv.weight.shape), conv.groups)
    assert rows.shape == (6, 2 * 3)
    with torch.no_grad():
        conv.weight.zero_()
        conv.weight.view(-1)[rows[4]] = 1
    y = conv(torch.ones(1, 4, 8))
    assert [bool(channel.any()) for channel in y[0]] == [False, False, False, False, True, False]
