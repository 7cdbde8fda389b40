"""The state of a stream as a dictionary: whatever comes back in it is checked, and changes nothing if it is wrong."""

from typing import Any

import pytest
import torch
from torch import Tensor

from delayplug import ArgumentError, stream
from tests.running.models import build, sequence, spikes


def leaf(state: dict[str, Any], part: str) -> str:
    return next(key for key, value in state["state"].items() if part in key and isinstance(value, Tensor))


HOSTILE = {
    "no dictionary": (lambda s: [s], "what Stream.state"),
    "an entry less": (lambda s: {k: v for k, v in s.items() if k != "dtype"}, "what Stream.state"),
    "negative steps": (lambda s: {**s, "steps": -1}, "steps >= 0"),
    "steps of text": (lambda s: {**s, "steps": "3"}, "steps >= 0"),
    "no such dtype": (lambda s: {**s, "dtype": "rand"}, "shape and dtype"),
    "another kind of shape": (lambda s: {**s, "shape": [2, -6]}, "shape and dtype"),
    "a huge shape": (lambda s: {**s, "shape": [2**40, 6]}, "shape and dtype"),
    "features": (lambda s: {**s, "shape": [2, 7]}, "x: expected shape|step that the model runs on"),
    "batch": (lambda s: {**s, "shape": [3, 6]}, "of shape"),
    "a leaf less": (
        lambda s: {**s, "state": {k: v for k, v in s["state"].items() if k != leaf(s, "history")}},
        "entry",
    ),
    "a leaf more": (lambda s: {**s, "state": {**s["state"], "other": torch.ones(1)}}, "nothing but"),
    "nan": (lambda s: {**s, "state": {**s["state"], leaf(s, ""): s["state"][leaf(s, "")] * float("nan")}}, "finite"),
    "another type": (lambda s: {**s, "state": {**s["state"], leaf(s, "history"): 3}}, "a tensor of shape"),
    "integers": (lambda s: {**s, "state": {**s["state"], leaf(s, ""): s["state"][leaf(s, "")].long()}}, "of shape"),
    "another network": (lambda s: stream_state("spikingjelly s", s), "Is it the state of another network"),
}


def stream_state(name: str, like: dict[str, Any]) -> dict[str, Any]:
    other = "norse cells" if any("norse" in key or ".user.1" in key for key in like["state"]) else name
    coming = stream(build("snntorch state" if other == name else name))
    coming.push(spikes()[0])
    return coming.state()


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize("name", ["snntorch hidden", "norse cells"])
def test_hostile_states_are_refused_and_change_nothing(name, case):
    spoil, message = HOSTILE[case]
    net, x = build(name), spikes()
    expected = sequence(name, net, x)
    coming = stream(net)
    got = [coming.push(x_t) for x_t in x[:6]]
    with pytest.raises(ArgumentError, match=message):
        coming.restore(spoil(coming.state()))
    assert coming.steps == 6
    got += [coming.push(x_t) for x_t in x[6:]]
    torch.testing.assert_close(torch.stack(got), expected)


def test_what_is_no_tensor_cannot_be_saved():
    class Mine:
        pass

    def advance(net: Any, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        return net(x), Mine()

    coming = stream(build("spikingjelly m"), advance=advance)
    coming.push(spikes()[0])
    with pytest.raises(ArgumentError, match=r"Mine. It cannot be saved"):
        coming.state()
