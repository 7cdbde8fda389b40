"""What a network carries is moved onto its modules and taken off again; what these had is theirs again."""

import copy

import pytest
import torch
from spikingjelly.activation_based import functional, neuron
from torch import Tensor, nn

from delayplug import ConvDelay, LearnableDelay, SequenceError, freeze_delays, stream
from tests.running.models import NETS, F, build, sequence, spikes


@pytest.mark.parametrize("name", NETS)
def test_streams_share_a_model_and_leave_its_own_state(name):
    net, x, other = build(name), spikes(), spikes(seed=2)
    expected, of_other = sequence(name, net, x), sequence(name, net, other)
    outputs: list[list[Tensor]] = [[], [], []]
    one, two = stream(net), stream(net)
    own = stream(net) if name in ("snntorch state", "norse cells", "norse layers") else None
    sequence(name, net, x[:1])  # the model itself is in the middle of a sequence, too
    for x_t, other_t, next_t in zip(x[:-1], other[:-1], x[1:], strict=True):
        outputs[0].append(one.push(x_t))
        outputs[1].append(two.push(other_t))
        with torch.no_grad():
            if own is None:
                y = net(next_t.unsqueeze(0)).squeeze(0) if name.endswith("m") else net(next_t)
                outputs[2].append(y)
    torch.testing.assert_close(torch.stack(outputs[0]), expected[:-1])
    torch.testing.assert_close(torch.stack(outputs[1]), of_other[:-1])
    if own is None:
        torch.testing.assert_close(torch.stack(outputs[2]), expected[1:])


def test_layers_of_delays_by_themselves():
    x = torch.rand(12, 3, 5)
    for alone in (LearnableDelay(5, 4, max_delay=6, taps=2, bias=True), LearnableDelay(5, max_delay=6)):
        for freeze in (False, True):
            if freeze:
                freeze_delays(alone)
            coming = stream(alone.eval())
            with torch.no_grad():
                torch.testing.assert_close(torch.stack([coming.push(x_t) for x_t in x]), alone(x))
            assert "forward" not in vars(alone)
    mixed = nn.Sequential(LearnableDelay(5, 4, max_delay=6), neuron.LIFNode(step_mode="m"), nn.Linear(4, 2)).eval()
    with torch.no_grad():
        mixed[0].weight.mul_(8)
        expected = mixed(x)
    functional.reset_net(mixed)
    coming = stream(mixed)
    got = [coming.push(x_t) for x_t in x[:5]]
    again = stream(copy.deepcopy(mixed))
    again.restore(coming.state())
    torch.testing.assert_close(torch.stack([*got, *(again.push(x_t) for x_t in x[5:])]), expected)


def test_a_convolution_of_delays_with_weights_from_elsewhere():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(2, 3, 3)
            self.delay = ConvDelay(self.conv, max_delay=4)
            self.spikes = neuron.LIFNode(step_mode="m")

        def forward(self, x: Tensor) -> Tensor:
            return self.spikes(5 * self.delay(x, weight=self.conv.weight))

    net, x = Net().eval(), torch.rand(9, 2, 2, 8)
    with torch.no_grad():
        expected = net(x)
    coming = stream(net)
    torch.testing.assert_close(torch.stack([coming.push(x_t) for x_t in x]), expected)


def test_an_appended_tail_and_a_layer_that_runs_twice_are_refused():
    class Tail(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.delay = LearnableDelay(F, max_delay=3)

        def forward(self, x: Tensor) -> Tensor:
            return self.delay(x, tail=2)

    with pytest.raises(SequenceError, match="delay appends 2 steps to a sequence, and a stream has no end"):
        stream(Tail().eval()).push(spikes()[0])
    shared = LearnableDelay(F, max_delay=3)
    with pytest.raises(SequenceError, match="runs more than once"):
        stream(nn.Sequential(shared, shared).eval()).push(spikes()[0])


def test_an_error_in_the_middle_leaves_the_stream_where_it_was():
    net, x = build("snntorch hidden"), spikes()
    expected = sequence("snntorch hidden", net, x)
    coming, got = stream(net), []
    for t, x_t in enumerate(x):
        if t == 7:
            handle = net[2].register_forward_pre_hook(lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                coming.push(x_t)
            handle.remove()
        got.append(coming.push(x_t))
    torch.testing.assert_close(torch.stack(got), expected)
    assert not any(m.delay_memory.carried for m in (net[0], net[2]))
