"""Synapses between two layers of the paper's network: weights, delays, and which synapses exist.

Hammouamri, Khalfaoui-Hassani, Masquelier, ICLR 2024, section 4 and appendix. Shapes: T steps, B batch, I inputs, O
outputs, N taps per synapse.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ...layers.linear import LearnableDelay
from ...layers.state import DelayState
from ...layers.taps import SIGMA_FLOOR
from ..config import RunConfig
from ..variants import PER_SYNAPSE

_LAST_SIGMA = SIGMA_FLOOR["gauss"] + 0.23  # the paper's, after its annealing

States = tuple[DelayState | None, ...]  # of each part of the synapses of a layer


class Synapses(nn.Module):
    """The synapses of one layer, without bias, initialised as in the paper.

    A delay per input, weights with or without delays, a delay per output: those of them that exist, in this order.

    Args:
        in_features, out_features: I and O.
        config: of the run. Its `delays` are "none"; "fixed", random whole steps; "learned", one per synapse, with a
            sigma that a schedule narrows; "constant", the same with the last sigma from the beginning; "axonal" and
            "dendritic", one per input or output channel. `max_delay`, `taps` and `fan_in` count, too.

    Attributes:
        before, after: delays per channel, or None.
        weights: a linear layer, or one with a delay per synapse.
    """

    weights: nn.Linear | LearnableDelay

    def __init__(self, in_features: int, out_features: int, config: RunConfig) -> None:
        super().__init__()
        delays, max_delay = config.delays, config.max_delay
        if delays in PER_SYNAPSE:
            self.weights = LearnableDelay(
                in_features,
                out_features,
                max_delay=max_delay,
                taps=config.taps,
                interpolation="linear" if delays == "fixed" else "gauss",
                sigma=first_sigma(config),
            )
            draw_delays(self.weights, whole=delays == "fixed")
        else:
            self.weights = nn.Linear(in_features, out_features, bias=False)
        self.before = draw_delays(LearnableDelay(in_features, max_delay=max_delay)) if delays == "axonal" else None
        self.after = draw_delays(LearnableDelay(out_features, max_delay=max_delay)) if delays == "dendritic" else None
        assert self.weights.weight is not None
        inputs = min(config.fan_in or in_features, in_features)
        # Kaiming's uniform distribution for ReLUs; fan_in = inputs * taps, whatever the order of the dimensions.
        bound = math.sqrt(6 / (inputs * config.taps))
        nn.init.uniform_(self.weights.weight, -bound, bound)
        if inputs < in_features:
            parametrize.register_parametrization(self.weights, "weight", Sparse(self.weights.weight, inputs))

    def forward(self, x: Tensor, tail: int = 0, scale: float = 1.0) -> Tensor:
        """(T, B, I) to (T + tail, B, O).

        Args:
            x: input; bool and integers may come as they are.
            tail: more steps for delayed input that arrives after the sequence.
            scale: of the input: a factor of the weights, so that spikes stay zeros and ones.
        """
        for part in (self.before, self.weights, self.after):
            if part is None:
                continue
            weight = self._scaled(scale) if part is self.weights and scale != 1 else None
            if isinstance(part, LearnableDelay):
                # A delay may reach less far after `freeze_delays(max_delay=...)`.
                x = part(x, tail=min(tail, part.max_delay), weight=weight)
            elif weight is not None:
                x = nn.functional.linear(x.to(weight.dtype), weight)
            else:
                x = part(x if x.is_floating_point() else x.to(next(part.parameters()).dtype))
        return x

    def chunk(
        self, x: Tensor, state: tuple[DelayState | None, ...] | None
    ) -> tuple[Tensor, tuple[DelayState | None, ...]]:
        """A part of a sequence, (T, B, I) to (T, B, O), from a state, None for a fresh one; and the next state."""
        parts = [part for part in (self.before, self.weights, self.after) if part is not None]
        after: list[DelayState | None] = []
        for part, before in zip(parts, state or (None,) * len(parts), strict=True):
            own: DelayState | None = None
            if isinstance(part, LearnableDelay):
                x, own = part.chunk(x, before)
            else:
                x = part(x if x.is_floating_point() else x.to(next(part.parameters()).dtype))
            after.append(own)
        return x, tuple(after)

    def _scaled(self, scale: float) -> Tensor:
        weight = self.weights.weight
        assert weight is not None
        return weight * scale

    @property
    def delays(self) -> LearnableDelay | None:
        """The layer that holds the delays."""
        per_synapse = self.weights if isinstance(self.weights, LearnableDelay) else None
        return self.before or self.after or per_synapse

    @property
    def present(self) -> Tensor | None:
        """bool (O, I): which synapses exist; None for all."""
        masks: Iterator[Tensor] = (part.mask for part in self.weights.modules() if isinstance(part, Sparse))
        return next(masks, None)

    @torch.no_grad()
    def delays_now(self) -> Tensor | None:
        """The delays in steps, (O, I, N) or (C,), NaN where no synapse exists; None without delays."""
        if self.delays is None:
            return None
        delays = self.delays.delays.detach().cpu().clone()
        if self.present is not None and delays.dim() == 3:
            delays[~self.present.cpu()] = math.nan
        return delays

    @torch.no_grad()
    def weights_now(self) -> Tensor:
        """The weights, (O, I) or (O, I, N), zero where there is no synapse."""
        weight = self.weights.weight
        assert weight is not None
        return weight.detach().cpu().clone()

    def fan_out(self) -> Tensor:
        """The number of nonzero weights of each input, int64 (I,)."""
        return self.weights_now().transpose(0, 1).flatten(1).count_nonzero(1)

    def trainable(self) -> int:
        """Number of trainable parameters; those of synapses that do not exist are not counted."""
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        absent = 0 if self.present is None else int((~self.present).sum())
        # (O, I) weights or (O, I, N) weights and delays; sigma and delays per channel are all there.
        taps = sum(parameter.shape[2:].numel() for parameter in trained if parameter.dim() >= 2)
        return sum(parameter.numel() for parameter in trained) - absent * taps


class Sparse(nn.Module):
    """A parametrization that keeps `inputs` synapses of each neuron, drawn at random, and holds the others at zero."""

    mask: Tensor

    def __init__(self, weight: Tensor, inputs: int) -> None:
        super().__init__()
        out_features, in_features = weight.shape[:2]
        chosen = torch.rand(out_features, in_features, device=weight.device).topk(inputs).indices
        absent = torch.zeros(out_features, in_features, dtype=torch.bool, device=weight.device)
        self.register_buffer("mask", absent.scatter_(1, chosen, True))

    def forward(self, weight: Tensor) -> Tensor:
        """Weights (O, I) or (O, I, N), zero where there is no synapse."""
        return weight * (self.mask if weight.dim() == 2 else self.mask.unsqueeze(-1))


def first_sigma(config: RunConfig) -> float | None:
    """The initial sigma of learned delays, in steps; None for the default, which covers all delays."""
    return _LAST_SIGMA if config.delays == "constant" else None


@torch.no_grad()
def draw_delays(layer: LearnableDelay, whole: bool = False) -> LearnableDelay:
    """Delays as DCLS draws them: positions from [-(K+1)/2, K/2], clamped, so that the largest is a little likelier."""
    layer.delays.uniform_(0, layer.max_delay + 1).clamp_(max=layer.max_delay)
    if whole:
        layer.delays.copy_((layer.delays + 0.5).floor()).requires_grad_(False)
    return layer


def without_masks(network: nn.Module) -> nn.Module:
    """The same network with weights that are zero where there is no synapse, and no mask that keeps them so.

    To freeze it: what a layer with a parametrization computes is not known there.
    """
    for module in network.modules():
        if isinstance(module, LearnableDelay) and parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
    return network
