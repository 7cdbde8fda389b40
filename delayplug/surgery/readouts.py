"""Which neurons of the user's own classes are readouts: what they give is no spikes, but their membrane."""

import torch
from torch import nn

from ..toolkits.capabilities import streams
from ..toolkits.states import tensors_in
from ..toolkits.toolkit import Toolkit
from ..toolkits.vocabulary import Mode
from .dataflow import preserved

_INPUTS = 24  # different ones, to which spikes are no more than a few different answers
_MOST_SPIKES = 12


def gives_membrane(toolkit: Toolkit, neuron: nn.Module) -> bool:
    """Whether a neuron of the user's own class gives something else than spikes: one value for each input.

    A class of the user's may derive from one that spikes and return its membrane, which no look at the class shows: it
    is called for one step on a few inputs, and is afterwards as it was. False for the toolkit's own classes, and for
    a neuron that does not run on such inputs.
    """
    if not _is_own(type(neuron)):
        return False
    like = next(iter((*neuron.parameters(), *neuron.buffers())), torch.empty(0))
    x = torch.linspace(0.05, 0.95, _INPUTS, device=like.device).unsqueeze(-1)
    with preserved(neuron), torch.no_grad():
        try:
            streams(toolkit).reset(neuron)
            # Not as a module: hooks are the user's, or those of delays.
            out = neuron.forward(x.unsqueeze(0) if toolkit.mode(neuron) == Mode.SEQUENCE else x)
        except Exception:
            return False
    first = tensors_in(out)[:1]
    return bool(first) and first[0].numel() == _INPUTS and first[0].unique().numel() > _MOST_SPIKES


def _is_own(kind: type[nn.Module]) -> bool:
    """Whether a class is defined in another package than the neuron's class that it derives from."""
    packages = [cls.__module__.partition(".")[0] for cls in kind.__mro__]
    beyond_torch = [package for package in packages if package not in ("torch", "builtins", "abc", "typing")]
    return beyond_torch[:1] != beyond_torch[-1:]
