"""What networks should compute, as slow and plain as it gets: neurons in a loop, delays as lists of past inputs."""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..surgery.find import named_delays
from ..toolkits.vocabulary import Granularity
from .networks import Sees

MAX_DELAY = 4


def reference_neuron(x: Tensor, tau: float, reset: Literal["zero", "subtract"] = "zero") -> Tensor:
    """The paper's neuron, as slow and plain as it gets; the gradient of its spikes is the arctan surrogate.

    Or the same with another reset, as of `Benchmarks.spiking_neuron`.
    """
    v, spikes = torch.zeros_like(x[0]), []
    for x_t in x.unbind(0):
        v = v * (1 - 1 / tau) + x_t
        z = v - 1
        smooth = torch.atan(torch.pi / 2 * 5 * z) / torch.pi  # its derivative is 5 / 2 / (1 + (pi / 2 * 5 z)^2)
        s = (z > 0).to(x.dtype) + smooth - smooth.detach()
        v = v * (1 - s.detach()) if reset == "zero" else v - s
        spikes.append(s)
    return torch.stack(spikes)


def draw_whole_delays(net: nn.Module, seed: int = 5) -> dict[str, Tensor]:
    """Draw integer delays and put them into a delayed network; returned by layer."""
    generator = torch.Generator().manual_seed(seed)
    drawn = {}
    for name, delay in named_delays(net):
        whole = torch.randint(0, MAX_DELAY + 1, delay.delays.shape, generator=generator, device="cpu")
        drawn[name] = whole.float().to(delay.delays.device)
        with torch.no_grad():
            delay.delays.copy_(drawn[name])
    return drawn


def shift_inputs(
    layer: nn.Module, weights: Any, delays: Tensor, granularity: Granularity, sees: Sees, batch: int
) -> None:
    """Make a plain layer compute, with hooks and lists alone, what whole delays should; for one sequence.

    Args:
        layer: what is called.
        weights: what holds the weights: the layer, or a child of it.
        delays: whole steps, as `LearnableDelay` or `ConvDelay` hold them.
        granularity: of the delays.
        sees: what the layer takes in a call.
        batch: samples, to tell the time from them where it is folded.
    """
    past: list[Tensor] = []

    def hook(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        value = args[0][0] if isinstance(args[0], tuple) else args[0]
        if sees == "steps":
            value = value.unsqueeze(0)
        elif sees == "folded":
            value = value.unflatten(0, (-1, batch))
        elif sees == "batch first":
            value = value.transpose(0, 1)
        y = torch.stack([_at_delays(weights, _by_age(past, x), delays, granularity) for x in value])
        if sees == "steps":
            return y[0]
        if sees == "folded":
            return y.flatten(0, 1)
        return y.transpose(0, 1).contiguous() if sees == "batch first" else y

    layer.register_forward_hook(hook)


def shift_cell(cell: nn.Module, delays: Tensor, weight: str = "", *, takes_sequences: bool = False) -> None:
    """The same for the input of a neuron that weighs it itself.

    Args:
        cell: the neuron; its input is a step (B, C, ...).
        delays: whole steps, one for each channel of its input or for each of its synapses.
        weight: name of the weights (O, I) of these synapses.
        takes_sequences: its input is a sequence (T, B, C, ...).
    """
    past: list[Tensor] = []
    if delays.dim() == 3:  # the cell gets more inputs: those of each age, to which it has the synapses of that delay
        own: Tensor = getattr(cell, weight)
        parts = [own.detach() * (delays.squeeze(-1) == age) for age in range(MAX_DELAY + 1)]
        setattr(cell, weight, nn.Parameter(torch.cat(parts, 1)))

    def delayed(x: Tensor) -> Tensor:
        by_age = _by_age(past, x)
        return torch.cat(by_age, -1) if delays.dim() == 3 else _of_channels(by_age, delays, space=x.dim() - 2)

    def hook(module: nn.Module, args: Any) -> Any:
        x = torch.stack([delayed(x_t) for x_t in args[0]]) if takes_sequences else delayed(args[0])
        return (x, *args[1:])

    cell.register_forward_pre_hook(hook)


def _by_age(past: list[Tensor], x: Tensor) -> list[Tensor]:
    """What came 0, 1, ... MAX_DELAY steps ago, with x as the last input, which is added to the past."""
    past.append(x)
    return [past[-1 - d] if d < len(past) else torch.zeros_like(x) for d in range(MAX_DELAY + 1)]


def _of_channels(by_age: list[Tensor], delays: Tensor, space: int) -> Tensor:
    """Of each channel what is as old as its delay."""
    channels = delays.view(-1, *(1,) * space)
    return sum(((channels == d) * x for d, x in enumerate(by_age)), torch.zeros((), device="cpu"))


def _at_delays(weights: Any, by_age: list[Tensor], delays: Tensor, granularity: Granularity) -> Tensor:
    """One step of a layer whose synapses see the inputs of their own delays."""
    weight, space = weights.weight, weights.weight.dim() - 2
    if granularity == "axonal":
        y = _apply(weights, _of_channels(by_age, delays, space), weight)
    elif granularity == "dendritic":
        y = _of_channels([_apply(weights, x, weight) for x in by_age], delays, space)
    else:
        parts = (_apply(weights, x, weight * (delays.squeeze(-1) == d)) for d, x in enumerate(by_age))
        y = sum(parts, torch.zeros((), device="cpu"))
    return y if weights.bias is None else y + weights.bias.view(-1, *(1,) * space)


def _apply(weights: Any, x: Tensor, weight: Tensor) -> Tensor:
    if weight.dim() == 2:
        return functional.linear(x, weight)
    if not weights.transposed:
        return weights._conv_forward(x, weight, None)  # type: ignore[no-any-return]
    run = (functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d)[weight.dim() - 3]
    places = (weights.stride, weights.padding, weights.output_padding, weights.groups, weights.dilation)
    return run(x, weight, None, *places)
