"""A model whose forward has a loop over time with one input for all steps, run layer by layer.

    for step in range(num_steps):
        spk1, mem1 = self.lif1(self.fc1(x), mem1)
        ...

The input comes with all steps folded into the batch, so that the first pass through the loop computes all of them. Each
pass after it does the same again on the same tensors: what the first one made is handed out once more, and nothing is
computed. `torch.stack` of what the passes have collected is then what the first one made, unfolded.

Shapes: T steps, B batch.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from ..errors import UnrollError
from ..surgery.inventory import Network
from .loop import Forward, calls_of_neurons

# What loops over the collected values do to each of them, as to stack them by `torch.cat`.
_VIEWS = (torch.unsqueeze, Tensor.unsqueeze)


@contextmanager
def shape_explained(network: Network, x: Tensor) -> Iterator[None]:
    """Within the block, an error says that `steps` or the batch is missing in `unroll(model, x)`, if that shows."""
    try:
        yield
    except Exception as error:
        calls = calls_of_neurons(network, x[:1]) or 0
        if calls > 1 and calls not in x.shape[1:]:  # where it is, the model can loop over that dimension
            raise UnrollError(
                f"the model runs {calls} steps on one input: pass their number, unroll(model, x, steps={calls}), with "
                "the input (B, ...) that every step has"
            ) from error
        if x.dim() == 2:
            raise UnrollError(
                f"{error}. x is a sequence (T, B, ...), and got {tuple(x.shape)}: one sample (T, ...) is "
                "x.unsqueeze(1); an input (B, ...) that every step has needs steps="
            ) from error
        raise


class OnePass(TorchFunctionMode):
    """While it is entered, only the first pass through a loop over time computes anything."""

    def __init__(self, steps: int, batch: int, neurons: Iterable[str]) -> None:
        """`neurons` are the names of what runs once in each pass."""
        super().__init__()
        self.steps, self.batch = steps, batch
        self._calls = dict.fromkeys(neurons, 0)
        # By function and arguments, which are held, so that no other tensor can get their identity.
        self._made: dict[tuple[object, ...], tuple[Any, Any]] = {}
        self._of_steps: dict[int, Tensor] = {}
        self._is_inside = False  # of a module that runs once, where everything is computed

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if self._is_inside or getattr(func, "__name__", "") == "__get__":
            return func(*args, **kwargs)
        if func in (torch.stack, torch.cat) and (joined := self._joined(func, *args, **kwargs)) is not None:
            return joined
        key = (func, *map(_identity, tree_leaves((args, kwargs))))
        if key in self._made:
            out = self._made[key][0]
            if min(self._calls.values()) == 0 and any(out is value for value in args):
                raise UnrollError(
                    f"a step changes the same value in place twice, by {getattr(func, '__name__', func)}(...)"
                )
            return out
        out, tensors = func(*args, **kwargs), [v for v in tree_leaves((args, kwargs)) if isinstance(v, Tensor)]
        if tensors and any(isinstance(value, Tensor) for value in tree_leaves(out)):
            if self._is_later:
                raise UnrollError(
                    f"each step makes something else by {getattr(func, '__name__', func)}(...), such as a sum over "
                    "steps: collect what the steps give in a list, and stack it after the loop"
                )
            if not self._is_done or func in _VIEWS:
                self._keep(out)
                self._made[key] = out, (args, kwargs)
        return out

    def once(self, name: str, forward: Forward) -> Forward:
        """A module's forward that computes at its first call, and then wants the same input and its own last state."""
        first: list[tuple[Any, Any]] = []

        def again(x: Any, *state: Any, **more: Any) -> Any:
            if name in self._calls:
                self._calls[name] += 1
            if not first:
                self._is_inside = True
                try:
                    first.append((x, forward(x, *state, **more)))
                finally:
                    self._is_inside = False
                self._keep(first[0][1])
                return first[0][1]
            of, out = first[0]
            if x is not of:
                raise UnrollError(
                    f"{name} takes another input in each step: pass a sequence (T, B, ...), without steps"
                )
            left = {id(value) for value in tree_leaves(out)}
            if any(isinstance(v, Tensor) and id(v) not in left for v in tree_leaves((state, more))):
                raise UnrollError(f"the state of {name} is changed between steps: run the model as it is")
            return out

        return again

    def result(self, out: Any) -> Any:
        """What the model returned, as its own loop would return it."""
        wrong = {name: count for name, count in self._calls.items() if count != self.steps}
        if wrong:
            name, count = next(iter(wrong.items()))
            raise UnrollError(f"the loop of the model runs {name} {count} times, and steps={self.steps}")
        if isinstance(out, list) and len(out) == self.steps and all(value is out[0] for value in out):
            return list(self._unfolded(out[0])) if id(out[0]) in self._of_steps else out
        if isinstance(out, tuple | list) and not hasattr(out, "_fields"):
            return type(out)(self._last(value) if isinstance(value, Tensor) else self.result(value) for value in out)
        return tree_map(self._last, out)

    def _last(self, value: Any) -> Any:
        """Of a tensor that the loop has made and nobody stacked: that of its last step."""
        return self._unfolded(value)[-1] if isinstance(value, Tensor) and id(value) in self._of_steps else value

    def _joined(self, func: Callable[..., Any], values: Any, dim: int = 0) -> Tensor | None:
        """What the passes have collected, with the steps unfolded; None if it is something else."""
        if not isinstance(values, list | tuple) or len(values) != self.steps or id(values[0]) not in self._of_steps:
            return None
        value: Tensor = values[0]
        if any(other is not value for other in values) or (func is torch.cat and (dim != 0 or value.shape[0] != 1)):
            return None
        return self._unfolded(value if func is torch.stack else value.squeeze(0)).movedim(0, dim)

    def _unfolded(self, value: Tensor) -> Tensor:
        if value.dim() == 0 or value.shape[0] != self.steps * self.batch:
            raise UnrollError(f"what a step gives, {tuple(value.shape)}, does not have one entry per step and sample")
        unfolded: Tensor = value.unflatten(0, (self.steps, self.batch))
        return unfolded

    def _keep(self, out: Any) -> None:
        self._of_steps.update((id(value), value) for value in tree_leaves(out) if isinstance(value, Tensor))

    @property
    def _is_later(self) -> bool:
        return max(self._calls.values()) > 1 and not self._is_done

    @property
    def _is_done(self) -> bool:
        return min(self._calls.values()) == self.steps


def _identity(value: Any) -> object:
    if isinstance(value, Tensor):
        return ("tensor", id(value))
    try:
        hash(value)
    except TypeError:
        return ("object", id(value))
    return type(value), value
