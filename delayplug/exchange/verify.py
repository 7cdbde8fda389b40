"""The check of a graph: run on what the model was run on, its neurons fire as they did in the model."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..errors import ExchangeError
from ..running.selfcheck import differing
from ..surgery.inventory import Network
from .graph import Graph, Neurons, Shape
from .observe import INPUT, Mark, Run
from .to_module import GraphNetwork

_MOST_DIFFERENT = 0.01  # of a neuron's spikes: rounding differs where a batch norm is taken into a layer


def verify(graph: Graph, network: Network, run: Run, marks: Mapping[str, Mark], shapes: Mapping[str, Shape]) -> None:
    """Raise ExchangeError for a neuron whose spikes in the graph differ from those in the model.

    This notices what modules do not show, such as a state that is changed between steps. Skipped for a model that does
    not keep time step by step or first, and for a graph whose neurons the toolkit of the model does not have.

    Args:
        graph: to check.
        network: the model that it was read from.
        run: of the model.
        marks: what the input of each module is made of.
        shapes: of a sample of each module's result at one step, and of the model's input.
    """
    first = next((name for name, mark in marks.items() if INPUT in mark.parts), "")
    inputs, shape = run.calls[first].inputs, shapes[INPUT]
    x = _over_time(inputs, shape)
    if x is None and len(shape) > 1:
        flat = _over_time(inputs, (math.prod(shape),))
        x = None if flat is None else flat.unflatten(-1, shape)
    if x is None or marks[first].parts != {INPUT: 1.0}:
        return
    try:
        values = GraphNetwork(graph, network.toolkit).cpu().activity(x.float())
    except ExchangeError:  # a graph of this network that cannot be built in its own toolkit
        return
    for name in network.neurons:
        node = graph.nodes.get(name)
        if name not in run.calls or not isinstance(node, Neurons) or node.cell.threshold is None:
            continue
        seen = _over_time(run.calls[name].outputs, shapes[name])
        if seen is None or seen.shape != values[name].shape:
            continue
        share = differing(seen, values[name]) / seen.numel()
        if share > _MOST_DIFFERENT:
            raise ExchangeError(
                f"{name} fires differently in the graph than in the model, {share:.0%} of its steps: its state is "
                "changed between steps, or the example does not begin a new sequence"
            )


def _over_time(values: Sequence[Tensor], shape: Shape) -> Tensor | None:
    """Values of all calls as one sequence (T, B, *shape); None if the calls are neither steps nor one sequence.

    On the CPU, where the numbers of a graph are.
    """
    dims, values = len(shape), [value.cpu() for value in values]
    if all(value.dim() == dims + 1 and tuple(value.shape[1:]) == shape for value in values):
        same = all(value.shape == values[0].shape for value in values)
        return torch.stack(values) if same else None
    if len(values) == 1 and values[0].dim() == dims + 2 and tuple(values[0].shape[2:]) == shape:
        return values[0]
    return None
