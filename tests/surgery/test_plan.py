"""The plan as a whole: its notes, its channels, its arguments."""

import norse.torch as norse
import pytest
import torch
from spikingjelly.activation_based import layer, neuron
from torch import nn

from delayplug import ArgumentError, Granularity, plan_delays
from tests.devices import DEVICE
from tests.networks import F, H, InitLeaky, O, sequence
from tests.surgery.networks import leaky, reasons

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:snntorch")


PRINTED = """\
1 connection can have delays (norse)
  0 -> 1: synaptic, 5 -> 6, step
      a new sequence: a call without the state that was returned
  2 is left out: it feeds 3 (LICell), a readout; name it in filter_fn=[...] to delay it"""


@pytest.mark.parametrize("example", [None, sequence()[0]])
def test_a_plan_is_printed_and_changes_nothing(example):
    net = norse.SequentialState(nn.Linear(F, H), norse.LIFCell(), nn.Linear(H, O), norse.LICell())
    before = {name: (type(module), dict(module.__dict__)) for name, module in net.named_modules()}
    plan = plan_delays(net, example)
    assert str(plan) == PRINTED
    assert plan.connections[0].granularity is Granularity.SYNAPTIC
    assert {name: (type(module), dict(module.__dict__)) for name, module in net.named_modules()} == before


def test_a_spiking_readout_is_named_in_the_report():
    net = nn.Sequential(nn.Linear(F, H), leaky(), nn.Linear(H, O), leaky())
    plan = plan_delays(net, sequence()[0])
    assert [bool(c.note) for c in plan.connections] == [False, True]
    assert "feeds no further layer" in str(plan)


def test_a_channel_is_not_guessed():
    field = norse.SpatialReceptiveField2d(2, 3, torch.tensor([[1.0, 1.0, 1.0, 0.0, 0.0]]))
    net = norse.SequentialState(field, norse.LIFCell())
    assert "does not show its channels" in reasons(plan_delays(net, torch.rand(3, 2, 8, 10), granularity="axonal"))["0"]
    norm = nn.Sequential(layer.NeuNorm(4, 6, 7), neuron.LIFNode()).to(DEVICE)
    (c,) = plan_delays(norm, torch.rand(2, 4, 6, 7), granularity="axonal").connections
    assert (c.in_features, c.place.space) == (4, 2)


def test_arguments_that_are_refused():
    with pytest.raises(ArgumentError, match="granularity: expected one of synaptic, axonal, dendritic, got 'neural'"):
        plan_delays(InitLeaky(), granularity="neural")
    with pytest.raises(ArgumentError, match="example"):
        plan_delays(InitLeaky(), "x")
    with pytest.raises(ArgumentError, match="example"):
        plan_delays(InitLeaky(), nn.Linear(1, 1))
