"""A network while its input comes in: one step or a few at a time, with all that it remembers in one explicit state.

A stream does not leave its state on the model. For each push the neurons and delays are given what the stream carries,
the model runs, what they keep is taken back, and the model has again what it had: several streams can share it, and
its own state, if somebody else is in the middle of a sequence, is not lost.

Shapes: T steps, B batch.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from ..errors import ArgumentError, BackendBrokenError, DelayplugError, SequenceError, WiringError
from ..layers.base import DelayLayer, DelayState
from ..surgery.dataflow import preserved
from ..surgery.delayed import Delayed, StatefulDelayed
from ..surgery.find import named_delays
from ..surgery.inventory import Network
from ..toolkits import plugins
from ..toolkits.capabilities import Streams, streams
from ..toolkits.states import Leaf, from_leaves, tensors_in, to_leaves, with_own_containers
from ..toolkits.toolkit import Toolkit
from ..toolkits.vocabulary import Mode
from .unroll import has_loop, passes_state

_MOST_ELEMENTS = 1 << 28  # of a step that a saved state may ask for
_FLIPPED = 0.005  # of what is not zero: what may differ between steps one by one and a sequence

Advance = Callable[[Any, Tensor, Any], tuple[Any, Any]]
Start = Callable[[Any], Any]


@dataclass(frozen=True)
class _Carried:
    """All that a network remembers between two pushes.

    delays: what is under way, by the name of the layer; kept: what modules keep on themselves, by their names; user:
    what the caller of the model carries.
    """

    delays: dict[str, DelayState] = field(default_factory=dict)
    kept: dict[str, dict[str, Any]] = field(default_factory=dict)
    user: Any = None


class Stream:
    """What `stream` returns. Pushing a sequence in any parts gives what the network gives for the whole of it.

    Equal to rounding, since sums over delays are made in another order than over a sequence: to the bit where the parts
    are the same. Memory is that of one part and of the state, however long the stream; no graph is kept.

    Attributes:
        model: the network.
        steps: how many were pushed since the beginning.
    """

    def __init__(self, model: nn.Module, advance: Advance | None, start: Start | None, check: bool) -> None:
        self.model, self.steps = model, 0
        self._toolkit = _toolkit_of(model)
        self._advance_by, self._start, self._check_wanted = advance, start, check
        self._whole: bool | None = None if advance is None else True  # whether a call of it is a sequence
        self._carried: _Carried | None = None
        self._like: Tensor | None = None  # a step of what is pushed, without its memory
        self._checked = False

    def push(self, x: Tensor) -> Any:
        """One step.

        Args:
            x: (B, ...), without a dimension of time.

        Returns:
            What the network gives for it, without a dimension of time; without the state.

        Raises:
            SequenceError: the network does not go on from a state, with the reason.
            ArgumentError: x is no tensor, or of another shape than before; or the model is in training.
        """
        if not isinstance(x, Tensor):
            raise ArgumentError("x", "a tensor, one step (B, ...)", type(x).__name__)
        return tree_map(lambda y: y.squeeze(0) if isinstance(y, Tensor) else y, self.push_chunk(x.unsqueeze(0)))

    def push_chunk(self, x: Tensor) -> Any:
        """Some steps at once; equal to pushing them one by one, and faster where the network runs over sequences.

        Args:
            x: (T, B, ...).

        Returns:
            What the network gives for each step, (T, B, ...), or a tuple, list or dictionary of that.

        Raises:
            SequenceError, ArgumentError: as `push`.
        """
        self._look_at(x)
        y, carried = self._run(self._carried, x)
        for part in tree_leaves(y):
            if isinstance(part, Tensor) and (part.dim() == 0 or part.shape[0] != x.shape[0]):
                raise SequenceError(
                    f"the model gives {tuple(part.shape)} for {x.shape[0]} steps: a stream needs one for each"
                )
        self._carried, self.steps = carried, self.steps + x.shape[0]
        return y

    def reset(self) -> None:
        """The next push begins a sequence, of any batch."""
        self._carried, self._like, self.steps = None, None, 0

    def state(self) -> dict[str, Any]:
        """What `restore` needs to go on from here, in this process or in another: a copy.

        A plain dictionary of tensors, numbers and text, which `torch.save` writes and `torch.load` reads with
        `weights_only=True`.

        Raises:
            ArgumentError: the network carries something that is no tensor, number or container of them.
        """
        if self._carried is None or self._like is None:
            return {"steps": 0, "shape": [], "dtype": "", "state": {}}
        like = self._like
        return {
            "steps": self.steps,
            "shape": list(like.shape),
            "dtype": str(like.dtype).removeprefix("torch."),
            "state": to_leaves(self._carried),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave, for this network or another with the same layers and parameters.

        The network is run on one step without input, which shows what its state is made of.

        Raises:
            ArgumentError: it is no such state, or that of another network. The stream is as it was.
        """
        steps, like, leaves = _read(state)
        if like is None:
            self.reset()
            return
        like = like.to(self._device())
        try:
            self._look_at(like.unsqueeze(0), begin=True)
            with preserved(self.model):
                _, template = self._run(None, like.unsqueeze(0))
        except DelayplugError:
            raise
        except Exception as error:
            raise ArgumentError("state", "a step that the model runs on", f"{tuple(like.shape)}: {error}") from error
        carried = from_leaves(template, leaves)
        self._carried, self._like, self.steps = carried, _empty_like(like), steps

    # ------------------------------------------------------------------------------------------------ the run

    def _look_at(self, x: Any, begin: bool = False) -> None:
        """Check a part (T, B, ...), and the model on the first one."""
        if not isinstance(x, Tensor) or x.dim() < 2 or x.shape[0] == 0:
            raise ArgumentError("x", "steps (T, B, ...)", tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__)
        if self.model.training:
            raise ArgumentError("model", "a network in eval()", "one in training", "Call model.eval() first")
        if not begin and self._like is not None and (x.shape[1:] != self._like.shape or x.dtype != self._like.dtype):
            got = f"{tuple(x.shape[1:])} of {x.dtype}"
            expected = f"steps of shape {tuple(self._like.shape)} of {self._like.dtype}, as before"
            raise ArgumentError("x", expected, got, "Call reset() before another sequence")
        if self._whole is None:
            self._whole = self._takes_sequences(x)
        if self._check_wanted and not self._checked:
            self._check(x)
            self._checked = True
        if not begin and self._like is None:
            self._like = _empty_like(x[0])

    def _takes_sequences(self, x: Tensor) -> bool:
        if self._toolkit is None:
            return True  # layers of delays alone
        network = Network(self.model, self._toolkit)
        modes = {self._toolkit.mode(neuron) for neuron in network.neurons.values()}
        return Mode.SEQUENCE in modes or has_loop(network, x)

    def _advance(self, x: Tensor, state: Any) -> tuple[Any, Any]:
        if self._advance_by is not None:
            return self._advance_by(self.model, x, state)
        if self._whole:
            return self._call(x, state)
        outputs = []
        for x_t in x.unbind(0):
            y, state = self._call(x_t, state)
            outputs.append(y)
        return tree_map(lambda *ys: torch.stack(ys) if isinstance(ys[0], Tensor) else ys[-1], *outputs), state

    def _call(self, x: Tensor, state: Any) -> tuple[Any, Any]:
        if not passes_state(self.model):
            return self.model(x), None
        y, state = self.model(x, state=state)
        return y, state

    @torch.no_grad()
    def _run(self, carried: _Carried | None, x: Tensor) -> tuple[Any, _Carried]:
        """A part (T, B, ...) from what is carried, None at the beginning; what the model has itself is put aside."""
        modules = dict(self.model.named_modules())
        layers: dict[str, Any] = {
            n: m for n, m in modules.items() if isinstance(m, Delayed) and not isinstance(m, StatefulDelayed)
        }
        keepers = {
            n: m for n, m in modules.items() if self._toolkit is not None and streams(self._toolkit).kept_state(m)
        }
        with self._put_aside(keepers), ExitStack() as carrying:
            if carried is None:
                user = self._begin(keepers)
                delays: dict[str, DelayState] = {}
            else:
                delays, user = carried.delays, with_own_containers(carried.user)
                for name, module in keepers.items():
                    self._streams().put_state(module, carried.kept[name])
            for name, layer in layers.items():
                carrying.enter_context(layer.delay_memory.carry(delays.get(name)))
            with _alone(modules, delays) as after:
                y, user = self._advance(x, user)
            after |= {n: m.delay_memory.state for n, m in layers.items() if m.delay_memory.state is not None}
            kept = {name: self._streams().kept_state(module) for name, module in keepers.items()}
            return y, _Carried(after, kept, user)

    def _begin(self, keepers: dict[str, nn.Module]) -> Any:
        for module in keepers.values():
            keeper, own = self._streams(), self._streams().kept_state(module)
            # Some reset in place, and what the model has is only put aside.
            keeper.put_state(module, {n: v.clone() if isinstance(v, Tensor) else v for n, v in own.items()})
            keeper.reset(module)
        return None if self._start is None else self._start(self.model)

    @contextmanager
    def _put_aside(self, keepers: dict[str, nn.Module]) -> Iterator[None]:
        """Within the block, modules that keep a state may be given another one."""
        kept = {name: self._streams().kept_state(module) for name, module in keepers.items()}
        try:
            yield
        finally:
            for name, module in keepers.items():
                self._streams().put_state(module, kept[name])

    def _streams(self) -> Streams:
        assert self._toolkit is not None
        return streams(self._toolkit)

    def _device(self) -> torch.device:
        tensors = (*self.model.parameters(), *self.model.buffers())
        return tensors[0].device if tensors else torch.device("cpu")

    # ---------------------------------------------------------------------------------------------- the check

    def _check(self, x: Tensor) -> None:
        """Raise SequenceError unless single steps, each from the state that the last one left, are the sequence."""
        steps = 8 + max((delay.max_delay for _, delay in named_delays(self.model)), default=0)
        probe = x[:1].expand(steps, *x.shape[1:])
        if x.is_floating_point():
            # Steps of different loudness: a network that stays silent shows nothing.
            generator = torch.Generator().manual_seed(0)
            loud = 2 ** (6 * torch.rand(steps, *(1,) * (x.dim() - 1), generator=generator))
            probe = ((torch.rand(probe.shape, generator=generator) < 0.5) * loud).to(x)
        with preserved(self.model):
            whole, _ = self._run(None, probe)
            carried, parts = None, []
            for i, part in enumerate(probe.split(1)):
                with self._watched(carried) if i else ExitStack():
                    y, carried = self._run(carried, part)
                parts.append(y)
            equal = all(map(_equal, tree_leaves(whole), zip(*map(tree_leaves, parts), strict=True)))
        if not equal:
            raise SequenceError(
                "the model does not go on where it was: its steps one by one are not what it gives for a sequence. "
                "Something in its forward begins anew at each call, sees the whole sequence, or adds it up"
            )

    @contextmanager
    def _watched(self, carried: _Carried | None) -> Iterator[None]:
        """Within the block, a neuron that begins anew although it has a state to go on from is an error."""
        if self._toolkit is None or carried is None:
            yield
            return
        network, mine = Network(self.model, self._toolkit), tensors_in((carried.kept, carried.user))
        with ExitStack() as stack:
            for name, neuron in network.neurons.items():
                hook = _begins_anew(name, self._toolkit, carried.kept.get(name, {}), mine)
                handle = neuron.register_forward_pre_hook(hook, with_kwargs=True)
                stack.callback(handle.remove)
            yield


def _begins_anew(name: str, toolkit: Toolkit, kept: dict[str, Any], mine: list[Tensor]) -> Callable[..., None]:
    called = False

    def hook(neuron: nn.Module, args: Any, kwargs: Any) -> None:
        nonlocal called
        first, called = not called, True
        passed = toolkit.passed_state(neuron, args, kwargs)
        if passed is None:
            now = streams(toolkit).kept_state(neuron)
            if toolkit.held_state(neuron) and not now:
                raise SequenceError(
                    f"{name} keeps a state that its backend does not give out: it needs kept_state and put_state"
                )
            anew = first and any(now[key] is not kept[key] and not _same(now[key], kept[key]) for key in now)
        else:
            anew = not any(bool(t.any()) for t in passed) and not any(_same(t, other) for t in passed for other in mine)
        if anew:
            raise SequenceError(
                f"{name} ({type(neuron).__name__}) begins anew at each call of the model, which makes or resets its "
                "state in its forward: there is nothing to go on from. Take the state as an argument named state and "
                "return it with the output; or reset outside of forward; or pass advance=, which carries it"
            )

    return hook


def _same(value: Any, other: Any) -> bool:
    if isinstance(value, Tensor) and isinstance(other, Tensor):
        return value.shape == other.shape and bool(torch.equal(value, other))
    return type(value) is type(other) and not isinstance(value, Tensor) and value == other


@contextmanager
def _alone(modules: dict[str, nn.Module], delays: dict[str, DelayState]) -> Iterator[dict[str, DelayState]]:
    """Within the block, layers of delays that stand alone go on from their states; gives the next ones."""
    after: dict[str, DelayState] = {}
    inside = {id(module.delay) for module in modules.values() if isinstance(module, Delayed)}
    with ExitStack() as stack:
        for name, layer in modules.items():
            if isinstance(layer, DelayLayer) and id(layer) not in inside:
                layer.__dict__["forward"] = _going_on(name, layer, delays.get(name), after)
                stack.callback(layer.__dict__.pop, "forward")
        yield after


def _going_on(
    name: str, layer: DelayLayer, state: DelayState | None, after: dict[str, DelayState]
) -> Callable[..., Tensor]:
    def forward(x: Tensor, tail: int = 0, weight: Tensor | None = None) -> Tensor:
        if tail:
            raise SequenceError(f"{name or 'the model'} appends {tail} steps: a stream has no end")
        if name in after:
            raise SequenceError(f"{name} runs more than once for one part: its delays cannot be told apart")
        y, after[name] = layer.chunk(x, state, weight)
        return y

    return forward


def _equal(whole: Any, parts: tuple[Any, ...]) -> bool:
    if not isinstance(whole, Tensor):
        return True
    if any(part.dim() == 0 or part.shape[0] != 1 for part in parts):
        return False
    joined = torch.cat(parts)
    if joined.shape != whole.shape:
        return False
    # Sums in another order may bring a few membranes to the other side of the threshold in a large network.
    differ = ~torch.isclose(joined.double(), whole.double(), atol=1e-4, rtol=1e-4)
    return int(differ.sum()) <= _FLIPPED * int((whole != 0).sum())


def _toolkit_of(model: nn.Module) -> Toolkit | None:
    if not isinstance(model, nn.Module):
        raise ArgumentError("model", "a torch.nn.Module", type(model).__name__)
    try:
        return plugins.toolkit_of(model.modules())[1]
    except (WiringError, BackendBrokenError):
        if any(isinstance(module, DelayLayer) for module in model.modules()):
            return None
        raise


def _empty_like(step: Tensor) -> Tensor:
    return torch.empty(step.shape, dtype=step.dtype, device="meta")


def _read(state: Any) -> tuple[int, Tensor | None, dict[str, Leaf]]:
    """(steps, a step without input or None at the beginning, leaves) of what `Stream.state` gave."""
    keys = {"steps", "shape", "dtype", "state"}
    if not isinstance(state, dict) or set(state) != keys or not isinstance(state["state"], dict):
        got = sorted(map(str, state)) if isinstance(state, dict) else type(state).__name__
        raise ArgumentError("state", f"what Stream.state() gave, with {', '.join(sorted(keys))}", got)
    steps, shape, dtype = state["steps"], state["shape"], state["dtype"]
    if type(steps) is not int or steps < 0:
        raise ArgumentError("state", "a number of steps >= 0", repr(steps))
    if steps == 0:
        return 0, None, {}
    kind = getattr(torch, dtype, None) if isinstance(dtype, str) else None
    sizes = isinstance(shape, list) and len(shape) > 0 and all(type(n) is int and n > 0 for n in shape)
    sizes = sizes and math.prod(shape) <= _MOST_ELEMENTS
    if not sizes or not isinstance(kind, torch.dtype):
        raise ArgumentError("state", "the shape and dtype of a step", f"{shape!r} and {dtype!r}")
    return steps, torch.zeros(shape, dtype=kind), state["state"]


def stream(
    model: nn.Module, *, advance: Advance | None = None, start: Start | None = None, check: bool = True
) -> Stream:
    """Run a network while its input comes in: push a step, or a few, and get the outputs.

    Takes networks of any installed toolkit, plain, with delays or frozen, that can go on from a state: neurons that
    keep theirs (snnTorch's `init_hidden`, SpikingJelly in both step modes); a model that takes an argument `state` and
    returns (output, state), such as Norse's `SequentialState`, be it for one step or with a loop over a sequence; and
    layers of delays by themselves. `advance` is for all others that carry a state. What a module of the user's own
    keeps as an attribute stays there: it is neither saved nor reset.

    Args:
        model: in `eval()`.
        advance: `advance(model, x, state)` runs a part (T, B, ...) from the caller's state, None at first, and returns
            the outputs, time first, and the next state: for models that take their state in another way, or the batch
            first.
        start: `start(model)` gives the state to begin with, if it is not None.
        check: on the first push, run a few random steps one by one and as a sequence, and refuse a model for which
            that is not the same: one that makes its state anew in its forward, for instance. Costs what these cost.

    Raises:
        ArgumentError: `model` is not a module.
        WiringError: it has neither neurons of an installed toolkit nor delays.

    >>> from delayplug import LearnableDelay
    >>> layer = LearnableDelay(3, 2, max_delay=4).eval()
    >>> x = torch.rand(10, 8, 3)
    >>> coming = stream(layer)
    >>> y = torch.stack([coming.push(x_t) for x_t in x])
    >>> torch.allclose(y, layer(x), atol=1e-6)
    True
    """
    return Stream(model, advance, start, check)
