"""What a step of snnTorch's neurons computes, by their live tensors."""

import types
from collections.abc import Callable
from typing import Any, cast
from weakref import WeakKeyDictionary, ref

import snntorch
from snntorch import surrogate
from torch import Tensor, nn

from delayplug import ChargeRule, CurrentRule, Dynamics, ResetAfter, ResetBefore, Surrogate, SurrogateForm

from .adaptive import AdaptiveLIF

# What a `Leaky` and so on do with the spikes of the state that they begin a step with.
_BEFORE = {
    snntorch.Leaky: (ResetBefore.SUBTRACT, ResetBefore.ZERO, ResetBefore.NONE),
    snntorch.Synaptic: (ResetBefore.SUBTRACT, ResetBefore.ZERO_ALL, ResetBefore.NONE),
    snntorch.Lapicque: (ResetBefore.SUBTRACT, ResetBefore.ZERO_ALL, ResetBefore.NONE),
}
_MECHANISMS = ("subtract", "zero", "none")
_METHODS = ("_base_sub", "_base_zero", "_base_int")
_REPLACED = ("fire", "mem_reset", "_base_state_function", "_base_state_reset_zero")


def dynamics(neuron: nn.Module, kind: type[nn.Module], gives_membrane: bool) -> Dynamics | None:
    """Of a `Leaky`, `Synaptic`, `Lapicque` or `AdaptiveLIF`, without inhibition, quantised states and own surrogates.

    Args:
        neuron: a neuron that steps as this kind does.
        kind: one of these four, or None is returned.
        gives_membrane: whether its output is the membrane in place of spikes.
    """
    module: Any = neuron
    if kind is AdaptiveLIF:
        return _adaptive(module)
    if kind not in _BEFORE or module.inhibition or module.state_quant or not vars(module).keys().isdisjoint(_REPLACED):
        return None
    form = known_surrogate(module.spike_grad)
    mechanism = _mechanism(module, kind)
    if form is None or mechanism is None:
        return None
    before = _BEFORE[kind][mechanism]
    at_once = before is not ResetBefore.NONE and not getattr(module, "reset_delay", True)
    after = (ResetAfter.SUBTRACT, ResetAfter.VALUE)[mechanism] if at_once else ResetAfter.NONE
    options: dict[str, Any] = {}
    if kind is snntorch.Lapicque:
        rate = 1 / (module.R * module.C)
        options["factors"] = (module.R, rate, module.time_step)
        options["leak"] = 1 - module.time_step / (module.R * module.C)
    else:
        options["leak"] = module.beta.clamp(0, 1)
    if kind is snntorch.Synaptic:
        options |= {"current": CurrentRule.DECAY, "synapse": module.alpha.clamp(0, 1)}
    returns_states = gives_membrane or module.output or not module.init_hidden
    scale = module.graded_spikes_factor
    return Dynamics(
        charge=ChargeRule.DECAY,
        threshold=module.threshold,
        before=before,
        after=after,
        surrogate=form,
        scale=scale,
        is_unscaled=not isinstance(scale, nn.Parameter) and _value(module, "graded_spikes_factor") == 1,
        gives_membrane=gives_membrane,
        shows_membrane=returns_states,
        shows_current=returns_states and kind is snntorch.Synaptic,
        **options,
    )


def _adaptive(neuron: AdaptiveLIF) -> Dynamics | None:
    form = known_surrogate(neuron.spike_grad)
    if form is None or not vars(neuron).keys().isdisjoint((*_REPLACED, "advance")):
        return None
    returns_states = neuron.output or not neuron.init_hidden
    return neuron.adaptive.dynamics(
        threshold=neuron.threshold, surrogate=form, shows_membrane=returns_states, shows_adaptation=returns_states
    )


def _mechanism(module: Any, kind: type[nn.Module]) -> int | None:
    """The place of its reset among those of snnTorch; None if its parts do not agree on it.

    The method that steps is chosen when the neuron is made, and a checkpoint may bring another mechanism with it.
    """
    step = module.state_function
    for place, name in enumerate(_METHODS):
        if (
            getattr(step, "__func__", None) is getattr(kind, name)
            and step.__self__ is module
            and name not in vars(module)
        ):
            agrees = module.reset_mechanism == _MECHANISMS[place] and _value(module, "reset_mechanism_val") == place
            return place if agrees else None
    return None


# The last value of small buffers, by the neuron and their name: to look at one waits for the device.
_values: "WeakKeyDictionary[nn.Module, dict[str, tuple[Any, int, float | None]]]" = WeakKeyDictionary()


def _value(module: nn.Module, name: str) -> float | None:
    """The value of a buffer of one element, looked at when it was written to; None if it has more elements."""
    buffer: Tensor = module.get_buffer(name)
    version = -1 if buffer.is_inference() else buffer._version
    known = _values.setdefault(module, {})
    seen = known.get(name)
    if seen is None or seen[0]() is not buffer or seen[1] != version:
        value = float(buffer) if buffer.numel() == 1 else None
        seen = known[name] = (ref(buffer), version, value)
    return seen[2]


def known_surrogate(spike: Callable[..., Any]) -> Surrogate | None:
    """The form of a surrogate that one of the functions of `snntorch.surrogate` made; None for all others."""
    if spike is snntorch.SpikingNeuron._surrogate_bypass:
        return Surrogate(SurrogateForm.CONSTANT, 0.0)
    if not isinstance(spike, types.FunctionType) or spike.__code__ not in _FORMS:
        return None
    cells = [cell.cell_contents for cell in spike.__closure__ or ()]
    if not all(isinstance(value, int | float) for value in cells):
        return None
    names = spike.__code__.co_freevars
    return _FORMS[spike.__code__](**{name: float(value) for name, value in zip(names, cells, strict=True)})


def _code(made: object) -> types.CodeType:
    return cast(types.FunctionType, made).__code__


# By the code of what each of snnTorch's functions returns, which has the function's arguments in its closure.
_FORMS: dict[types.CodeType, Callable[..., Surrogate]] = {
    _code(surrogate.straight_through_estimator()): lambda: Surrogate(SurrogateForm.CONSTANT, 1.0),
    _code(surrogate.heaviside()): lambda: Surrogate(SurrogateForm.SPIKE, 1.0),
    _code(surrogate.triangular()): lambda threshold: Surrogate(SurrogateForm.STEP, threshold, -threshold),
    _code(surrogate.fast_sigmoid()): lambda slope: Surrogate(SurrogateForm.FAST_SIGMOID, slope, 1.0),
    _code(surrogate.atan()): lambda alpha: Surrogate(SurrogateForm.ARCTAN, alpha),
    _code(surrogate.sigmoid()): lambda slope: Surrogate(SurrogateForm.SIGMOID, slope, slope),
    _code(surrogate.spike_rate_escape()): lambda beta, slope: Surrogate(SurrogateForm.EXPONENTIAL, beta, slope, 1.0),
    _code(surrogate.SFS()): lambda slope, B: Surrogate(SurrogateForm.SPARSE_FAST_SIGMOID, slope, B),
}
