"""Neurons of the three toolkits with random settings, of all kinds that run in kernels."""

import math
from collections.abc import Callable
from typing import Any

import norse.torch as norse
import snntorch as snn
import torch
from hypothesis import strategies as st
from norse.torch.functional.reset import reset_subtract, reset_value
from snntorch import surrogate as snn_surrogate
from spikingjelly.activation_based import neuron, surrogate as sj_surrogate
from torch import Tensor, nn

from delayplug.toolkits import plugins

CHANNELS = 3
# Decays and thresholds that add up without rounding, so that membranes come to thresholds exactly, and any others.
_exact = st.sampled_from([0.25, 0.5, 0.75, 1.0])
_parts = st.one_of(_exact, st.floats(0.0625, 1.0, width=32))
_slopes = st.sampled_from([0.75, 2.0, 3.5])

SNN_SURROGATES: tuple[Callable[[float], Any], ...] = (
    lambda a: None,
    lambda a: snn_surrogate.atan(a),
    lambda a: snn_surrogate.fast_sigmoid(a),
    lambda a: snn_surrogate.sigmoid(a),
    lambda a: snn_surrogate.straight_through_estimator(),
    lambda a: snn_surrogate.triangular(a),
    lambda a: snn_surrogate.heaviside(),
    lambda a: snn_surrogate.spike_rate_escape(a, 2),
    lambda a: snn_surrogate.SFS(a, B=-0.25),
)
NORSE_METHODS = ("super", "heaviside", "triangle", "tanh", "circ", "heavi_erfc")
SJ_SURROGATES: tuple[Callable[[float], nn.Module], ...] = (
    lambda a: sj_surrogate.ATan(a),
    lambda a: sj_surrogate.Sigmoid(a),
    lambda a: sj_surrogate.PiecewiseQuadratic(a),
    lambda a: sj_surrogate.PiecewiseExp(a),
    lambda a: sj_surrogate.SoftSign(a),
    lambda a: sj_surrogate.SuperSpike(a),
    lambda a: sj_surrogate.Erf(a),
    lambda a: sj_surrogate.NonzeroSignLogAbs(a),
    lambda a: sj_surrogate.PiecewiseLeakyReLU(a / 4, 0.01),
    lambda a: sj_surrogate.S2NN(a, 1.0),
    lambda a: sj_surrogate.QPseudoSpike(a + 1),
    lambda a: sj_surrogate.LeakyKReLU(0.1, a),
    lambda a: sj_surrogate.LogTailedReLU(a),
    lambda a: sj_surrogate.DeterministicPass(),
    lambda a: sj_surrogate.Rect(a),
)


@st.composite
def _values(draw: st.DrawFn, low: float = 0.0) -> Tensor:
    """One number, or one for each neuron."""
    count = draw(st.sampled_from([1, CHANNELS]))
    values = [draw(_parts) + low for _ in range(count)]
    return torch.tensor(values if count > 1 else values[0])


@st.composite
def snntorch_neurons(draw: st.DrawFn) -> nn.Module:
    """`Leaky`, `Synaptic` and `Lapicque`."""
    kind = draw(st.sampled_from([snn.Leaky, snn.Leaky, snn.Synaptic, snn.Lapicque]))
    options: dict[str, Any] = {
        "threshold": draw(_values(0.25)),
        "spike_grad": draw(st.sampled_from(SNN_SURROGATES))(draw(_slopes)),
        "reset_mechanism": draw(st.sampled_from(["subtract", "zero", "none"])),
        "learn_threshold": draw(st.booleans()),
        "init_hidden": draw(st.booleans()),
        "output": draw(st.booleans()),
    }
    if kind is snn.Lapicque:
        return kind(R=draw(st.sampled_from([1, 2, 5.1])), C=draw(st.sampled_from([2, 1.4])), **options)
    options["learn_beta"], options["reset_delay"] = draw(st.booleans()), draw(st.booleans())
    if kind is snn.Synaptic:
        return kind(alpha=draw(_values()), beta=draw(_values()), learn_alpha=draw(st.booleans()), **options)
    options["graded_spikes_factor"] = draw(st.sampled_from([1.0, 1.0, 0.5, 3.0]))
    return kind(beta=draw(_values()), learn_graded_spikes_factor=draw(st.booleans()), **options)


@st.composite
def norse_neurons(draw: st.DrawFn) -> nn.Module:
    """All of `LIF`, `LI` and `IAF`, cells and layers."""
    kinds = ["LIFBoxCell", "LIFCell", "LIF", "LICell", "LI", "LIBoxCell", "IAFCell", "IAF", "benchmark", "gain"]
    kind = draw(st.sampled_from(kinds))
    if kind == "benchmark":
        toolkit: Any = plugins.toolkit("norse")
        made: nn.Module = toolkit.spiking_neuron(tau=1 / draw(_exact) + 1, threshold=draw(_exact))
        return made
    if kind == "gain":
        return _with_gain(draw)
    is_layer = kind in ("LIF", "LI", "IAF")  # these take one number for all neurons to begin from
    each = st.just(torch.tensor(0.25)) if is_layer else _values(-0.5)
    numbers: dict[str, Any] = {}
    learned: Callable[[Tensor], Tensor] = lambda t: nn.Parameter(t) if draw(st.booleans()) else t  # noqa: E731
    if "IAF" not in kind:
        numbers = {"tau_mem_inv": learned(draw(_values()) * 512), "v_leak": learned(draw(each))}
    if kind in ("LIF", "LIFCell", "LI", "LICell"):
        numbers["tau_syn_inv"] = learned(draw(_values()) * 512)
    if "F" in kind:
        numbers |= {"v_th": learned(draw(_values(0.25))), "v_reset": learned(draw(each))}
        numbers |= {"method": draw(st.sampled_from(NORSE_METHODS)), "alpha": torch.tensor(draw(_slopes))}
    if kind == "LIFBoxCell":
        numbers["reset_method"] = draw(st.sampled_from([reset_value, reset_subtract]))
    if kind == "IAF":
        numbers["v_reset"] = numbers["v_reset"].detach().clone()
    parameters = getattr(norse, f"{kind.removesuffix('Cell')}Parameters")(**numbers)
    layer: nn.Module = getattr(norse, kind)(parameters, dt=draw(st.sampled_from([2.0**-10, 0.001])))
    return layer


def _with_gain(draw: st.DrawFn) -> nn.Module:
    """What this adapter makes of cells whose input another toolkit scales by a factor of its own."""
    from delayplug import Cell, Reset

    toolkit: Any = plugins.toolkit("norse")
    cell = Cell.of(
        leak=draw(_values()).clamp(max=0.9),
        gain=draw(_exact),
        rest=draw(st.sampled_from([0.0, 0.25])),
        threshold=draw(_values(0.25)),
        reset=draw(st.sampled_from([0.0, -0.5])),
        synapse=draw(st.none() | _values()),
        rule=Reset.VALUE,
    )
    made: nn.Module = toolkit.build(cell)
    return made


@st.composite
def spikingjelly_neurons(draw: st.DrawFn) -> nn.Module:
    """IFNode, LIFNode, ParametricLIFNode, CUBALIFNode and the two that do not spike."""
    kinds = (neuron.IFNode, neuron.LIFNode, neuron.ParametricLIFNode, neuron.CUBALIFNode, *_READOUTS)
    kind = draw(st.sampled_from(kinds))
    if kind is neuron.NonSpikingIFNode:
        return kind()
    tau = draw(st.sampled_from([2.0, 4.0, 1.5, math.pi]))
    if kind is neuron.NonSpikingLIFNode:
        return kind(tau)
    options: dict[str, Any] = {
        "v_threshold": draw(_parts) + 0.25,
        "v_reset": draw(st.sampled_from([0.0, None, -0.25])),
        "surrogate_function": draw(st.sampled_from(SJ_SURROGATES))(draw(_slopes)),
    }
    if kind is neuron.CUBALIFNode:
        return kind(c_decay=draw(_parts), v_decay=draw(_parts), **options)
    options |= {"detach_reset": draw(st.booleans()), "store_v_seq": draw(st.booleans())}
    options["step_mode"] = draw(st.sampled_from(["s", "m"]))
    if kind is neuron.IFNode:
        return kind(**options)
    options["decay_input"] = draw(st.booleans())
    return kind(tau, **options)


_READOUTS = (neuron.NonSpikingIFNode, neuron.NonSpikingLIFNode)
TOOLKITS = {"snntorch": snntorch_neurons, "norse": norse_neurons, "spikingjelly": spikingjelly_neurons}


def inputs(steps: int, seed: int, low: float = -0.5, high: float = 2.0) -> Tensor:
    """(T, 2, CHANNELS): multiples of 1/8 in the first sample, any in the second."""
    x = low + (high - low) * torch.rand(steps, 2, CHANNELS, generator=torch.Generator().manual_seed(seed))
    x[:, 0] = (x[:, 0] * 8).round() / 8
    return x


def learned(neuron_: nn.Module) -> list[Tensor]:
    """Tensors with gradients that are no parameters of the module, as those of Norse's."""
    values = getattr(neuron_, "p", ())
    return [value for value in values if isinstance(value, nn.Parameter)]
