"""What a step of SpikingJelly's neurons computes, by their live tensors."""

import math
from collections.abc import Callable
from typing import Any

from spikingjelly.activation_based import neuron, surrogate
from torch import nn

from delayplug import Activity, After, Charge, Current, Dynamics, Form, Surrogate

_READOUTS = (neuron.NonSpikingIFNode, neuron.NonSpikingLIFNode)
_SPIKING = (neuron.IFNode, neuron.LIFNode, neuron.ParametricLIFNode, neuron.CUBALIFNode)
_REPLACED = ("single_step_forward", "multi_step_forward", "neuronal_charge")


def dynamics(neuron_: nn.Module) -> Dynamics | None:
    """Of IFNode, LIFNode, ParametricLIFNode, CUBALIFNode and the two that do not spike, in either step mode."""
    node: Any = neuron_
    kind = type(node)
    if kind not in (*_READOUTS, *_SPIKING) or not vars(node).keys().isdisjoint(_REPLACED):
        return None
    if kind in _READOUTS:
        leaks = kind is neuron.NonSpikingLIFNode
        if node.decode is not None:
            return None
        return Dynamics(Charge.DIVIDED if leaks else Charge.ADD, leak=node.tau if leaks else 0.0, gives_membrane=True)
    form = known_surrogate(node.surrogate_function)
    start, current = node._memories["v"], node._memories.get("c", 0.0)
    if form is None or node._neuron_precision is not None or not isinstance(start, float) or current != 0.0:
        return None
    subtracts = node.v_reset is None
    rest = 0.0 if subtracts else node.v_reset
    options: dict[str, Any] = {"charge": Charge.ADD}
    if kind is neuron.LIFNode:
        charge = Charge.DIVIDED if node.decay_input else Charge.DIVIDED_AND_ADD
        options = {"charge": charge, "leak": node.tau, "rest": rest}
    elif kind is neuron.ParametricLIFNode:
        charge = Charge.LEAK_LAST if node.decay_input else Charge.LEAK_AND_ADD
        options = {"charge": charge, "leak": node.w.sigmoid(), "rest": rest}
    elif kind is neuron.CUBALIFNode:
        options = {"charge": Charge.DECAY, "leak": node.v_decay, "current": Current.DECAY, "synapse": node.c_decay}
    return Dynamics(
        threshold=node.v_threshold,
        fires_at=True,
        after=After.SUBTRACT if subtracts else After.VALUE,
        reset=rest,
        is_detached=node.detach_reset,
        surrogate=form,
        start=start,
        shows_membrane=node.store_v_seq,
        **options,
    )


def output(neuron_: nn.Module, activity: Activity) -> Any:
    """What its forward returns; it keeps its state, and the membranes of all steps where it is told to."""
    node: Any = neuron_
    node.v = activity.membrane
    if isinstance(node, _READOUTS):
        return list(activity.output.unbind(0))
    if activity.current is not None:
        node.c = activity.current
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
    surrogate.PiecewiseQuadratic: lambda alpha: Surrogate(Form.TRIANGLE, alpha, alpha**2),
    surrogate.PiecewiseExp: lambda alpha: Surrogate(Form.EXPONENTIAL, alpha, alpha / 2, 0.0),
    surrogate.Sigmoid: lambda alpha: Surrogate(Form.SIGMOID, alpha, alpha),
    surrogate.SoftSign: lambda alpha: Surrogate(Form.FAST_SIGMOID, alpha, alpha / 2),
    surrogate.SuperSpike: lambda alpha: Surrogate(Form.FAST_SIGMOID, 1.0, alpha),
    surrogate.ATan: lambda alpha: Surrogate(Form.ARCTAN, alpha),
    surrogate.NonzeroSignLogAbs: lambda alpha: Surrogate(Form.INVERSE, alpha),
    surrogate.Erf: lambda alpha: Surrogate(Form.GAUSSIAN, alpha, alpha / math.sqrt(math.pi)),
    surrogate.PiecewiseLeakyReLU: lambda w, c: Surrogate(Form.RECTANGLE, w, 1 / (2 * w), c),
    surrogate.S2NN: lambda alpha, beta: Surrogate(Form.SIGMOID_LOG, alpha, beta),
    surrogate.QPseudoSpike: lambda alpha: Surrogate(Form.POWER, alpha),
    surrogate.LeakyKReLU: lambda leak, k: Surrogate(Form.STEP, leak, k),
    surrogate.FakeNumericalGradient: lambda alpha: Surrogate(Form.CLIPPED_INVERSE, alpha),
    surrogate.LogTailedReLU: lambda alpha: Surrogate(Form.LOG_TAIL, alpha),
    surrogate.DeterministicPass: lambda: Surrogate(Form.CONSTANT, 1.0),
    surrogate.Rect: lambda alpha: Surrogate(Form.RECTANGLE, 0.5 / alpha, alpha, 0.0),
}
