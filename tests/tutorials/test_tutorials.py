"""Delays get into the networks of tutorials at once, or with an example, and keep the laws there."""

import pytest

from .__main__ import ALL
from .measure import first_success, laws_of
from .tutorial import Tutorial

pytestmark = pytest.mark.slow

# Its weights act within a step, so that delays per synapse are not possible; the plan says what is.
AXONAL_ONLY = {"SpikingLSTM"}


@pytest.mark.parametrize("tutorial", ALL, ids=[f"{t.backend}-{t.name}" for t in ALL])
@pytest.mark.filterwarnings("ignore")
def test_delays_are_in_after_two_attempts_and_keep_the_laws(tutorial: Tutorial) -> None:
    success = first_success(tutorial)
    assert success is not None
    number, attempt = success
    assert number <= (3 if tutorial.name in AXONAL_ONLY else 2)
    for law in laws_of(tutorial, attempt).values():
        law()


def test_there_are_thirty_networks_and_ten_of_each_toolkit() -> None:
    backends = [tutorial.backend for tutorial in ALL]
    assert {backend: backends.count(backend) for backend in backends} == {
        "snntorch": 10,
        "norse": 10,
        "spikingjelly": 10,
    }
    assert len({(tutorial.backend, tutorial.name) for tutorial in ALL}) == 30
