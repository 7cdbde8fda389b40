"""`to_onnx`: a network with delays as an ONNX file over sequences.

The file is written node by node from the same graph as NIR's, not by tracing: an unrolled loop over time has thousands
of operations, while an ONNX `Scan` is one per layer and takes sequences of any length.

Shapes: T steps, B batch, both free; a sample at one step has the shape of the graph's input.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .._extras import require
from .._files import path_to_write, replace_file
from ..errors import ExchangeError
from ..neurons.cell import Cell, Reset
from ..surgery.dataflow import Example
from .from_model import graph_of
from .graph import Delay, Flatten, Geometry, Graph, Input, Neurons, Node, Pool, Scale, Shape, Synapses, Threshold

_OPSET = 18


def to_onnx(
    model: nn.Module, path: str | Path, *, example: Example | None = None, outputs: Sequence[str] | None = None
) -> Path:
    """Write a feed-forward network as it is in `eval()`, delays rounded, into an ONNX file.

    The file takes "input", (T, B, *input) float32 with any T and B, and computes "output", (T, B, *output): spikes, or
    the membrane of a readout; every run is a sequence of its own. A delay is a shift by whole steps (`Pad`, `Slice`),
    a layer with a delay per synapse has one product for each of its distinct delays, and neurons are a `Scan` over
    time.

    Both formats are written from the same graph, so whatever `to_nir` does not support is not supported here. Neither
    are neurons whose reset is `Reset.SUBTRACT_WHILE_ABOVE` or `Reset.ZERO_NEXT_STEP`.

    Args:
        model: a network of any toolkit, or what `from_nir` returned; it is left as it was.
        path: of the file to write.
        example, outputs: as for `to_nir`.

    Returns:
        The path.

    Raises:
        ExchangeError: something in the model, which is named, cannot be exported.
        ExtraMissingError: the package onnx is missing.
        OSError: the file cannot be written; what was there before is there still.
    """
    require("onnx", "onnx", "delayplug.to_onnx")
    path = path_to_write(path)
    replace_file(path, _Writer(graph_of(model, example, outputs)).model().SerializeToString())
    return path


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
        input_shape: Shape = ()
        for name, node, sources in self.graph.walk():
            if isinstance(node, Input):
                values[name], input_shape = "input", node.shape
                continue
            x = self.added([values[source] for source in sources])
            try:
                values[name] = self.write(node, x, self.shapes[sources[0]], self.shapes[name])
            except ExchangeError as error:
                raise ExchangeError(f"{name}: {error}") from None
        last = name
        self.nodes.append(helper.make_node("Identity", [values[last]], ["output"]))
        inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["steps", "batch", *input_shape])]
        outputs = [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["steps", "batch", *self.shapes[last]])]
        graph = helper.make_graph(self.nodes, "delayplug", inputs, outputs, self.constants)
        onnx_model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", _OPSET)], producer_name="delayplug", ir_version=9
        )
        onnx.checker.check_model(onnx_model, full_check=True)
        return onnx_model

    # --------------------------------------------------------------------------------------------- parts of ONNX

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add an operation; returns the name of its result."""
        from onnx import helper

        self.count += 1
        self.nodes.append(helper.make_node(kind, list(inputs), [f"v{self.count}"], **attributes))
        return f"v{self.count}"

    def added(self, values: Sequence[str]) -> str:
        """Add the operations that add values; returns the name of the sum."""
        return functools.reduce(functools.partial(self.op, "Add"), values)

    def constant(self, value: Tensor | Sequence[int]) -> str:
        """Add float32 numbers of a tensor, or int64 numbers of a sequence; returns their name."""
        from onnx import numpy_helper

        array = value.detach().float().numpy() if isinstance(value, Tensor) else np.array(value, dtype=np.int64)
        self.count += 1
        self.constants.append(
            numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), f"c{self.count}")
        )
        return f"c{self.count}"

    # --------------------------------------------------------------------------------------------- nodes

    def write(self, node: Node, x: str, before: Shape, after: Shape) -> str:
        """Add a node with input x; returns the name of its result. `before` and `after` are the shapes of samples."""
        match node:
            case Synapses():
                return self.synapses(node, x, before, after)
            case Delay():
                return self.channels(node, x, before)
            case Neurons():
                return self.neurons(node.cell, x)
            case Pool():
                return self.pool(node, x, before, after)
            case Flatten():
                return self.op("Reshape", x, self.constant([0, 0, -1]))
            case Scale():
                return self.op("Mul", x, self.constant(node.factor))
            case Threshold():
                return self.op("Cast", self.op("Greater", x, self.constant(node.threshold)), to=1)
        return x

    def later(self, x: str, steps: int, dims: int) -> str:
        """x delayed by some steps, of the same length."""
        if steps == 0:
            return x
        padded = self.op("Pad", x, self.constant([steps, *(0,) * (2 * dims - 1)]))
        return self.op("Slice", padded, self.constant([0]), self.constant([-steps]), self.constant([0]))

    def synapses(self, node: Synapses, x: str, before: Shape, after: Shape) -> str:
        parts = []
        for delay, weight in node.by_delay().items():
            shifted = self.later(x, delay, len(before) + 2)
            if node.geometry is None:
                parts.append(self.op("MatMul", shifted, self.constant(weight.mT)))
            else:
                moves = {"dilations": node.geometry.dilation, "group": node.geometry.groups, **_moves(node.geometry)}
                parts.append(self.folded("Conv", shifted, before, after, self.constant(weight), **moves))
        if node.bias is not None:
            parts.append(self.constant(node.bias.view(-1, *(1,) * (len(after) - 1))))
        return self.added(parts)

    def channels(self, node: Delay, x: str, shape: Shape) -> str:
        values = node.delays.unique().tolist()
        parts = [self.later(x, delay, len(shape) + 2) for delay in values]
        if len(values) > 1:
            each = [(node.delays == delay).float().view(-1, *(1,) * (len(shape) - 1)) for delay in values]
            parts = [self.op("Mul", part, self.constant(own)) for part, own in zip(parts, each, strict=True)]
        return self.added(parts)

    def pool(self, node: Pool, x: str, before: Shape, after: Shape) -> str:
        moves = _moves(node)
        if node.kind == "max":
            moves["dilations"] = node.dilation
            return self.folded("MaxPool", x, before, after, kernel_shape=node.kernel, **moves)
        if node.kind == "average":
            return self.folded("AveragePool", x, before, after, kernel_shape=node.kernel, count_include_pad=1, **moves)
        ones = self.constant(torch.ones(before[0], 1, *node.kernel, device="cpu"))
        return self.folded("Conv", x, before, after, ones, group=before[0], **moves)

    def folded(self, kind: str, x: str, before: Shape, after: Shape, *inputs: str, **attributes: Any) -> str:
        """An operation on samples, with time folded into the batch."""
        leading = self.op("Shape", x, start=0, end=2)
        y = self.op(kind, self.op("Reshape", x, self.constant([-1, *before])), *inputs, **attributes)
        return self.op("Reshape", y, self.op("Concat", leading, self.constant(after), axis=0))

    def neurons(self, cell: Cell, x: str) -> str:
        """A `Scan` over time, from a fresh state."""
        from onnx import TensorProto, helper

        if cell.threshold is not None and cell.rule not in (Reset.VALUE, Reset.SUBTRACT, Reset.SUBTRACT_NEXT_STEP):
            raise ExchangeError(f"a reset by the rule {cell.rule.value!r} cannot be exported to ONNX")
        sample = self.op("Shape", x, start=1)
        begin = torch.where(cell.leak > 0, cell.rest, cell.reset)
        states = [self.op("Expand", self.constant(begin), sample)]
        if cell.synapse is not None:
            states.append(self.op("Expand", self.constant(torch.zeros((), device="cpu")), sample))
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
        """One step of a cell from "v_in", "i_in" and "x_in": the names of the next states, and of the output."""
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


def _moves(window: Geometry | Pool) -> dict[str, Sequence[int]]:
    return {"strides": window.stride, "pads": [*window.padding, *window.padding]}
