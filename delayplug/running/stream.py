"""A network while its input comes in: one step or a few at a time, with all that it carries in one explicit state.

A stream does not leave its state on the model. For each push the neurons and delays get the state that the stream
carries, the model runs, their new state is taken off, and the model has again what it had: several streams can share
it, and its own state, if somebody else is in the middle of a sequence, is not lost.

Shapes: T steps, B batch.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from ..errors import ArgumentError, BackendBrokenError, DelayplugError, SequenceError, WiringError
from ..layers.base import DelayLayer
from ..surgery.dataflow import preserved
from ..surgery.inventory import Network
from ..toolkits import plugins
from ..toolkits.capabilities import streams
from ..toolkits.states import from_leaves, tensors_in
from ..toolkits.toolkit import Toolkit
from ..toolkits.vocabulary import Mode
from .carried import Carried, Carrier
from .loop import Continuing, call, has_loop, step_by_step
from .saved import SavedState, read_saved, saved
from .selfcheck import agree, longest_delay, noise_like
from .time_first import time_must_come_first

_MOST_DIFFERENT = 0.005  # of the values that are not zero: rounding may move a few membranes over the threshold

Advance = Callable[[Any, Tensor, Any], tuple[Any, Any]]
Start = Callable[[Any], Any]


class Stream:
    """What `stream` returns. A sequence pushed in any parts has the outputs of the network for the whole of it.

    Equal to rounding, since sums over delays are made in another order than over a sequence; to the bit where the parts
    are the same. Memory is that of one part and of the state, however long the stream; no graph is recorded.

    Attributes:
        model: the network.
        steps: pushed since the beginning.
    """

    def __init__(self, model: nn.Module, advance: Advance | None, start: Start | None, check: bool) -> None:
        self.model, self.steps = model, 0
        if advance is None and isinstance(model, Continuing):
            advance = type(model).chunk  # with which the state of its neurons is in its own
        self._toolkit = None if isinstance(model, Continuing) else _toolkit_of(model)
        self._carrier = Carrier(model, self._toolkit)
        self._advance_by, self._needs_check = advance, check
        self._start = None if start is None else functools.partial(start, model)
        self._takes_sequences: bool | None = None if advance is None else True  # in one call
        self._carried: Carried | None = None
        self._like: Tensor | None = None  # a step of the input, without its memory

    def push(self, x: Tensor) -> Any:
        """One step.

        Args:
            x: (B, ...), without a dimension of time.

        Returns:
            The output of the network for it, without a dimension of time; without the state.

        Raises:
            SequenceError: the network does not continue from a state, with the reason.
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
            The output of the network for each step, (T, B, ...), or a tuple, list or dictionary of that.

        Raises:
            SequenceError, ArgumentError: as `push`.
        """
        self._prepare(x)
        if self._like is None:
            self._like = torch.empty_like(x[0], device="meta")
        y, carried = self._run(self._carried, x)
        for part in tree_leaves(y):
            if isinstance(part, Tensor) and (part.dim() == 0 or part.shape[0] != x.shape[0]):
                raise SequenceError(
                    f"the output for {x.shape[0]} steps has shape {tuple(part.shape)}: a stream needs one for each step"
                )
        self._carried, self.steps = carried, self.steps + x.shape[0]
        return y

    def reset(self) -> None:
        """The next push begins a sequence, of any batch."""
        self._carried, self._like, self.steps = None, None, 0

    def state(self) -> SavedState:
        """A copy of the state from which `restore` continues, in this process or in another.

        A plain dictionary of tensors, numbers and text, which `torch.save` writes and `torch.load` reads with
        `weights_only=True`.

        Raises:
            ArgumentError: the network carries something that is no tensor, number or container of them.
        """
        if self._carried is None or self._like is None:
            return {"steps": 0, "shape": [], "dtype": "", "state": {}}  # of the beginning
        return saved(self.steps, self._like, self._carried)

    def restore(self, state: SavedState | Mapping[str, object]) -> None:
        """Continue from what `state` returned, for this network or another with the same layers and parameters.

        The network is run on one step of zeros, which shows what its state consists of.

        Raises:
            ArgumentError: it is no such state, or that of another network. The stream is as it was.
        """
        steps, like, leaves = read_saved(state)
        if like is None:
            self.reset()
            return
        tensors = (*self.model.parameters(), *self.model.buffers())
        like = like.to(tensors[0].device if tensors else torch.device("cpu"))
        try:
            self._prepare(like.unsqueeze(0), restored=True)
            with preserved(self.model):
                _, template = self._run(None, like.unsqueeze(0))
        except DelayplugError:
            raise
        except Exception as error:
            raise ArgumentError("state", "a step that the model runs on", f"{tuple(like.shape)}: {error}") from error
        carried = from_leaves(template, leaves)
        self._carried, self._like, self.steps = carried, torch.empty_like(like, device="meta"), steps

    # ------------------------------------------------------------------------------------------------ the run

    def _prepare(self, x: Any, restored: bool = False) -> None:
        """Check a part (T, B, ...), and on the first one how the model runs; a restored part may have any shape."""
        if not isinstance(x, Tensor) or x.dim() < 2 or x.shape[0] == 0:
            raise ArgumentError("x", "steps (T, B, ...)", tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__)
        if self.model.training:
            raise ArgumentError("model", "a network in eval()", "one in training", "Call model.eval() first")
        like = None if restored else self._like
        if like is not None and (x.shape[1:] != like.shape or x.dtype != like.dtype):
            got = f"{tuple(x.shape[1:])} of {x.dtype}"
            expected = f"steps of shape {tuple(like.shape)} of {like.dtype}, as before"
            raise ArgumentError("x", expected, got, "Call reset() before another sequence")
        if self._takes_sequences is None:
            self._takes_sequences = _takes_sequences(self.model, self._toolkit, x)
        if self._needs_check:
            with self._explained(x):
                self._check(x)
            self._needs_check = False

    def _run(self, carried: Carried | None, x: Tensor) -> tuple[Any, Carried]:
        return self._carrier.run(self._advance, x, carried, self._start)

    def _advance(self, x: Tensor, state: Any) -> tuple[Any, Any]:
        if self._advance_by is not None:
            return self._advance_by(self.model, x, state)
        run = functools.partial(call, self.model)
        return run(x, state) if self._takes_sequences else step_by_step(run, x, state)

    # ---------------------------------------------------------------------------------------------- the check

    def _check(self, x: Tensor) -> None:
        """Raise SequenceError unless single steps, each from the state that the last one left, are the sequence."""
        probe = noise_like(x[0], 8 + longest_delay(self.model))
        with preserved(self.model):
            whole, _ = self._run(None, probe)
            carried, steps = None, []
            for step in probe.split(1):
                with self._watched(carried):
                    y, carried = self._run(carried, step)
                steps.append(y)
        leaves = zip(*map(tree_leaves, steps), strict=True)
        joined = [torch.cat([*map(torch.atleast_1d, ys)]) if isinstance(ys[0], Tensor) else ys[-1] for ys in leaves]
        if not agree(tree_leaves(whole), joined, share=_MOST_DIFFERENT):
            raise SequenceError(
                "the model does not continue where it stopped: its steps one by one are not what it gives for a "
                "sequence. Something in its forward starts afresh at each call, sees the whole sequence, or adds it up"
            )

    def _explained(self, x: Tensor) -> AbstractContextManager[None]:
        """Within the block, an error says so if the model takes its time elsewhere than first."""
        if self._toolkit is None or self._advance_by is not None:
            return nullcontext()
        return time_must_come_first(Network(self.model, self._toolkit), x, SequenceError)

    @contextmanager
    def _watched(self, carried: Carried | None) -> Iterator[None]:
        """Within the block, a neuron that starts from a fresh state although a state is carried is an error."""
        with ExitStack() as stack:
            if self._toolkit is not None and carried is not None:
                states = tensors_in((carried.kept, carried.user))
                for name, neuron in Network(self.model, self._toolkit).neurons.items():
                    hook = _raise_if_fresh(name, self._toolkit, carried.kept.get(name, {}), states)
                    stack.enter_context(neuron.register_forward_pre_hook(hook, with_kwargs=True))
            yield


def _raise_if_fresh(
    name: str, toolkit: Toolkit, left: Mapping[str, object], carried: list[Tensor]
) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]:
    """A hook before the calls of a neuron.

    Args:
        name: of the neuron.
        toolkit: the neuron's.
        left: the state that it held after the last step, by name.
        carried: the tensors of all states after that step.
    """
    is_first = True

    def hook(neuron: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal is_first
        passed = toolkit.passed_state(neuron, args, kwargs)
        if passed is None:
            now = streams(toolkit).kept_state(neuron)
            if toolkit.held_state(neuron) and not now:
                raise SequenceError(
                    f"{name} keeps a state that its backend does not give out: it needs kept_state and put_state"
                )
            fresh = is_first and any(now[key] is not left[key] and not _same(now[key], left[key]) for key in now)
        else:
            fresh = not any(bool(t.any()) or any(_same(t, other) for other in carried) for t in passed)
        is_first = False
        if fresh:
            raise SequenceError(
                f"{name} ({type(neuron).__name__}) starts from a fresh state at each call of the model, which makes or "
                "resets it in its forward, so that a stream cannot continue. Take the state as an argument named state "
                "and return it with the output; or reset outside of forward; or pass advance=, which carries it"
            )

    return hook


def _same(value: object, other: object) -> bool:
    if isinstance(value, Tensor) and isinstance(other, Tensor):
        return value.shape == other.shape and bool(torch.equal(value, other))
    return type(value) is type(other) and not isinstance(value, Tensor) and value == other


def _takes_sequences(model: nn.Module, toolkit: Toolkit | None, x: Tensor) -> bool:
    """Whether a call of the model takes a sequence like x (T, B, ...), not a step."""
    if toolkit is None:
        return True  # layers of delays by themselves
    network = Network(model, toolkit)
    modes = {toolkit.mode(neuron) for neuron in network.neurons.values()}
    return Mode.SEQUENCE in modes or has_loop(network, x)


def _toolkit_of(model: object) -> Toolkit | None:
    """The toolkit of the neurons in a model; None for a model of delays without neurons."""
    if not isinstance(model, nn.Module):
        raise ArgumentError("model", "a torch.nn.Module", type(model).__name__)
    try:
        return plugins.toolkit_of(model.modules())[1]
    except (WiringError, BackendBrokenError):
        if any(isinstance(module, DelayLayer) for module in model.modules()):
            return None
        raise


def stream(
    model: nn.Module, *, advance: Advance | None = None, start: Start | None = None, check: bool = True
) -> Stream:
    """Run a network while its input comes in: push a step, or a few, and get the outputs.

    Takes networks of any installed toolkit, plain, with delays or frozen, that can continue from a state: neurons that
    hold theirs (snnTorch's `init_hidden`, SpikingJelly in both step modes); a model that takes an argument `state` and
    returns (output, state), such as Norse's `SequentialState`, be it for one step or with a loop over a sequence; what
    `from_nir` returns; and layers of delays by themselves. `advance` is for all others that carry a state. An attribute
    of a module of the user's own stays where it is: it is neither saved nor reset.

    Args:
        model: in `eval()`.
        advance: `advance(model, x, state)` runs a part (T, B, ...) from the caller's state, None at first, and returns
            the outputs, time first, and the next state: for models that take their state in another way, or the batch
            first.
        start: `start(model)` returns the state of the caller to begin with; without it, None.
        check: on the first push, run a few random steps one by one and as a sequence, and refuse a model for which
            that is not the same, such as one that resets its state in its forward. Costs what these cost.

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
