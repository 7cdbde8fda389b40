"""`connections`: a network as lists of synapses, as PyNN's `FromListConnector` takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real

import numpy as np
from numpy.typing import NDArray
from torch import nn

from ..errors import ArgumentError, ExchangeError
from ..neurons.cell import Cell
from ..surgery.dataflow import Example
from .chain import Stage, stages_of
from .from_model import graph_of


@dataclass(frozen=True)
class Projection:
    """The synapses from one layer of neurons to the next.

    Attributes:
        name: of the neurons that they lead to.
        pre, post: how many neurons there are before and behind.
        synapses: (S, 4) float64, a row for each weight that is not zero: index before, index behind, weight, delay in
            ms. For PyNN, `FromListConnector(projection.synapses, column_names=["weight", "delay"])`.
        bias: (post,) float64, a constant input of each neuron in every step; None without one.
        cell: the neurons that they lead to, in numbers of one step.
    """

    name: str
    pre: int
    post: int
    synapses: NDArray[np.float64]
    bias: NDArray[np.float64] | None
    cell: Cell


def connections(
    model: nn.Module,
    *,
    dt_ms: float,
    min_delay: int = 1,
    example: Example | None = None,
    outputs: Sequence[str] | None = None,
) -> tuple[Projection, ...]:
    """The synapses of a feed-forward network of linear layers, with weights and delays, as lists.

    This is for simulators that take networks synapse by synapse: PyNN with NEST, Brian or SpiNNaker, and others.
    Weights are those of the model, without units; what a simulator's neurons make of them is up to the `cell` of each
    projection. PyNN's integrate-and-fire neurons are solved in another way than step by step, and SpiNNaker has
    inhibitory synapses apart from the others, whose weights are positive.

    Args:
        model: a network of any toolkit; it is left as it was. Delays count as rounded, as in `eval()`.
        dt_ms: milliseconds of a step.
        min_delay: steps that are added to every delay. Simulators have none below one step, so that by default a layer
            is one step later than in the model.
        example, outputs: as for `to_nir`.

    Returns:
        One projection for each layer, from the input on.

    Raises:
        ExchangeError: the network is not a chain of linear layers and neurons, or something in it cannot be exported.
        ArgumentError: `dt_ms` or `min_delay` has a wrong value.
    """
    if not isinstance(dt_ms, Real) or not 0 < dt_ms < float("inf"):
        raise ArgumentError("dt_ms", "a length of a step in ms, above 0", dt_ms)
    if not isinstance(min_delay, int) or min_delay < 0:
        raise ArgumentError("min_delay", "a whole number of steps >= 0", min_delay)
    return tuple(_projection(stage, float(dt_ms), min_delay) for stage in stages_of(graph_of(model, example, outputs)))


def _projection(stage: Stage, dt_ms: float, min_delay: int) -> Projection:
    if stage.geometry is not None:
        raise ExchangeError(f"{stage.name}: a convolution, and lists of synapses are made of linear layers")
    weight = stage.weight if stage.taps > 1 else stage.weight.unsqueeze(-1)  # (O, I, N)
    post, pre, tap = weight.nonzero(as_tuple=True)
    delays = weight.new_zeros(weight.shape) if stage.delays is None else stage.delays.view(weight.shape)
    columns = (pre, post, weight[post, pre, tap].double(), (delays[post, pre, tap].double() + min_delay) * dt_ms)
    synapses = np.stack([column.double().numpy() for column in columns], axis=1)
    bias = None if stage.bias is None else stage.bias.double().numpy()
    return Projection(stage.name, weight.shape[1], weight.shape[0], synapses, bias, stage.cell)
