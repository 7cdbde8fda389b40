"""From learned delays to integer ones: `freeze_delays`, with the constraints of the device that shall run them."""

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from numbers import Real

import torch
from torch import Tensor, nn

from ..errors import ArgumentError, WiringError, choice_error
from ..layers.base import DelayLayer
from ..layers.checks import check_count, check_delays
from ..layers.conv import Convolution
from ..layers.frozen import DTYPES, Frozen, can_freeze, freeze, smallest
from ..layers.taps import round_delays
from ..surgery.dataflow import Example
from ..surgery.delayed import Delayed, weights_of
from ..surgery.find import named_delays
from ..toolkits.vocabulary import Granularity
from .costs import costs
from .devices import Device, DeviceReport, Misfit, device_of, misfits_of, weight_misfits
from .quantise import few_delays, quantised, rows_of, transposed_groups
from .summary import Change, Freezing


def freeze_delays(
    model: nn.Module,
    *,
    target: str | Device | None = None,
    clamp: bool = False,
    max_delay: int | None = None,
    dtype: torch.dtype | None = None,
    step_ms: tuple[float, float] | None = None,
    distinct: int | None = None,
    weight_bits: int | None = None,
    evaluate: Callable[[nn.Module], float] | None = None,
    example: Example | None = None,
) -> Freezing:
    """Round the learned delays of a model to whole steps, in place, within the constraints of a device.

    Delays are rounded, halves up, as `eval()` does, and stored as integers: the model computes what it computed in
    `eval()`, to the bit, and with `model.train()` too, so that its weights can be trained further. (Layers made with
    `round_in_eval=False` were not rounded before; from now on they are.) Works on layers of delays by themselves and on
    layers with delays from `add_delays`, whose objects, names, weights and hooks stay. Everything is checked before
    anything is changed, and if `evaluate` fails, the model is restored.

    Delays are buffers then: `parameters()` leaves them out, and weights keep their `requires_grad`. An optimizer that
    holds the old delays has no effect on them any more; make a new one to train the weights further.

    To load the frozen state, build the model, add delays and freeze it with the same `max_delay` and `step_ms`.

    Args:
        model: holds `LearnableDelay`, `ConvDelay`, or layers with delays. Frozen layers are left alone.
        target: a device, by its name in `devices()` or as a `Device`: delays are frozen within its limits, and what
            does not fit is an error that lists it with numbers. What weights would lose in its bits is in the report;
            they stay as they are unless `weight_bits` is given.
        clamp: with `target`, shorten delays that are too long for the device instead; the report says how many, and by
            how much.
        max_delay: the largest delay allowed, in steps of the frozen model: 62 takes 6 bits and leaves one code free.
            Longer delays become this long. By default, and if the layer's own is less, that of the layer.
        dtype: of the delays, `torch.uint8`, `torch.int16` or `torch.int32`; by default the smallest that holds
            `max_delay`.
        step_ms: (trained with, to run with), lengths of a step in ms: (10, 5) doubles all delays. Only delays are
            converted; the time constants of the neurons are the toolkit's.
        distinct: the largest number of different delays that one neuron may have among its inputs; `few_delays`
            chooses them. Delays of a layer's input channels are the same for all its neurons, so that there the limit
            is that of the whole layer.
        weight_bits: 2 to 16. Weights of the layers with delays become whole multiples of a scale per output, at most
            2 ** (weight_bits - 1) - 1 of them. They stay the floating-point Parameters that they are.
        evaluate: returns the accuracy, or another score, of the model; called before and after.
        example: as for `costs`, to count operations before and after.

    Returns:
        What was changed, by each constraint in each layer, and the model.

    Raises:
        WiringError: there is nothing to freeze, or a layer of delays is of a class that is not delayplug's own.
        ArgumentError: an argument has a wrong type or value, a delay is NaN or out of range, or the weights of a layer
            cannot be quantised, or the model does not fit the `target`.

    >>> from delayplug import LearnableDelay
    >>> layer = LearnableDelay(20, 10, max_delay=24, init=2.5)
    >>> frozen = freeze_delays(layer, max_delay=15)
    >>> layer.delays.dtype, layer.delays.unique().tolist(), layer.max_delay
    (torch.uint8, [3], 15)
    >>> frozen.changes[0].moved, frozen.changes[0].mean
    (200, 0.5)
    """
    device = None if target is None else device_of(target)
    options = _Options(max_delay, dtype, step_ms, distinct, weight_bits, device, clamp)
    layers = list(named_delays(model))
    learned = [(name, delay) for name, delay in layers if not isinstance(delay, Frozen)]
    if not layers:
        raise WiringError("nothing to freeze: the model has no delays")
    plans = [_plan(model, name, delay, options) for name, delay in learned]
    report = None if device is None else DeviceReport(device, len(layers), tuple(_misfits(model, layers, options)))
    if report is not None:
        _refuse(report, clamp)
    before = costs(model, example)
    if not learned:
        warnings.warn("the delays of the model are frozen already; nothing was changed", stacklevel=2)
        return Freezing(model, (), before, before, target=report)
    score = None if evaluate is None else float(evaluate(model))
    undo = [_apply(plan) for plan in plans]
    try:
        after = costs(model, example)
        scores = None if evaluate is None or score is None else (score, float(evaluate(model)))
    except Exception:
        for layer in undo:
            layer.close()
        raise
    changes = tuple(change for plan in plans for change in plan.changes)
    scales = {plan.name: plan.weights[2] for plan in plans if plan.weights is not None}
    packed = math.ceil(sum(plan.bits for plan in plans) / 8)
    return Freezing(model, changes, before, after, scores, scales, packed, report)


def _misfits(model: nn.Module, layers: list[tuple[str, DelayLayer]], options: "_Options") -> Iterator[Misfit]:
    """What the device does not hold of the layers, delays as they are after `step_ms` and an explicit `max_delay`."""
    assert options.device is not None
    for name, delay in layers:
        module = model.get_submodule(name)
        delayed = module if isinstance(module, Delayed) and module.delay is delay else None
        whole = _in_range(name, delay).float()
        if not isinstance(delay, Frozen):
            whole = whole if options.step_ms is None else whole * (options.step_ms[0] / options.step_ms[1])
            whole = round_delays(whole)
            whole = whole if options.max_delay is None else whole.clamp(max=options.max_delay)
        for misfit in misfits_of(name, delay, delayed, whole, options.device):
            yield replace(misfit, can_clamp=False) if isinstance(delay, Frozen) else misfit
        if options.weight_bits is None:
            yield from weight_misfits(name, delay, delayed, options.device)


def _refuse(report: DeviceReport, clamp: bool) -> None:
    blocking = [misfit for misfit in report.misfits if misfit.blocks and not (clamp and misfit.can_clamp)]
    if blocking:
        advice = "Train again within these limits"
        if all(misfit.can_clamp for misfit in blocking):
            advice += (
                ", or pass clamp=True: that shortens these delays, at the cost of accuracy (evaluate= measures it)"
            )
        shown = DeviceReport(report.device, report.layers, tuple(blocking))
        wanted = f"a network whose delays {report.device.name} holds"
        raise ArgumentError("target", wanted, "one that does not fit", f"{advice}\n\n{shown}")


@dataclass(frozen=True)
class _Options:
    max_delay: int | None
    dtype: torch.dtype | None
    step_ms: tuple[float, float] | None
    distinct: int | None
    weight_bits: int | None
    device: Device | None
    clamp: bool

    def __post_init__(self) -> None:
        for name, least in {"max_delay": 0, "distinct": 1, "weight_bits": 2}.items():
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name), least)
        if self.weight_bits is not None and self.weight_bits > 16:
            raise ArgumentError("weight_bits", "2 to 16", self.weight_bits)
        if self.device is not None:
            for name, most in {"max_delay": self.device.max_delay, "weight_bits": self.device.weight_bits}.items():
                asked = getattr(self, name)
                if asked is not None and most is not None and asked > most:
                    raise ArgumentError(name, f"at most {most}, which {self.device.name} holds", asked)
        elif self.clamp:
            raise ArgumentError("clamp", "a target whose limits to apply", "none", "max_delay=62 shortens delays, too")
        if self.dtype is not None and self.dtype not in DTYPES:
            raise choice_error("dtype", DTYPES, self.dtype)
        if self.step_ms is not None:
            pair = isinstance(self.step_ms, tuple | list) and len(self.step_ms) == 2
            if not pair or not all(isinstance(v, Real) and 0 < v < math.inf for v in self.step_ms):
                raise ArgumentError("step_ms", "(trained with, to run with), two lengths of a step in ms", self.step_ms)


@dataclass(frozen=True)
class _Plan:
    """What will be done to one layer."""

    name: str
    delay: DelayLayer
    delayed: Delayed | None
    delays: Tensor
    max_delay: int
    changes: tuple[Change, ...]
    bits: int  # of delays and weights, each as short as it can be
    weights: tuple[nn.Parameter, Tensor, Tensor] | None  # to quantise, what they become, and in multiples of what


@torch.no_grad()
def _plan(model: nn.Module, name: str, delay: DelayLayer, options: _Options) -> _Plan:
    if not can_freeze(delay):
        raise WiringError(
            f"{name or 'the model'} has delays of class {type(delay).__name__}, which is not one of delayplug's: "
            "what such a class computes with integer delays is not known"
        )
    module = model.get_submodule(name)
    delayed = module if isinstance(module, Delayed) and module.delay is delay else None
    limit, delays = delay.max_delay, _in_range(name, delay)
    changes = []

    def changed(what: str, old: Tensor, new: Tensor) -> None:
        moves = (new.double() - old.double()).abs()
        number = int((moves > 0).sum())
        changes.append(Change(name, what, number, moves.numel(), float(moves.mean()), float(moves.max())))

    if options.step_ms is not None:
        trained, runs = map(float, options.step_ms)
        scaled, limit = delays * (trained / runs), math.floor(limit * (trained / runs) + 0.5)
        changed(f"{runs:g} ms steps, not {trained:g}", delays, scaled)
        delays = scaled
    whole = round_delays(delays)
    changed("rounded", delays, whole)
    whole = whole.clamp(max=limit)
    allowed = options.device.max_delay if options.max_delay is None and options.device else options.max_delay
    if allowed is not None and allowed < limit:
        limit = allowed
        changed(f"at most {limit} steps", whole, whole.clamp(max=limit))
        whole = whole.clamp(max=limit)
    if options.distinct is not None:
        rows = _rows(delay, delayed).to(delays.device)
        few = whole.new_empty(whole.shape)
        few.view(-1)[rows] = few_delays(delays.clamp(max=limit).flatten()[rows], options.distinct, limit).to(few.dtype)
        changed(f"{options.distinct} distinct per neuron", whole, few)
        whole = few
    kind = smallest(limit) if options.dtype is None else options.dtype
    if limit > torch.iinfo(kind).max:
        advice = "Give a max_delay, or a longer dtype"
        raise ArgumentError("dtype", f"one that holds delays of {name or 'the model'} up to {limit}", kind, advice)
    bits, weights = whole.numel() * max(1, limit.bit_length()), None
    parameter = None if options.weight_bits is None else _weight(name, delay, delayed)
    if parameter is not None and options.weight_bits is not None:
        owner = delay if delayed is None else weights_of(delayed)
        rows = rows_of(tuple(parameter.shape), transposed_groups(owner))
        weight, scale = quantised(parameter, rows, options.weight_bits)
        changed(f"weights in {options.weight_bits} bits", parameter, weight)
        bits += weight.numel() * options.weight_bits + 32 * scale.numel()
        weights = (parameter, weight, scale)
    return _Plan(name, delay, delayed, whole.to(kind), limit, tuple(changes), bits, weights)


def _in_range(name: str, delay: DelayLayer) -> Tensor:
    """The delays of a layer, checked."""
    delays = delay.delays.detach().clamp(0, delay.max_delay)
    if delays.is_meta:
        raise ArgumentError("model", "delays that have values", f"{name} on the meta device")
    check_delays(delays, delay.max_delay, f"{name}.delays".removeprefix("."))
    return delays


@torch.no_grad()
def _apply(plan: _Plan) -> ExitStack:
    """Freeze one layer; closing the result undoes it."""
    undo = ExitStack()
    max_delay = plan.delay.max_delay
    undo.callback(freeze(plan.delay, plan.delays, plan.max_delay))
    if plan.delayed is not None:
        memory = plan.delayed.delay_memory
        undo.callback(memory.restore, memory.snapshot())
        if max_delay != plan.max_delay:
            memory.forget()  # its past inputs were stored for other delays
    if plan.weights is not None:
        parameter, weight, _ = plan.weights
        undo.callback(torch.no_grad()(parameter.copy_), parameter.detach().clone())
        parameter.copy_(weight)
    return undo


def _rows(delay: DelayLayer, delayed: Delayed | None) -> Tensor:
    """The delays among the inputs of each neuron, (G, M): positions in the flat delays."""
    if delay.delays.dim() == 1:
        own = delayed is not None and delayed.delay_place.granularity is Granularity.DENDRITIC
        return torch.arange(len(delay.delays), device="cpu").unsqueeze(1 if own else 0)
    return rows_of(tuple(delay.delays.shape), transposed_groups(delay))


def _weight(name: str, delay: DelayLayer, delayed: Delayed | None) -> nn.Parameter | None:
    """The weights that go with the delays; None for delays per channel that stand alone."""
    if delayed is None:
        return delay.weight
    owner, own = weights_of(delayed), delayed.delay_place.weight
    if not own and not (delayed.delay_place.affine and isinstance(owner, nn.Linear | Convolution)):
        got = f"{name}, a {type(owner).__name__} with a forward of its own"
        raise ArgumentError("weight_bits", "layers whose forward is that of torch", got)
    parameter = dict(owner.named_parameters(recurse=False)).get(own or "weight")
    if parameter is None:
        got = f"{name}, whose weight is made from others (a parametrization, or pruning)"
        raise ArgumentError("weight_bits", "weights that are Parameters", got, "Make it permanent first")
    return parameter
