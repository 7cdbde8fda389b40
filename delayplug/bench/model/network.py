"""The paper's network, with the neurons of any backend.

Hammouamri, Khalfaoui-Hassani, Masquelier, "Learning Delays in Spiking Neural Networks using Dilated Convolutions with
Learnable Spacings", ICLR 2024, section 4.1 and appendix. Shapes: T steps, B batch, C channels or classes.
"""

import inspect
import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from ...errors import ArgumentError, BackendError, SequenceError
from ...layers.exact import mark_exact
from ...neurons.adaptive import AdaptiveParameters
from ...neurons.loops import compiled_loops
from ...neurons.recurrence import in_steps
from ...running.loop import Continuing
from ...toolkits.capabilities import Benchmarks, benchmarks
from ...toolkits.toolkit import Toolkit
from ..config import Readout, RunConfig
from ..processes import SharedBatchNorm, share
from .implementation import implementation
from .recurrent import Recurrent
from .synapses import Synapses


class DelayNetwork(Continuing):
    """Delay layer, batch norm, spiking neuron and dropout for each hidden size, then a readout.

    Every delay layer lengthens the sequence by half of the maximal delay, as in the paper, so that late spikes arrive.
    As a stream (`delayplug.stream`) it has no end: late spikes arrive in steps of silence that follow.

    Args:
        sizes: channels, hidden sizes, classes.
        toolkit: whose neurons to use.
        config: of the run: its delays and synapses, recurrent connections, neurons, dropout and compile.

    Raises:
        BackendError: the toolkit has no neurons with the requested reset, or no adaptive neurons.
    """

    def __init__(self, sizes: Sequence[int], toolkit: Toolkit, config: RunConfig) -> None:
        super().__init__()
        self.benchmark, self.compiles = benchmarks(toolkit), config.compile
        self.tail = 0 if config.delays == "none" else config.max_delay // 2
        self.synapses = nn.ModuleList(Synapses(i, o, config) for i, o in itertools.pairwise(sizes))
        self.norms = nn.ModuleList(SharedBatchNorm(size) for size in sizes[1:-1])
        self.neurons = nn.ModuleList(_hidden_neuron(self.benchmark, size, config) for size in sizes[1:-1])
        recurrent = () if config.recurrent == "none" else sizes[1:-1]
        self.recurrent = nn.ModuleList(Recurrent(size, config) for size in recurrent)
        self.dropout = HeldDropout(config.dropout)
        self.readout = self.benchmark.readout_neuron(tau=float(config.tau))

    def forward(self, x: Tensor, masks: Sequence[Tensor] | None = None) -> Tensor:
        """The readout's membrane potential over a sequence.

        Args:
            x: (T, B, C), in events per step; bool and integers may come as they are.
            masks: of dropout, as from `draw_masks`; None: they are drawn here, while training.

        Returns:
            (T + layers * tail, B, classes).
        """
        return self.activity(x, masks)[-1]

    def activity(self, x: Tensor, masks: Sequence[Tensor] | None = None) -> list[Tensor]:
        """The spikes of each hidden layer, (T + ..., B, size), and the readout's membrane potential as from forward.

        Of the spikes those that are not dropped, as zeros and ones.
        """
        if masks is None:
            masks = self.draw_masks(x.shape[1]) if self.training else []
        spikes, scale = [], 1.0
        with compiled_loops(self.compiles):
            hidden = (self.layers[:-1], self.norms, self.neurons, self.connections, masks)
            for synapse, norm, neuron, recurrent, mask in itertools.zip_longest(*hidden):
                current: Tensor = synapse(x, tail=self.tail, scale=scale)
                current = norm(current.flatten(0, 1)).view_as(current)  # over time and batch together
                if recurrent is not None:  # the layer's own recurrence receives dropped spikes, too
                    x = recurrent.run(self.benchmark, neuron, current)
                    x = x if mask is None else x * mask[0]
                elif mask is None:
                    x = self.benchmark.run(neuron, current)
                else:
                    x = self.benchmark.run_masked(neuron, current, mask[0])
                if mask is not None:  # the factor of dropout is applied to the weights of the next layer
                    scale = self.dropout.scale
                spikes.append(mark_exact(x))  # zeros and ones
            return [*spikes, self.benchmark.run(self.readout, self.layers[-1](x, tail=self.tail, scale=scale))]

    def chunk(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """A part of a sequence in `eval()`, without a tail, from a state, None for a fresh one; and the next state.

        Args:
            x: (T, B, C), as for `forward`.
            state: what the part before returned; it is not changed.

        Returns:
            The readout's membrane potential, (T, B, classes): of a whole sequence the first T steps of `forward`.

        Raises:
            SequenceError: it has recurrent connections, or its toolkit does not say what its neurons do in a step.
            ArgumentError: it is in training.
        """
        if self.training:
            raise ArgumentError("model", "a network in eval()", "one in training", "Call model.eval() first")
        if self.connections:
            raise SequenceError("the network has recurrent connections, which run over whole sequences only")
        before, after = iter(state or itertools.repeat((None, ()))), []
        for synapse, norm, neuron in itertools.zip_longest(self.layers, self.norms, (*self.neurons, self.readout)):
            delays, memory = next(before)
            current, delays = synapse.chunk(x, delays)
            if norm is not None:
                current = norm(current.flatten(0, 1)).view_as(current)
            x, memory = self._neuron_chunk(neuron, current, memory)
            after.append((delays, memory))
        return x, after

    def _neuron_chunk(self, neuron: nn.Module, current: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, Any]:
        dynamics = self.benchmark.run_dynamics(neuron)
        if dynamics is None:
            raise SequenceError(f"{type(self.benchmark).__name__} does not say what a step of its neurons computes")
        if neuron is self.readout:
            dynamics = replace(dynamics, gives_membrane=True)
        activity = in_steps(dynamics, current, *state)
        after = (activity.membrane, activity.current, activity.adaptation)
        return activity.output, after

    def draw_masks(self, batch: int, generator: torch.Generator | None = None) -> list[Tensor]:
        """The masks of dropout for a batch, (1, B, size) for each hidden layer; none if nothing is dropped."""
        if self.dropout.p == 0:
            return []
        like = next(self.parameters())
        sizes = [norm.num_features for norm in cast(list[nn.BatchNorm1d], list(self.norms))]
        return [self.dropout.draw(like, (batch, size), generator) for size in sizes]

    def implementation(self, device: torch.device) -> str:
        """What computes the neurons on a device; several, where they differ, in the order of the layers."""
        neurons = (*self.neurons, self.readout)
        names = [implementation(self.benchmark, neuron, device, compiles=self.compiles) for neuron in neurons]
        for n in range(len(self.recurrent)):
            names[n] = "recurrent loop of fused kernels" if names[n] == "fused kernel" else "recurrent loop"
        return ", ".join(dict.fromkeys(names))

    @property
    def adaptive(self) -> list[AdaptiveParameters]:
        """The learned constants of each layer of adaptive neurons; [] for other neurons."""
        return [module for module in self.neurons.modules() if isinstance(module, AdaptiveParameters)]

    @property
    def connections(self) -> list[Recurrent]:
        """The recurrent connection of each hidden layer; [] in a network without them."""
        return cast(list[Recurrent], list(self.recurrent))

    @property
    def layers(self) -> list[Synapses]:
        """The synapses of each layer, the readout's last."""
        return cast(list[Synapses], list(self.synapses))

    def delays_now(self) -> list[Tensor]:
        """The delays in steps, of each layer with delays and then of each recurrent connection with delays.

        See `Synapses.delays_now`; those of a recurrent connection are (H,), or (H, H, 1).
        """
        layers = [synapse.delays_now() for synapse in self.layers]
        recurrent = [
            connection.delays.delays.detach().cpu().clone()
            for connection in self.connections
            if connection.delays is not None
        ]
        return [*(delays for delays in layers if delays is not None), *recurrent]

    def fan_outs(self) -> list[Tensor]:
        """For each layer of synapses, the number of nonzero weights of each of its inputs, int64 (I,).

        For spikes of a hidden layer with a recurrent connection, the weights of that are included.
        """
        numbers = [layer.fan_out() for layer in self.layers]
        for n, connection in enumerate(self.connections, start=1):
            numbers[n] = numbers[n] + connection.fan_out()
        return numbers

    def trainable(self) -> int:
        """Number of trainable parameters: weights and delays of the synapses that exist, batch norm, and neurons."""
        others = (*self.norms.parameters(), *self.neurons.parameters(), *self.recurrent.parameters())
        rest = sum(parameter.numel() for parameter in others if parameter.requires_grad)
        return rest + sum(synapse.trainable() for synapse in self.layers)


def _hidden_neuron(benchmark: Benchmarks, size: int, config: RunConfig) -> nn.Module:
    if config.neuron == "adlif":
        return benchmark.adaptive_neuron(size, step_ms=config.step_ms, strength=config.adaptation)
    if config.reset == "zero":
        return benchmark.spiking_neuron(tau=float(config.tau))
    if (
        "reset" not in inspect.signature(benchmark.spiking_neuron).parameters
    ):  # adapters written for earlier versions lack it
        raise BackendError(
            f"the backend {config.backend!r} has no neurons with the reset {config.reset!r}. Take --reset zero, or "
            "another backend"
        )
    return benchmark.spiking_neuron(tau=float(config.tau), reset=config.reset)


class HeldDropout(nn.Dropout):
    """Dropout whose mask is drawn once per recording and held over all steps: x (T, B, ...).

    Attributes:
        total: recordings of the batch on all processes together, which all draw the masks of all; None: there is one.
    """

    def __init__(self, p: float) -> None:
        super().__init__(p)
        self.total: int | None = None

    @property
    def scale(self) -> float:
        """What is not dropped is scaled by this, as in `nn.Dropout`."""
        return 1 / (1 - self.p)

    def draw(self, like: Tensor, shape: Sequence[int], generator: torch.Generator | None = None) -> Tensor:
        """A mask (1, B, ...), one where nothing is dropped and zero elsewhere.

        Args:
            like: has its dtype and device.
            shape: of the input without time, (B, ...); B is this process's part of the batch.
            generator: to draw from, on this device.
        """
        total = shape[0] if self.total is None else self.total
        # On a CPU the numbers that `nn.functional.dropout` draws.
        mask = like.new_empty(1, total, *shape[1:], requires_grad=False).bernoulli_(1 - self.p, generator=generator)
        return mask if self.total is None else mask[:, share(total)]

    def forward(self, x: Tensor) -> Tensor:
        """Spikes that are not dropped are scaled by 1 / (1 - p), as in `nn.Dropout`."""
        if not self.training or self.p == 0:
            return x
        return x * (self.draw(x, x.shape[1:]) * self.scale)


def class_scores(membrane: Tensor, readout: Readout = "sum") -> Tensor:
    """The score of each class, (B, classes): logits of the loss; the class with the largest score is the prediction.

    Args:
        membrane: of the readout neurons at every step, (T, B, classes).
        readout: "sum": softmax over classes, summed over time (the paper's); "mean": mean of the membrane over time;
            "max": its maximum, as in Cramer et al., "The Heidelberg Spiking Data Sets", IEEE TNNLS 2020.
    """
    if readout == "mean":
        return membrane.mean(0)
    return membrane.amax(0) if readout == "max" else membrane.softmax(-1).sum(0)
