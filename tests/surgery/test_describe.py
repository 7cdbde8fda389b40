"""What delays a model has, in words and numbers."""

import norse.torch as norse
import pytest
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

import delayplug
from delayplug import WiringError, add_delays, describe_delays
from tests.networks import MAX_DELAY, F, H, InitLeaky, O, sequence

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:snntorch")


def test_describe_delays():
    net = norse.SequentialState(nn.Linear(F, H), norse.LIFCell(), nn.Linear(H, O), norse.LICell())
    assert "No layer has delays" in str(describe_delays(net))
    add_delays(net, 4, init=3, example=sequence()[0])
    description = describe_delays(net)
    (row,) = description.rows
    assert (row.layer, row.neuron, row.granularity, row.runs) == ("0", "1", "synaptic", "step by step")
    assert (row.least, row.mean, row.most, row.max_delay, row.parameters) == (3, 3, 3, 4, F * H)
    assert row.sigma == pytest.approx(2.27)
    assert [s.layer for s in description.skipped] == ["2"]
    text = str(description)
    assert "3.0 - 3.0" in text
    assert "a call without the state that was returned" in text
    assert "a readout" in text
    add_delays(net, 4, filter_fn="2", granularity="axonal", interpolation="linear")
    again = describe_delays(net)
    assert [row.layer for row in again.rows] == ["0", "2"]
    assert again.rows[1].sigma is None
    assert not again.skipped


def test_describe_a_convolution_and_a_delay_that_stands_alone():
    from delayplug import LearnableDelay

    net = nn.Sequential(layer.Conv1d(2, 3, 3), neuron.IFNode(), LearnableDelay(3, max_delay=7))
    functional.set_step_mode(net, "m")
    add_delays(net, 4)
    conv, alone = describe_delays(net).rows
    assert (conv.runs, conv.reset, conv.parameters) == ("whole sequences", "functional.reset_net(model)", 18)
    assert (alone.neuron, alone.granularity, alone.max_delay) == ("", "per channel", 7)
    assert "per channel" in str(describe_delays(net))


def test_a_plan_that_failed_is_not_described():
    class Fickle(InitLeaky):
        fails = False

        def forward(self, x):
            if self.fails and hasattr(self.fc2, "delay"):
                raise RuntimeError("not with delays")
            return super().forward(x)

    net = Fickle()
    net.spare = nn.Linear(2, 2)
    add_delays(net, MAX_DELAY, filter_fn=lambda module, name: name == "fc1", example=sequence())
    before = delayplug.describe_delays(net)
    net.fails = True
    with pytest.raises(WiringError, match="put back"):
        add_delays(net, MAX_DELAY, example=sequence())
    assert delayplug.describe_delays(net) == before


def test_a_description_and_a_plan_fit_into_80_columns(monkeypatch):
    net = nn.Sequential(layer.Linear(784, 100), neuron.IFNode(), layer.Linear(100, 10), neuron.IFNode())
    functional.set_step_mode(net, "m")
    monkeypatch.setattr("delayplug._tables.terminal_width", lambda: 80)
    monkeypatch.setattr("delayplug.surgery.plan.terminal_width", lambda: 80)
    plan = str(delayplug.plan_delays(net, filter_fn=["0"]))
    assert plan.startswith("1 connection can")
    add_delays(net, 100, filter_fn=["0"])
    for printed in (plan, str(describe_delays(net))):
        assert max(map(len, printed.splitlines())) <= 80
    row = next(line for line in str(describe_delays(net)).splitlines() if "78,400" in line and "synaptic" in line)
    assert row.split()[:3] == ["0", "1", "synaptic"]
