"""`LearnableDelay`: delays per synapse of a linear layer, or per channel of anything.

Shapes: T steps, B batch, I inputs, O outputs, C channels, N taps per synapse, D = max_delay, K = D + 1.
"""

from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import ArgumentError
from . import dcls
from .autograd import is_transformed
from .base import DelayLayer
from .checks import check_count, check_delays, check_input
from .engines.channels import convolve_channels
from .engines.convolve import Engine, convolve
from .engines.events import Launch, arrivals
from .options import KernelOptions, LearnSigma, check_engine
from .precision import full_precision
from .state import DelayState, window_over
from .sums import LEAST_WINDOW, Sums
from .taps import Interpolation


class LearnableDelay(DelayLayer):
    r"""Learnable delays, one per synapse or one per channel.

    With `out_features`, every synapse i -> o has a weight and a delay and the layer replaces a linear one,

        y_o[t] = bias_o + sum_i sum_k tap_oi[k] x_i[t - k],

    where tap_oi is the bump of `layers.taps` around the delay, times the weight (Hammouamri, Khalfaoui-Hassani,
    Masquelier, ICLR 2024, section 3; `taps` > 1 gives a synapse several weights, each with its delay). Without
    `out_features`, every channel has one delay and no weight: axonal before a layer, dendritic after it.

    Delays are in steps, continuous in 0..max_delay while training and rounded in `eval()`; see `DelayLayer`.

    Shapes: a sequence is (T, *batch, I) -> (T, *batch, O) per synapse, (T, B, C, *trailing) or (T, C) -> the same per
    channel; a step is without T.

    Args:
        in_features: inputs I, or channels C without `out_features`.
        out_features: outputs O.
        max_delay: D, the largest delay in steps.
        taps: taps per synapse, N.
        bias: add a learnable bias (per synapse only); it is not delayed.
        weight: hold the weights (per synapse only); without them every call must bring its own.
        interpolation: "gauss", "triangle" or "linear", see `delayplug.layers.taps`.
        sigma: width of the bump in steps, a number; max_delay / 2 plus the floor (0.27 for "gauss", 1 for
            "triangle") by default, which reaches across all delays. Not used by "linear".
        learn_sigma: make the width a Parameter, one per delay (True, as DCLS has it) or one for the layer ("layer"); a
            scalar buffer otherwise.
        init: "uniform" in 0..max_delay, or one delay for all in steps. With "linear" (and "triangle" of width 1), whole
            delays have a gradient of zero, as in DCLS: to train, start between whole steps.
        round_in_eval: round the delays in `eval()`.
        engine: per synapse "auto" (the fastest), "fft", "direct", "products" (on a GPU's tensor cores; elsewhere a call
            raises ArgumentError), or "dcls" for DCLS's own kernel construction (for comparison); per channel "auto" or
            "channel", which are the same.

    Attributes:
        delays: Parameter (O, I, N) or (C,), in steps.
        weight: Parameter (O, I, N), or None.
        sigma: buffer (), or Parameter of the shape of the delays or (), in steps; None for "linear".

    >>> layer = LearnableDelay(3, 2, max_delay=4)
    >>> layer(torch.zeros(10, 8, 3)).shape  # (T, B, I) -> (T, B, O)
    torch.Size([10, 8, 2])
    >>> state = layer.initial_state(8)
    >>> y, state = layer.step(torch.zeros(8, 3), state)
    """

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
        learn_sigma: LearnSigma = False,
        init: str | float = "uniform",
        round_in_eval: bool = True,
        engine: Engine = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_count("in_features", in_features, 1)
        check_count("taps", taps, 1)
        if out_features is not None:
            check_count("out_features", out_features, 1)
        elif taps != 1 or bias:
            raise ArgumentError("out_features", "a number of outputs for taps > 1 or bias", f"taps={taps}, bias={bias}")
        check_engine(engine, "channel" if out_features is None else "synapse")
        super().__init__(
            (in_features,) if out_features is None else (out_features, in_features, taps),
            max_delay=max_delay,
            options=KernelOptions(interpolation, sigma, learn_sigma, init, round_in_eval, engine),
            weight=weight and out_features is not None,
            bias=out_features if bias and out_features is not None else 0,
            device=device,
            dtype=dtype,
        )
        self.in_features, self.out_features = int(in_features), None if out_features is None else int(out_features)
        self.taps = int(taps)
        self.engine: Engine = engine

    def initial_state(self, *batch: int, trailing: tuple[int, ...] = ()) -> DelayState:
        """The state before a sequence: nothing is under way.

        Args:
            batch: sizes of the batch dimensions, none for unbatched input.
            trailing: sizes behind the channels (per channel only).
        """
        return self._state(None, (*batch, self.in_features, *trailing))

    def _per_tap(self, value: Tensor) -> Tensor:
        return value if self.out_features is not None else value.unsqueeze(-1)

    def _taps(self, delays: Tensor, weight: Tensor | None, sigma: Tensor | None) -> Tensor:
        if self.engine == "dcls" and weight is not None:
            return dcls.taps(delays, weight, sigma, max_delay=self.max_delay, interpolation=self.interpolation)
        return super()._taps(delays, weight, sigma)

    def _weight(self, weight: Tensor | None) -> Tensor | None:
        if self.out_features is not None:
            return super()._weight(weight)
        if weight is not None:
            raise ArgumentError("weight", "None for delays per channel, which have no weights", tuple(weight.shape))
        return None

    def _check_input(self, x: Tensor, leading: int) -> None:
        check_input(x, self.in_features, channels_last=self.out_features is not None, leading=leading)

    def _convolve(self, x: Tensor, kernel: Tensor, steps: int) -> Tensor:
        if self.out_features is None:
            return convolve_channels(x, kernel, steps=steps)
        batch = x.shape[1:-1]
        y = convolve(x.reshape(x.shape[0], -1, self.in_features), kernel, steps=steps, engine=self.engine)
        y = y.reshape(steps, *batch, self.out_features)
        return y if self.bias is None else y + self.bias

    def _takes_half(self, x: Tensor) -> bool:
        return self.out_features is not None

    def _step_kernel(self, kernel: Tensor) -> Tensor:
        """Oldest input first: (K I, O) per synapse, (K, C) per channel."""
        taps = kernel.flip(0)
        return taps if self.out_features is None else taps.mT.flatten(0, 1)

    def _convolve_step(self, window: Tensor, kernel: Tensor) -> Tensor:
        if self.out_features is None:
            return (window * _along_channels(kernel, window.dim() - 1)).sum(0)
        with full_precision(kernel.device):
            return window.movedim(0, -2).flatten(-2) @ kernel

    def _weigh(self, x: Tensor, tap: Tensor) -> Tensor:
        if self.out_features is None:
            return x * _along_channels(tap.unsqueeze(0), x.dim())[0]
        with full_precision(tap.device):
            return functional.linear(x, tap)

    def _scatters(self, x: Tensor) -> bool:
        wanted = torch.is_grad_enabled() and (x.requires_grad or self.delays.requires_grad)
        if self.out_features is None or not wanted or x.numel() * (self.max_delay + 1) < LEAST_WINDOW:
            return False
        return 2 * self.out_features <= self.in_features

    def _scattered(self, x: Tensor, kernel: Tensor) -> Tensor:
        with full_precision(kernel.device):
            products: Tensor = functional.linear(x, kernel.flatten(0, 1)).unflatten(-1, kernel.shape[:2])
        return products

    def _with_bias(self, y: Tensor) -> Tensor:
        return y if self.bias is None else y + self.bias

    def _event_step(
        self, x: Tensor, state: DelayState, weight: Tensor | None, sums: Sums | None
    ) -> tuple[Tensor, DelayState] | None:
        # Counting spikes on a GPU would wait for it.
        chosen = self.rounds and self.engine == "auto" and x.device.type == "cpu"
        if self.out_features is None or not chosen or torch.compiler.is_compiling() or is_transformed():
            return None
        if torch.is_grad_enabled() and (x.requires_grad or self._learns(weight)):
            return None  # a gradient wants the window of inputs
        made_from, pending, launches = self._origin("events", weight, state.made_from), state.pending, state.kernel
        changed = state.made_from is not made_from
        if changed or not isinstance(launches, Launch):
            launches = self._from_whole("events", weight, self._launch)
        known = None if sums is None or changed else sums.pending
        if sums is not None and known is not None and sums.total is not None:
            # Of a step after the first one with this input; the outputs after this sum are found when they are wanted.
            age = sums.count - 1
            y, pending = sums.total + known[age - 1] if age <= self.max_delay else sums.total, None
        else:
            # Without an origin it comes from a file.
            if pending is None or (changed and state.made_from is not None):
                pending = self._pending(state.history, weight)
            shape = (*x.shape[:-1], self.out_features)
            flat = pending.view(self.max_delay + 1, -1, self.out_features)
            y, pending = arrivals(x.reshape(-1, self.in_features), flat, launches)
            y, pending = y.view(shape), pending.view(self.max_delay + 1, *shape)
            known = pending if sums is not None and sums.silent and sums.count == 1 else None
        window, tape = window_over(state, x, learns=False)
        history = window[1:]
        if sums is not None:
            sums.total, sums.pending, sums.history = None if known is None else y.clone(), known, history
        return y, DelayState(history, launches, made_from, pending, tape, sums)

    def _pending(self, history: Tensor, weight: Tensor | None) -> Tensor:
        """The next K outputs as far as the last D inputs say, without bias: (K, *batch, O)."""
        steps = self.max_delay
        pending = history.new_zeros((steps + 1, *history.shape[1:-1], self.out_features or 0))
        if bool(history.any()):
            flat = history.reshape(steps, -1, self.in_features)
            y = convolve(flat, self.kernel(weight), steps=2 * steps, engine=self.engine)
            pending[:steps] = y[steps:].view_as(pending[:steps])
        return pending

    def _launch(self, delays: Tensor, weight: Tensor | None) -> Launch:
        assert weight is not None
        return Launch(delays.detach(), weight.detach(), self.max_delay)

    # ------------------------------------------------------------------------------------------------- DCLS

    @classmethod
    def from_dcls(cls, module: nn.Module, *, round_in_eval: bool = True, engine: Engine = "auto") -> Self:
        """The layer that computes, while training, what a `Dcls1d` does on an input padded by K - 1 steps on the left.

        In `eval()` the new layer rounds its delays, as the paper does and DCLS by itself does not; pass
        `round_in_eval=False` to keep them as they are.

        Args:
            module: a `DCLS.construct.modules.Dcls1d` with stride 1, padding 0, groups 1, version "gauss", "max" or
                "v1", and every position inside of the kernel.
            round_in_eval, engine: as for `LearnableDelay`.
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
            round_in_eval=round_in_eval,
            engine=engine,
            device=parts.weight.device,
            dtype=parts.weight.dtype,
        )
        with torch.no_grad():
            layer.delays.copy_(parts.delays).requires_grad_(parts.learns_delays)
            if layer.weight is not None:
                layer.weight.copy_(parts.weight)
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

        Per channel it has one group per channel and weights of one that are not trained. Where the layer learns widths,
        one or all, it learns one per delay; delays that are held at zero are free there.
        """
        per_synapse = self.out_features is not None
        delays = self.delays.detach().to(self.dtype)
        delays = delays if per_synapse else delays.view(-1, 1, 1)
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

    def extra_repr(self) -> str:
        size = f"{self.in_features}" if self.out_features is None else f"{self.in_features}, {self.out_features}"
        more = [] if self.out_features is None else [f"bias={self.bias is not None}"]
        more += [f"taps={self.taps}"] if self.taps != 1 else []
        more += [f"engine={self.engine!r}"] if self.engine != "auto" else []
        return self._describe(size, *more)


def _along_channels(kernel: Tensor, dims: int) -> Tensor:
    """(K, C) such that it broadcasts against K inputs of `dims` dimensions, (K, C) or (K, B, C, ...)."""
    return kernel if dims == 1 else kernel.view(kernel.shape[0], 1, -1, *(1,) * (dims - 2))
