"""A network of single steps over a whole sequence at once, layer by layer.

A time loop calls every layer once per step on a batch of B. Where nothing flows back in time, the same is had with one
call of the model on a batch of T B: layers without memory do not notice, and whatever has a memory, the neurons and the
delays, unfolds the time for itself.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from ..errors import ArgumentError, UnrollError, WiringError
from ..neurons.loops import compiled_loops
from ..surgery import by_example as flow
from ..surgery.dataflow import preserved, trace
from ..surgery.delayed import Delayed, StatefulDelayed
from ..surgery.find import named_delays, reset_delays
from ..surgery.inventory import Network
from ..toolkits import plugins
from ..toolkits.capabilities import streams
from ..toolkits.vocabulary import Mode, TimeInside, Turns
from .loop import over_time

_NORMS = nn.modules.batchnorm._NormBase


def unroll(model: nn.Module, x: Tensor, *, check: bool = True, compile: bool = False) -> Any:
    """Run a feed-forward network over a whole sequence, layer by layer, from a fresh state.

    Equal to the model's own time loop, or to yours around it, and much faster: layers without memory run once over all
    steps, delays by their sequence engine, neurons by their toolkit's way over a sequence. Batch norm in training takes
    its statistics step by step, as in the loop. The model is left in a fresh state.

    Args:
        model: takes one step (B, ...), with neurons that keep their state or with a `state` that its forward passes on;
            or a sequence (T, B, ...) over which its forward has a loop.
        x: (T, B, ...).
        check: for a model with a forward of its own, compare with its own loop on a few steps of two samples: what
            flows back in time, or changes states between steps, cannot be seen otherwise. Costs what these steps cost.
        compile: compile the neurons' loops over the time (`torch.compile`), where their toolkit has no faster way of
            its own: some seconds at the first call for each neuron, a fraction of the loop's time at all others.

    Returns:
        What the model gives for each step, (T, B, ...), or a tuple of that; without the state.

    Raises:
        UnrollError: the network is not feed-forward, or keeps time in a way that cannot be unrolled, with the reason.
        WiringError: the model has no neurons of an installed toolkit.
        ArgumentError: x is not a sequence.
    """
    if not isinstance(x, Tensor) or x.dim() < 2 or x.shape[0] == 0:
        raise ArgumentError(
            "x", "a sequence (T, B, ...)", tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        )
    _, toolkit = plugins.toolkit_of(model.modules())
    network = Network(model, toolkit)
    modes = {toolkit.mode(neuron) for neuron in network.neurons.values()}
    if modes == {Mode.SEQUENCE}:
        return _fresh(network, lambda: _without_state(model, model(x)))
    if Mode.SEQUENCE in modes:
        raise UnrollError("some neurons take steps and others sequences: run the model as it is")
    _check_layers(network)
    own_forward = any(not network.in_order(module) for _, module in _containers(network))
    loops = own_forward and has_loop(network, x)
    if check and own_forward:
        # Long enough that what a delay holds back arrives.
        longest = max((delay.max_delay for _, delay in named_delays(model)), default=0)
        _compare(network, x[: 3 + longest, :2], loops)
    with compiled_loops(compile):
        return _unrolled(network, x, loops)


def _unrolled(network: Network, x: Tensor, loops: bool) -> Any:
    steps, batch = x.shape[:2]
    folded = x.flatten(0, 1)
    with _patched(network, steps):
        try:
            out = _fresh(network, lambda: _call(network, folded.unsqueeze(0) if loops else folded))
        except UnrollError:
            raise
        except Exception as error:
            raise UnrollError(f"the model does not run on all steps at once: {error!r}") from error

    def unfold(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        value = value.squeeze(0) if loops and value.dim() > 1 and value.shape[0] == 1 else value
        if value.dim() == 0 or value.shape[0] != steps * batch:
            raise UnrollError(
                f"what the model gives, {tuple(value.shape)}, does not have one entry per step and sample"
            )
        return value.unflatten(0, (steps, batch))

    return tree_map(unfold, out)


def _call(network: Network, x: Tensor) -> Any:
    return _without_state(network.model, network.model(x))


def _without_state(model: nn.Module, out: Any) -> Any:
    return out[0] if passes_state(model) else out


def passes_state(model: nn.Module) -> bool:
    """Whether a model takes its state as an argument of that name, and gives the next one with its output."""
    return "state" in inspect.signature(model.forward).parameters


def _fresh(network: Network, run: Callable[[], Any]) -> Any:
    """Run from a fresh state, and leave one."""

    def reset() -> None:
        reset_delays(network.model)
        for module in network.modules.values():
            streams(network.toolkit).reset(module)

    reset()
    try:
        return run()
    finally:
        reset()


# ---------------------------------------------------------------------------------------------- the time loop


def _loop(network: Network, x: Tensor, loops: bool) -> Any:
    """The user's own loop."""
    model = network.model
    if loops:
        return _fresh(network, lambda: _call(network, x))

    def run() -> Any:
        state, outputs = None, []
        for x_t in x.unbind(0):
            if passes_state(model):
                out, state = model(x_t, state)
            else:
                out = model(x_t)
            outputs.append(out)
        return _stacked(outputs)

    return _fresh(network, run)


def has_loop(network: Network, x: Tensor) -> bool:
    """Whether the model takes sequences: then its neurons run once for each step of them."""
    calls = [0]
    neuron = next(iter(network.neurons.values()))
    handle = neuron.register_forward_pre_hook(lambda *_: calls.__setitem__(0, calls[0] + 1))
    found = []
    try:
        with preserved(network.model), torch.no_grad():
            network.model.eval()
            for steps in (1, 2):
                calls[0] = 0
                part = x[:1, :1].expand(steps, *x[0, :1].shape)
                try:
                    _fresh(network, lambda part=part: network.model(part))  # type: ignore[misc]
                except Exception:
                    return False  # it cannot take a sequence
                found.append(calls[0])
    finally:
        handle.remove()
    return found[1] == 2 * found[0]


@torch.no_grad()
def _compare(network: Network, x: Tensor, loops: bool) -> None:
    """Raise UnrollError unless both ways give the same on a short sequence, in which nothing goes back in time."""
    model = network.model
    with preserved(model):
        model.eval()
        try:
            traced = trace(model, lambda _: _loop(network, x, loops), network.layers, network.neurons, lambda _: False)
        except WiringError as error:
            raise UnrollError(f"its own loop over x alone fails: {error}") from error
        back = flow.fed_back(traced)
        if back:
            raise UnrollError(f"{back[1]} is given what {back[0]} gave in the step before: run the model step by step")
        looped, unrolled = _loop(network, x, loops), _unrolled(network, x, loops)
        pairs = zip(tree_leaves(looped), tree_leaves(unrolled), strict=True)
        equal = all(a.shape == b.shape and torch.allclose(a, b, atol=1e-4, rtol=1e-4) for a, b in pairs)
    if not equal:
        raise UnrollError(
            "layer by layer the model does not give what its time loop gives: something flows back in time, or a state "
            "is changed between steps. Run it step by step"
        )


def _stacked(outputs: list[Any]) -> Any:
    return tree_map(lambda *values: torch.stack(values) if isinstance(values[0], Tensor) else values[-1], *outputs)


# ------------------------------------------------------------------------------------------------ the modules


def _containers(network: Network) -> Iterator[tuple[str, nn.Module]]:
    """The modules that are neither a layer, a neuron, nor inside of one, and have children."""
    for name, module in network.modules.items():
        known = name in network.layers or name in network.neurons or network.belongs(name)
        if not known and any(module.children()):
            yield name, module


def _check_layers(network: Network) -> None:
    for name, module in network.modules.items():
        if network.own_weights.recurrent_layer(module) is not None:
            raise UnrollError(
                f"{name or 'the model'} ({type(module).__name__}) feeds its spikes back: run it step by step"
            )
        if isinstance(module, Delayed) and module.delay_place.turns is not Turns.TOGETHER:
            raise UnrollError(f"{name} runs over the time in another way than its neuron: run the model as it is")
        if network.containers.time_inside(module) != TimeInside.SAME:
            raise UnrollError(f"{name} ({type(module).__name__}) has a time of its own: run the model as it is")


@contextmanager
def _patched(network: Network, steps: int) -> Iterator[None]:
    """Within the block, whatever has a memory takes all steps folded into the batch."""
    with ExitStack() as stack:
        for name, module in network.modules.items():
            if name in network.neurons:
                stack.enter_context(_replaced(module, _neuron(network, name, module, steps)))
            elif isinstance(module, Delayed):
                stack.enter_context(_replaced(module, _delay(module, steps)))
            elif streams(network.toolkit).remembers(module) or (isinstance(module, _NORMS) and module.training):
                stack.enter_context(_replaced(module, _by_steps(module, steps)))
        yield


@contextmanager
def _replaced(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    module.__dict__["forward"] = forward
    try:
        yield
    finally:
        del module.__dict__["forward"]


def _neuron(network: Network, name: str, neuron: nn.Module, steps: int) -> Callable[..., Any]:
    toolkit, plain, called = network.toolkit, neuron.forward, []

    def forward(x: Tensor, *state: Any, **more: Any) -> Any:
        called.append(name)
        if len(called) > 1:
            raise UnrollError(f"{name} runs more than once: the model has a loop that is not over its input")
        passed = toolkit.passed_state(neuron, (x, *state), more)
        if passed and any(bool(tensor.any()) for tensor in passed):
            raise UnrollError(f"{name} starts from a state of its own: run the model step by step")
        out = over_time(toolkit, neuron, plain, x.unflatten(0, (steps, -1)))
        return tree_map(lambda value: value.flatten(0, 1) if isinstance(value, Tensor) else value, out)

    return forward


def _delay(layer: Any, steps: int) -> Callable[..., Any]:
    def forward(x: Any, *_: Any) -> Any:
        y = layer.delayed_sequence(x, steps)
        return (y, None) if isinstance(layer, StatefulDelayed) else y

    return forward


def _by_steps(module: nn.Module, steps: int) -> Callable[..., Any]:
    plain = module.forward

    def forward(x: Tensor, *args: Any) -> Any:
        return torch.cat([plain(x_t, *args) for x_t in x.unflatten(0, (steps, -1)).unbind(0)])

    return forward
