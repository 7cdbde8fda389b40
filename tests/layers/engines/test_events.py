"""Steps of rounded delays by events."""

import pytest
import torch

from delayplug import LearnableDelay
from delayplug.layers.engines.events import Launch


@pytest.mark.cpu("steps are event-driven there")
def test_the_event_driven_step_is_the_dense_one() -> None:
    torch.manual_seed(0)
    for batch, bias in ((1, False), (3, True)):
        layer = LearnableDelay(20, 16, max_delay=6, taps=2, bias=bias).eval()
        x = (torch.rand(30, batch, 20) < 0.1).float() * torch.rand(30, batch, 20)
        x[12:16] = 1  # too many spikes to go by events
        with torch.no_grad():
            whole, state, outputs = layer(x), None, []
            for x_t in x:
                y, state = layer.step(x_t, state)
                assert state.pending is not None
                outputs.append(y)
        torch.testing.assert_close(torch.stack(outputs), whole, atol=1e-5, rtol=1e-5)


def test_an_event_driven_step_follows_the_parameters() -> None:
    torch.manual_seed(0)
    layer, x = LearnableDelay(6, 5, max_delay=4).eval(), (torch.rand(9, 2, 6) < 0.3).float()
    with torch.no_grad():
        state = None
        for x_t in x[:6]:
            _, state = layer.step(x_t, state)
        layer.delays.copy_(layer.delays.flip(0))
        for t in range(6, 9):
            y, state = layer.step(x[t], state)
            torch.testing.assert_close(y, layer(x)[t])


def test_a_launch_says_where_spikes_arrive() -> None:
    delays = torch.tensor([[[0.4], [1.0], [2.0]], [[2.0], [1.6], [0.0]]])  # two outputs, three inputs
    launch = Launch(delays, torch.arange(1.0, 7).view(2, 3, 1), max_delay=2)
    assert launch.slots.tolist() == [[0, 5], [2, 5], [4, 1]]
    assert launch.weights.tolist() == [[1, 4], [2, 5], [3, 6]]
    assert launch.taps.tolist() == [[1, 0, 0, 0, 0, 4], [0, 0, 2, 0, 0, 5], [0, 6, 0, 0, 3, 0]]


def test_several_taps_of_a_synapse_arrive_each() -> None:
    launch = Launch(torch.tensor([[[0.0, 1.0, 1.0]]]), torch.tensor([[[1.0, 2.0, 4.0]]]), max_delay=1)
    assert launch.taps.tolist() == [[1, 6]]
