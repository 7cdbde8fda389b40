"""snnTorch: step neurons that return their state and also leave it on themselves, and a few that take sequences."""

import dataclasses
from typing import Any, Literal

import snntorch
import torch
from snntorch import surrogate
from torch import Tensor, nn

from delayplug import (
    Benchmarks,
    Cell,
    ChannelDelays,
    Dynamics,
    ExchangeError,
    Exchanges,
    FusedNeurons,
    Mode,
    NeuronActivity,
    OwnDelays,
    OwnWeights,
    Reset,
    ResetBefore,
    Streams,
    Toolkit,
    never_fires,
    over_steps,
    run_fused,
    tensors_in,
)

from .adaptive import AdaptiveLIF
from .dynamics import dynamics as dynamics_of

_STATES = ("mem", "syn", "syn_exc", "syn_inh", "spk", "ada")
_RECURRENT = (snntorch.RLeaky, snntorch.RSynaptic)
_WITH_WEIGHTS = (snntorch.LeakyParallel, snntorch.LinearLeaky, snntorch.AssociativeLeaky)
_SEQUENCE = (*_WITH_WEIGHTS, snntorch.StateLeaky)
_OF_OTHER_SHAPE = (snntorch.SLSTM, snntorch.SConv2dLSTM)  # than their input


class SnnTorch(Toolkit, OwnWeights, OwnDelays, Streams, Exchanges, Benchmarks, FusedNeurons):
    """Neurons of snnTorch 1.0.

    A call without a state goes on from what the last one left on the neuron, with or without `init_hidden`.
    """

    def is_neuron(self, module: nn.Module) -> bool:
        return isinstance(module, (snntorch.SpikingNeuron, *_SEQUENCE))

    def is_spiking(self, neuron: nn.Module) -> bool:
        return not isinstance(neuron, _Membrane | _SynapticMembrane) and not never_fires(neuron, "threshold")

    def own_input(self, neuron: nn.Module) -> tuple[int, int] | None:
        if isinstance(neuron, snntorch.SConv2dLSTM):
            return neuron.in_channels, 2
        weights = {snntorch.SLSTM: "lstm_cell.weight_ih", snntorch.LeakyParallel: "rnn.weight_ih_l0"}
        weights |= {snntorch.LinearLeaky: "linear.weight", snntorch.AssociativeLeaky: "to_v.weight"}
        for kind, name in weights.items():
            if isinstance(neuron, kind):
                return neuron.get_parameter(name).shape[1], 0
        return None

    def recurrent_layer(self, module: nn.Module) -> str | None:
        if isinstance(module, _RECURRENT):
            return "recurrent" if isinstance(module.recurrent, nn.Linear | nn.Conv2d) else ""
        return "" if isinstance(module, (snntorch.SLSTM, snntorch.SConv2dLSTM, snntorch.LeakyParallel)) else None

    def own_delays(self, module: nn.Module) -> ChannelDelays | None:
        """`SynapticDelay`, which came after snnTorch 1.0, by its name."""
        kind = type(module)
        if kind.__name__ != "SynapticDelay" or kind.__module__.split(".")[0] != "snntorch":
            return None
        own: Any = module
        gaussian = own.kernel == "gaussian"
        return ChannelDelays(
            own.delay.detach(),
            own.max_delay,
            interpolation="gauss" if gaussian else "linear",
            sigma=own.sigma if gaussian else None,
            learns=own.delay.requires_grad,
            leading=1 if own.step_mode else 2,
            resets="reset_delay",
        )

    def mode(self, neuron: nn.Module) -> Mode:
        return Mode.SEQUENCE if isinstance(neuron, _SEQUENCE) else Mode.STEP

    def held_state(self, neuron: nn.Module) -> tuple[object, ...]:
        return tuple(self.kept_state(neuron).values())

    def kept_state(self, module: nn.Module) -> dict[str, Any]:
        keeps = isinstance(module, snntorch.SpikingNeuron) and not isinstance(module, _SEQUENCE)
        return {name: module._buffers[name] for name in _STATES if name in module._buffers} if keeps else {}

    def passed_state(
        self, neuron: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Tensor, ...] | None:
        if isinstance(neuron, _SEQUENCE):
            return ()
        states = {name: value for name, value in kwargs.items() if name != "input_"}
        return tuple(tensors_in((args[1:], states))) or None

    def returned_state(self, neuron: nn.Module, output: Any) -> tuple[Tensor, ...]:
        returned = tensors_in(output[1:]) if isinstance(output, tuple) else []
        return (*returned, *(value for value in self.held_state(neuron) if isinstance(value, Tensor)))

    def is_fresh(self, neuron: nn.Module, state: tuple[Tensor, ...], x: Tensor | None = None) -> Tensor | bool | None:
        # A state of another shape than the input is made again, of zeros, by those whose state has that of the input.
        own = type(neuron).__module__.startswith("snntorch.") or isinstance(neuron, AdaptiveLIF)
        own = own and not isinstance(neuron, _OF_OTHER_SHAPE)
        if own and x is not None and any(tensor.shape != x.shape for tensor in state):
            return True
        return torch.stack([~tensor.detach().any() for tensor in state]).all() if state else None

    def reset_signal(self, neuron: nn.Module) -> str:
        if isinstance(neuron, _SEQUENCE):
            return "each call of the model"
        if isinstance(neuron, AdaptiveLIF):
            return "reset_mem() of the neuron, or zeros for both of its states"
        if getattr(neuron, "init_hidden", False):
            return "reset_mem() of the neuron, or snntorch.utils.reset(model)"
        return "reset_mem() or init_*() of the neuron, or a call of the model without the state it returned last"

    def reset_methods(self, neuron: nn.Module) -> tuple[str, ...]:
        return ("reset_mem",) if hasattr(neuron, "reset_mem") else ()

    def class_resets(self, neuron: nn.Module) -> tuple[tuple[type[nn.Module], str], ...]:
        # What snntorch.utils.reset calls.
        kinds = type(neuron).__mro__
        return tuple((kind, "reset_hidden") for kind in kinds if "reset_hidden" in vars(kind))

    def reset(self, module: nn.Module) -> None:
        # Not reset_mem(), which keeps the batch, and forgets the spikes of some classes.
        for name, value in self.kept_state(module).items():
            setattr(module, name, value.detach().new_zeros(0))

    def describe(self, neuron: nn.Module) -> Cell:
        """`Leaky` and `Synaptic`. Reset to zero fires the same spikes with and without `reset_delay`."""
        if isinstance(neuron, AdaptiveLIF):
            raise ExchangeError(
                "expected a neuron that NIR can describe, got an adaptive neuron (adLIF): train with --neuron lif"
            )
        if type(neuron) not in (snntorch.Leaky, snntorch.Synaptic, _Membrane, _SynapticMembrane, _SubtractedOnce):
            raise ExchangeError("of snnTorch's neurons, only Leaky and Synaptic are supported")
        leaky: Any = neuron
        if leaky.inhibition or leaky.state_quant or bool((leaky.graded_spikes_factor != 1).any()):
            raise ExchangeError("snnTorch's inhibition, state_quant and graded spikes are not supported")
        synapse = 1 - leaky.alpha.double().clamp(0, 1) if isinstance(neuron, snntorch.Synaptic) else None
        beta, threshold = leaky.beta.double().clamp(0, 1), leaky.threshold
        if leaky.reset_mechanism == "none":
            return Cell.of(leak=1 - beta, threshold=None, synapse=synapse)
        if bool((threshold < 0).any()):
            raise ExchangeError("a threshold below zero, at which snnTorch resets neurons that have not fired")
        return Cell.of(leak=1 - beta, threshold=threshold, rule=_rule(leaky), synapse=synapse)

    def build(self, cell: Cell) -> nn.Module:
        """`Leaky` or `Synaptic`; a readout gives its membrane first."""
        kind = "Leaky" if cell.synapse is None else "Synaptic"
        cell.needs(f"snnTorch's {kind}", "a rest of zero", bool((cell.rest == 0).all()))
        options: dict[str, Any] = {"beta": (1 - cell.leak).float()}
        if cell.synapse is not None:
            options["alpha"] = (1 - cell.synapse).float()
        if cell.threshold is None:
            return (_Membrane if cell.synapse is None else _SynapticMembrane)(**options, reset_mechanism="none")
        cell.needs(
            f"snnTorch's {kind}", "a reset to zero", cell.rule is not Reset.VALUE or bool((cell.reset == 0).all())
        )
        cell.needs(f"snnTorch's {kind}", "a threshold of zero or more", bool((cell.threshold >= 0).all()))
        # With reset_delay=True the reset is detached from the graph, as by default; of a Synaptic it drops an input.
        late = kind == "Leaky"
        mechanism, delayed = {**_RULES, Reset.VALUE: ("zero", late)}.get(cell.rule, ("", False))
        if not mechanism:
            raise ExchangeError(f"snnTorch has no reset by the rule {cell.rule.value!r}: train with reset to zero")
        options |= {"threshold": cell.threshold.float(), "reset_mechanism": mechanism, "reset_delay": delayed}
        neuron: nn.Module = getattr(snntorch, kind)(**options)
        return neuron

    def dynamics(self, neuron: nn.Module) -> Dynamics | None:
        """`Leaky`, `Synaptic`, `Lapicque` and `AdaptiveLIF`."""
        readouts = {_Membrane: snntorch.Leaky, _SynapticMembrane: snntorch.Synaptic}
        own = type(neuron)
        if own is _SubtractedOnce:
            dynamics = dynamics_of(neuron, snntorch.Leaky, False)
            return None if dynamics is None else dataclasses.replace(dynamics, before=ResetBefore.NONE)
        return dynamics_of(neuron, readouts.get(own, own), own in readouts)

    def fused_output(self, neuron: nn.Module, activity: NeuronActivity) -> Any:
        keeper: Any = neuron
        keeper.mem = activity.membrane
        if activity.current is not None:
            keeper.syn = activity.current
        if activity.adaptation is not None:
            keeper.ada = activity.adaptation
        over_time = (activity.currents, activity.membranes, activity.adaptations)
        states = [state for state in over_time if state is not None]
        return (activity.output, *states) if states else activity.output

    def spiking_neuron(
        self, *, tau: float, threshold: float = 1.0, alpha: float = 5.0, reset: Literal["zero", "subtract"] = "zero"
    ) -> nn.Module:
        # reset_delay=True resets before the next input, with the spike detached: the reset of the paper's neuron.
        kind = snntorch.Leaky if reset == "zero" else _SubtractedOnce
        neuron: nn.Module = kind(
            beta=1 - 1 / tau,
            threshold=threshold,
            spike_grad=surrogate.atan(alpha=alpha),
            reset_mechanism=reset,
            reset_delay=reset == "zero",
        )
        return neuron

    def adaptive_neuron(
        self, size: int, *, step_ms: float, strength: float = 12.0, threshold: float = 1.0, alpha: float = 5.0
    ) -> nn.Module:
        form = surrogate.atan(alpha=alpha)
        return AdaptiveLIF(size, step_ms=step_ms, strength=strength, threshold=threshold, spike_grad=form)

    def readout_neuron(self, *, tau: float) -> nn.Module:
        neuron: nn.Module = snntorch.Leaky(beta=1 - 1 / tau, reset_mechanism="none")
        return neuron

    def run(self, neuron: nn.Module, x: Tensor) -> Tensor:
        dynamics = self.dynamics(neuron)
        if dynamics is not None and neuron.reset_mechanism == "none":  # nobody looks at the spikes
            dynamics = dataclasses.replace(dynamics, threshold=None, scale=None, gives_membrane=True)
        elif dynamics is not None:
            dynamics = dataclasses.replace(dynamics, shows_membrane=False, shows_adaptation=False)
        activity = run_fused(dynamics, x)
        if activity is not None:
            return activity.output
        if isinstance(neuron, AdaptiveLIF):
            zeros = torch.zeros_like(x[0])
            spikes: Tensor = over_steps(_adaptive_spikes, neuron, x, (neuron.adaptive.constants(), zeros, zeros))
            return spikes
        read = _membrane if neuron.reset_mechanism == "none" else _spikes
        y: Tensor = over_steps(read, neuron, x, torch.zeros_like(x[0]))
        return y

    def run_masked(self, neuron: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
        dynamics = self.dynamics(neuron)
        if dynamics is not None:
            dynamics = dataclasses.replace(dynamics, shows_membrane=False, shows_adaptation=False)
        activity = run_fused(dynamics, x, mask=mask, in_half=True)
        return super().run_masked(neuron, x, mask) if activity is None else activity.output


class _SubtractedOnce(snntorch.Leaky):  # type: ignore[misc]
    """A `Leaky` whose threshold is subtracted only once, in the step of the spike (reset_delay=False).

    snnTorch's own `Leaky` subtracts it again in the next step if the membrane is still above it.
    """

    def mem_reset(self, mem: Tensor) -> Tensor:
        return torch.zeros_like(mem)


# Resets that are not the usual ones: (reset_mechanism, reset_delay).
_RULES = {
    Reset.SUBTRACT_NEXT_STEP: ("subtract", True),
    Reset.SUBTRACT_WHILE_ABOVE: ("subtract", False),
    Reset.ZERO_NEXT_STEP: ("zero", True),
}


def _rule(neuron: Any) -> Reset:
    if isinstance(neuron, _SubtractedOnce):
        return Reset.SUBTRACT
    synaptic = isinstance(neuron, snntorch.Synaptic)
    if neuron.reset_mechanism == "zero" and not (synaptic and neuron.reset_delay):
        return Reset.VALUE
    options = (neuron.reset_mechanism, neuron.reset_delay)
    return next(rule for rule, of_rule in _RULES.items() if of_rule == options)


class _Membrane(snntorch.Leaky):  # type: ignore[misc]
    """A readout: gives its membrane in place of spikes."""

    def forward(self, x: Tensor, mem: Tensor | None = None) -> tuple[Tensor, Tensor]:
        _, mem = super().forward(x, mem)
        return mem, mem


class _SynapticMembrane(snntorch.Synaptic):  # type: ignore[misc]
    """A readout with a current: gives its membrane in place of spikes."""

    def forward(self, x: Tensor, syn: Tensor | None = None, mem: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        _, syn, mem = super().forward(x, syn, mem)
        return mem, syn, mem


def _spikes(neuron: nn.Module, x: Tensor, mem: Tensor) -> tuple[Tensor, Tensor]:
    spikes, mem = neuron(x, mem)
    return spikes, mem


def _membrane(neuron: nn.Module, x: Tensor, mem: Tensor) -> tuple[Tensor, Tensor]:
    _, mem = neuron(x, mem)
    return mem, mem


def _adaptive_spikes(neuron: nn.Module, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    assert isinstance(neuron, AdaptiveLIF)
    spikes, mem, ada = neuron.advance(state[0], x, *state[1:])
    return spikes, (state[0], mem, ada)
