import copy
import pickle

import pytest
import torch

from delayplug import ArgumentError, DelayState, LearnableDelay
from delayplug.layers.state import Built, Origin, Tape, check_state, window_over
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


@pytest.mark.real("inference mode")
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


# -------------------------------------------------------------------------------------------------- some of the batch


KINDS = {
    "events": lambda: make(4, 3, bias=True).eval(),
    "dense": lambda: make(4, 3, engine="direct", bias=True),
    "channel": lambda: make(4),
}
INDICES = {
    "slice": slice(1, 4, 2),
    "nothing": slice(0, 0),
    "permuted": torch.tensor([3, 0, 0, 4]),
    "negative": torch.tensor([-1, 1]),
    "mask": torch.tensor([True, False, False, True, True]),
}


@pytest.mark.parametrize("index", INDICES.values(), ids=INDICES)
@pytest.mark.parametrize("build", KINDS.values(), ids=KINDS)
def test_some_samples_go_on_as_they_were(build, index):
    layer, x, y = build(), sequence(12, batch=5), sequence(9, batch=5)
    with torch.no_grad():
        _, state = stepped(layer, x)
        selected = state.select(index)
        assert (selected.kernel, selected.made_from, selected.tape) == (state.kernel, state.made_from, None)
        expected = layer(torch.cat((x, y)))[12:, index]
        assert torch.allclose(stepped(layer, y[:, index], selected)[0], expected)
        assert torch.allclose(layer.chunk(y[:, index], selected)[0], expected)
        assert torch.allclose(stepped(layer, y, state)[0], layer(torch.cat((x, y)))[12:])  # it was left alone


@pytest.mark.parametrize("count", [0, 1, 3])
@pytest.mark.parametrize("build", KINDS.values(), ids=KINDS)
def test_more_samples_begin_with_nothing_under_way(build, count):
    layer, x, y = build(), sequence(12), sequence(9, batch=2 + count)
    with torch.no_grad():
        _, state = stepped(layer, x)
        padded = torch.cat((x, x.new_zeros(12, count, 4)), 1)
        expected = layer(torch.cat((padded, y)))[12:]
        assert torch.allclose(stepped(layer, y, state.extended(count))[0], expected)


def test_a_slice_of_a_state_is_a_view_and_the_whole_one_is_the_state():
    layer = make(4, 3).eval()
    with torch.no_grad():
        _, state = stepped(layer, sequence(12))
    assert state.select(slice(None)) is state
    assert state.select(slice(0, 2)) is state
    assert state.extended(0) is state
    half = state.select(slice(1, 2))
    assert half.history.data_ptr() == state.history[:, 1].data_ptr()
    if state.pending is not None:  # steps are event-driven on the CPU alone
        assert half.pending.data_ptr() == state.pending[:, 1].data_ptr()


@pytest.mark.parametrize("index", [slice(1, 2), torch.tensor([1]), torch.tensor([False, True])])
def test_gradients_pass_through_a_selection(index):
    layer, x = make(4, 3), sequence(5).requires_grad_()
    _, state = stepped(layer, x)
    y, _ = layer.step(sequence(1)[0, :1], state.select(index))
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert gradient[:, 1].any()
    assert not gradient[:, 0].any()


@pytest.mark.parametrize("index", [0, [0, 1], torch.tensor(0), torch.tensor([1.0]), torch.tensor([True]), None])
def test_an_index_that_is_none_is_refused(index):
    state = DelayState(torch.zeros(5, 2, 4))
    with pytest.raises(ArgumentError, match=r"index: expected a .*, got "):
        state.select(index)
    with pytest.raises(ArgumentError, match="count: expected an integer >= 0"):
        state.extended(-1)


def test_a_state_without_a_batch_is_refused():
    state = DelayState(torch.zeros(5, 4))
    for change in (lambda: state.select(slice(None)), lambda: state.extended(1)):
        with pytest.raises(ArgumentError, match=r"state: expected a history \(D, B, ...\) of a batch, got \(5, 4\)"):
            change()


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


def test_what_was_built_fits_equal_values_only():
    delays, weight = torch.rand(3), torch.rand(3)
    built = Built(delays, weight, 5, "kernel")
    assert built.fits(delays, weight, 5)
    assert built.fits(delays.clone(), weight.clone(), 5)
    for other in ((delays, weight, 6), (delays, None, 5), (delays, weight.double(), 5), (delays[:2], weight, 5)):
        assert not built.fits(*other)
    weight.data[1] = torch.nextafter(weight[1], torch.tensor(2.0))
    assert not built.fits(delays, weight, 5)
    weight.data[1] = torch.nan
    assert not Built(delays, weight, 5, "kernel").fits(delays, weight, 5)


@pytest.mark.real("inference mode")
def test_what_was_built_in_inference_mode_stays_there():
    delays = torch.rand(3)
    with torch.inference_mode():
        built = Built(delays, None, 5, "kernel")
        assert built.fits(delays, None, 5)
    assert not built.fits(delays, None, 5)


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
