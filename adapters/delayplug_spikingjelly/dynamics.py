"""What a step of SpikingJelly's neurons computes, by their live tensors."""

import math
from collections.abc import Callable
from typing import Any

from spikingjelly.activation_based import neuron, surrogate
from torch import nn

from delayplug import ChargeRule, CurrentRule, Dynamics, NeuronActivity, ResetAfter, Surrogate, SurrogateForm

from .adaptive import AdaptiveLIFNode

_READOUTS = (neuron.NonSpikingIFNode, neuron.NonSpikingLIFNode)
_SPIKING = (neuron.IFNode, neuron.LIFNode, neuron.ParametricLIFNode, neuron.CUBALIFNode)
_REPLACED = ("single_step_forward", "multi_step_forward", "neuronal_charge")


def dynamics(neuron_: nn.Module) -> Dynamics | None:
    """Of IFNode, LIFNode, ParametricLIFNode, CUBALIFNode, AdaptiveLIFNode and the two that do not spike."""
    node: Any = neuron_
    kind = type(node)
    if kind not in (*_READOUTS, *_SPIKING, AdaptiveLIFNode) or not vars(node).keys().isdisjoint(_REPLACED):
        return None
    if kind in _READOUTS:
        leaks = kind is neuron.NonSpikingLIFNode
        if node.decode is not None:
            return None
        return Dynamics(
            ChargeRule.DIVIDED if leaks else ChargeRule.ADD, leak=node.tau if leaks else 0.0, gives_membrane=True
        )
    form = known_surrogate(node.surrogate_function)
    start, current = node._memories["v"], next(iter([*node._memories.values()][1:]), 0.0)
    if form is None or node._neuron_precision is not None or not isinstance(start, float) or current != 0.0:
        return None
    if kind is AdaptiveLIFNode:
        if start or node.v_reset != 0.0:
            return None
        dynamics: Dynamics = node.adaptive.dynamics(
            threshold=node.v_threshold,
            surrogate=form,
            fires_at=True,
            is_detached=node.detach_reset,
            shows_membrane=node.store_v_seq,
        )
        return dynamics
    subtracts = node.v_reset is None
    rest = 0.0 if subtracts else node.v_reset
    options: dict[str, Any] = {"charge": ChargeRule.ADD}
    if kind is neuron.LIFNode:
        charge = ChargeRule.DIVIDED if node.decay_input else ChargeRule.DIVIDED_AND_ADD
        options = {"charge": charge, "leak": node.tau, "rest": rest}
    elif kind is neuron.ParametricLIFNode:
        charge = ChargeRule.LEAK_LAST if node.decay_input else ChargeRule.LEAK_AND_ADD
        options = {"charge": charge, "leak": node.w.sigmoid(), "rest": rest}
    elif kind is neuron.CUBALIFNode:
        options = {
            "charge": ChargeRule.DECAY,
            "leak": node.v_decay,
            "current": CurrentRule.DECAY,
            "synapse": node.c_decay,
        }
    return Dynamics(
        threshold=node.v_threshold,
        fires_at=True,
        after=ResetAfter.SUBTRACT if subtracts else ResetAfter.VALUE,
        reset=rest,
        is_detached=node.detach_reset,
        surrogate=form,
        start=start,
        shows_membrane=node.store_v_seq,
        **options,
    )


def output(neuron_: nn.Module, activity: NeuronActivity) -> Any:
    """What its forward returns; it keeps its state, and the membranes of all steps where it is told to."""
    node: Any = neuron_
    node.v = activity.membrane
    if isinstance(node, _READOUTS):
        return list(activity.output.unbind(0))
    if activity.current is not None:
        node.c = activity.current
    if activity.adaptation is not None:
        node.w = activity.adaptation
    if node.store_v_seq:
        node.v_seq = activity.membranes
    return activity.output


def known_surrogate(function: object) -> Surrogate | None:
    """The form of one of SpikingJelly's surrogates; None for those with more than three parameters, and others."""
    if type(function) not in _FORMS or not getattr(function, "spiking", False):
        return None
    values = getattr(function, "_sg_params")  # noqa: B009
    if not all(isinstance(value, int | float) for value in values.values()):
        return None
    return _FORMS[type(function)](**values)


_FORMS: dict[type[object], Callable[..., Surrogate]] = {
    surrogate.PiecewiseQuadratic: lambda alpha: Surrogate(SurrogateForm.TRIANGLE, alpha, alpha**2),
    surrogate.PiecewiseExp: lambda alpha: Surrogate(SurrogateForm.EXPONENTIAL, alpha, alpha / 2, 0.0),
    surrogate.Sigmoid: lambda alpha: Surrogate(SurrogateForm.SIGMOID, alpha, alpha),
    surrogate.SoftSign: lambda alpha: Surrogate(SurrogateForm.FAST_SIGMOID, alpha, alpha / 2),
    surrogate.SuperSpike: lambda alpha: Surrogate(SurrogateForm.FAST_SIGMOID, 1.0, alpha),
    surrogate.ATan: lambda alpha: Surrogate(SurrogateForm.ARCTAN, alpha),
    surrogate.NonzeroSignLogAbs: lambda alpha: Surrogate(SurrogateForm.INVERSE, alpha),
    surrogate.Erf: lambda alpha: Surrogate(SurrogateForm.GAUSSIAN, alpha, alpha / math.sqrt(math.pi)),
    surrogate.PiecewiseLeakyReLU: lambda w, c: Surrogate(SurrogateForm.RECTANGLE, w, 1 / (2 * w), c),
    surrogate.S2NN: lambda alpha, beta: Surrogate(SurrogateForm.SIGMOID_LOG, alpha, beta),
    surrogate.QPseudoSpike: lambda alpha: Surrogate(SurrogateForm.POWER, alpha),
    surrogate.LeakyKReLU: lambda leak, k: Surrogate(SurrogateForm.STEP, leak, k),
    surrogate.FakeNumericalGradient: lambda alpha: Surrogate(SurrogateForm.CLIPPED_INVERSE, alpha),
    surrogate.LogTailedReLU: lambda alpha: Surrogate(SurrogateForm.LOG_TAIL, alpha),
    surrogate.DeterministicPass: lambda: Surrogate(SurrogateForm.CONSTANT, 1.0),
    surrogate.Rect: lambda alpha: Surrogate(SurrogateForm.RECTANGLE, 0.5 / alpha, alpha, 0.0),
}
