"""What delayplug writes into metadata; what it reads there may be anything."""

from typing import Any

import nir
import numpy as np
import pytest
import torch

from delayplug import ExchangeError, to_nir
from delayplug.exchange.nir.notes import MOST_STEPS, max_delay_of, read_notes, write_notes
from tests.exchange.nir.test_files import graph, lif, ones
from tests.exchange.nir.test_read import EDGES, read


def test_notes_are_read_as_they_were_written() -> None:
    node = nir.Linear(ones(1.0, 1.0))
    assert read_notes(node) == {}
    write_notes(node, {"layer": "fc", "max_delay": 4})
    assert read_notes(node) == {"layer": "fc", "max_delay": 4}
    assert read_notes(object()) == {}


@pytest.mark.parametrize(
    ("noted", "expected"),
    [(7, 7), ("7", 7), (3, 5), (-1, 5), (MOST_STEPS + 1, 5), (float("nan"), 5), ("many", 5), (None, 5), ([1], 5)],
)
def test_the_largest_delay(noted: Any, expected: int) -> None:
    assert max_delay_of({"max_delay": noted}, 5) == expected
    assert max_delay_of({}, 5) == 5


def test_our_notes_are_not_trusted() -> None:
    """Metadata may hold anything."""
    for note in (
        {"max_delay": 10**12},
        {"max_delay": "many"},
        {"max_delay": -1},
        {"layer": 3},
        "text",
        None,
        {"layer": "../a/b"},
    ):
        nodes = {"d": nir.Delay(np.array([0.002, 0.002])), "fc": nir.Linear(ones(2.0, 2.0))}
        nodes["fc"].metadata["delayplug"] = note
        nodes["d"].metadata["delayplug"] = note
        net = read(graph(nodes, [("input", "d"), ("d", "fc"), ("fc", "lif")]))
        x = torch.zeros(4, 1, 2)
        x[0] = 1.0
        with torch.no_grad():
            assert net(x).flatten().tolist() == [0, 0, 1, 0]
        to_nir(net, dt=1e-3)
    bad = lif(1)
    bad.metadata["delayplug"] = {"reset": "as you like"}
    with pytest.raises(ExchangeError, match=r"metadata: expected one of value, .*, got 'as you like'"):
        read(graph({"fc": nir.Linear(ones(1.0, 1.0)), "lif": bad}, EDGES))
