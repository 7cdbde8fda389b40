"""What a step of Norse's neurons computes, by their live tensors."""

import math
from collections.abc import Callable
from typing import Any

import norse.torch as norse
from norse.torch.functional.iaf import iaf_feed_forward_step
from norse.torch.functional.leaky_integrator import li_feed_forward_step
from norse.torch.functional.leaky_integrator_box import li_box_feed_forward_step
from norse.torch.functional.lif import lif_feed_forward_step
from norse.torch.functional.lif_box import lif_box_feed_forward_step
from norse.torch.functional.reset import reset_subtract, reset_value
from torch import Tensor, nn

from delayplug import ChargeRule, CurrentRule, Dynamics, NeuronActivity, ResetAfter, Surrogate, SurrogateForm

from .adaptive import AdaptiveLIFCell, AdaptiveLIFState, adaptive_lif_step

_STEPS: dict[type[nn.Module], Callable[..., Any]] = {
    norse.LIFBoxCell: lif_box_feed_forward_step,
    norse.LIFCell: lif_feed_forward_step,
    norse.LIF: lif_feed_forward_step,
    norse.LICell: li_feed_forward_step,
    norse.LI: li_feed_forward_step,
    norse.LIBoxCell: li_box_feed_forward_step,
    norse.IAFCell: iaf_feed_forward_step,
    norse.IAF: iaf_feed_forward_step,
}
_SEQUENCES = (norse.LIF, norse.LI, norse.IAF)
_STATES = {
    norse.LIFBoxCell: norse.LIFBoxFeedForwardState,
    norse.LIFCell: norse.LIFFeedForwardState,
    norse.LIF: norse.LIFFeedForwardState,
    norse.LICell: norse.LIState,
    norse.LI: norse.LIState,
    norse.LIBoxCell: norse.LIBoxState,
    norse.IAFCell: norse.IAFFeedForwardState,
    norse.IAF: norse.IAFFeedForwardState,
}
# What the reset_method of `LIFBox` does.
RESETS: dict[Any, ResetAfter] = {reset_value: ResetAfter.VALUE, reset_subtract: ResetAfter.SUBTRACT}


def dynamics(neuron: nn.Module) -> Dynamics | None:
    """Of LIF, LI and IAF, with and without a current, as cells and as layers, with any of Norse's own surrogates;
    and of delayplug's `AdaptiveLIFCell`.
    """
    module: Any = neuron
    if type(neuron) is AdaptiveLIFCell:
        return _adaptive(neuron)
    step = _STEPS.get(type(neuron))
    if step is None or module.activation is not step or not starts_by_itself(neuron):
        return None
    if getattr(module, "record_states", False):
        return None
    p, dt = module.p, module.dt
    shows = not isinstance(neuron, _SEQUENCES)
    options: dict[str, Any] = {"start": detached(getattr(p, "v_leak", 0.0))}
    if step in (lif_feed_forward_step, li_feed_forward_step):
        options |= {"current": CurrentRule.JUMP, "synapse": -dt * p.tau_syn_inv, "shows_current": shows}
    if step is iaf_feed_forward_step:
        # A fresh membrane is the reset itself, with its gradient.
        options |= {"charge": ChargeRule.ADD, "start": p.v_reset}
    else:
        first = step is lif_box_feed_forward_step
        charge = ChargeRule.LEAK_INPUT_FIRST if first else ChargeRule.LEAK_REST_FIRST
        options |= {"charge": charge, "leak": dt * p.tau_mem_inv, "rest": p.v_leak}
    if step in (li_feed_forward_step, li_box_feed_forward_step):
        return Dynamics(gives_membrane=True, **options)
    surrogate = known_surrogate(p.method, p.alpha)
    after = RESETS.get(getattr(p, "reset_method", reset_value))
    if surrogate is None or after is None:
        return None
    if after is ResetAfter.VALUE:
        options["reset"] = p.v_reset
    return Dynamics(threshold=p.v_th, after=after, surrogate=surrogate, shows_membrane=shows, **options)


def _adaptive(cell: AdaptiveLIFCell) -> Dynamics | None:
    if cell.activation is not adaptive_lif_step or not starts_by_itself(cell):
        return None
    surrogate = Surrogate(SurrogateForm.ARCTAN, cell.p.alpha)
    return cell.p.dynamics(threshold=cell.p.v_th, surrogate=surrogate, shows_membrane=True, shows_adaptation=True)


def starts_by_itself(neuron: nn.Module) -> bool:
    """Whether its fresh state is the one of its class."""
    made_by: Any = getattr(neuron, "state_fallback", None)
    own = getattr(type(neuron), "initial_state", None)
    return own is not None and getattr(made_by, "__func__", None) is own and made_by.__self__ is neuron


def known_surrogate(method: str, alpha: float | Tensor) -> Surrogate | None:
    """The form of a surrogate of Norse's; None if its parameter is on a device, so that nothing waits for that."""
    if method == "super":
        return Surrogate(SurrogateForm.FAST_SIGMOID, 1.0, 1.0)
    if method == "heaviside":
        return Surrogate(SurrogateForm.CONSTANT, 0.0)
    if isinstance(alpha, Tensor) and (alpha.device.type != "cpu" or alpha.numel() != 1):
        return None
    a = float(alpha)
    forms = {
        "triangle": Surrogate(SurrogateForm.TRIANGLE, a, a),
        "tanh": Surrogate(SurrogateForm.SIGMOID, 2 * a, 4.0),
        "circ": Surrogate(SurrogateForm.CIRCLE, a),
        "heavi_erfc": Surrogate(SurrogateForm.GAUSSIAN, a, 2 / math.sqrt(math.pi)),
    }
    return forms.get(method)


def output(neuron: nn.Module, activity: NeuronActivity) -> tuple[Tensor, Any]:
    """What its forward returns: the output and, of a cell, the states of all steps, of a layer, the last."""
    if activity.membranes is not None and activity.adaptations is not None:
        return activity.output, AdaptiveLIFState(activity.membranes, activity.adaptations)
    state: Any = next(_STATES[kind] for kind in type(neuron).__mro__ if kind in _STATES)
    if isinstance(neuron, _SEQUENCES):
        values = [activity.membrane, activity.current]
    else:
        values = [activity.membranes, activity.currents]
    return activity.output, state(*(value for value in values if value is not None))


def detached(value: float | Tensor) -> float | Tensor:
    return value.detach() if isinstance(value, Tensor) else value
