"""The layers with weights and the neurons of a model, by dotted name, and what kind each of them is."""

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.utils import parametrize

from ..layers.base import DelayLayer
from ..layers.conv import Convolution
from ..layers.dcls import is_dcls
from ..toolkits.capabilities import containers, own_delays, own_weights
from ..toolkits.toolkit import Toolkit
from ..toolkits.vocabulary import Mode
from .readouts import gives_membrane
from .through import Through

_TORCH = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)
# Modules of torch's that hold weights which can have no delays: neither a linear layer nor a convolution.
OTHER = (nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention, nn.Embedding, nn.EmbeddingBag, nn.Bilinear)


class Network:
    """A model sorted into layers with weights and neurons.

    A layer is a linear one or a convolution, a wrapper that a toolkit puts around one, or any other module that holds a
    weight matrix of its own. What lies inside of a neuron belongs to it, but for the layer through which it feeds its
    spikes back.
    """

    def __init__(self, model: nn.Module, toolkit: Toolkit) -> None:
        self.model, self.toolkit = model, toolkit
        self.containers, self.own_weights = containers(toolkit), own_weights(toolkit)
        self.modules = dict(model.named_modules())
        self.names = {id(module): name for name, module in self.modules.items()}
        neurons = {name: m for name, m in self.modules.items() if toolkit.is_neuron(m)}
        self.neurons = {  # without those that are a part of another one
            name: m for name, m in neurons.items() if not any(parent in neurons for parent, _ in self.ancestors(name))
        }
        self.recurrent = dict(self._recurrent())
        self.layers = {
            name: m
            for name, m in self.modules.items()
            if name in self.recurrent or (self.is_layer(m) and not self.belongs(name))
        }

    def is_readout(self, name: str) -> bool:
        """Whether a neuron gives no spikes: its class has none, or no input makes it fire, or it gives its membrane."""
        neuron = self.neurons[name]
        return not self.toolkit.is_spiking(neuron) or gives_membrane(self.toolkit, neuron)

    def holds(self, name: str) -> str | None:
        """The first neuron inside of a layer, if there is one."""
        return next((neuron for neuron in self.neurons if neuron.startswith(f"{name}." if name else "")), None)

    def recurrent_unit(self, name: str) -> tuple[str, str] | None:
        """(layer, neuron) of a container that feeds its one neuron's spikes back through its one layer, else None."""
        inside = [layer for layer in self.layers if layer.startswith(f"{name}.")]
        neurons = [neuron for neuron in self.neurons if neuron.startswith(f"{name}.")]
        is_unit = len(inside) == len(neurons) == 1 and self.recurrent.get(inside[0]) == name
        return (inside[0], neurons[0]) if is_unit else None

    def _recurrent(self) -> Iterator[tuple[str, str]]:
        """(layer, neuron or container) of the layers through which something feeds its own spikes back."""
        for name, module in self.modules.items():
            child = self.own_weights.recurrent_layer(module)
            inside = any(parent in self.neurons for parent, _ in self.ancestors(name))
            if child and not inside and self.is_layer(module.get_submodule(child)):
                yield f"{name}.{child}" if name else child, name

    def is_layer(self, module: nn.Module) -> bool:
        """Whether a module has weights in front of which, or in place of which, a delay could be."""
        return (
            isinstance(self.weights_of(module), _TORCH)
            or isinstance(module, OTHER)
            or self.is_own(module)
            or self.delays_itself(module)
        )

    def delays_itself(self, module: nn.Module) -> bool:
        """Whether a module delays what goes through it, by delayplug or by means of its own."""
        given = isinstance(module, Through) and (module.is_open or hasattr(module, "delay"))
        return given or self.has_own_delays(module)

    def has_own_delays(self, module: nn.Module) -> bool:
        """Whether a module delays by means of its own: a `Dcls1d`, or a toolkit's module with delays per channel."""
        return is_dcls(module) or own_delays(self.toolkit, module) is not None

    def is_own(self, module: nn.Module) -> bool:
        """Whether a module of the user's has a weight matrix of its own, and no neurons."""
        known = isinstance(module, (*_TORCH, DelayLayer, *_NORMS, *OTHER))
        if known or self.toolkit.is_neuron(module):
            return False
        return any(map(_is_matrix, module.parameters(recurse=False))) and not any(
            map(self.toolkit.is_neuron, module.modules())
        )

    def belongs(self, name: str) -> bool:
        """Whether the module is part of a neuron, of a delay, or of another layer."""
        return any(
            parent in self.neurons or isinstance(module, DelayLayer) or self.is_layer(module)
            for parent, module in self.ancestors(name)
        )

    def weights_of(self, layer: nn.Module) -> nn.Module:
        """The module that holds the weights: the layer itself, or the child that it wraps."""
        return layer.get_submodule(self.containers.lifted(layer))

    def is_torch(self, layer: nn.Module) -> bool:
        """Whether a layer computes what torch's own linear layer or convolution does, with `weight` and `bias`."""
        weights = self.weights_of(layer)
        cls = parametrize.type_before_parametrizations(weights)
        own = any(isinstance(weights, kind) and type(weights).forward is kind.forward for kind in _TORCH)
        convolves = cls.__dict__.get("_conv_forward") is None or cls in _TORCH
        return (own and convolves) or self.own_weights.is_plain(weights)

    def in_order(self, module: nn.Module) -> bool:
        """Whether a module runs its children one after the other, and nothing else."""
        plain = isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward
        return plain or self.containers.in_order(module)

    def knows_no_time(self, name: str) -> bool:
        """Whether a layer takes no whole sequences: torch's own convolutions know no time."""
        layer = self.layers[name]
        return isinstance(layer, Convolution) and parametrize.type_before_parametrizations(layer) in _TORCH

    def takes_sequences(self, neuron: nn.Module) -> bool:
        """Whether a call of a neuron, as it is set now, is a whole sequence."""
        return self.toolkit.mode(neuron) == Mode.SEQUENCE

    def space_of(self, layer: nn.Module) -> int:
        """Dimensions behind the channels in the input of the layer, as far as its class tells."""
        weights = self.weights_of(layer)
        if isinstance(weights, Convolution):
            return len(weights.kernel_size)
        own = [matrix.dim() for matrix in weights.parameters(recurse=False) if _is_matrix(matrix)]
        return max(0, own[0] - 2) if own else 0

    def matrix_of(self, layer: nn.Module) -> tuple[int, ...]:
        """The shape of a layer's first weight matrix."""
        return next((tuple(p.shape) for p in self.weights_of(layer).parameters() if _is_matrix(p)), ())

    def ancestors(self, name: str) -> Iterator[tuple[str, nn.Module]]:
        """(name, module) of everything that contains the module, outermost first."""
        parts = name.split(".") if name else []
        for depth in range(len(parts)):
            parent = ".".join(parts[:depth])
            yield parent, self.modules[parent] if parent in self.modules else self.model.get_submodule(parent)

    def is_passive(self, module: nn.Module) -> bool:
        """Whether a module lets a connection pass as it is: torch's own, without weight matrix, memory or children."""
        if isinstance(module, Through):
            return True
        weights = self.weights_of(module)
        of_torch = any(kind.__module__.startswith("torch.nn.modules") for kind in type(weights).__mro__[:-2])
        is_container = isinstance(weights, nn.Sequential) or any(weights.children())
        has_matrix = any(map(_is_matrix, weights.parameters(recurse=False)))
        return of_torch and not is_container and (not has_matrix or isinstance(weights, _NORMS))


def channels_of(weights: nn.Module) -> tuple[int | None, int | None]:
    """(inputs, outputs) of a layer, as far as its attributes tell."""
    if isinstance(weights, Convolution):
        return weights.in_channels, weights.out_channels
    if isinstance(weights, nn.Linear):
        return weights.in_features, weights.out_features
    if isinstance(weights, Through):
        return weights.channels, weights.channels
    return None, None


def is_lazy(weights: nn.Module) -> bool:
    """Whether the size of a layer is not known yet."""
    return isinstance(weights, nn.modules.lazy.LazyModuleMixin) or any(
        isinstance(p, torch.nn.parameter.UninitializedParameter) for p in weights.parameters(recurse=False)
    )


def _is_matrix(parameter: nn.Parameter) -> bool:
    return not isinstance(parameter, torch.nn.parameter.UninitializedParameter) and parameter.dim() > 1
