"""The base of all layers with delays: the delays, the kernel that they make, and its use over time.

Shapes: T steps, K = max_delay + 1 ages of an input, D = max_delay, N taps per synapse; S the shape of whatever has a
delay each, (O, I) or (C,) or that of a convolution's kernel.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Self, TypeVar

import torch
from torch import Tensor, fx, nn

from ..errors import ArgumentError
from .autograd import is_transformed
from .checks import HALF
from .engines.events import Launch
from .parameters import DelayParameters
from .state import (
    Built,
    DelayState as DelayState,  # exported: states that delayplug 0.1 saved whole look for it here
    Origin,
    check_state,
    window_over,
)
from .sums import Ages, Sums, in_next_steps, one_step_later
from .taps import integer_taps, taps
from .tracing import refuse_other_exporters, traced_call

V = TypeVar("V")


class DelayLayer(DelayParameters, ABC):
    """Base of `LearnableDelay` and `ConvDelay`: delays of any shape, and a run over a sequence, a part or a step.

    Delays are in steps, continuous in 0..max_delay while training. In `eval()` they count as rounded to whole steps
    (halves up); the parameters are not changed by that. They are brought back into their range after each step of any
    torch optimizer, by a hook that the first layer registers with all optimizers (see `layers.bounds`), and once
    more whenever a kernel is built, for updates made by hand: there is nothing to call and nothing to forget.

    A kernel belongs to one sequence: a call of `forward`, or those of `chunk` and `step` that pass its state on.
    Whatever wrote to a parameter, `.data` included, counts from the next sequence on.

    Everything can be differentiated twice and more, and goes through the transforms of `torch.func`, with functions of
    torch that take more time and memory (see `layers.autograd`).

    A subclass says how taps are applied: `_convolve`, `_step_kernel`, `_convolve_step`, `_weigh`, `_check_input`;
    without one of these it cannot be made. `_event_step` and `_scattered` are optional.

    Attributes:
        delays: Parameter, in steps.
        weight: Parameter of the shape of the delays, or None.
        sigma: buffer (), or Parameter of the shape of the delays or (), in steps; None for "linear".
        active: bool of the shape of the delays, False where `prune` holds one at zero; None if it holds none.
        layer_name: name of the layer that it delays, for messages of errors; "" if it was not made by `add_delays`.
    """

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_built"}

    def train(self, mode: bool = True) -> Self:
        self.__dict__.pop("_built", None)
        return super().train(mode)

    # ------------------------------------------------------------------------------------------------ kernel

    def kernel(self, weight: Tensor | None = None) -> Tensor:
        """The taps, (K, *S). In `eval()` the delays count as rounded.

        `weight`, of the shape of the delays or without its last dimension, stands in for the layer's own.
        """
        delays, sigma = self._in_range()
        delays, weight = self._per_tap(delays), self._weight(weight)
        if self.rounds:
            return integer_taps(delays.to(self.dtype), weight, max_delay=self.max_delay)
        sigma = sigma if sigma is None or sigma.dim() == 0 else self._per_tap(sigma)
        if self.active is None:
            return self._taps(delays, weight, sigma)
        active = self._per_tap(self.active)
        weight = torch.ones_like(delays) if weight is None else weight
        kernel, at_zero = self._taps(delays, weight * active, sigma), (weight * ~active).sum(-1)
        if is_transformed():
            return torch.cat((kernel[:1] + at_zero, kernel[1:]))
        kernel[0] += at_zero
        return kernel

    def _shared_kernel(self, weight: Tensor | None) -> Tensor:
        """The taps for a sequence, which nobody writes to."""
        if not self.rounds or self._learns(weight) or not self._checks_values():
            return self.kernel(weight)
        return self._from_whole("taps", weight, lambda *_: self.kernel(weight))

    def _from_whole(self, form: str, weight: Tensor | None, make: Callable[[Tensor, Tensor | None], V]) -> V:
        """What is made from rounded delays and weights without a graph, for a sequence.

        On a CPU that is what the last sequence used if all values are the same, entry by entry: comparing takes less
        than making it. On a GPU it would wait.
        """
        weight = self._weight(weight)
        if not self._checks_values():
            return make(self._in_range()[0], weight)
        every: dict[str, Built] = self.__dict__.setdefault("_built", {})
        built = every.get(form)
        if built is not None and self.active is None and built.fits(self.delays, weight, self.max_delay):
            known: V = built.value  # from delays that were in their range, and are these
            return known
        delays, _ = self._in_range()
        if built is None or not built.fits(delays, weight, self.max_delay):
            built = every[form] = Built(delays, weight, self.max_delay, make(delays, weight))
        value: V = built.value  # of this call, whatever another thread puts there
        return value

    def _taps(self, delays: Tensor, weight: Tensor | None, sigma: Tensor | None) -> Tensor:
        return taps(delays, weight, sigma, max_delay=self.max_delay, interpolation=self.interpolation)

    def _per_tap(self, value: Tensor) -> Tensor:
        """(*S, N) of something that has the shape of the delays."""
        return value

    @property
    def rounds(self) -> bool:
        """Whether delays count as rounded to whole steps now."""
        return self.round_in_eval and not self.training

    def _weight(self, weight: Tensor | None) -> Tensor | None:
        weight = self.weight if weight is None else weight
        if weight is None:
            raise ArgumentError("weight", "a tensor, since this layer does not hold the weights", None)
        weight = weight.unsqueeze(-1) if weight.dim() == self.delays.dim() - 1 else weight
        if weight.shape != self.delays.shape:
            raise ArgumentError("weight", f"shape {tuple(self.delays.shape)} (..., taps)", tuple(weight.shape))
        return weight.to(self.dtype)

    # --------------------------------------------------------------------------------------------- application

    def forward(self, x: Tensor, tail: int = 0, weight: Tensor | None = None) -> Tensor:
        """A whole sequence: causal, of the same length.

        Args:
            x: input, time first. Spikes may come as bool or integers. Half-precision input is computed in the
                precision of the delays and comes back in its own.
            tail: steps to append with silent input, at most max_delay, so that what is under way arrives.
            weight: instead of the layer's own.

        Returns:
            The output, time first, T + tail steps.
        """
        if isinstance(x, fx.Proxy):
            traced: Tensor = traced_call(self, (x, tail, weight), {})
            return traced
        refuse_other_exporters(self)
        if not isinstance(tail, int) or not 0 <= tail <= self.max_delay:
            raise ArgumentError("tail", f"a number of steps between 0 and max_delay={self.max_delay}", tail)
        x, dtype = self._prepare(x, leading=1, spikes=True)
        return _in_precision(self._convolve(x, self._shared_kernel(weight), x.shape[0] + tail), dtype)

    def repeats(self, x: Tensor, weight: Tensor | None = None) -> bool:
        """Whether a sequence (T, ...) has the same input at all steps, and is for `repeated`; waits for no device."""
        if x.device.type != "cpu" or x.requires_grad or x.shape[0] < 2 or not self._checks_values():
            return False
        return torch.equal(x[1], x[0]) and torch.equal(x[1:], x[:-1])

    def repeated(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        """`forward` for a sequence (T, ...) that has the same input at all steps: a running sum."""
        outputs, state, first = list[Tensor](), None, x[0]
        for _ in range(x.shape[0]):
            y, state = self.step(first, state, weight)
            outputs.append(y)
        return torch.stack(outputs)

    def chunk(self, x: Tensor, state: DelayState | None, weight: Tensor | None = None) -> tuple[Tensor, DelayState]:
        """A part of a sequence: `forward` with what `state` says is under way (None: nothing), and the next state."""
        x, dtype = self._prepare(x, leading=1)
        skip = 0 if state is None else self.max_delay  # silence need not be convolved
        past_and_x = torch.cat((self._state(state, x.shape[1:]).past(), x))
        kernel, made_from = self._chunk_kernel(state, weight)
        y = self._convolve(past_and_x[self.max_delay - skip :], kernel, x.shape[0] + skip)
        # A copy, or a state would keep the whole sequence alive.
        history = past_and_x[x.shape[0] :].clone()
        # Of a kernel with a graph, each part is to have its own: the graph of this one can be gone by then.
        keeps = made_from is not None and not kernel.requires_grad
        return _in_precision(y[skip:], dtype), DelayState(history, kernel, made_from) if keeps else DelayState(history)

    def _chunk_kernel(self, state: DelayState | None, weight: Tensor | None) -> tuple[Tensor, Origin | None]:
        """The taps, those of the state if they are made from the same, and what they are made from."""
        before = None if state is None else state.made_from
        made_from = self._origin("chunk", weight, before)
        kernel = None if state is None or made_from is None or made_from is not before else state.kernel
        if not isinstance(kernel, Tensor) or self._learns(weight):
            kernel = self._shared_kernel(weight)
        return kernel, made_from

    def step(self, x: Tensor, state: DelayState | None, weight: Tensor | None = None) -> tuple[Tensor, DelayState]:
        """One step of a sequence; equal to the same step of `forward`.

        Args:
            x: the input of one step, without the dimension of time.
            state: from `initial_state` or the previous step; None at the beginning.
            weight: instead of the layer's own.

        Returns:
            The output of the step, and the next state.
        """
        given, (x, dtype) = x, self._prepare(x, leading=0)
        state = self._state(state, x.shape)
        sums = self._sums(given, x, state, weight)
        event_driven = self._event_step(x, state, weight, sums)
        if event_driven is not None:
            return _in_precision(self._with_bias(event_driven[0]), dtype), event_driven[1]
        made_from = self._origin("step", weight, state.made_from)
        kernel = self._known_kernel(state, weight, made_from)
        if sums is not None and kernel is None:
            if state.made_from is not None:  # it has changed on the way, and may do so at every step
                sums = sums.with_new_kernel()
            elif sums.silent:
                kernel = Ages(self._shared_kernel(weight))
        joined, total = None, self._added_up(sums, state, x, kernel) if isinstance(kernel, Ages) else None
        if total is None:
            kernel = self._step_kernel(self._shared_kernel(weight)) if kernel is None else kernel
            joined = kernel.joined(self._step_kernel) if isinstance(kernel, Ages) else kernel
            kernel = kernel if sums is not None and sums.silent else joined
        window, tape = window_over(state, x, joined is not None and joined.requires_grad, values=joined is None)
        if joined is not None:
            total = self._convolve_step(window, joined)
            if sums is not None and sums.tells_all(self.max_delay):
                sums.total = total
        assert total is not None
        y, history = self._with_bias(total), window[1:]
        if sums is not None:
            sums.history = history
            if y is total and (sums.total is total or sums.outputs is not None):  # whoever gets it may write to it
                y = y.clone()
        return _in_precision(y, dtype), DelayState(history, kernel, made_from, tape=tape, sums=sums)

    def _known_kernel(self, state: DelayState, weight: Tensor | None, made_from: Origin | None) -> Tensor | Ages | None:
        """That of the state, if a step would make the same."""
        kernel = state.kernel
        # A traced step cannot tell which tensor a weight is, but a Parameter is the one that it was.
        unknown = torch.compiler.is_compiling() and weight is not None and not isinstance(weight, nn.Parameter)
        if kernel is None or isinstance(kernel, Launch) or unknown or made_from is not state.made_from:
            return None
        if (
            isinstance(kernel, Ages) and state.known_sums() is None
        ):  # the state was cut off from the graph that these have
            return None
        return kernel if kernel.requires_grad == self._learns(weight) else None

    def _sums(self, given: Tensor, x: Tensor, state: DelayState, weight: Tensor | None) -> Sums | None:
        """Those of the next state, without what this step gives; None where nobody is to add anything up."""
        if torch.compiler.is_compiling() or is_transformed():
            return None
        # Values may be written to an input such that torch does not count it. A plain layer that learns would miss it,
        # too; on a GPU all others look at each input.
        if x.device.type != "cpu" and not self._learns(weight):
            return None
        sums = state.known_sums()
        return Sums(given, 1, silent=False) if sums is None else sums.followed_by(given, x, state.history)

    def _added_up(self, sums: Sums | None, state: DelayState, x: Tensor, kernel: Ages) -> Tensor | None:
        """The output of a step without bias, from that of the steps before; None where the last K inputs are needed."""
        before = state.known_sums()
        if sums is None or before is None:
            return None
        if sums.silent:
            age, x = sums.count - 1, sums.x if sums.x is not None else x
            if age and sums.total is None:
                return None
            if age <= self.max_delay:
                y = self._weigh(x, kernel.taps[age])
                sums.total = y if sums.total is None else sums.total + y
            total = sums.total
        else:
            known, x = before.outputs, x.clone()
            if not self._scatters(x) or not (known is not None or before.silent):
                return None
            if known is None and before.x is not None:
                known = in_next_steps(self._scattered(before.x, kernel.kernel), before.count)
            if known is None:
                return None
            sums.outputs = self._scattered(x, kernel.kernel) + one_step_later(known)
            total = sums.outputs[..., 0, :]
        if torch.is_grad_enabled() and (before.inputs or x.requires_grad):
            sums.inputs = (*before.inputs, x)[-self.max_delay :] if self.max_delay else ()
        return total

    def _state(self, state: DelayState | None, shape: tuple[int, ...]) -> DelayState:
        """The state, checked, for inputs of that shape; if it is None, that before a sequence."""
        if state is None:
            sums, history = Sums(), torch.zeros((self.max_delay, *shape), dtype=self.dtype, device=self.delays.device)
            sums.history = history
            return DelayState(history, sums=sums)
        check_state(state, self.max_delay, shape)
        return state

    def _event_step(
        self, x: Tensor, state: DelayState, weight: Tensor | None, sums: Sums | None
    ) -> tuple[Tensor, DelayState] | None:
        """One step taken spike by spike: output without bias, and next state; None for one better taken densely."""
        return None

    @abstractmethod
    def _convolve(self, x: Tensor, kernel: Tensor, steps: int) -> Tensor:
        """The taps over a sequence, which may be one of bool or integers."""

    def _takes_half(self, x: Tensor) -> bool:
        """Whether `_convolve` takes this half-precision input as it is, and computes in the dtype of the taps."""
        return False

    @abstractmethod
    def _step_kernel(self, kernel: Tensor) -> Tensor:
        """The taps in the form that `_convolve_step` takes."""

    @abstractmethod
    def _convolve_step(self, window: Tensor, kernel: Tensor) -> Tensor:
        """One step's output without bias from the last K inputs, oldest first."""

    @abstractmethod
    def _weigh(self, x: Tensor, tap: Tensor) -> Tensor:
        """What the input x of a step adds to the output, without bias, at the age that has this tap (*S)."""

    def _scatters(self, x: Tensor) -> bool:
        """Whether products with the taps of all ages are better than the last K inputs: less memory for a gradient."""
        return False

    def _scattered(self, x: Tensor, kernel: Tensor) -> Tensor:
        """The products of the input of a step with the taps of all ages (K, *S): (*batch, K, O)."""
        raise NotImplementedError

    def _with_bias(self, y: Tensor) -> Tensor:
        """The output of a step with the layer's own bias, if it has one."""
        return y

    @abstractmethod
    def _check_input(self, x: Tensor, leading: int) -> None:
        """Raise ArgumentError unless x is a step (leading=0) or a sequence of steps (leading=1)."""

    def _sources(self, weight: Tensor | None) -> list[Tensor]:
        """What the kernel depends on."""
        sources = (self.delays, self.sigma, self.active, self.weight if weight is None else weight)
        return [source for source in sources if source is not None]

    def _learns(self, weight: Tensor | None) -> bool:
        """Whether a kernel built now requires a gradient."""
        if not torch.is_grad_enabled():
            return False
        rounded = (self.delays, self.sigma) if self.rounds else ()  # rounding passes no gradient
        learned = [source for source in self._sources(weight) if all(source is not other for other in rounded)]
        return any(source.requires_grad for source in learned)

    def _origin(self, form: str, weight: Tensor | None, before: Origin | None) -> Origin | None:
        """What a kernel is made from now: the same object as before unless that has changed, None while compiling.

        Within a sequence it changes by optimizer steps, schedules, checkpoints, the mode, other weights, not by writing
        to `.data`. The form is that of the kernel, which belongs to the method that uses it.
        """
        if torch.compiler.is_compiling():
            return None
        sources, flags = self._sources(weight), (form, self.training, self.rounds)
        if before is not None and before.is_current(sources, flags):
            return before
        return Origin(sources, flags)

    def _prepare(self, x: Tensor, leading: int, spikes: bool = False) -> tuple[Tensor, torch.dtype]:
        """x in the dtype of the delays, and its own dtype; `leading` dimensions of time come first.

        With `spikes`, bool and integers stay as they are, and so does half precision that `_takes_half`.
        """
        self._check_input(x, leading)
        dtype = self.dtype
        if x.dtype == dtype:
            return x, dtype
        if x.is_floating_point() and x.dtype not in HALF:
            expected = f"dtype {dtype}, half precision, bool or integers"
            raise ArgumentError("x", expected, x.dtype, "Convert the input or the layer with .to(dtype)")
        keep = spikes and (not x.is_floating_point() or (x.dtype in HALF and self._takes_half(x)))
        return x if keep else x.to(dtype), x.dtype


def _in_precision(y: Tensor, dtype: torch.dtype) -> Tensor:
    """The output for an input of this dtype: in half precision if that was."""
    return y.to(dtype) if dtype in HALF else y
