"""The base of all layers with delays: the delays, the kernel that they make, and its use over time.

Shapes: T steps, K = max_delay + 1 ages of an input, D = max_delay, N taps per synapse; S the shape of whatever has a
delay each, (O, I) or (C,) or that of a convolution's kernel.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, Self, TypeVar

import torch
from torch import Tensor, nn

from ..errors import ArgumentError
from .bounds import Bound, clamp, limit, unlimit
from .checks import HALF, check_count, check_delays
from .options import KernelOptions, check_init, check_widths
from .state import (
    DelayState as DelayState,  # exported: states that delayplug 0.1 saved whole look for it here
    Origin,
    check_state,
    window_over,
)
from .taps import SIGMA_FLOOR, Interpolation, integer_taps, taps

V = TypeVar("V")


class DelayLayer(nn.Module, ABC):
    """Base of `LearnableDelay` and `ConvDelay`: delays of any shape, and a run over a sequence, a part or a step.

    Delays are in steps, continuous in 0..max_delay while training. In `eval()` they count as rounded to whole steps
    (halves up); the parameters are not changed by that. They are brought back into their range after each step of any
    torch optimizer, by a hook that the first layer registers with all optimizers (see `layers.bounds`), and once
    more whenever a kernel is built, for updates made by hand: there is nothing to call and nothing to forget.

    A subclass says how taps are applied: `_convolve`, `_step_kernel`, `_convolve_step`, `_check_input`; without one of
    these it cannot be made. `_event_step` is optional.

    Attributes:
        delays: Parameter, in steps.
        weight: Parameter of the shape of the delays, or None.
        sigma: buffer (), or Parameter of the shape of the delays or (), in steps; None for "linear".
        active: bool of the shape of the delays, False where `prune` holds one at zero; None if it holds none.
    """

    delays: Tensor
    weight: nn.Parameter | None
    bias: nn.Parameter | None
    sigma: Tensor | None
    active: Tensor | None

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        max_delay: int,
        options: KernelOptions,
        weight: bool,
        bias: int,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        check_count("max_delay", max_delay, 0)
        if dtype is not None and not dtype.is_floating_point:
            raise ArgumentError("dtype", "a floating point type", dtype)
        self.max_delay = int(max_delay)
        self.interpolation: Interpolation = options.interpolation
        self.round_in_eval = options.round_in_eval
        self._cache: dict[str, tuple[Origin | None, Any]] = {}  # made from the rounded delays, until these change
        self.delays = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype)) if weight else None
        self.bias = nn.Parameter(torch.empty(bias, device=device, dtype=dtype)) if bias else None
        self.register_buffer("active", None, persistent=False)
        width = options.first_width(self.max_delay)
        sigma_shape = self.delays.shape if options.learn_sigma is True else ()
        sigma = None if width is None else self.delays.detach().new_full(sigma_shape, width)
        if options.learn_sigma and sigma is not None:
            self.sigma = nn.Parameter(sigma)
        else:
            self.register_buffer("sigma", sigma)
        self._limit()
        self.reset_parameters(options.init)

    def _bounds(self) -> Iterator[tuple[nn.Parameter, float, Bound]]:
        """Of each Parameter that has a range: the Parameter, the lowest value, the highest one."""
        if isinstance(self.delays, nn.Parameter):
            active = self.active
            yield self.delays, 0, self.max_delay if active is None else active.to(self.delays) * self.max_delay
        if isinstance(self.sigma, nn.Parameter):
            yield self.sigma, SIGMA_FLOOR[self.interpolation], math.inf

    def _limit(self) -> None:
        for parameter, low, high in self._bounds():
            limit(parameter, low, high)

    def _unlimit(self) -> None:
        for parameter in (self.delays, self.sigma):
            if parameter is not None:
                unlimit(parameter)

    def clamp_parameters(self) -> None:
        """Bring delays and learned widths back into their ranges, after an update that is no optimizer's."""
        if torch.compiler.is_compiling() and not torch.compiler.is_dynamo_compiling():
            return  # torch.export: a model that is exported does not change its parameters
        for parameter, low, high in self._bounds():
            clamp(parameter, low, high)

    def __setstate__(self, state: dict[str, Any]) -> None:
        state.pop("_kept", None)  # the cache's name in delayplug 0.1
        super().__setstate__({**state, "_cache": {}})  # type: ignore[no-untyped-call]
        self._limit()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # In bfloat16 a delay near 24 has a resolution of 0.125 steps: delays and widths are moved, but stay precise.
        precise = self._precise()

        def moved(tensor: Tensor) -> Tensor:
            result = fn(tensor)
            keeps = result.dtype in HALF and any(tensor is other for other in precise)
            return tensor.to(result.device) if keeps else result

        self._unlimit()
        try:
            super()._apply(moved, recurse)  # type: ignore[no-untyped-call]
        finally:
            self._limit()  # `to_empty` and moves between some devices make new Parameters
        return self

    def _precise(self) -> list[Tensor | None]:
        """What stays as it is when a model is moved to half precision."""
        precise = [self.delays, self.delays.grad]
        return precise + ([] if self.sigma is None else [self.sigma, self.sigma.grad if self.sigma.is_leaf else None])

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in."""
        return self.delays.dtype

    @torch.no_grad()
    def reset_parameters(self, init: str | float = "uniform") -> None:
        """Draw weights and bias as `nn.Linear` does, and delays as `init` says."""
        check_init(init, self.max_delay)
        if isinstance(init, str):
            self.delays.uniform_(0, self.max_delay)
        else:
            self.delays.fill_(init)
        bound = 1 / math.sqrt(self.delays[0].numel())
        for parameter in (self.weight, self.bias):
            if parameter is not None:
                parameter.uniform_(-bound, bound)

    @torch.no_grad()
    def prune(self, active: Tensor | None) -> None:
        """Hold delays at zero, whatever the optimizer, where `active` (*S), bool, is False; None frees all.

        Such a synapse is that of a plain layer: its delay has no width and no gradient. The mask goes with copies and
        pickles of the layer, not into its state_dict: see `delayplug.DelayPruning`.
        """
        if active is not None and (active.shape != self.delays.shape or active.dtype != torch.bool):
            got = f"{active.dtype} {tuple(active.shape)}"
            raise ArgumentError("active", f"torch.bool {tuple(self.delays.shape)}", got)
        self.active = None if active is None else active.to(self.delays.device, copy=True)
        self._limit()
        if self.active is not None:
            self.delays.masked_fill_(~self.active, 0)

    # ------------------------------------------------------------------------------------------------ kernel

    def kernel(self, weight: Tensor | None = None) -> Tensor:
        """The taps, (K, *S). In `eval()` the delays count as rounded.

        `weight`, of the shape of the delays or without its last dimension, stands in for the layer's own.
        """
        self.clamp_parameters()
        if self.rounds:
            return self._cached("taps", weight, lambda: self._integer_taps(weight))
        weight = self._weight(weight)
        delays = self._per_tap(self.delays)
        sigma = self.sigma if self.sigma is None or self.sigma.dim() == 0 else self._per_tap(self.sigma)
        if self.active is None:
            return self._taps(delays, weight, sigma)
        active = self._per_tap(self.active)
        weight = torch.ones_like(delays) if weight is None else weight
        kernel = self._taps(delays, weight * active, sigma)
        kernel[0] += (weight * ~active).sum(-1)
        return kernel

    def _integer_taps(self, weight: Tensor | None) -> Tensor:
        return integer_taps(self._per_tap(self.delays).to(self.dtype), self._weight(weight), max_delay=self.max_delay)

    def _cached(self, name: str, weight: Tensor | None, make: Callable[[], V]) -> V:
        """What is made from the rounded delays, made again only when parameters change, or for a gradient."""
        if torch.compiler.is_compiling() or self._learns(weight):
            return make()
        before, _ = self._cache.get(name, (None, None))
        now = self._origin(weight, before)
        if now is not before:
            self._cache[name] = now, make()
        result: V = self._cache[name][1]
        return result

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_cache"}

    def train(self, mode: bool = True) -> Self:
        self._cache = {}  # while training, what was rounded is of no use
        return super().train(mode)

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
        if not isinstance(tail, int) or not 0 <= tail <= self.max_delay:
            raise ArgumentError("tail", f"a number of steps between 0 and max_delay={self.max_delay}", tail)
        x, dtype = self._prepare(x, leading=1, spikes=True)
        return _in_precision(self._convolve(x, self.kernel(weight), x.shape[0] + tail), dtype)

    def chunk(self, x: Tensor, state: DelayState | None, weight: Tensor | None = None) -> tuple[Tensor, DelayState]:
        """A part of a sequence: `forward` with what `state` says is under way (None: nothing), and the next state."""
        x, dtype = self._prepare(x, leading=1)
        skip = 0 if state is None else self.max_delay  # silence need not be convolved
        past_and_x = torch.cat((self._state(state, x.shape[1:]).history, x))
        y = self._convolve(past_and_x[self.max_delay - skip :], self.kernel(weight), x.shape[0] + skip)
        # A copy, or a state would keep the whole sequence alive.
        return _in_precision(y[skip:], dtype), DelayState(past_and_x[x.shape[0] :].clone())

    def step(self, x: Tensor, state: DelayState | None, weight: Tensor | None = None) -> tuple[Tensor, DelayState]:
        """One step of a sequence; equal to the same step of `forward`.

        Args:
            x: the input of one step, without the dimension of time.
            state: from `initial_state` or the previous step; None at the beginning.
            weight: instead of the layer's own.

        Returns:
            The output of the step, and the next state.
        """
        x, dtype = self._prepare(x, leading=0)
        state = self._state(state, x.shape)
        event_driven = self._event_step(x, state, weight)
        if event_driven is not None:
            return _in_precision(event_driven[0], dtype), event_driven[1]
        kernel, made_from = state.kernel, self._origin(weight, state.made_from)
        # A traced step cannot tell which tensor a weight is, but a Parameter is the one that it was.
        unknown = torch.compiler.is_compiling() and weight is not None and not isinstance(weight, nn.Parameter)
        changed = unknown or made_from is not state.made_from
        if kernel is None or changed or kernel.requires_grad != self._learns(weight):
            kernel = self._step_kernel(self.kernel(weight))
        window, tape = window_over(state, x, kernel.requires_grad)
        y = self._convolve_step(window, kernel)
        return _in_precision(y, dtype), DelayState(window[1:], kernel, made_from, tape=tape)

    def _state(self, state: DelayState | None, shape: tuple[int, ...]) -> DelayState:
        """The state, checked, for inputs of that shape; if it is None, that before a sequence."""
        if state is None:
            return DelayState(torch.zeros((self.max_delay, *shape), dtype=self.dtype, device=self.delays.device))
        check_state(state, self.max_delay, shape)
        return state

    def _event_step(self, x: Tensor, state: DelayState, weight: Tensor | None) -> tuple[Tensor, DelayState] | None:
        """One step taken spike by spike: output and next state; None for a step that is better taken densely."""
        return None

    @abstractmethod
    def _convolve(self, x: Tensor, kernel: Tensor, steps: int) -> Tensor:
        """The taps over a sequence, which may be one of bool or integers."""

    @abstractmethod
    def _step_kernel(self, kernel: Tensor) -> Tensor:
        """The taps in the form that `_convolve_step` takes."""

    @abstractmethod
    def _convolve_step(self, window: Tensor, kernel: Tensor) -> Tensor:
        """One step's output from the last K inputs, oldest first."""

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

    def _origin(self, weight: Tensor | None, before: Origin | None) -> Origin | None:
        """What a kernel is made from now: the same object as before unless that has changed, None while compiling.

        It changes by optimizer steps, schedules, checkpoints, the mode, other weights; not by writing to `.data`.
        """
        if torch.compiler.is_compiling():
            return None
        sources, flags = self._sources(weight), (self.training, self.rounds)
        if before is not None and before.is_current(sources, flags):
            return before
        return Origin(sources, flags)

    def _prepare(self, x: Tensor, leading: int, spikes: bool = False) -> tuple[Tensor, torch.dtype]:
        """x in the dtype of the delays, and its own dtype; `leading` dimensions of time come first.

        With `spikes`, bool and integers stay as they are.
        """
        self._check_input(x, leading)
        if x.dtype != self.dtype and x.is_floating_point() and x.dtype not in HALF:
            expected = f"dtype {self.dtype}, half precision, bool or integers"
            raise ArgumentError("x", expected, x.dtype, "Convert the input or the layer with .to(dtype)")
        keep = spikes and not x.is_floating_point()
        return x if keep else x.to(self.dtype), x.dtype

    # --------------------------------------------------------------------------------------------- bookkeeping

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        delays = state_dict.get(f"{prefix}delays")
        if isinstance(delays, Tensor):
            check_delays(delays, self.max_delay, f"{prefix}delays", "Make the layer with a larger max_delay")
        sigma = state_dict.get(f"{prefix}sigma")
        if isinstance(sigma, Tensor) and self.sigma is not None:
            check_widths(sigma, self.interpolation, f"{prefix}sigma")
        self._unlimit()
        try:
            super()._load_from_state_dict(state_dict, prefix, *args)
        finally:
            self._limit()  # with assign=True there are new Parameters

    def _describe(self, size: str, *more: str) -> str:
        """For `extra_repr`."""
        parts = [size, f"max_delay={self.max_delay}", f"interpolation={self.interpolation!r}"]
        if isinstance(self.sigma, nn.Parameter):
            parts.append(f"learn_sigma={(self.sigma.shape == self.delays.shape or 'layer')!r}")
        elif self.sigma is not None:
            parts.append("sigma=?" if self.sigma.is_meta else f"sigma={self.sigma.mean().item():.4g}")
        parts += more
        if not self.round_in_eval:
            parts.append("round_in_eval=False")
        return ", ".join(parts)


def _in_precision(y: Tensor, dtype: torch.dtype) -> Tensor:
    """The output for an input of this dtype: in half precision if that was."""
    return y.to(dtype) if dtype in HALF else y
