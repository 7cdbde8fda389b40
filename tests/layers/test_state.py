import copy

import pytest
import torch

from delayplug import LearnableDelay
from delayplug.layers.state import Tape


def sequence(steps, batch=2):
    return (torch.rand(steps, batch, 4, dtype=torch.float64) < 0.5).double()


def stepped(layer, x, state=None):
    outputs = []
    for x_t in x:
        y, state = layer.step(x_t, state)
        outputs.append(y)
    return torch.stack(outputs), state


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("max_delay", [0, 1, 5])
def test_long_sequences_pass_many_tapes(max_delay, training):
    layer = LearnableDelay(4, 3, max_delay=max_delay, dtype=torch.float64).train(training)
    x = sequence(40)
    with torch.no_grad():
        y, state = stepped(layer, x)
        assert (y - layer(x)).abs().max() < 1e-10
        assert torch.equal(state.history, x[40 - max_delay :])


@pytest.mark.parametrize("training", [True, False])
def test_states_stay_what_they_were(training):
    """Two sequences go on from the same state, and the state can be used again after both."""
    layer = LearnableDelay(4, 3, max_delay=5, dtype=torch.float64).train(training)
    start, one, other = sequence(7), sequence(9), sequence(9)
    with torch.no_grad():
        _, state = stepped(layer, start)
        kept = state.history.clone()
        for x in (one, other, one):
            y, _ = stepped(layer, x, state)
            assert (y - layer(torch.cat((start, x)))[7:]).abs().max() < 1e-10
            assert torch.equal(state.history, kept)
        y, _ = stepped(layer, one, copy.deepcopy(state))
        assert (y - layer(torch.cat((start, one)))[7:]).abs().max() < 1e-10


def test_between_inference_and_training():
    layer = LearnableDelay(4, 3, max_delay=5, dtype=torch.float64)
    x = sequence(12)
    with torch.inference_mode():
        _, state = stepped(layer, x[:4])
    with torch.no_grad():
        _, state = stepped(layer, x[4:8], state)
    y, _ = stepped(layer, x[8:], state)
    assert (y - layer(x)[8:]).abs().max() < 1e-10
    y.sum().backward()
    assert layer.weight.grad is not None


def test_a_window_is_not_copied():
    tape = Tape.begin(torch.zeros(3, 2))
    first = tape.write(torch.ones(2), 4)
    second = tape.write(torch.ones(2), 4)
    assert second.data_ptr() == first[1:].data_ptr()
    assert tape.has_room(5)
    assert not tape.has_room(4)
    for _ in range(2):
        tape.write(torch.ones(2), 4)
    assert not tape.has_room(tape.written)
