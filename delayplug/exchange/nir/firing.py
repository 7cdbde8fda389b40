"""Neurons that can hardly be meant: with spikes for an input they do not fire, or fire with every single spike.

Most often a file was read with another dt than it was written for, or the writer meant something else by the r of an
integrate-and-fire neuron, v' = r i: NIR means a rate per second, of which a step of dt adds r dt i; some programs write
r = 1 and add i at every step.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ...neurons.cell import Cell
from ..graph import Graph, Neurons, Node, Pool, Scale, Synapses, Threshold

Integrator = Literal["per second", "per step"]
INTEGRATORS: tuple[Integrator, ...] = ("per second", "per step")

_MOST_STEPS = 10  # with every input spiking: a neuron that needs more of them is silent on any real input
_MOST_SPIKES = 100  # through a typical weight, where r = 1
_ANY = 1e30  # a bound of a readout's membrane, which has none


class _Values(NamedTuple):
    """What a node's results are between if the input of the network is spikes, and how large a positive one is."""

    low: float
    high: float
    typical: float


_SPIKES = _Values(0.0, 1.0, 1.0)


def doubtful(graph: Graph, dt: float, integrator: Integrator) -> list[str]:
    """A reason for each layer of neurons that cannot fire, or that fires with every spike that it gets."""
    values: dict[str, _Values] = {}
    reasons = []
    for name, node, sources in graph.walk():
        fed = [values[source] for source in sources] or [_SPIKES]
        total = _Values(sum(v.low for v in fed), sum(v.high for v in fed), max(v.typical for v in fed))
        values[name] = _after(node, total)
        if isinstance(node, Neurons) and node.cell.threshold is not None:
            reason = _doubt(node.cell, node.cell.threshold, total, dt, integrator)
            if reason:
                reasons.append(f"{name} {reason}")
    return reasons


def _after(node: Node, x: _Values) -> _Values:
    match node:
        case Synapses():
            weight = node.weight.double().flatten(1)
            positive, negative = weight.clamp(min=0).sum(1), weight.clamp(max=0).sum(1)
            bias = 0.0 if node.bias is None else node.bias.double()
            low, high = positive * x.low + negative * x.high + bias, positive * x.high + negative * x.low + bias
            typical = float(weight[weight > 0].median()) if bool((weight > 0).any()) else 0.0
            return _Values(float(low.min()), float(high.max()), typical * x.typical)
        case Neurons():
            return _SPIKES if node.cell.threshold is not None else _Values(-_ANY, _ANY, _ANY)
        case Threshold():
            return _SPIKES
        case Scale():
            ends = torch.stack((node.factor * x.low, node.factor * x.high))
            return _Values(float(ends.min()), float(ends.max()), float(node.factor.abs().max()) * x.typical)
        case Pool(kind="sum"):
            size = node.kernel[0] * node.kernel[1]
            return _Values(min(0.0, x.low * size), max(0.0, x.high * size), x.typical)
    return x


def _doubt(cell: Cell, threshold: Tensor, x: _Values, dt: float, integrator: Integrator) -> str:
    if not bool((cell.gain > 0).all()):
        return ""
    drive = cell.gain * (x.high if cell.synapse is None else x.high / cell.synapse)
    if bool((cell.leak > 0).all()):
        highest = cell.rest + drive / cell.leak
        if bool((highest <= threshold).all()):
            return (
                "cannot fire: with every input spiking at every step its membrane comes to "
                f"{float(highest.max()):.3g}, and its threshold is {float(threshold.min()):.3g}"
            )
        return ""
    if bool((cell.leak > 0).any()):
        return ""
    r, factor = float(cell.gain.max()) / (dt if integrator == "per second" else 1.0), float(cell.gain.max())
    distance = float((threshold - cell.reset).min())
    says = f"a step adds {factor:.3g} times its input (integrator={integrator!r}, r = {r:.4g}, dt = {dt:g} s)"
    other = "per step" if integrator == "per second" else "per second"
    advice = f"if the file means another thing, pass its dt or integrator={other!r}"
    steps, spikes = _quotient(distance, factor * x.high), _quotient(distance, factor * x.typical)
    one = Cell.close(torch.tensor(r, dtype=torch.float64, device="cpu"), 1.0)
    if steps > _MOST_STEPS or (one and spikes > _MOST_SPIKES):
        return f"hardly fires: {says}, so that a spike takes {steps:.3g} steps with every input spiking; {advice}"
    if factor > 1 + 1e-6 and spikes <= 1 and not Cell.close(cell.gain, 1.0):
        return f"fires with nearly every spike that it gets: {says}, more than its threshold; {advice}"
    return ""


def _quotient(a: float, b: float) -> float:
    return a / b if b > 0 else float("inf")
