"""A node that declares another shape than it is fed with is refused; the ways that writers count shapes are not."""

import itertools
from typing import Any

import nir
import numpy as np
import pytest

from delayplug import ExchangeError
from delayplug.exchange.nir.declared import check_declared
from delayplug.exchange.nir.subgraphs import flat
from tests.exchange.models import from_nir
from tests.exchange.nir.test_files import lif


def read(nodes: dict[str, Any], inputs: Any = (4,)) -> Any:
    """A chain of nodes."""
    chain = {"input": nir.Input(np.array(inputs)), **nodes}
    chain.setdefault("output", nir.Output(np.array([3])))
    names = list(chain)
    return from_nir(nir.NIRGraph(chain, [*itertools.pairwise(names)], type_check=False), backend="norse", dt=1e-3)


FC = {"fc": nir.Linear(np.ones((3, 4), dtype=np.float32))}
CONV = {"weight": np.ones((2, 1, 3, 3)), "stride": 1, "padding": 0, "dilation": 1, "groups": 1, "bias": np.zeros(2)}
IMAGE = (1, 6, 5)  # a convolution makes (2, 4, 3) of it


def conv(size: Any) -> nir.Conv2d:
    return nir.Conv2d(input_shape=size, **CONV)


@pytest.mark.parametrize(
    ("nodes", "inputs", "reason"),
    [
        ({**FC, "lif": lif(7)}, (4,), r"^lif \(LIF\): tau has the shape \(7,\), and is fed with \(3,\)$"),
        ({**FC, "if": nir.IF(np.full(7, 1e3), np.ones(7))}, (4,), r"if \(IF\): r has the shape \(7,\)"),
        ({**FC, "scale": nir.Scale(np.ones(2))}, (4,), r"scale \(Scale\): scale has the shape \(2,\)"),
        ({**FC, "over": nir.Threshold(np.ones(4))}, (4,), r"over \(Threshold\)"),
        ({**FC, "output": nir.Output(np.array([9]))}, (4,), r"output \(Output\): input_type has the shape \(9,\)"),
        ({"conv": conv((7, 5)), "flat": nir.Flatten({"input": None}, 0, -1)}, IMAGE, r"conv \(Conv2d\): input_shape"),
        ({"conv": conv(None), "lif": lif((2, 4, 4))}, IMAGE, r"lif \(LIF\): tau has the shape \(2, 4, 4\)"),
        ({"conv": conv(None), "late": nir.Delay(np.zeros((2, 9, 9)))}, IMAGE, r"late \(Delay\): delay has the shape"),
        ({"flat": nir.Flatten({"input": np.array([1, 6, 6])}, 0, -1)}, IMAGE, r"flat \(Flatten\): input_type"),
    ],
)
def test_another_shape_is_refused(nodes: dict[str, Any], inputs: Any, reason: str) -> None:
    with pytest.raises(ExchangeError, match=reason):
        read(nodes, inputs)


@pytest.mark.parametrize(
    ("nodes", "inputs"),
    [
        ({**FC, "lif": lif(())}, (4,)),
        ({**FC, "lif": lif(1)}, (4,)),
        ({**FC, "lif": lif(3)}, (4,)),
        ({**FC, "lif": lif((1, 3))}, (4,)),
        ({**FC, "output": nir.Output(np.array([16, 3]))}, (4,)),  # with the batch, as Norse writes it
        ({**FC, "output": nir.Output(None)}, (4,)),
        ({"conv": conv((6, 5)), "lif": lif((2, 4, 3)), "output": nir.Output(np.array([2, 4, 3]))}, IMAGE),
        ({"conv": conv(None), "lif": lif(2), "output": nir.Output(np.array([2, 4, 3]))}, IMAGE),
        ({"conv": conv(None), "lif": lif((2, 1, 1)), "output": nir.Output(np.array([8, 2, 4, 3]))}, IMAGE),
        ({"flat": nir.Flatten({"input": np.array([7, 1, 6, 5])}, 1, -1), "output": nir.Output(np.array([30]))}, IMAGE),
    ],
)
def test_what_can_mean_that_shape_is_read(nodes: dict[str, Any], inputs: Any) -> None:
    assert len(read(nodes, inputs).steps) == 1 + len({"output": None, **nodes})


def test_the_check_asks_for_the_shapes_alone() -> None:
    nodes = {"input": nir.Input(np.array([4])), **FC, "output": nir.Output(np.array([3]))}
    found = flat(nir.NIRGraph(nodes, [("input", "fc"), ("fc", "output")], type_check=False))

    class Fed:
        """Of a graph, what feeds a node."""

        def before(self, name: str) -> list[str]:
            return [a for a, b in found.edges if b == name]

    check_declared(found, Fed(), {"input": (4,), "fc": (3,)})  # type: ignore[arg-type]
    with pytest.raises(ExchangeError, match="output"):
        check_declared(found, Fed(), {"input": (4,), "fc": (2,)})  # type: ignore[arg-type]
