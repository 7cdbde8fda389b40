"""The laws of sequences notice what they are for: each is broken on purpose."""

import unittest
from typing import Any

import pytest
import torch
from torch import Tensor

from delayplug import SequenceError
from delayplug.surgery import resolve
from delayplug.surgery.link import Link
from delayplug.surgery.sequence import Memory
from delayplug.testing import Laws, Network, sequence_laws
from delayplug.toolkits import plugins
from tests.corpus import norse_networks, snntorch_networks, spikingjelly_networks

BACKENDS = {"snntorch": snntorch_networks, "norse": norse_networks, "spikingjelly": spikingjelly_networks}

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:snntorch")


def laws_of(backend: str) -> Laws:
    laws = type("Named", (Laws,), {"backend": backend, "networks": BACKENDS[backend].NETWORKS})()
    assert isinstance(laws, Laws)
    return laws


def network_of(backend: str, name: str) -> Network:
    return next(network for network in BACKENDS[backend].NETWORKS if network.name == name)


SPIKING, CELLS = ("spikingjelly", "sequential-s"), ("norse", "cells-carried")


def check(law: str, place: tuple[str, str]) -> None:
    getattr(laws_of(place[0]), f"test_{law}")(network_of(*place))


@pytest.mark.parametrize("place", [SPIKING, CELLS], ids="-".join)
@pytest.mark.parametrize(
    "law",
    [
        "carried_streams_in_turns_are_each_by_itself",
        "carried_states_put_aside_are_gone_on_from_later",
        "carried_slices_of_a_batch_go_on",
    ],
)
def test_delays_that_always_go_on_from_the_last_call(
    law: str, place: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def last(resolver: resolve.Resolver, tensors: list[Tensor]) -> resolve.Start | None:
        record = resolver._now.last
        return None if record is None else resolve.Start(record)

    check(law, place)
    monkeypatch.setattr(resolve.Resolver, "_found", last)
    with pytest.raises((AssertionError, SequenceError)):
        check(law, place)


@pytest.mark.real("memory that is copied with what is noted on it")
@pytest.mark.parametrize("place", [SPIKING, CELLS], ids="-".join)
def test_copies_that_have_forgotten(place: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    law = "carried_deep_copies_in_the_middle_go_on"
    check(law, place)
    deepcopy = Memory.__deepcopy__

    def forgetful(memory: Memory, memo: dict[int, Any]) -> Memory:
        copied = deepcopy(memory, memo)
        copied.forget()
        return copied

    monkeypatch.setattr(Memory, "__deepcopy__", forgetful)
    with pytest.raises((AssertionError, SequenceError)):
        check(law, place)


@pytest.mark.parametrize("place", [SPIKING, CELLS], ids="-".join)
@pytest.mark.parametrize(
    ("law", "said"),
    [
        ("carried_any_state_begins_after_a_reset_of_the_delays", "reset_delays"),
        ("carried_delay_states_are_put_back", "set_delay_state"),
        ("carried_batches_are_selected", "select_delays"),
    ],
)
def test_what_the_user_says_is_needed(
    law: str, said: str, place: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    check(law, place)
    monkeypatch.setattr(sequence_laws, said, lambda *args: None)
    with pytest.raises((AssertionError, SequenceError)):
        check(law, place)


@pytest.mark.parametrize("place", [SPIKING, CELLS], ids="-".join)
def test_copies_that_are_taken_for_beginnings(place: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    check("carried_copies_are_never_wrong", place)
    monkeypatch.setattr(resolve.Resolver, "_begins", lambda *args, **kwargs: True)
    with pytest.raises(AssertionError):
        check("carried_copies_are_never_wrong", place)


@pytest.mark.parametrize("place", [SPIKING, ("norse", "cells"), ("snntorch", "reset-mem")], ids="-".join)
def test_states_that_are_all_said_to_be_fresh(place: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    check("a_fresh_state_is_told_from_one_that_was_left", place)
    monkeypatch.setattr(plugins.toolkit(place[0]), "is_fresh", lambda neuron, state, x=None: torch.tensor(True))
    with pytest.raises(AssertionError, match="that it left are said to be fresh"):
        check("a_fresh_state_is_told_from_one_that_was_left", place)


def test_states_that_are_never_said_to_be_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    place = ("snntorch", "reset-mem")  # its forward makes the first states by a method of the neurons
    monkeypatch.setattr(plugins.toolkit(place[0]), "is_fresh", lambda neuron, state, x=None: torch.tensor(False))
    with pytest.raises(AssertionError, match="its first state is not said to be fresh"):
        check("a_fresh_state_is_told_from_one_that_was_left", place)


def test_a_reset_that_nobody_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    place = ("snntorch", "sequential")
    check("carried_resets_by_methods_begin_a_sequence", place)
    monkeypatch.setattr(Link, "was_reset", lambda *args: None)
    monkeypatch.setattr(plugins.toolkit("snntorch"), "is_fresh", lambda neuron, state, x=None: None)
    with pytest.raises((AssertionError, SequenceError)):
        check("carried_resets_by_methods_begin_a_sequence", place)


def test_delays_whose_state_is_the_callers_are_not_put_back() -> None:
    with pytest.raises(unittest.SkipTest, match="is the caller's"):
        check("carried_delay_states_are_put_back", ("norse", "sequential-steps"))


def test_neurons_without_methods_that_reset_them_skip_the_law() -> None:
    with pytest.raises(unittest.SkipTest, match="not reset by methods"):
        check("carried_resets_by_methods_begin_a_sequence", CELLS)


def test_states_that_nobody_can_take_out_skip_the_laws(monkeypatch: pytest.MonkeyPatch) -> None:
    check("carried_slices_of_a_batch_go_on", CELLS)
    monkeypatch.setattr(plugins.toolkit("norse"), "held_state", lambda neuron: (torch.zeros(3),))
    with pytest.raises(unittest.SkipTest, match="has no Streams"):
        check("carried_slices_of_a_batch_go_on", CELLS)
