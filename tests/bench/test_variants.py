"""Variants of the network."""

from typing import Any

import pytest

from delayplug import ArgumentError
from delayplug.bench.config import RunConfig
from delayplug.bench.model.synapses import Synapses
from delayplug.bench.variants import ANNEALED, PER_SYNAPSE, VARIANTS, anneals, learns_delays, variant_name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delays": "some"}, "delays: expected one of none, fixed, constant, learned, axonal, dendritic, got 'some'"),
        ({"delays": "axonal", "taps": 2}, "taps: expected 1 for the variant 'axonal'"),
        ({"delays": "none", "taps": 2}, "taps: expected 1 for the variant 'none'"),
        ({"delays": "learned", "fan_in": -1}, "fan_in: expected an integer >= 0"),
    ],
)
def test_impossible_variants(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Synapses(4, 3, RunConfig(max_delay=2, **options))


def test_names() -> None:
    assert variant_name("learned", 0) == "learned"
    assert variant_name("learned", 10) == "learned-sparse10"
    assert variant_name("none", 0, "axonal") == "none-recurrent-axonal"
    assert variant_name("learned", 10, "plain") == "learned-sparse10-recurrent-plain"


def test_recurrent_delays_learn_and_are_annealed_beside_the_others() -> None:
    assert {kind for kind in VARIANTS if anneals(kind)} == set(ANNEALED)
    for kind in VARIANTS:
        assert learns_delays(kind, "plain") == learns_delays(kind)
        assert anneals(kind, "plain") == anneals(kind)
        assert learns_delays(kind, "axonal")
        assert anneals(kind, "synaptic") == (kind != "constant")


def test_kinds_of_variants() -> None:
    assert {kind for kind in VARIANTS if learns_delays(kind)} == {"constant", "learned", "axonal", "dendritic"}
    for kind in VARIANTS:
        layer = Synapses(4, 3, RunConfig(delays=kind, max_delay=2))
        assert (layer.delays is not None and layer.delays is layer.weights) == (kind in PER_SYNAPSE)
        learned = layer.delays is not None and layer.delays.delays.requires_grad
        assert learned == learns_delays(kind)
    assert set(ANNEALED) < {kind for kind in VARIANTS if learns_delays(kind)}
