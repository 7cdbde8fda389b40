"""`to_onnx`: a network with delays as an ONNX file over sequences.

The file is made node by node from the same graph as NIR's, and not by tracing: an unrolled loop over the time has
thousands of operations, and an ONNX `Scan` has one per layer and takes sequences of any length.

Shapes: T steps, B batch, both free; a sample at one step has the shape of the graph's input.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import ExchangeError, ExtraMissingError
from ..neurons.cell import Cell, Reset
from ..surgery.dataflow import Example
from ..toolkits import plugins
from .from_model import graph_of
from .graph import Delay, Flatten, Graph, Input, Neurons, Node, Pool, Scale, Shape, Synapses, Threshold, distinct

_OPSET = 18


def to_onnx(
    model: nn.Module, path: str | Path, *, example: Example | None = None, outputs: Sequence[str] | None = None
) -> Path:
    """Write a feed-forward network as it is in `eval()`, delays rounded, into an ONNX file.

    The file takes "input", (T, B, *input) float32 with any T and B, and gives "output", (T, B, *output): spikes, or
    the membrane of a readout; every run is a sequence of its own. A delay is a shift by whole steps (`Pad`, `Slice`),
    a layer with a delay per synapse has one product for each of its distinct delays, and neurons are a `Scan` over the
    time.

    What is exported is the graph that `to_nir` writes, so what that refuses is refused here, too; and resets that only
    snnTorch has, but for the one by subtraction in the next step.

    Args:
        model: a network of any toolkit, or what `from_nir` gave; it is left as it was.
        path: of the file to write.
        example, outputs: as for `to_nir`.

    Returns:
        The path.

    Raises:
        ExchangeError: something in the model cannot be exported, with its name.
        ExtraMissingError: the package onnx is missing.
    """
    if not plugins.is_installed("onnx"):
        raise ExtraMissingError("delayplug.to_onnx", "onnx", "onnx")
    import onnx

    made = _Writer(graph_of(model, example, outputs)).model()
    onnx.save(made, str(path))
    return Path(path)


class _Writer:
    """Makes an ONNX model of a graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.shapes = graph, graph.shapes()
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.count = 0

    def model(self) -> Any:
        """The model, checked by onnx."""
        import onnx
        from onnx import TensorProto, helper

        values: dict[str, str] = {}
        given: Shape = ()
        taken: Shape = ()
        for name in self.graph.order():
            node, sources = self.graph.nodes[name], self.graph.before(name)
            if isinstance(node, Input):
                values[name], taken = "input", node.shape
                continue
            x = values[sources[0]]
            for source in sources[1:]:
                x = self.op("Add", x, values[source])
            given = self.shapes[sources[0]]
            try:
                values[name] = self.write(node, x, given, self.shapes[name])
            except ExchangeError as error:
                raise ExchangeError(f"{name}: {error}") from None
        last = self.graph.order()[-1]
        self.nodes.append(helper.make_node("Identity", [values[last]], ["output"]))
        inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["steps", "batch", *taken])]
        outputs = [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["steps", "batch", *self.shapes[last]])]
        graph = helper.make_graph(self.nodes, "delayplug", inputs, outputs, self.constants)
        made = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", _OPSET)], producer_name="delayplug", ir_version=9
        )
        onnx.checker.check_model(made, full_check=True)
        return made

    # --------------------------------------------------------------------------------------------- parts of ONNX

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add an operation; the name of its result."""
        from onnx import helper

        self.count += 1
        self.nodes.append(helper.make_node(kind, list(inputs), [f"v{self.count}"], **attributes))
        return f"v{self.count}"

    def constant(self, value: Tensor | Sequence[int]) -> str:
        """Add float32 numbers, or int64 ones if it is a sequence; their name."""
        from onnx import numpy_helper

        array = value.detach().float().numpy() if isinstance(value, Tensor) else np.array(value, dtype=np.int64)
        self.count += 1
        self.constants.append(
            numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), f"c{self.count}")
        )
        return f"c{self.count}"

    # --------------------------------------------------------------------------------------------- nodes

    def write(self, node: Node, x: str, given: Shape, shape: Shape) -> str:
        """Add what a node computes of x; the name of the result."""
        match node:
            case Synapses():
                return self.synapses(node, x, given, shape)
            case Delay():
                return self.channels(node, x, given)
            case Neurons():
                return self.neurons(node.cell, x)
            case Pool():
                return self.pool(node, x, given, shape)
            case Flatten():
                return self.op("Reshape", x, self.constant([0, 0, -1]))
            case Scale():
                return self.op("Mul", x, self.constant(node.factor))
            case Threshold():
                return self.op("Cast", self.op("Greater", x, self.constant(node.threshold)), to=1)
        return x

    def later(self, x: str, steps: int, dims: int) -> str:
        """x shifted by so many steps, of the same length, whatever that is."""
        if steps == 0:
            return x
        padded = self.op("Pad", x, self.constant([steps, *(0,) * (2 * dims - 1)]))
        return self.op("Slice", padded, self.constant([0]), self.constant([-steps]), self.constant([0]))

    def synapses(self, node: Synapses, x: str, given: Shape, shape: Shape) -> str:
        result = ""
        for delay in [0] if node.delays is None else distinct(node):
            weight = node.weight
            if node.delays is not None:
                weight = torch.where(node.delays == delay, weight, 0).sum(-1)
            shifted = self.later(x, delay, len(given) + 2)
            if node.geometry is None:
                part = self.op("MatMul", shifted, self.constant(weight.mT))
            else:
                g = node.geometry
                moves = {
                    "strides": g.stride,
                    "pads": [*g.padding, *g.padding],
                    "dilations": g.dilation,
                    "group": g.groups,
                }
                part = self.folded("Conv", shifted, given, shape, self.constant(weight), **moves)
            result = self.op("Add", result, part) if result else part
        if node.bias is None:
            return result
        return self.op("Add", result, self.constant(node.bias.view(-1, *(1,) * (len(shape) - 1))))

    def channels(self, node: Delay, x: str, given: Shape) -> str:
        result = ""
        values = node.delays.unique().tolist()
        for delay in values:
            part = self.later(x, delay, len(given) + 2)
            if len(values) > 1:
                own = (node.delays == delay).view(-1, *(1,) * (len(given) - 1))
                part = self.op("Mul", part, self.constant(own.float()))
            result = self.op("Add", result, part) if result else part
        return result

    def pool(self, node: Pool, x: str, given: Shape, shape: Shape) -> str:
        moves = {"strides": node.stride, "pads": [*node.padding, *node.padding]}
        if node.kind == "average":
            return self.folded("AveragePool", x, given, shape, kernel_shape=node.kernel, count_include_pad=1, **moves)
        ones = self.constant(torch.ones(given[0], 1, *node.kernel))
        return self.folded("Conv", x, given, shape, ones, group=given[0], **moves)

    def folded(self, kind: str, x: str, given: Shape, shape: Shape, *inputs: str, **attributes: Any) -> str:
        """An operation over samples, with the time folded into the batch."""
        leading = self.op("Shape", x, start=0, end=2)
        y = self.op(kind, self.op("Reshape", x, self.constant([-1, *given])), *inputs, **attributes)
        return self.op("Reshape", y, self.op("Concat", leading, self.constant(shape), axis=0))

    def neurons(self, cell: Cell, x: str) -> str:
        """A `Scan` over the time, from a fresh state."""
        from onnx import TensorProto, helper

        if cell.threshold is not None and cell.rule not in (Reset.VALUE, Reset.SUBTRACT, Reset.SUBTRACT_NEXT_STEP):
            raise ExchangeError(f"a reset by the rule {cell.rule.value!r} cannot be exported to ONNX")
        sample = self.op("Shape", x, start=1)
        begin = torch.where(cell.leak > 0, cell.rest, cell.reset)
        states = [self.op("Expand", self.constant(begin), sample)]
        if cell.synapse is not None:
            states.append(self.op("Expand", self.constant(torch.zeros(())), sample))
        outer, self.nodes = self.nodes, []
        after, out = self.step(cell)
        names = ["v_in", "i_in"][: len(states)]
        body_inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in (*names, "x_in")]
        body_outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in (*after, out)]
        body = helper.make_graph(self.nodes, "step", body_inputs, body_outputs)
        self.nodes = outer
        self.count += 1
        results = [f"v{self.count}_end{i}" for i in range(len(states))] + [f"v{self.count}"]
        self.nodes.append(helper.make_node("Scan", [*states, x], results, num_scan_inputs=1, body=body))
        return results[-1]

    def step(self, cell: Cell) -> tuple[list[str], str]:
        """One step of a cell from "v_in", "i_in" and "x_in": the names of the next states, and of what it gives."""
        v, x, states = "v_in", "x_in", []
        if cell.synapse is not None:
            x = self.op("Add", self.op("Mul", "i_in", self.constant(1 - cell.synapse)), x)
            states = [x]
        threshold = None if cell.threshold is None else self.constant(cell.threshold)
        late = ""
        if threshold is not None and cell.rule is Reset.SUBTRACT_NEXT_STEP:
            late = self.op("Mul", self.op("Cast", self.op("Greater", v, threshold), to=1), threshold)
        if bool((cell.leak != 0).any()):
            v = self.op("Mul", v, self.constant(1 - cell.leak))
        if bool((cell.leak * cell.rest != 0).any()):
            v = self.op("Add", v, self.constant(cell.leak * cell.rest))
        v = self.op("Add", v, x if Cell.close(cell.gain, 1.0) else self.op("Mul", x, self.constant(cell.gain)))
        v = self.op("Sub", v, late) if late else v
        if threshold is None:
            return [v, *states], self.op("Identity", v)
        fires = self.op("Greater", v, threshold)
        spikes = self.op("Cast", fires, to=1)
        if cell.rule is Reset.VALUE:
            v = self.op("Where", fires, self.constant(cell.reset), v)
        elif cell.rule is Reset.SUBTRACT:
            v = self.op("Sub", v, self.op("Mul", spikes, threshold))
        return [v, *states], spikes
