"""Norse: cells that take one step and layers that take a sequence, all with an explicit state."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import norse.torch as norse
import torch
from norse.torch.functional.reset import reset_subtract, reset_value
from norse.torch.module.coba_lif import CobaLIFCell
from norse.torch.module.snn import SNN, SNNCell, SNNRecurrent, SNNRecurrentCell
from torch import Tensor, nn

from delayplug import (
    Benchmarks,
    Cell,
    ChargeRule,
    Containers,
    Dynamics,
    ExchangeError,
    Exchanges,
    FusedNeurons,
    Mode,
    NeuronActivity,
    OwnWeights,
    Reset,
    ResetAfter,
    Surrogate,
    SurrogateForm,
    TimeInside,
    Toolkit,
    never_fires,
    over_steps,
    run_fused,
    tensors_in,
)

from .adaptive import AdaptiveLIFCell, AdaptiveLIFParameters, adaptive_lif_step
from .arctan import Arctan
from .cells import DIFFERENT, GainBoxCell, GainCell, gained_dynamics
from .dynamics import detached, dynamics as dynamics_of, output, starts_by_itself

_READOUT = (norse.LI, norse.LICell, norse.LIBoxCell, norse.LILinearCell)
_BOXES = (norse.LIFBoxCell, norse.LIBoxCell)
_CURRENTS = (norse.LIFCell, norse.LIF, norse.LICell, norse.LI, norse.LILinearCell)
_INTEGRATORS = (norse.IAFCell, norse.IAF)
_WEIGHING = (SNNRecurrentCell, SNNRecurrent, norse.LILinearCell)  # by one product with their input
_RECURRENT = (*_WEIGHING, CobaLIFCell)


class Norse(Toolkit, Containers, OwnWeights, Exchanges, Benchmarks, FusedNeurons):
    """Neurons of Norse 1.1. A call without a state starts afresh."""

    def is_neuron(self, module: nn.Module) -> bool:
        return isinstance(module, (SNNCell, SNN, *_RECURRENT))

    def is_spiking(self, neuron: nn.Module) -> bool:
        return not isinstance(neuron, _READOUT) and not never_fires(getattr(neuron, "p", None), "v_th")

    def own_input(self, neuron: nn.Module) -> tuple[int, int] | None:
        return (int(neuron.input_size), 0) if isinstance(neuron, _RECURRENT) else None

    def input_weights(self, neuron: nn.Module) -> str:
        places = [step.__module__ for step in (type(neuron).forward, getattr(neuron, "activation", None)) if step]
        # The weights of adjoint steps have gradients of their own.
        known = all(place.startswith("norse.") and ".adjoint" not in place for place in places)
        return "input_weights" if known and isinstance(neuron, _WEIGHING) else ""

    def recurrent_layer(self, module: nn.Module) -> str | None:
        if isinstance(module, norse.RecurrentSequential):
            return "module.0"
        return "" if isinstance(module, (SNNRecurrentCell, SNNRecurrent, CobaLIFCell)) else None

    def mode(self, neuron: nn.Module) -> Mode:
        return Mode.SEQUENCE if isinstance(neuron, (SNN, SNNRecurrent)) else Mode.STEP

    def held_state(self, neuron: nn.Module) -> tuple[object, ...]:
        return ()

    def passed_state(
        self, neuron: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Tensor, ...] | None:
        return tuple(tensors_in((args[1:], kwargs.get("state"))))

    def returned_state(self, neuron: nn.Module, output: Any) -> tuple[Tensor, ...]:
        return tuple(tensors_in(output[1]))

    def is_fresh(self, neuron: nn.Module, state: tuple[Tensor, ...], x: Tensor | None = None) -> Tensor | bool | None:
        made_by: Any = getattr(neuron, "state_fallback", None)
        if made_by is None or not state:
            return None
        made = tensors_in(made_by(state[-1] if x is None else x))
        if len(made) != len(state) or any(
            m.dim() and m.shape[-1:] != t.shape[-1:] for m, t in zip(made, state, strict=True)
        ):
            return None
        return torch.stack([(m == t.detach()).all() for m, t in zip(made, state, strict=True)]).all()

    def reset_signal(self, neuron: nn.Module) -> str:
        return "a call of the model without the state it returned last"

    def lifted(self, module: nn.Module) -> str:
        return "lifted_module" if isinstance(module, norse.Lift) else ""

    def time_inside(self, container: nn.Module) -> TimeInside:
        return TimeInside.STEPS if isinstance(container, norse.Lift) else TimeInside.SAME

    def threads_state(self, container: nn.Module) -> bool:
        return isinstance(container, norse.SequentialState)

    def set_stateful(self, container: nn.Module, child: str, stateful: bool) -> None:
        flags: Any = container.stateful_layers
        flags[list(container._modules).index(child)] = stateful

    def is_stateful(self, container: nn.Module, child: str) -> bool:
        flags: Any = getattr(container, "stateful_layers", None)
        return self.threads_state(container) and bool(flags[list(container._modules).index(child)])

    def state_hooks(self, container: nn.Module) -> str:
        return "register_forward_state_hooks" if isinstance(container, norse.SequentialState) else ""

    def describe(self, neuron: nn.Module) -> Cell:
        """LIF and LI, with and without a current, and IAF, as cells and as layers, and LILinearCell.

        A step is a step, whatever the `dt` of the cell: its leak is dt * tau_mem_inv. (Norse's own table writes a time
        constant of dt / tau_mem_inv, which is too short by dt where that is not one, and its cell with a current
        without w_in.)
        """
        if isinstance(neuron, AdaptiveLIFCell):
            raise ExchangeError(
                "expected a neuron that NIR can describe, got an adaptive neuron (adLIF): train with --neuron lif"
            )
        own = (_ArctanCell, GainBoxCell, GainCell, *DIFFERENT.values())
        if type(neuron) not in (*_BOXES, *_CURRENTS, *_INTEGRATORS, *own):
            raise ExchangeError("of Norse's neurons, only LIF, LI and IAF are supported")
        p: Any = neuron.p
        if isinstance(neuron, _INTEGRATORS):
            return Cell.of(leak=0.0, threshold=p.v_th, reset=p.v_reset)
        leak = torch.as_tensor(neuron.dt * p.tau_mem_inv)
        gain = getattr(neuron, "gain", leak)
        numbers: dict[str, Any] = {"leak": leak, "gain": gain, "rest": p.v_leak}
        if isinstance(neuron, _CURRENTS):
            numbers["synapse"] = torch.as_tensor(neuron.dt * p.tau_syn_inv)
        if isinstance(neuron, _READOUT):
            return Cell.of(threshold=None, **numbers)
        method = getattr(p, "reset_method", reset_value)
        if method not in (reset_value, reset_subtract, _detached_reset):
            raise ExchangeError(f"Norse's reset_method {getattr(method, '__name__', method)!r} is not supported")
        rule = Reset.SUBTRACT if method is reset_subtract else Reset.VALUE
        return Cell.of(threshold=p.v_th, reset=p.v_reset, rule=rule, **numbers)

    def input_weight(self, neuron: nn.Module) -> Tensor | None:
        return neuron.input_weights if isinstance(neuron, norse.LILinearCell) else None

    def build(self, cell: Cell) -> nn.Module:
        """The cell that takes a step, with dt = 1, so that time constants are in steps."""
        if cell.rule not in (Reset.VALUE, Reset.SUBTRACT):
            raise ExchangeError(f"Norse has no reset by the rule {cell.rule.value!r}: train with reset to zero")
        leaks = bool((cell.leak != 0).all())
        numbers: dict[str, Any] = {"tau_mem_inv": cell.leak.float(), "v_leak": cell.rest.float()}
        if cell.synapse is not None:
            numbers["tau_syn_inv"] = cell.synapse.float()
        box = "Box" if cell.synapse is None else ""
        if cell.threshold is None:
            cell.needs("a readout of Norse's", "a membrane that leaks", leaks)
            kind = f"LI{box}"
        else:
            kind = f"LIF{box}"
            numbers |= {"v_th": cell.threshold.float(), "v_reset": cell.reset.float()}
            if box:
                numbers["reset_method"] = reset_subtract if cell.rule is Reset.SUBTRACT else reset_value
            if not leaks:
                cell.needs("a neuron of Norse's without a leak", "no current", cell.synapse is None)
                cell.needs("a neuron of Norse's without a leak", "no leak at all", bool((cell.leak == 0).all()))
                kind = "IAF"
                numbers = {name: numbers[name] for name in ("v_th", "v_reset")}
            cell.needs(f"Norse's {kind}Cell", "a reset to a value", cell.rule is Reset.VALUE or kind == "LIFBox")
        parameters = getattr(norse, f"{kind}Parameters")(**numbers)
        if leaks and cell.threshold is not None and not Cell.close(cell.gain, cell.leak):
            return (GainBoxCell if box else GainCell)(parameters, cell.gain.float())
        differ = any(isinstance(value, Tensor) and value.dim() for value in parameters)
        neuron: nn.Module = (DIFFERENT[kind] if differ else getattr(norse, f"{kind}Cell"))(parameters, dt=1.0)
        return neuron

    def gains(self, cell: Cell) -> tuple[Tensor, ...]:
        if bool((cell.leak == 0).all()):
            return (torch.ones_like(cell.leak),)
        return (cell.leak,) if cell.threshold is None else (cell.leak, cell.gain)

    def dynamics(self, neuron: nn.Module) -> Dynamics | None:
        """LIF, LI and IAF, with and without a current, as cells and as layers, and `AdaptiveLIFCell`."""
        if type(neuron) is _ArctanCell:
            return _arctan_dynamics(neuron)
        if type(neuron) in (GainBoxCell, GainCell):
            return gained_dynamics(neuron)
        return dynamics_of(neuron)

    def fused_output(self, neuron: nn.Module, activity: NeuronActivity) -> Any:
        return output(neuron, activity)

    def spiking_neuron(
        self, *, tau: float, threshold: float = 1.0, alpha: float = 5.0, reset: Literal["zero", "subtract"] = "zero"
    ) -> nn.Module:
        return _ArctanCell(tau, threshold, alpha, _detached_reset if reset == "zero" else reset_subtract)

    def adaptive_neuron(
        self, size: int, *, step_ms: float, strength: float = 12.0, threshold: float = 1.0, alpha: float = 5.0
    ) -> nn.Module:
        return AdaptiveLIFCell(
            AdaptiveLIFParameters(size, step_ms=step_ms, strength=strength, v_th=threshold, alpha=alpha)
        )

    def readout_neuron(self, *, tau: float) -> nn.Module:
        neuron: nn.Module = norse.LIBoxCell(
            norse.LIBoxParameters(tau_mem_inv=torch.tensor(1 / tau, device="cpu")), dt=1.0
        )
        return neuron

    def run(self, neuron: nn.Module, x: Tensor) -> Tensor:
        activity = run_fused(self.run_dynamics(neuron), x)
        if activity is not None:
            return activity.output
        if isinstance(neuron, AdaptiveLIFCell):
            start = (neuron.initial_state(x[0]), neuron.p.constants())
            spikes: Tensor = over_steps(_adaptive_step, neuron, x, start)
            return spikes
        # Norse scales its input by dt / tau; the paper's neuron does not.
        parameters: Any = neuron.p
        y: Tensor = over_steps(_step, neuron, x / parameters.tau_mem_inv, None)
        return y

    def run_masked(self, neuron: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
        activity = run_fused(self.run_dynamics(neuron), x, mask=mask, in_half=True)
        return super().run_masked(neuron, x, mask) if activity is None else activity.output

    def run_dynamics(self, neuron: nn.Module) -> Dynamics | None:
        """The dynamics of a neuron within `run`, which divides the input by the factor that Norse multiplies it by."""
        if isinstance(neuron, AdaptiveLIFCell):
            adaptive = self.dynamics(neuron)
            if adaptive is None:
                return None
            return dataclasses.replace(adaptive, shows_membrane=False, shows_adaptation=False)
        parameters: Any = neuron.p
        dynamics, tau = self.dynamics(neuron), parameters.tau_mem_inv
        if dynamics is None or tau.device.type != "cpu" or tau.requires_grad:
            return None
        return dataclasses.replace(dynamics, shows_membrane=False, divisor=float(tau))


def _step(neuron: nn.Module, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    out, state = neuron(x, state)
    return out, state


def _adaptive_step(neuron: nn.Module, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    assert isinstance(neuron, AdaptiveLIFCell)
    spikes, after = adaptive_lif_step(x, state[0], neuron.p, constants=state[1])
    return spikes, (after, state[1])


class _ArctanCell(norse.LIFBoxCell):  # type: ignore[misc]
    """`LIFBoxCell` with an arctan surrogate and another reset, which its parameters cannot express.

    The cell calls its `activation` with its parameters, and the parameters carry the reset: both are ours here.
    """

    def __init__(self, tau: float, threshold: float, alpha: float, reset_method: Callable[..., Tensor]) -> None:
        parameters = norse.LIFBoxParameters(
            tau_mem_inv=torch.tensor(1 / tau, device="cpu"),  # per step: dt = 1. Numbers: no device is waited for
            v_th=torch.tensor(threshold, device="cpu"),
            alpha=torch.tensor(alpha, device="cpu"),
            reset_method=reset_method,
        )
        super().__init__(parameters, dt=1.0)
        self.activation = _arctan_step


def _arctan_step(x: Tensor, state: Any, p: Any, dt: float) -> tuple[Tensor, Any]:
    v = state.v + dt * p.tau_mem_inv * (x + p.v_leak - state.v)
    spikes = Arctan.apply(v - p.v_th, p.alpha)
    return spikes, norse.LIFBoxFeedForwardState(v=p.reset_method(spikes, v, p.v_reset, p.v_th))


def _arctan_dynamics(neuron: Any) -> Dynamics | None:
    p = neuron.p
    after = _RESETS.get(p.reset_method, ResetAfter.NONE)
    known = neuron.activation is _arctan_step and after is not ResetAfter.NONE
    if not known or not starts_by_itself(neuron) or p.alpha.device.type != "cpu":
        return None
    return Dynamics(
        charge=ChargeRule.LEAK_INPUT_FIRST,
        leak=neuron.dt * p.tau_mem_inv,
        rest=p.v_leak,
        threshold=p.v_th,
        after=after,
        reset=p.v_reset if after is ResetAfter.VALUE else 0.0,
        is_detached=after is ResetAfter.VALUE,
        surrogate=Surrogate(SurrogateForm.ARCTAN, float(p.alpha)),
        start=detached(p.v_leak),
        shows_membrane=True,
    )


def _detached_reset(spikes: Tensor, v: Tensor, reset: Tensor, threshold: Tensor) -> Tensor:
    spikes = spikes.detach()
    return (1 - spikes) * v + spikes * reset


_RESETS: dict[Any, ResetAfter] = {_detached_reset: ResetAfter.VALUE, reset_subtract: ResetAfter.SUBTRACT}
