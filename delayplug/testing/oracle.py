"""What networks should compute, as slow and plain as it gets: neurons in a loop, delays as lists of past inputs."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..surgery.find import named_delays
from ..toolkits.vocabulary import Granularity
from .networks import Sees

MAX_DELAY = 4


def reference_neuron(x: Tensor, tau: float) -> Tensor:
    """The paper's neuron, as slow and plain as it gets; the gradient of its spikes is the arctan surrogate."""
    v, spikes = torch.zeros_like(x[0]), []
    for x_t in x.unbind(0):
        v = v * (1 - 1 / tau) + x_t
        z = v - 1
        smooth = torch.atan(torch.pi / 2 * 5 * z) / torch.pi  # its derivative is 5 / 2 / (1 + (pi / 2 * 5 z)^2)
        s = (z > 0).to(x.dtype) + smooth - smooth.detach()
        v = v * (1 - s.detach())
        spikes.append(s)
    return torch.stack(spikes)


def draw_whole_delays(net: nn.Module, seed: int = 5) -> dict[str, Tensor]:
    """Draw integer delays and put them into a delayed network; returned by layer."""
    generator = torch.Generator().manual_seed(seed)
    drawn = {}
    for name, delay in named_delays(net):
        drawn[name] = torch.randint(0, MAX_DELAY + 1, delay.delays.shape, generator=generator).float()
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

    def split(value: Tensor) -> list[Tensor]:
        if sees == "steps":
            return [value]
        if sees == "folded":
            return list(value.unflatten(0, (-1, batch)).unbind(0))
        return list(value.unbind(0 if sees == "sequences" else 1))

    def join(parts: list[Tensor]) -> Tensor:
        if sees == "steps":
            return parts[0]
        if sees == "folded":
            return torch.cat(parts)
        return torch.stack(parts, 0 if sees == "sequences" else 1)

    def hook(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        value = args[0][0] if isinstance(args[0], tuple) else args[0]
        outputs = []
        for x in split(value):
            past.append(x)
            delayed = [past[-1 - d] if d < len(past) else torch.zeros_like(x) for d in range(MAX_DELAY + 1)]
            outputs.append(_at_delays(weights, delayed, delays, granularity))
        return join(outputs)

    layer.register_forward_hook(hook)


def shift_cell(cell: nn.Module, delays: Tensor) -> None:
    """The same for the input (B, C, ...) of a neuron that steps and weighs it itself."""
    past: list[Tensor] = []

    def hook(module: nn.Module, args: Any) -> Any:
        past.append(args[0])
        delayed = [past[-1 - d] if d < len(past) else torch.zeros_like(args[0]) for d in range(MAX_DELAY + 1)]
        channels = delays.view(-1, *(1,) * (args[0].dim() - 2))
        return (sum(((channels == d) * x for d, x in enumerate(delayed)), torch.zeros(())), *args[1:])

    cell.register_forward_pre_hook(hook)


def _at_delays(weights: Any, delayed: list[Tensor], delays: Tensor, granularity: Granularity) -> Tensor:
    """One step of a layer whose synapses see the inputs of their own delays."""
    transposed = getattr(weights, "transposed", False)
    space = weights.weight.dim() - 2
    if granularity != "synaptic":
        outputs_first = (granularity == "dendritic") != transposed  # is this the first dimension of the weight?
        grouped = weights.weight.shape[1] if not outputs_first else weights.weight.shape[0]
        if grouped != delays.numel():  # a convolution in groups: its inputs are spread over the outputs
            return _grouped(weights, delayed, delays, granularity, space)
        shape = (-1, 1) if outputs_first else (1, -1)
        delays = delays.view(*shape, *(1,) * space).expand(weights.weight.shape).unsqueeze(-1)
    total: Tensor | None = None
    for d, x in enumerate(delayed):
        part = _apply(weights, x, weights.weight * (delays.squeeze(-1) == d))
        total = part if total is None else total + part
    assert total is not None
    return total if weights.bias is None else total + weights.bias.view(-1, *(1,) * space)


def _grouped(weights: Any, delayed: list[Tensor], delays: Tensor, granularity: Granularity, space: int) -> Tensor:
    mask = delays.view(-1, *(1,) * space)
    if granularity == "axonal":
        x = sum((x * (mask == d) for d, x in enumerate(delayed)), torch.zeros_like(delayed[0]))
        y = _apply(weights, x, weights.weight)
    else:
        y = sum((_apply(weights, x, weights.weight) * (mask == d) for d, x in enumerate(delayed)), torch.zeros(()))
    return y if weights.bias is None else y + weights.bias.view(-1, *(1,) * space)


def _apply(weights: Any, x: Tensor, weight: Tensor) -> Tensor:
    if weight.dim() == 2:
        return functional.linear(x, weight)
    if not weights.transposed:
        return weights._conv_forward(x, weight, None)  # type: ignore[no-any-return]
    run = (functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d)[weight.dim() - 3]
    places = (weights.stride, weights.padding, weights.output_padding, weights.groups, weights.dilation)
    return run(x, weight, None, *places)
