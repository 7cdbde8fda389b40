"""Neurons that do what no `Dynamics` says: they keep their loop."""

from collections.abc import Callable
from typing import Any

import norse.torch as norse
import snntorch as snn
import torch
from snntorch import surrogate as snn_surrogate
from spikingjelly.activation_based import neuron, surrogate
from torch import Tensor, nn


class OwnLeaky(snn.Leaky):
    """A class that derives from a known one."""


class OwnNode(neuron.LIFNode):
    """Likewise."""


class OwnCell(norse.LIFBoxCell):
    """Likewise."""


class OwnATan(surrogate.ATan):
    """Likewise, a surrogate."""


def own_surrogate(z: Tensor) -> Tensor:
    return torch.sigmoid(z)


def changed(made: nn.Module, **attributes: Any) -> nn.Module:
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


def cell(**numbers: Any) -> nn.Module:
    return norse.LIFBoxCell(norse.LIFBoxParameters(**numbers))


def loaded() -> nn.Module:
    """A neuron that subtracts, with the checkpoint of one that sets to zero."""
    made = snn.Leaky(0.5)
    made.load_state_dict(snn.Leaky(0.5, reset_mechanism="zero").state_dict())
    return made


LOOPS: dict[str, tuple[str, Callable[[], nn.Module]]] = {
    "derived Leaky": ("snntorch", lambda: OwnLeaky(0.5)),
    "inhibition": ("snntorch", lambda: snn.Leaky(0.5, inhibition=True)),
    "state_quant": ("snntorch", lambda: snn.Leaky(0.5, state_quant=torch.round)),
    "own surrogate": ("snntorch", lambda: snn.Leaky(0.5, spike_grad=own_surrogate)),
    "custom surrogate": ("snntorch", lambda: snn.Leaky(0.5, spike_grad=snn_surrogate.custom_surrogate(min))),
    "random surrogate": ("snntorch", lambda: snn.Leaky(0.5, spike_grad=snn_surrogate.SSO())),
    "learned surrogate": (
        "snntorch",
        lambda: snn.Leaky(0.5, spike_grad=snn_surrogate.atan(nn.Parameter(torch.ones(())))),
    ),
    "replaced fire": ("snntorch", lambda: changed(snn.Leaky(0.5), fire=own_surrogate)),
    "replaced step": ("snntorch", lambda: changed(snn.Leaky(0.5), state_function=own_surrogate)),
    "another mechanism": ("snntorch", lambda: changed(snn.Leaky(0.5), reset_mechanism="zero")),
    "another checkpoint": ("snntorch", loaded),
    "Alpha": ("snntorch", lambda: snn.Alpha(0.5, 0.25)),
    "recurrent Leaky": ("snntorch", lambda: snn.RLeaky(0.5, all_to_all=False)),
    "derived cell": ("norse", OwnCell),
    "adjoint": ("norse", lambda: norse.LIFCell(norse.LIFParameters(method="adjoint"))),
    "own reset": ("norse", lambda: cell(reset_method=lambda z, v, reset, th: v)),
    "parameter on a device": ("norse", lambda: cell(method="tanh", alpha=torch.ones((), device="meta"))),
    "states of all steps": ("norse", lambda: norse.LIF(record_states=True)),
    "own activation": ("norse", lambda: changed(norse.LIFCell(), activation=own_surrogate)),
    "own start": ("norse", lambda: changed(norse.LIFCell(), state_fallback=own_surrogate)),
    "adaptive cell": ("norse", norse.LIFAdExCell),
    "derived node": ("spikingjelly", lambda: OwnNode(tau=2.0)),
    "derived surrogate": ("spikingjelly", lambda: neuron.LIFNode(surrogate_function=OwnATan())),
    "smooth": ("spikingjelly", lambda: neuron.LIFNode(surrogate_function=surrogate.ATan(spiking=False))),
    "Fourier": ("spikingjelly", lambda: neuron.LIFNode(surrogate_function=surrogate.SquarewaveFourierSeries())),
    "replaced charge": ("spikingjelly", lambda: changed(neuron.IFNode(), single_step_forward=own_surrogate)),
    "decoded": ("spikingjelly", lambda: neuron.NonSpikingLIFNode(decode="last_mem")),
    "holds a state": ("spikingjelly", lambda: changed(neuron.LIFNode(), v=torch.ones(2, 3))),
    "KLIFNode": ("spikingjelly", neuron.KLIFNode),
}
