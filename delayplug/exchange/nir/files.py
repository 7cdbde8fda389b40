"""`to_nir` and `from_nir`: networks with delays as NIR graphs, and back.

NIR (Pedersen et al., "Neuromorphic intermediate representation", Nature Communications 15, 2024) has a `nir.Delay`,
one delay for each channel, in seconds; snnTorch, Norse and SpikingJelly, which exchange networks through NIR, have no
delays.
"""

import functools
import math
import warnings
from collections.abc import Callable, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from ...errors import ArgumentError, ExchangeError, ExtraMissingError
from ...layers.engines.convolve import Engine
from ...layers.taps import Interpolation
from ...surgery.dataflow import Example
from ...toolkits import plugins
from ..from_model import graph_of
from ..to_module import GraphNetwork
from . import read as reading_nir, write as writing_nir

_Function = TypeVar("_Function", bound=Callable[..., Any])


def _needs_nir(function: _Function) -> _Function:
    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        if not plugins.is_installed("nir"):
            raise ExtraMissingError(f"delayplug.{function.__name__}", "nir", "nir")
        return function(*args, **kwargs)

    return checked  # type: ignore[return-value]


@_needs_nir
def to_nir(
    model: nn.Module,
    example: Example | None = None,
    *,
    dt: float,
    outputs: Sequence[str] | None = None,
    strict: bool = False,
) -> Any:
    """A feed-forward network as a NIR graph, with its delays rounded to whole steps, halves up, as in `eval()`.

    Delays per channel are `nir.Delay` nodes. A layer with a delay per synapse is a fan-out of Delay -> Linear (or
    convolution) branches, one for each distinct delay value; `nir_branches` counts them. Neurons are what their
    toolkit's `describe` says, by forward Euler: with tau = dt / leak and so on, see `delayplug.Cell`. Surrogates are
    not a part of a NIR graph. Batch norms are taken into the layers before them, in float64; dropout is left out.

    The model is run on the example and each of its operations is looked at: whatever a graph does not have is refused
    by name. The graph is run, too, and its spikes are compared with the model's.

    Args:
        model: a network of any toolkit, or what `from_nir` gave; it is left as it was.
        example: an input, the arguments of forward, or a function that drives the model from a new sequence on; not
            needed for a chain of modules that begins with a linear layer.
        dt: seconds of a step.
        outputs: names of the neurons or layers whose results, added, are the output, where what the model gives back
            is not plain.
        strict: raise an error, rather than warn, where something is said in the metadata of a node alone, which only
            delayplug reads: a reset by subtraction, since NIR's neurons reset to a value.

    Returns:
        A `nir.NIRGraph`, checked by nir; `nir.write(path, graph)` saves it.

    Raises:
        ExchangeError: something in the model cannot be said in NIR.
        ExtraMissingError: the package nir is missing.
        ArgumentError: dt is not a time.
    """
    _check_dt(dt)
    graph = graph_of(model, example, outputs)
    said = writing_nir.beyond(graph)
    text = f"{'; '.join(said)}. This is in the metadata of the node, which other programs do not read"
    if said and strict:
        raise ExchangeError(f"{text}: use neurons that reset to a value, or strict=False")
    made = writing_nir.to_nodes(graph, float(dt))
    if said:
        warnings.warn(text, stacklevel=3)
    return made


@_needs_nir
def from_nir(
    graph: Any,
    *,
    backend: str,
    dt: float,
    interpolation: Interpolation = "gauss",
    engine: Engine = "direct",
) -> GraphNetwork:
    """A NIR graph, ours or that of another program, as a module with the neurons of a toolkit.

    Branches of delays between the same nodes become one layer with a delay per synapse again, a `nir.Delay` by itself
    a delay per channel, both `LearnableDelay`; subgraphs are dissolved. The module computes the graph in `eval()`, in
    which it is returned; after `train()` its weights and delays learn. Neurons have the default surrogate of their
    toolkit.

    Args:
        graph: a `nir.NIRGraph`, or the path of a file.
        backend: "snntorch", "norse", "spikingjelly", or another installed one.
        dt: seconds of a step. Delays are rounded to whole steps; a delay more than a thousandth of a step away from
            one is refused.
        interpolation: of the delays, when they are trained.
        engine: of the delays per synapse; "direct" adds exactly where weights have few bits, "auto" is faster.

    Returns:
        A module from sequences (T, B, *input) to (T, B, *output), each call from a fresh state.

    Raises:
        ExchangeError: the file cannot be read, or the graph is not in order, is recurrent, or has something that
            the toolkit does not have; the node is named.
        BackendError: the toolkit cannot be used.
    """
    _check_dt(dt)
    toolkit = plugins.toolkit(backend)
    found = reading_nir.read_file(graph) if isinstance(graph, str | Path) else graph
    return GraphNetwork(reading_nir.to_graph(found, float(dt)), toolkit, interpolation=interpolation, engine=engine)


def nir_branches(graph: Any) -> dict[str, int]:
    """How many branches each layer with a delay per synapse has in a graph that `to_nir` made: its distinct delays."""
    found: dict[str, int] = {}
    for node in graph.nodes.values():
        layer = (node.metadata or {}).get(writing_nir.KEY, {}).get("layer")
        if layer is not None:
            found[str(layer)] = found.get(str(layer), 0) + 1
    return found


def _check_dt(dt: Any) -> None:
    if not isinstance(dt, Real) or isinstance(dt, bool) or not math.isfinite(dt) or dt <= 0:
        raise ArgumentError("dt", "the seconds of a step, above zero", dt, "A millisecond is dt=1e-3")
