"""The oracle of the laws, against delays that are spelled out."""

import pytest
import torch
from torch import nn

from delayplug import Granularity, LearnableDelay
from delayplug.testing import draw_whole_delays, reference_neuron, shift_cell, shift_inputs


def test_shifted_inputs_of_each_synapse() -> None:
    layer = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 10.0]]))
    shift_inputs(layer, layer, torch.tensor([[[0.0], [2.0]]]), Granularity.SYNAPTIC, "steps", batch=1)
    x = torch.tensor([[1.0, 1.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    assert [layer(x_t.view(1, 2)).item() for x_t in x] == [1, 0, 10, 0]


@pytest.mark.parametrize("sees", ["sequences", "batch first", "folded"])
def test_the_time_may_be_anywhere(sees: str) -> None:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.ones_(layer.weight)
    shift_inputs(layer, layer, torch.tensor([1.0]), Granularity.AXONAL, sees, batch=2)
    x = torch.tensor([[[1.0], [2.0]], [[3.0], [4.0]], [[5.0], [6.0]]])  # (T, B, 1)
    expected = torch.tensor([[0.0, 0.0], [1.0, 2.0], [3.0, 4.0]])
    if sees == "batch first":
        got = layer(x.transpose(0, 1)).transpose(0, 1)
    else:
        got = layer(x.flatten(0, 1)).unflatten(0, (3, 2)) if sees == "folded" else layer(x)
    assert torch.equal(got.squeeze(-1), expected)


def test_the_input_of_a_cell_is_shifted_by_channel() -> None:
    cell = nn.Identity()
    shift_cell(cell, torch.tensor([0.0, 1.0]))
    assert cell(torch.tensor([[1.0, 2.0]])).tolist() == [[1, 0]]
    assert cell(torch.tensor([[3.0, 4.0]])).tolist() == [[3, 2]]


def test_whole_delays_are_drawn_and_put_in() -> None:
    net = nn.Sequential(LearnableDelay(3, 2, max_delay=4), LearnableDelay(2, max_delay=4))
    drawn = draw_whole_delays(net)
    assert torch.equal(drawn["0"], net[0].delays)
    assert torch.equal(drawn["1"], net[1].delays)
    assert all(torch.equal(delays, delays.round()) for delays in drawn.values())


def test_the_papers_neuron_fires_above_one_and_forgets() -> None:
    x = torch.tensor([0.6, 0.6, 0.6, 2.0]).view(4, 1, 1)
    # tau 2: v = 0.6, 0.9, 1.05 (fires), 2 (fires)
    assert reference_neuron(x, tau=2.0).flatten().tolist() == [0, 0, 1, 1]
