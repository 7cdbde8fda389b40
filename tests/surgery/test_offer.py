"""What a delayed layer has delivered, and where it lies in what its neuron takes."""

import pytest
import torch

from delayplug.surgery.identity import version_of
from delayplug.surgery.lineage import BEGIN
from delayplug.surgery.offer import Offer, input_of, place_in, with_input


def offer(output: torch.Tensor) -> Offer:
    return Offer(BEGIN, output=output, version=version_of(output))


@pytest.mark.parametrize("batch_first", [False, True])
def test_a_step_is_found_in_the_sequence(batch_first: bool) -> None:
    output = torch.rand(4, 4, 3)
    if batch_first:
        output = output.transpose(0, 1)
    made = offer(output)
    for dim in (0, 1):
        for index in range(4):
            step = output.select(dim, index)
            assert torch.equal(output.select(*place_in(made, step)), step)
            place = place_in(made, output.unbind(dim)[index])
            assert torch.equal(output.select(*place), step)


def test_all_of_it_is_no_step() -> None:
    output = torch.rand(4, 2, 3)
    assert place_in(offer(output), output) == ()
    assert place_in(offer(output), output[3]) == (0, 3)
    assert place_in(offer(output), output[:, 1]) == (1, 1)


@pytest.mark.parametrize(
    "other",
    [
        lambda y: y[0].clone(),
        lambda y: y[0] + 0,
        lambda y: y[:, :, 0],
        lambda y: y[0].t(),
        lambda y: y[0, :1],
        lambda y: y[1:],
        lambda y: y.view(-1)[1:7].view(2, 3),
        lambda y: torch.zeros(2, 3),
    ],
)
def test_what_is_no_step_is_not_found(other) -> None:
    output = torch.rand(4, 2, 3)
    assert place_in(offer(output), other(output)) is None


def test_what_was_written_to_is_not_the_output() -> None:
    output = torch.rand(4, 2, 3)
    made = offer(output)
    output[0].add_(1)
    assert place_in(made, output) is None
    assert place_in(made, output[1]) is None
    assert place_in(Offer(BEGIN), output) is None


def test_the_input_is_exchanged_where_it_stands() -> None:
    x, mem, new = torch.rand(2), torch.rand(2), torch.rand(2)
    args, kwargs = with_input((x, mem), {"a": 1}, x, new)
    assert args[0] is new
    assert args[1] is mem
    assert kwargs == {"a": 1}
    args, kwargs = with_input((), {"mem": mem, "input_": x}, x, new)
    assert args == ()
    assert kwargs["input_"] is new
    assert kwargs["mem"] is mem


def test_an_offer_is_for_the_very_state_that_the_layer_looked_at() -> None:
    state = torch.zeros(2, 3)
    made = Offer(BEGIN, seen=[(state, version_of(state))])
    assert made.is_for([state])
    assert not made.is_for([state.detach()])
    assert not made.is_for([])
    assert not Offer(BEGIN).is_for([state])
    state.add_(1)
    assert not made.is_for([state]), "it was written to"
    taken = Offer(BEGIN, seen=[(state, version_of(state))], taken=1)
    assert not taken.is_for([state]), "the neuron has a state of its own by now"
    with torch.inference_mode():
        uncounted = torch.zeros(2)
    assert not Offer(BEGIN, seen=[(uncounted, 0)]).is_for([uncounted]), "nobody counts what is written to it"


def test_the_input_is_the_first_tensor() -> None:
    x, state = torch.zeros(1), torch.zeros(2)
    assert input_of((x, state), {}) is x
    assert input_of(((x, state),), {}) is x
    assert input_of((), {"x": x, "state": state}) is x
    assert input_of((), {}) is None
