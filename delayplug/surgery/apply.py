"""Putting delays into a user's network, in place, and taking them out again."""

import warnings
from collections.abc import Mapping
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from ..errors import ArgumentError, WiringError, did_you_mean
from ..layers.base import DelayLayer
from ..layers.checks import check_delays
from ..layers.conv import Convolution, KernelDelay
from ..layers.engines.convolve import Engine
from ..layers.linear import LearnableDelay
from ..layers.options import KernelOptions, LearnSigma, check_engine
from ..layers.taps import Interpolation
from ..toolkits import plugins
from ..toolkits.capabilities import containers
from ..toolkits.vocabulary import Granularity
from .called import ModelWatch, watch_of
from .dataflow import Example, drive, preserved
from .delayed import StatefulDelayed, attach, undo
from .find import delayed_layers
from .plan import Connection, Plan, plan_delays
from .sequence import Memory
from .verdict import HAS_DELAYS, Filter

Init = str | float | Mapping[str, float | Tensor]


def add_delays(
    model: nn.Module,
    max_delay: int,
    *,
    example: Example | None = None,
    granularity: Granularity | str = Granularity.SYNAPTIC,
    interpolation: Interpolation = "gauss",
    sigma: float | None = None,
    learn_sigma: LearnSigma = False,
    init: Init = "uniform",
    round_in_eval: bool = True,
    filter_fn: Filter | None = None,
    recurrent: bool = False,
    backend: str | None = None,
    engine: Engine = "auto",
) -> nn.Module:
    """Give the connections of a network learnable delays, in place.

    The layers stay the user's own: names, weight and bias Parameters, `isinstance` and state-dict keys are unchanged,
    and each gets a child `delay`, a `LearnableDelay`. `plan_delays` shows beforehand which ones; everything is checked
    before anything is changed.

    Args:
        model: a network of snnTorch, Norse, SpikingJelly, or another installed backend.
        max_delay: the largest delay, in steps.
        example, granularity, filter_fn, recurrent, backend: as for `plan_delays`. With an example the delayed model is
            run on it once; if that fails, or if a delay does not run, the model is put back.
        interpolation, sigma, learn_sigma, round_in_eval, engine: as for `LearnableDelay`.
        init: delays to begin with, in steps: "uniform" in 0..max_delay, a number, or a mapping from names of layers
            to a number or a tensor of the shape of the delays, (out, in, 1) per synapse or (channels,); layers that
            it leaves out are uniform. Those of convolutions have the shape of the weight and a last 1.

    Returns:
        The model itself.

    Raises:
        WiringError: there is nothing to delay, or the delayed model does not run on the example.
        ArgumentError: an argument is not what it should be, or `init` names a layer that gets no delay.
        BackendError: the toolkit cannot be used.
    """
    plan = plan_delays(
        model, example, granularity=granularity, filter_fn=filter_fn, recurrent=recurrent, backend=backend
    )
    if not plan.connections:
        _nothing_to_do(plan)
        return model
    options = KernelOptions(interpolation, sigma, learn_sigma, round_in_eval=round_in_eval, engine=engine)
    delays = {c.layer: _make(model, c, max_delay, options) for c in plan.connections}
    _initialise(delays, init)
    toolkit = plugins.toolkit(plan.backend)
    watch = watch_of(model) or ModelWatch()
    for c in plan.connections:
        if c.container is not None:
            containers(toolkit).set_stateful(model.get_submodule(c.container), c.layer.rpartition(".")[2], True)
        memory = attach(
            model.get_submodule(c.layer),
            delays[c.layer],
            model.get_submodule(c.neuron),
            toolkit,
            c.place,
            stateful=c.container is not None,
            fold=None if c.fold is None else model.get_submodule(c.fold),
        )
        watch.memories.append(memory)
    if watch_of(model) is None:
        watch.attach(model)
    if example is not None:
        _verify(model, example, [c.layer for c in plan.connections])
    watch.plans.append(plan)
    return model


def remove_delays(model: nn.Module) -> nn.Module:
    """Take all delays out again, in place: types, keys and hooks are as before `add_delays`. Returns the model."""
    _take_out(model, {name for name, _ in delayed_layers(model)})
    return model


def _nothing_to_do(plan: Plan) -> None:
    reasons = "\n".join(f"  {skipped.layer}: {skipped.reason}" for skipped in plan.skipped)
    if any(skipped.reason == HAS_DELAYS for skipped in plan.skipped):
        warnings.warn(f"the model has delays already; nothing was changed\n{reasons}", stacklevel=3)
        return
    if not plan.skipped:
        raise WiringError(
            f"nothing to delay: the model has {plan.backend} neurons, but no layer with weights feeds them"
        )
    raise WiringError(f"nothing to delay: no layer of the model qualifies\n{reasons}")


def _make(model: nn.Module, c: Connection, max_delay: int, options: KernelOptions) -> DelayLayer:
    layer = model.get_submodule(c.layer)
    if hasattr(layer, "delay"):
        raise WiringError(
            f"{c.layer} has an attribute 'delay' of its own; rename it, or leave the layer out with filter_fn"
        )
    weights = c.place.weights_of(layer)
    like = next((p for p in (getattr(weights, "weight", None), *weights.parameters()) if isinstance(p, Tensor)), None)
    device, dtype = (None, None) if like is None else (like.device, like.dtype)
    delay: DelayLayer
    if c.granularity is Granularity.SYNAPTIC and isinstance(weights, Convolution):
        check_engine(options.engine, "convolution", f"{c.layer} is one")
        delay = KernelDelay(
            weights,
            max_delay=max_delay,
            interpolation=options.interpolation,
            sigma=options.sigma,
            learn_sigma=options.learn_sigma,
            round_in_eval=options.round_in_eval,
            device=device,
            dtype=dtype,
        )
    else:
        channels = c.out_features if c.granularity is Granularity.DENDRITIC else c.in_features
        delay = LearnableDelay(
            channels,
            c.out_features if c.granularity is Granularity.SYNAPTIC else None,
            max_delay=max_delay,
            weight=False,
            interpolation=options.interpolation,
            sigma=options.sigma,
            learn_sigma=options.learn_sigma,
            round_in_eval=options.round_in_eval,
            engine=options.engine,
            device=device,
            dtype=dtype,
        )
    delay.layer_name = c.layer
    return delay.train(layer.training)


def _initialise(delays: dict[str, DelayLayer], init: Init) -> None:
    if not isinstance(init, Mapping):
        for delay in delays.values():
            delay.reset_parameters(init)
        return
    unknown = sorted(set(init) - set(delays))
    if unknown:
        raise ArgumentError(
            "init", f"names among {', '.join(delays)}", ", ".join(unknown), did_you_mean(unknown[0], delays)
        )
    for name, value in init.items():
        delay = delays[name]
        if not isinstance(value, Tensor):
            delay.reset_parameters(value)
            continue
        if value.shape != delay.delays.shape:
            raise ArgumentError(f"init[{name!r}]", f"shape {tuple(delay.delays.shape)}", tuple(value.shape))
        check_delays(value, delay.max_delay, f"init[{name!r}]")
        with torch.no_grad():
            delay.delays.copy_(value)


def _verify(model: nn.Module, example: Example, names: list[str]) -> None:
    """Run the delayed model on the example, and see that every delay runs."""
    idle = set(names)
    try:
        with preserved(model), ExitStack() as stack:
            for name in names:
                # The hook is on the layer, not on its delay, which may also run when the layer's own forward does not.
                layer = model.get_submodule(name)
                stack.enter_context(layer.register_forward_pre_hook(lambda *_, name=name: idle.discard(name)))
            drive(model, example)
        if idle:
            raise WiringError(f"the delays of {', '.join(sorted(idle))} did not run")
    except Exception as error:
        _take_out(model, set(names))
        raise WiringError(f"the delayed model does not run on the example, and was put back: {error}") from error


def _take_out(model: nn.Module, names: set[str]) -> None:
    for name, layer in list(delayed_layers(model)):
        if name not in names:
            continue
        if isinstance(layer, StatefulDelayed):
            parent, _, child = name.rpartition(".")
            containers(layer.delay_memory.toolkit).set_stateful(model.get_submodule(parent), child, False)
        for root in model.modules():  # delays may have been added to parts of the model one by one
            _unwatch(root, layer.delay_memory)
        undo(layer, model)


def _unwatch(root: nn.Module, memory: Memory) -> None:
    watch = watch_of(root)
    if watch is None or memory not in watch.memories:
        return
    watch.memories.remove(memory)
    if not watch.memories:
        watch.detach(root)
