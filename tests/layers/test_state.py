import copy
import pickle

import pytest
import torch

from delayplug import ArgumentError, DelayState, LearnableDelay
from delayplug.layers.state import Origin, Tape, check_state, window_over
from tests.layers.running import F64, from_history, make, run_steps


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
    tape = Tape(torch.zeros(3, 2))
    first = tape.write(torch.ones(2), 4)
    second = tape.write(torch.ones(2), 4)
    assert second.data_ptr() == first[1:].data_ptr()
    assert tape.has_room(5)
    assert not tape.has_room(4)
    for _ in range(2):
        tape.write(torch.ones(2), 4)
    assert not tape.has_room(tape.written)


def test_a_state_does_not_keep_the_sequence_alive():
    layer = make(4)
    _, state = layer.chunk(torch.randn(500, 2, 4, dtype=F64), None)
    assert state.history.untyped_storage().nbytes() == state.history.numel() * 8


@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, copy.copy, lambda state: pickle.loads(pickle.dumps(state))],
    ids=["deepcopy", "copy", "pickle"],
)
@pytest.mark.parametrize("mode", [True, False], ids=["train", "eval"])
def test_a_copied_state_is_its_history(copied, mode):
    """In training the kernel has a graph, which neither copies nor pickles; in eval() its outputs may be stale."""
    layer, x = LearnableDelay(4, 3, max_delay=5).train(mode), torch.rand(12, 2, 4)
    _, state = run_steps(layer, x.float()[:8])
    new = copied(state)
    assert isinstance(new, DelayState)
    assert torch.equal(new.history, state.history)
    assert new.history.untyped_storage().nbytes() == state.history.numel() * 4
    assert (new.kernel, new.made_from, new.pending, new.tape) == (None,) * 4
    with torch.no_grad():
        layer.weight.mul_(2)
    assert torch.allclose(layer.step(x[8], new)[0], from_history(layer, x[8], state), atol=1e-6)


# ----------------------------------------------------------------------------------------------- what it was made from


def test_an_origin_is_current_until_something_changes():
    weight, other = torch.ones(3), torch.ones(3)
    origin = Origin([weight], (True, False))
    assert origin.is_current([weight], (True, False))
    assert not origin.is_current([other], (True, False))  # equal, and another one
    assert not origin.is_current([weight], (True, True))
    assert not origin.is_current([weight, other], (True, False))
    weight.add_(1)
    assert not origin.is_current([weight], (True, False))
    assert Origin([weight], ()).is_current([weight], ())


def test_tensors_of_inference_mode_have_no_version():
    with torch.inference_mode():
        weight = torch.ones(3)
    assert Origin([weight], ()).is_current([weight], ())


# ------------------------------------------------------------------------------------------------------------ windows


def test_without_a_gradient_a_window_lies_on_a_tape():
    state, x = DelayState(torch.arange(3.0)), torch.tensor(3.0)
    window, tape = window_over(state, x, learns=False)
    assert window.tolist() == [0, 1, 2, 3]
    following, _ = window_over(DelayState(window[1:], tape=tape), torch.tensor(4.0), learns=False)
    assert following.tolist() == [1, 2, 3, 4]
    assert following.data_ptr() == window[1:].data_ptr()


@pytest.mark.parametrize("wants", ["kernel", "input", "history"])
def test_with_a_gradient_a_window_is_a_copy(wants):
    history, x = (torch.zeros(3, requires_grad=wants == name) for name in ("history", "input"))
    window, tape = window_over(DelayState(history), x[0], learns=wants == "kernel")
    assert tape is None
    assert window.tolist() == [0, 0, 0, 0]
    assert window.requires_grad == (wants != "kernel")
    with torch.no_grad():
        assert (window_over(DelayState(history), x[0], learns=wants == "kernel")[1] is None) == (wants == "kernel")


def test_a_state_of_other_steps_is_refused():
    state = DelayState(torch.zeros(5, 2, 4))
    check_state(state, 5, torch.Size((2, 4)))
    for max_delay, shape in ((5, (3, 4)), (5, (4,)), (6, (2, 4))):
        with pytest.raises(ArgumentError, match=r"state: expected a history of shape .*, got \(5, 2, 4\)"):
            check_state(state, max_delay, torch.Size(shape))
