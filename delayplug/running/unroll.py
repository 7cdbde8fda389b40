"""A network of single steps over a whole sequence at once, layer by layer.

A time loop calls every layer once per step on a batch of B. Where nothing flows back in time, one call of the model on
a batch of T B computes the same: to layers without memory it is a batch, and whatever has a memory, the neurons and the
delays, has its forward replaced by one that unfolds the time.

Shapes: T steps, B batch.
"""

import functools
from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from ..errors import ArgumentError, UnrollError, WiringError
from ..layers.checks import check_count
from ..neurons.fused import fuses, run_fused
from ..neurons.loops import compiled_loops
from ..surgery.by_example import fed_back
from ..surgery.dataflow import preserved, trace
from ..surgery.delayed import Delayed, StatefulDelayed
from ..surgery.fits import warn_of_short_sequence
from ..surgery.inventory import Network
from ..surgery.patch import replaced_forward
from ..surgery.resolve import not_empty
from ..toolkits import plugins
from ..toolkits.capabilities import FusedNeurons, dynamics, streams
from ..toolkits.states import tensors_in
from ..toolkits.vocabulary import Mode, TimeInside, Turns
from .constant_loop import OnePass, shape_explained
from .fingerprint import fingerprint
from .loop import Continuing, Forward, call, calls_of_neurons, from_fresh_state, has_loop, over_time, step_by_step
from .selfcheck import agree, longest_delay
from .time_first import time_must_come_first

_NORMS = nn.modules.batchnorm._NormBase
# Whether models loop by themselves, by how they looked when that was found out, and whether they were checked.
_looked_at: "WeakKeyDictionary[nn.Module, dict[Hashable, bool]]" = WeakKeyDictionary()
_MOST_KEYS = 16


def unroll(model: nn.Module, x: Tensor, *, steps: int | None = None, check: bool = True, compile: bool = False) -> Any:
    """Run a feed-forward network over a whole sequence, layer by layer, from a fresh state.

    Equal to the model's own time loop, or to yours around it, and much faster: layers without memory run once over all
    steps, delays by their sequence engine, neurons in one kernel for all steps (on a GPU, those that their toolkit
    describes), by their toolkit's way over a sequence, or in a loop. Batch norm in training takes
    its statistics step by step, as in the loop. The model is in a fresh state afterwards.

    Args:
        model: takes one step (B, ...), with neurons that hold their state or with a `state` that its forward passes on;
            or a sequence (T, B, ...) over which its forward has a loop.
        x: (T, B, ...); with `steps`, the input (B, ...) that every step has.
        steps: T, for an input that is the same at every step, such as an image: of a model that takes one step, or one
            whose forward has the loop, `for step in range(T)`, over its input.
        check: for a model with a forward of its own, compare with its own loop on a few steps of two samples: a value
            that flows back in time, or a state that is changed between steps, does not show otherwise. Costs what these
            steps cost, at the first call; and again after anything of the model has changed but the values of its
            tensors. What its forward takes from outside of the model, such as a global variable, is not seen.
        compile: compile the neurons' loops over time (`torch.compile`), where their toolkit has no faster way of
            its own: some seconds at the first call for each neuron, a fraction of the loop's time at all others.

    Returns:
        The output of the model for each step, (T, B, ...), or a container of that; without the state. With a loop over
        one input in its forward, what that returns.

    Raises:
        UnrollError: the network is not feed-forward, or its modules do not share one time axis, with the reason.
        WiringError: the model has no neurons of an installed toolkit.
        ArgumentError: x is not a sequence, or `steps` no number of them.
    """
    if steps is not None:
        check_count("steps", steps, 1)
        if isinstance(x, Tensor) and x.dim():
            return _constant(model, x, steps, check=check, compile=compile)
    if not isinstance(x, Tensor) or x.dim() < 2 or x.shape[0] == 0:
        raise ArgumentError(
            "x", "a sequence (T, B, ...)", tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        )
    if isinstance(model, Continuing):
        return model(x)  # it runs layer by layer by itself
    _, toolkit = plugins.toolkit_of(model.modules())
    warn_of_short_sequence(model, x.shape[0], stacklevel=2)
    network = Network(model, toolkit)
    modes = {toolkit.mode(neuron) for neuron in network.neurons.values()}
    if modes == {Mode.SEQUENCE}:
        return from_fresh_state(network, lambda: _whole(network, x))
    if Mode.SEQUENCE in modes:
        raise UnrollError("some neurons take steps and others sequences: run the model as it is")
    _check_layers(network)
    own_forward = any(not network.in_order(module) for module in _containers(network))
    if not own_forward:
        with shape_explained(network, x), compiled_loops(compile):
            return _unrolled(network, x, loops=False)
    known, key = _looked_at.setdefault(model, {}), _key(network, x, check)
    is_known = key in known
    with shape_explained(network, x), time_must_come_first(network, x, UnrollError):
        loops = known[key] if is_known else _looked(network, x, check)
        with compiled_loops(compile):
            out = _unrolled(network, x, loops)
    # What neurons hold in a fresh state may look otherwise once they have run.
    for looked in () if is_known else (key, _key(network, x, check)):
        while len(known) >= _MOST_KEYS:
            del known[next(iter(known))]
        known[looked] = loops
    return out


def _constant(model: nn.Module, x: Tensor, steps: int, *, check: bool, compile: bool) -> Any:
    """`unroll` of a model that has the same input (B, ...) at all steps."""
    network = Network(model, plugins.toolkit_of(model.modules())[1])
    sequence = x.unsqueeze(0).expand(steps, *x.shape)
    if any(network.toolkit.mode(neuron) is not Mode.STEP for neuron in network.neurons.values()):
        return unroll(model, sequence, check=check, compile=compile)
    known, key = _looked_at.setdefault(model, {}), (steps, *_key(network, sequence, check))
    is_known = key in known
    if is_known:
        loops = known[key]
    else:
        calls = calls_of_neurons(network, x[:1]) or 0
        if calls > 1 and calls != steps:
            raise UnrollError(f"the loop of the model has {calls} steps over this input, and steps={steps}")
        loops = calls == steps > 1
    if not loops:
        out = unroll(model, sequence, check=check, compile=compile)
    else:
        _check_layers(network)
        if check and not is_known:
            _check_constant(network, x[:2], steps)
        with compiled_loops(compile):
            out = _one_pass(network, x, steps)
    for looked in () if is_known else (key, (steps, *_key(network, sequence, check))):
        known[looked] = loops
    return out


def _one_pass(network: Network, x: Tensor, steps: int) -> Any:
    """The output of a model with a loop over one input (B, ...)."""
    passed = dict[str, list[Tensor]]()
    once = OnePass(steps, x.shape[0], network.neurons)
    folded = x.unsqueeze(0).expand(steps, *x.shape).flatten(0, 1)

    def run() -> Any:
        with ExitStack() as stack:
            for module in network.modules.values():
                if isinstance(module, Delayed) and not isinstance(module, StatefulDelayed):
                    stack.enter_context(module.delay_memory.carry(None))  # it is not to look at what the loop passes on
            stack.enter_context(once)
            return call(network.model, folded)[0]

    with _patched(network, steps, passed, once.once):
        try:
            out = from_fresh_state(network, run)
            _check_beginnings(passed)
        except UnrollError:
            raise
        except Exception as error:
            raise UnrollError(f"the model does not run on all steps at once: {error!r}") from error
    return once.result(out)


@torch.no_grad()
def _check_constant(network: Network, x: Tensor, steps: int) -> None:
    """Raise UnrollError unless a loop over one input (B, ...) and the unrolled model agree."""
    with preserved(network.model):
        network.model.eval()
        expected = from_fresh_state(network, lambda: call(network.model, x)[0])
        if not agree(expected, _one_pass(network, x, steps)):
            raise UnrollError(
                "layer by layer the model does not give what its own loop over one input gives: a value of one step is "
                "used in another one, or what the steps give is not collected in a list and stacked. Run it as it is"
            )


def _key(network: Network, x: Tensor, check: bool) -> tuple[Hashable, ...]:
    """What a model is looked at once for."""
    return x.shape[2:], min(x.shape[1], 2), x.dtype, x.device, check, fingerprint(network.model, network.neurons)


def _looked(network: Network, x: Tensor, check: bool) -> bool:
    """Whether the model loops by itself; checked if wanted."""
    loops = has_loop(network, x)
    if check:
        piece = x[: 3 + longest_delay(network.model), :2]  # long enough for the last delayed value to arrive
        _check(network, piece, loops)
    return loops


def _unrolled(network: Network, x: Tensor, loops: bool) -> Any:
    steps, batch = x.shape[:2]
    folded = x.flatten(0, 1)
    folded = folded.unsqueeze(0) if loops else folded
    passed = dict[str, list[Tensor]]()  # the states that neurons were passed, by the neuron's name
    with _patched(network, steps, passed):
        try:
            out = from_fresh_state(network, lambda: call(network.model, folded)[0])
            _check_beginnings(passed)
        except UnrollError:
            raise
        except Exception as error:
            raise UnrollError(f"the model does not run on all steps at once: {error!r}") from error

    def unfold(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        value = value.squeeze(0) if loops and value.dim() > 1 and value.shape[0] == 1 else value
        if value.dim() == 0 or value.shape[0] != steps * batch:
            raise UnrollError(f"the model's output, {tuple(value.shape)}, does not have one entry per step and sample")
        return value.unflatten(0, (steps, batch))

    return tree_map(unfold, out)


def _check_beginnings(passed: dict[str, list[Tensor]]) -> None:
    """Raise UnrollError if a state that was passed has anything but zeros: each has its own, from which it starts."""
    names = [name for name, states in passed.items() for _ in states]
    if not names or (torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()):
        return  # a graph is captured after the same was run and checked
    flags = torch.stack([state.detach().any() for states in passed.values() for state in states])
    for name, flag in zip(names, flags.tolist(), strict=True):  # the only place that waits for the device
        if flag:
            raise UnrollError(f"{name} starts from a state of its own: run the model step by step")


def _looped(network: Network, x: Tensor, loops: bool) -> Any:
    """The output of the user's own loop, in the model's forward or around it."""
    step = functools.partial(call, network.model)
    return from_fresh_state(network, lambda: (step(x) if loops else step_by_step(step, x))[0])


@torch.no_grad()
def _check(network: Network, x: Tensor, loops: bool) -> None:
    """Raise UnrollError unless the loop and the unrolled model agree on a short sequence, and no value flows back."""
    model = network.model
    with preserved(model):
        model.eval()
        try:
            flow = trace(model, lambda _: _looped(network, x, loops), network.layers, network.neurons, lambda _: False)
        except WiringError as error:
            raise UnrollError(f"its own loop over x alone fails: {error}") from error
        back = fed_back(flow)
        if back:
            raise UnrollError(f"{back[1]} takes the output of {back[0]} in the step before: run the model step by step")
        if not agree(_looped(network, x, loops), _unrolled(network, x, loops)):
            raise UnrollError(
                "layer by layer the model does not give what its time loop gives: something flows back in time, or a "
                "state is changed between steps. Run it step by step"
            )


# ------------------------------------------------------------------------------------------------ the modules


def _containers(network: Network) -> Iterator[nn.Module]:
    """The modules that are neither a layer, a neuron, nor inside of one, and have children."""
    for name, module in network.modules.items():
        known = name in network.layers or name in network.neurons or network.belongs(name)
        if not known and any(module.children()):
            yield module


def _check_layers(network: Network) -> None:
    """Raise UnrollError for a module that shows by itself that the model cannot be unrolled."""
    for name, module in network.modules.items():
        if network.own_weights.recurrent_layer(module) is not None:
            raise UnrollError(
                f"{name or 'the model'} ({type(module).__name__}) feeds its spikes back: run it step by step"
            )
        if isinstance(module, Delayed) and module.delay_place.turns is not Turns.TOGETHER:
            raise UnrollError(f"{name} runs over time in another way than its neuron: run the model as it is")
        if network.containers.time_inside(module) != TimeInside.SAME:
            raise UnrollError(f"{name} ({type(module).__name__}) has a time of its own: run the model as it is")


@contextmanager
def _patched(
    network: Network,
    steps: int,
    passed: dict[str, list[Tensor]],
    wrap: Callable[[str, Forward], Forward] = lambda _, forward: forward,
) -> Iterator[None]:
    """Within the block, whatever has a memory takes all steps folded into the batch; `wrap` takes its name, too."""
    with ExitStack() as stack:
        for name, module in network.modules.items():
            if name in network.neurons:
                forward = _neuron(network, name, module, steps, passed)
            elif isinstance(module, Delayed):
                forward = _delay(module, steps)
            elif streams(network.toolkit).remembers(module) or (isinstance(module, _NORMS) and module.training):
                forward = _by_steps(module, steps)
            else:
                continue
            stack.enter_context(replaced_forward(module, wrap(name, forward)))
        yield


def _whole(network: Network, x: Tensor) -> Any:
    """The output of a model whose neurons take sequences; they run in kernels where they can."""
    with ExitStack() as stack:
        for neuron in network.neurons.values():
            if "forward" not in vars(neuron) and fuses(dynamics(network.toolkit, neuron), x.device):
                stack.enter_context(replaced_forward(neuron, _sequence(network, neuron)))
        return call(network.model, x)[0]


def _sequence(network: Network, neuron: nn.Module) -> Forward:
    toolkit, plain = network.toolkit, neuron.forward

    def forward(x: Tensor, *args: Any, **more: Any) -> Any:
        goes_on = any(value is not None for value in (*args, *more.values())) or tensors_in(toolkit.held_state(neuron))
        activity = None if goes_on else run_fused(dynamics(toolkit, neuron), x)
        if activity is None or not isinstance(toolkit, FusedNeurons):
            return plain(x, *args, **more)
        return toolkit.fused_output(neuron, activity)

    return forward


def _neuron(network: Network, name: str, neuron: nn.Module, steps: int, passed: dict[str, list[Tensor]]) -> Forward:
    toolkit, plain, called = network.toolkit, neuron.forward, False

    def forward(x: Tensor, *state: Any, **more: Any) -> Any:
        nonlocal called
        if called:
            raise UnrollError(
                f"{name} runs more than once: the model has a loop that is not over its input. If it has one input "
                "(B, ...) for all steps, use unroll(model, x, steps=...)"
            )
        called = True
        passed[name] = not_empty(toolkit.passed_state(neuron, (x, *state), more) or ())
        out = over_time(toolkit, neuron, plain, x.unflatten(0, (steps, -1)))
        return tree_map(lambda value: value.flatten(0, 1) if isinstance(value, Tensor) else value, out)

    return forward


def _delay(layer: Delayed, steps: int) -> Forward:
    def forward(x: Any, *_: object) -> Any:
        y = layer.delayed_sequence(x, steps)
        return (y, None) if isinstance(layer, StatefulDelayed) else y

    return forward


def _by_steps(module: nn.Module, steps: int) -> Forward:
    plain = module.forward

    def forward(x: Tensor, *args: Any) -> Tensor:
        y: Tensor = step_by_step(lambda x_t, _: (plain(x_t, *args), None), x.unflatten(0, (steps, -1)))[0]
        return y.flatten(0, 1)

    return forward
