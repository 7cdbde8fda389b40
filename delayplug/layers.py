"""`LearnableDelay`: a layer whose delays are Parameters.

Shapes: T steps, B batch, I inputs, O outputs, C channels, N taps per synapse, D = max_delay, K = D + 1.
"""

import math
from collections.abc import Callable
from numbers import Real
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from . import dcls, kernels
from .checks import HALF, check_count, check_delays, check_input
from .convolution import Engine, check_engine, convolve, convolve_channels
from .errors import ArgumentError
from .kernels import INTERPOLATIONS, SIGMA_FLOOR, Interpolation
from .ranges import limit, project


class DelayState(NamedTuple):
    """What a delay carries from one step to the next.

    history: (D, *batch, I), or (D, *batch, C, *trailing): the last D inputs, oldest first.
    kernel: the taps in the form `LearnableDelay.step` uses, or None before the first step. Kept here so that a
        sequence builds them once.
    made_from: what tells whether the kernel is still that of the layer.
    """

    history: Tensor
    kernel: Tensor | None = None
    made_from: tuple[int, ...] = ()

    def detach(self) -> "DelayState":
        """The same inputs, cut off from the graph; the kernel will be built anew."""
        return DelayState(self.history.detach())


class LearnableDelay(nn.Module):
    r"""Learnable delays, one per synapse or one per channel.

    With `out_features`, every synapse i -> o has a weight and a delay and the layer replaces a linear one,

        y_o[t] = bias_o + sum_i sum_k tap_oi[k] x_i[t - k],

    where tap_oi is the bump of `delayplug.kernels` around the delay, times the weight (Hammouamri, Khalfaoui-Hassani,
    Masquelier, ICLR 2024, section 3; `taps` > 1 gives a synapse several weights, each with its delay). Without
    `out_features`, every channel has one delay and no weight: axonal before a layer, dendritic after it.

    Delays are in steps, continuous in 0..max_delay while training. In `eval()` they count as rounded to whole steps
    (halves up); the parameters are not changed by that. They are brought back into their range after each step of any
    torch optimizer, by a hook that importing this module registers with all optimizers, and once more whenever a
    kernel is built, for updates made by hand: there is nothing to call and nothing to forget.

    Args:
        in_features: inputs I, or channels C without `out_features`.
        out_features: outputs O.
        max_delay: D, the largest delay in steps.
        taps: taps per synapse, N.
        bias: add a learnable bias (per synapse only); it is not delayed.
        weight: hold the weights (per synapse only); without them every call must bring its own.
        interpolation: "gauss", "triangle" or "linear", see `delayplug.kernels`.
        sigma: width of the bump in steps, a number; max_delay / 2 plus the floor (0.27 for "gauss", 1 for
            "triangle") by default, which reaches across all delays. Not used by "linear".
        learn_sigma: make the width a Parameter, one per delay (a scalar buffer otherwise).
        init: "uniform" in 0..max_delay, or one delay for all in steps. With "linear" (and "triangle" of width 1), whole
            delays have a gradient of zero, as in DCLS: to train, start between whole steps.
        round_in_eval: round the delays in `eval()`.
        engine: per synapse "auto", "fft", "direct", or "dcls" for DCLS's own kernel construction (for comparison);
            per channel "auto" or "channel", which are the same.

    Attributes:
        delays: Parameter (O, I, N) or (C,), in steps.
        weight: Parameter (O, I, N), or None.
        sigma: buffer () or Parameter of the shape of the delays, in steps; None for "linear".

    >>> layer = LearnableDelay(3, 2, max_delay=4)
    >>> layer(torch.zeros(10, 8, 3)).shape  # (T, B, I) -> (T, B, O)
    torch.Size([10, 8, 2])
    >>> state = layer.initial_state(8)
    >>> y, state = layer.step(torch.zeros(8, 3), state)
    """

    delays: nn.Parameter
    weight: nn.Parameter | None
    sigma: Tensor | None

    def __init__(
        self,
        in_features: int,
        out_features: int | None = None,
        *,
        max_delay: int,
        taps: int = 1,
        bias: bool = False,
        weight: bool = True,
        interpolation: Interpolation = "gauss",
        sigma: float | None = None,
        learn_sigma: bool = False,
        init: str | float = "uniform",
        round_in_eval: bool = True,
        engine: Engine = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_count("in_features", in_features, 1)
        check_count("max_delay", max_delay, 0)
        check_count("taps", taps, 1)
        if out_features is not None:
            check_count("out_features", out_features, 1)
        elif taps != 1 or bias:
            raise ArgumentError("out_features", "a number of outputs for taps > 1 or bias", f"taps={taps}, bias={bias}")
        if interpolation not in INTERPOLATIONS:
            raise ArgumentError("interpolation", f"one of {', '.join(INTERPOLATIONS)}", repr(interpolation))
        check_engine(engine, per_synapse=out_features is not None)
        if dtype is not None and not dtype.is_floating_point:
            raise ArgumentError("dtype", "a floating point type", dtype)
        self.in_features, self.out_features = int(in_features), None if out_features is None else int(out_features)
        self.max_delay, self.taps = int(max_delay), int(taps)
        self.interpolation: Interpolation = interpolation
        self.round_in_eval = round_in_eval
        self.engine: Engine = engine

        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        shape = (in_features,) if out_features is None else (out_features, in_features, taps)
        self.delays = nn.Parameter(torch.empty(shape, **factory))
        has_weight = weight and out_features is not None
        self.weight = nn.Parameter(torch.empty(shape, **factory)) if has_weight else None
        self.bias = nn.Parameter(torch.empty(out_features or 0, **factory)) if bias else None
        self._set_sigma(sigma, learn_sigma)
        self._limit()
        self.reset_parameters(init)

    def _set_sigma(self, sigma: float | None, learn: bool) -> None:
        if self.interpolation == "linear":
            if sigma is not None or learn:
                raise ArgumentError("sigma", "None with interpolation='linear', which has no width", sigma)
            self.register_buffer("sigma", None)
            return
        floor = SIGMA_FLOOR[self.interpolation]
        width = self.max_delay / 2 + floor if sigma is None else sigma
        if not (isinstance(width, Real) and math.isfinite(width) and width >= floor):
            raise ArgumentError("sigma", f"a width >= {floor} steps with interpolation={self.interpolation!r}", sigma)
        if learn:
            self.sigma = nn.Parameter(torch.full_like(self.delays, width))
        else:
            self.register_buffer("sigma", self.delays.new_full((), width).detach())

    def _limit(self) -> None:
        limit(self.delays, 0, self.max_delay)
        if isinstance(self.sigma, nn.Parameter):
            limit(self.sigma, SIGMA_FLOOR[self.interpolation], math.inf)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._limit()

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any, **options: Any) -> "LearnableDelay":
        # In bfloat16 a delay near 24 has a resolution of 0.125 steps: delays and widths are moved, but stay precise.
        precise = [self.delays, self.delays.grad]
        precise += [] if self.sigma is None else [self.sigma, self.sigma.grad if self.sigma.is_leaf else None]

        def moved(tensor: Tensor) -> Tensor:
            result = fn(tensor)
            keeps = result.dtype in HALF and any(tensor is other for other in precise)
            return tensor.to(result.device) if keeps else result

        super()._apply(moved, *args, **options)  # type: ignore[no-untyped-call]
        self._limit()  # `to_empty` and moves between some devices make new Parameters
        return self

    @torch.no_grad()
    def reset_parameters(self, init: str | float = "uniform") -> None:
        """Draw weights and bias as `nn.Linear` does, and delays as `init` says."""
        if isinstance(init, str):
            if init != "uniform":
                raise ArgumentError("init", "'uniform' or a delay in steps", repr(init))
            self.delays.uniform_(0, self.max_delay)
        elif not isinstance(init, Real) or isinstance(init, bool) or not 0 <= init <= self.max_delay:
            raise ArgumentError("init", f"a delay between 0 and max_delay={self.max_delay} steps", init)
        else:
            self.delays.fill_(init)
        bound = 1 / math.sqrt(self.in_features * self.taps)
        for parameter in (self.weight, self.bias):
            if parameter is not None:
                parameter.uniform_(-bound, bound)

    # ------------------------------------------------------------------------------------------------ kernel

    def kernel(self, weight: Tensor | None = None) -> Tensor:
        """The taps: (K, O, I) per synapse, (K, C) per channel.

        `weight` (O, I, N) or (O, I) stands in for the layer's own. In `eval()` the delays count as rounded.
        """
        project(self.delays)
        if self.sigma is not None:
            project(self.sigma)
        weight = self._weight(weight)
        delays = self.delays if self.out_features is not None else self.delays.unsqueeze(-1)
        if self._rounds:
            return kernels.integer_taps(delays, weight, max_delay=self.max_delay)
        sigma = self.sigma if self.sigma is None or self.sigma.dim() == 0 else self.sigma.view_as(delays)
        if self.engine == "dcls" and weight is not None:
            return dcls.taps(delays, weight, sigma, max_delay=self.max_delay, interpolation=self.interpolation)
        return kernels.taps(delays, weight, sigma, max_delay=self.max_delay, interpolation=self.interpolation)

    @property
    def _rounds(self) -> bool:
        return self.round_in_eval and not self.training

    def _weight(self, weight: Tensor | None) -> Tensor | None:
        if self.out_features is None:
            if weight is not None:
                raise ArgumentError("weight", "None for delays per channel, which have no weights", tuple(weight.shape))
            return None
        weight = self.weight if weight is None else weight
        if weight is None:
            raise ArgumentError("weight", "a tensor, since this layer was made with weight=False", None)
        weight = weight.unsqueeze(-1) if weight.dim() == 2 else weight
        if weight.shape != self.delays.shape:
            raise ArgumentError("weight", f"shape {tuple(self.delays.shape)} (out, in, taps)", tuple(weight.shape))
        return weight.to(self.delays.dtype)

    # --------------------------------------------------------------------------------------------- application

    def forward(self, x: Tensor, tail: int = 0, weight: Tensor | None = None) -> Tensor:
        """A whole sequence: causal, of the same length.

        Args:
            x: (T, *batch, I) per synapse; (T, B, C, *trailing) or (T, C) per channel. Spikes may come as bool or
                integers. Half-precision input is computed in the precision of the delays and comes back in its own.
            tail: steps to append with silent input, at most max_delay, so that what is under way arrives.
            weight: (O, I, N) or (O, I) instead of the layer's own.

        Returns:
            (T + tail, *batch, O), or the shape of x with T + tail steps.
        """
        if not isinstance(tail, int) or not 0 <= tail <= self.max_delay:
            raise ArgumentError("tail", f"a number of steps between 0 and max_delay={self.max_delay}", tail)
        x, dtype = self._check(x, leading=1)
        return _as_given(self._convolve(x, self.kernel(weight), x.shape[0] + tail), dtype)

    def chunk(self, x: Tensor, state: DelayState | None, weight: Tensor | None = None) -> tuple[Tensor, DelayState]:
        """A part of a sequence: `forward` with what `state` says is under way (None: nothing), and the next state."""
        x, dtype = self._check(x, leading=1)
        if state is not None:
            self._check_state(state, x.shape[1:])
        history = x.new_zeros((self.max_delay, *x.shape[1:])) if state is None else state.history
        skip = 0 if state is None else self.max_delay
        past_and_x = torch.cat((history, x))
        y = self._convolve(past_and_x[self.max_delay - skip :], self.kernel(weight), x.shape[0] + skip)
        # A copy, or a state would keep the whole sequence alive.
        return _as_given(y[skip:], dtype), DelayState(past_and_x[x.shape[0] :].clone())

    def step(self, x: Tensor, state: DelayState | None, weight: Tensor | None = None) -> tuple[Tensor, DelayState]:
        """One step of a sequence; equal to the same step of `forward`.

        Args:
            x: (*batch, I) per synapse; (B, C, *trailing) or (C,) per channel.
            state: from `initial_state` or the previous step; None at the beginning.
            weight: (O, I, N) or (O, I) instead of the layer's own.

        Returns:
            (*batch, O) or the shape of x, and the next state.
        """
        x, dtype = self._check(x, leading=0)
        if state is None:
            state = DelayState(x.new_zeros((self.max_delay, *x.shape)))
        self._check_state(state, x.shape)
        kernel, made_from = state.kernel, self._fingerprint(weight)
        if kernel is None or state.made_from != made_from or kernel.requires_grad != self._learns(weight):
            kernel = self._step_kernel(weight)
        window = torch.cat((state.history, x.unsqueeze(0)))  # (K, *batch, I), oldest first
        if self.out_features is None:
            y = (window * _along_channels(kernel, x.dim())).sum(0)
        else:
            y = window.movedim(0, -2).flatten(-2) @ kernel
            if self.bias is not None:
                y = y + self.bias
        return _as_given(y, dtype), DelayState(window[1:], kernel, made_from)

    def initial_state(self, *batch: int, trailing: tuple[int, ...] = ()) -> DelayState:
        """The state before a sequence: nothing is under way.

        Args:
            batch: sizes of the batch dimensions, none for unbatched input.
            trailing: sizes behind the channels (per channel only).
        """
        return DelayState(self.delays.detach().new_zeros((self.max_delay, *batch, self.in_features, *trailing)))

    def _convolve(self, x: Tensor, kernel: Tensor, steps: int) -> Tensor:
        if self.out_features is None:
            return convolve_channels(x, kernel, steps=steps)
        batch = x.shape[1:-1]
        y = convolve(x.reshape(x.shape[0], -1, self.in_features), kernel, steps=steps, engine=self.engine)
        y = y.reshape(steps, *batch, self.out_features)
        return y if self.bias is None else y + self.bias

    def _step_kernel(self, weight: Tensor | None) -> Tensor:
        """Taps as a step uses them, oldest input first: (K I, O) per synapse, (K, C) per channel."""
        taps = self.kernel(weight).flip(0)
        return taps if self.out_features is None else taps.mT.flatten(0, 1)

    def _sources(self, weight: Tensor | None) -> list[Tensor]:
        """What the kernel depends on."""
        sources = (self.delays, self.sigma, self.weight if weight is None else weight)
        return [source for source in sources if source is not None]

    def _learns(self, weight: Tensor | None) -> bool:
        """Whether a kernel built now requires a gradient."""
        rounded = (self.delays, self.sigma) if self._rounds else ()  # rounding passes no gradient
        learned = [source for source in self._sources(weight) if all(source is not other for other in rounded)]
        return torch.is_grad_enabled() and any(source.requires_grad for source in learned)

    def _fingerprint(self, weight: Tensor | None) -> tuple[int, ...]:
        """Changes with the kernel: by optimizer steps, schedules, checkpoints, the mode; not by writing to `.data`."""
        if torch.compiler.is_compiling():
            return ()
        # Tensors made under inference_mode do not count their versions; nor can anything change them in training.
        versions = (n for s in self._sources(weight) for n in (id(s), 0 if s.is_inference() else s._version))
        return (self.training, *versions)

    def _check(self, x: Tensor, leading: int) -> tuple[Tensor, torch.dtype]:
        """x in the dtype of the delays, and its own dtype; `leading` dimensions of time come first."""
        check_input(x, self.in_features, channels_last=self.out_features is not None, leading=leading)
        if x.dtype != self.delays.dtype and x.is_floating_point() and x.dtype not in HALF:
            expected = f"dtype {self.delays.dtype}, half precision, bool or integers"
            raise ArgumentError("x", expected, x.dtype, "Convert the input or the layer with .to(dtype)")
        return x.to(self.delays.dtype), x.dtype

    def _check_state(self, state: DelayState, shape: torch.Size) -> None:
        if state.history.shape != (self.max_delay, *shape):
            raise ArgumentError(
                "state",
                f"a history of shape {(self.max_delay, *shape)}",
                tuple(state.history.shape),
                "Start a new sequence with initial_state(...) when the batch changes",
            )

    # ------------------------------------------------------------------------------------- DCLS, bookkeeping

    @classmethod
    def from_dcls(cls, module: nn.Module, **options: Any) -> "LearnableDelay":
        """The layer that computes, while training, what a `Dcls1d` does on an input padded by K - 1 steps on the left.

        In `eval()` the new layer rounds its delays, as the paper does and DCLS by itself does not; pass
        `round_in_eval=False` to keep them as they are.

        Args:
            module: a `DCLS.construct.modules.Dcls1d` with stride 1, padding 0, groups 1, version "gauss", "max" or
                "v1", and every position inside of the kernel.
            options: further arguments of `LearnableDelay`, such as `engine`.
        """
        parts = dcls.read(module)
        advice = "Clamp the positions of a kernel of even size to at most K / 2 - 1"
        check_delays(parts.delays, parts.max_delay, "module.P", advice)
        out_features, in_features, taps = parts.delays.shape
        layer = cls(
            in_features,
            out_features,
            max_delay=parts.max_delay,
            taps=taps,
            bias=parts.bias is not None,
            interpolation=parts.interpolation,
            learn_sigma=parts.learns_sigma,
            device=parts.weight.device,
            dtype=parts.weight.dtype,
            **options,
        )
        with torch.no_grad():
            layer.delays.copy_(parts.delays).requires_grad_(parts.learns_delays)
            layer._weight(None).copy_(parts.weight)  # type: ignore[union-attr]
            if layer.bias is not None and parts.bias is not None:
                layer.bias.copy_(parts.bias)
            if isinstance(layer.sigma, nn.Parameter) and parts.sigma is not None:
                layer.sigma.copy_(parts.sigma)
            elif parts.sigma is not None:
                first = parts.sigma.flatten()[0]
                layer.register_buffer("sigma", (first if bool((parts.sigma == first).all()) else parts.sigma).clone())
        return layer

    def to_dcls(self) -> nn.Module:
        """The `Dcls1d` that computes this layer on an input (B, I, T) padded by K - 1 steps on the left.

        Per channel it has one group per channel and weights of one that are not trained.
        """
        per_synapse = self.out_features is not None
        delays = self.delays.detach() if per_synapse else self.delays.detach().view(-1, 1, 1)
        weight = self._weight(None)
        sigma = None if self.sigma is None else self.sigma.detach()
        module = dcls.build(
            dcls.Parts(
                interpolation=self.interpolation,
                max_delay=self.max_delay,
                delays=delays,
                weight=torch.ones_like(delays) if weight is None else weight.detach(),
                bias=None if self.bias is None else self.bias.detach(),
                sigma=None if sigma is None else sigma.view(-1, 1, 1).expand_as(delays) if sigma.dim() <= 1 else sigma,
                learns_delays=self.delays.requires_grad,
                learns_sigma=self.sigma is not None and self.sigma.requires_grad,
            ),
            groups=1 if per_synapse else self.in_features,
        )
        if not per_synapse:
            module.weight.requires_grad_(False)
        return module

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        delays = state_dict.get(f"{prefix}delays")
        if isinstance(delays, Tensor):
            check_delays(delays, self.max_delay, f"{prefix}delays", "Make the layer with a larger max_delay")
        sigma = state_dict.get(f"{prefix}sigma")
        if isinstance(sigma, Tensor) and self.sigma is not None:
            floor = SIGMA_FLOOR[self.interpolation]
            if not bool(((sigma >= floor) & sigma.isfinite()).all()):
                got = f"values from {sigma.min().item():g} to {sigma.max().item():g}"
                raise ArgumentError(f"{prefix}sigma", f"finite widths >= {floor} steps", got)
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._limit()  # with assign=True there are new Parameters

    def extra_repr(self) -> str:
        size = f"{self.in_features}" if self.out_features is None else f"{self.in_features}, {self.out_features}"
        parts = [size, f"max_delay={self.max_delay}", f"interpolation={self.interpolation!r}"]
        if self.taps != 1:
            parts.append(f"taps={self.taps}")
        if self.sigma is not None:
            parts.append("learn_sigma=True" if isinstance(self.sigma, nn.Parameter) else f"sigma={_mean(self.sigma)}")
        if self.out_features is not None:
            parts.append(f"bias={self.bias is not None}")
        if not self.round_in_eval:
            parts.append("round_in_eval=False")
        if self.engine != "auto":
            parts.append(f"engine={self.engine!r}")
        return ", ".join(parts)


def _as_given(y: Tensor, dtype: torch.dtype) -> Tensor:
    return y.to(dtype) if dtype in HALF else y


def _along_channels(kernel: Tensor, dims: int) -> Tensor:
    """(K, C) such that it broadcasts against K inputs of `dims` dimensions, (K, C) or (K, B, C, ...)."""
    return kernel if dims == 1 else kernel.view(kernel.shape[0], 1, -1, *(1,) * (dims - 2))


def _mean(sigma: Tensor) -> str:
    return "?" if sigma.is_meta else f"{sigma.mean().item():.4g}"
