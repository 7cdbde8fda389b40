"""What delayplug writes into metadata; what it reads there may be anything."""

import itertools
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
import torch

from delayplug import ArgumentError, ExchangeError, to_nir
from delayplug.exchange.nir.notes import MOST_STEPS, max_delay_of, read_dts, read_notes, write_notes
from tests.exchange.models import TOOLKITS, delayed, from_nir, make, spikes
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


@pytest.mark.parametrize("backend", TOOLKITS)
def test_the_dt_that_was_written_is_taken(backend: str, tmp_path: Path) -> None:
    torch.manual_seed(2)
    written = to_nir(delayed(make("norse")), dt=2e-4)
    nir.write(tmp_path / "net.nir", written)
    x = spikes()
    with torch.no_grad():
        wanted = from_nir(written, backend=backend, dt=2e-4)(x)
        for source in (written, tmp_path / "net.nir", str(tmp_path / "net.nir")):
            assert torch.equal(from_nir(source, backend=backend)(x), wanted)
            assert torch.equal(from_nir(source, backend=backend, dt=2e-4 * (1 + 1e-9))(x), wanted)
            with pytest.raises(
                ArgumentError, match=r"dt: expected 0\.0002, with which the graph was written, got 0\.001"
            ):
                from_nir(source, backend=backend, dt=1e-3)


def test_without_a_dt_the_error_says_to_pass_it() -> None:
    other = graph({"fc": nir.Linear(ones(1.0, 1.0)), "lif": lif(1)}, EDGES)
    with pytest.raises(ArgumentError, match=r"got none\. The graph does not say it.*dt=1e-3 for a millisecond"):
        from_nir(other, backend="snntorch")
    for note in ({"dt": float("nan")}, {"dt": -1.0}, {"dt": "often"}, {"dt": [1]}, "text", None, {}):
        other.metadata["delayplug"] = note
        assert read_dts(other) == set()
        with pytest.raises(ArgumentError, match="The graph does not say it"):
            from_nir(other, backend="snntorch")


def test_subgraphs_have_the_dt_that_they_were_written_with() -> None:
    torch.manual_seed(3)
    inner = to_nir(delayed(make("norse")), dt=1e-3)
    shape = np.array([5])

    def around(*parts: Any) -> Any:
        names = ["input", *(f"part{i}" for i in range(len(parts))), "output"]
        nodes = dict(zip(names, (nir.Input(shape), *parts, nir.Output(np.array([4]))), strict=True))
        return nir.NIRGraph(nodes, [*itertools.pairwise(names)], type_check=False)

    x = spikes()
    with torch.no_grad():
        wanted = from_nir(inner, backend="snntorch")(x)
        assert torch.equal(from_nir(around(inner), backend="snntorch")(x), wanted)
    assert 0 < wanted.mean() < 1
    both = around(inner, to_nir(delayed(make("norse")), dt=1e-4))
    for dt in (None, 1e-3):
        with pytest.raises(ArgumentError, match="dt: expected"):
            from_nir(both, backend="snntorch", dt=dt)
    looped = around(inner)
    looped.nodes["part0"] = looped
    assert read_dts(looped) == set()
