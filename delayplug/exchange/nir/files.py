"""`to_nir` and `from_nir`: networks with delays as NIR graphs, and back.

NIR (Pedersen et al., "Neuromorphic intermediate representation: a unified instruction set for interoperable
brain-inspired computing", Nature Communications 15, 2024) has `nir.Delay`, one delay for each channel, in seconds.
snnTorch, Norse and SpikingJelly, which exchange networks through NIR, have no delays.
"""

import math
import warnings
from collections.abc import Sequence
from numbers import Real
from pathlib import Path
from typing import Any

from torch import nn

from ..._extras import require
from ...errors import ArgumentError, ExchangeError, choice_error
from ...layers.engines.convolve import Engine
from ...layers.taps import Interpolation
from ...surgery.dataflow import Example
from ...toolkits import plugins
from ..from_model import graph_of
from ..to_module import GraphNetwork
from . import read, write
from .firing import INTEGRATORS, Integrator
from .notes import read_dts

_EXPECTED_DT = "the seconds of a step, above zero"


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
    convolution) branches, one for each distinct delay; `nir_branches` counts them. Neurons are written with the numbers
    of their `delayplug.Cell`, by forward Euler: tau = dt / leak and so on. Surrogates are not a part of a NIR graph.
    Batch norms become part of the layers before them, computed in float64; dropout is left out.

    The model is run on the example and each of its operations is looked at: an operation that NIR has no node for is
    an error that names it. The graph is run, too, and its spikes are compared with the model's.

    Args:
        model: a network of any toolkit, or what `from_nir` returned; it is left as it was.
        example: an input (one step or a sequence, as the model takes it), the arguments of its forward as a tuple or
            dictionary, or a function that runs the model over a sequence from its beginning. None for a chain of
            modules that begins with a linear layer.
        dt: seconds of a step.
        outputs: names of the neurons or layers whose results, added, are the output; needed where the model returns
            something else, or several results.
        strict: raise an error, rather than warn, where a node is right only together with its metadata, which other
            programs do not read: for a reset by subtraction, since NIR's neurons reset to a value.

    Returns:
        A `nir.NIRGraph`, checked by nir; `nir.write(path, graph)` saves it.

    Raises:
        ExchangeError: NIR has no node for something in the model, which is named; or the spikes differ.
        ExtraMissingError: the package nir is missing.
        ArgumentError: dt is not a time.
    """
    _check_nir("to_nir")
    _check_dt(dt)
    graph = graph_of(model, example, outputs)
    reasons = write.not_in_nir(graph)
    text = f"{'; '.join(reasons)}. This is in the metadata of the node, which other programs do not read"
    if reasons and strict:
        raise ExchangeError(f"{text}: use neurons that reset to a value, or strict=False")
    nir_graph = write.to_nodes(graph, float(dt))
    if reasons:
        warnings.warn(text, stacklevel=2)
    return nir_graph


def from_nir(
    graph: Any,
    *,
    backend: str,
    dt: float | None = None,
    integrator: Integrator = "per second",
    interpolation: Interpolation = "gauss",
    engine: Engine = "direct",
) -> GraphNetwork:
    """A NIR graph, ours or that of another program, as a module with the neurons of a toolkit.

    Branches of delays between the same nodes become one layer with a delay per synapse, and a `nir.Delay` by itself a
    delay per channel, both `LearnableDelay`; subgraphs become part of the graph around them. The module is returned in
    `eval()`, where it computes the graph; after `train()` its weights and delays learn. Neurons have the default
    surrogate of their toolkit. `delayplug.stream` runs it on input as it comes in, and `chunk` and `step` from a state.

    Args:
        graph: a `nir.NIRGraph`, or the path of a file.
        backend: "snntorch", "norse", "spikingjelly", or another installed one.
        dt: seconds of a step. None for a graph that `to_nir` wrote, which says it itself. Delays are rounded to whole
            steps; one that is more than a thousandth of a step away from that is an error.
        integrator: what the r of a neuron without a leak (IF, I) means. "per second" is NIR's definition, v' = r i, so
            that a step adds r dt i to the membrane. "per step": a step adds r i, as files of Norse (`IAFCell`) and of
            sinabs mean it, which have r = 1 whatever their dt.
        interpolation: of the delays, when they are trained.
        engine: of the delays per synapse; "direct" adds exactly where weights have few bits, "auto" is faster.

    Returns:
        A module from sequences (T, B, *input) to (T, B, *output), each call from a fresh state.

    Warns:
        UserWarning: neurons cannot fire, or fire with nearly every spike that they get: most often the file was written
            for another dt, or with another meaning of r.

    Raises:
        ExchangeError: the file cannot be read, or the graph is malformed, is recurrent, or has a node that is not
            supported by delayplug or by the toolkit; the node is named.
        BackendError: the toolkit cannot be used.
        ArgumentError: dt is missing and the graph does not say it, or it is another one than the graph says.
    """
    _check_nir("from_nir")
    if dt is not None:
        _check_dt(dt)
    toolkit = plugins.toolkit(backend)
    if integrator not in INTEGRATORS:
        raise choice_error("integrator", INTEGRATORS, integrator)
    nir_graph = read.read_file(graph) if isinstance(graph, str | Path) else graph
    checked, doubts = read.to_graph(nir_graph, _seconds_of_a_step(nir_graph, dt), integrator)
    network = GraphNetwork(checked, toolkit, interpolation=interpolation, engine=engine)
    if doubts:
        warnings.warn("; ".join(doubts), stacklevel=2)
    return network


def _check_nir(function: str) -> None:
    require("nir", "nir", f"delayplug.{function}")


def _check_dt(dt: object) -> None:
    if not isinstance(dt, Real) or isinstance(dt, bool) or not math.isfinite(dt) or dt <= 0:
        raise ArgumentError("dt", _EXPECTED_DT, dt, "A millisecond is dt=1e-3")


def _seconds_of_a_step(graph: Any, dt: float | None) -> float:
    """The dt that is passed, or the one that `to_nir` wrote into the graph; where there are both they must agree."""
    written = sorted(read_dts(graph))
    if dt is None:
        if len(written) == 1:
            return written[0]
        if written:
            several = f"subgraphs that were written with {' and '.join(f'{each:g} s' for each in written)}"
            raise ArgumentError("dt", "graphs of one dt", several, "Write them again with the same dt")
        raise ArgumentError(
            "dt",
            _EXPECTED_DT,
            "none",
            "The graph does not say it, as one that delayplug.to_nir wrote does: pass the dt of the network that it "
            "comes from, such as dt=1e-3 for a millisecond",
        )
    for each in written:
        if not math.isclose(each, dt, rel_tol=1e-6):
            raise ArgumentError("dt", f"{each:g}, with which the graph was written", f"{dt:g}", "Leave it out")
    return float(dt)
