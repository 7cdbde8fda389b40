"""The parameters of a layer with delays: their ranges, their precision, and how they are drawn, moved and loaded."""

import math
from collections.abc import Callable, Iterator
from typing import Any, Self

import torch
from torch import Tensor, nn

from ..errors import ArgumentError
from .autograd import is_transformed
from .bounds import Bound, clamp, clamped, limit, unlimit
from .checks import HALF, check_count, check_delays, check_not_diverged
from .options import KernelOptions, check_init, check_widths
from .taps import SIGMA_FLOOR, Interpolation


class DelayParameters(nn.Module):
    """Delays, widths, weights and bias of a `DelayLayer`, which has their description."""

    layer_name: str = ""
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
            yield self.delays, 0, self._longest()
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
        exported = torch.compiler.is_compiling() and not torch.compiler.is_dynamo_compiling()
        if exported or is_transformed():
            return  # an exported model does not change its parameters, nor does a function that is transformed
        for parameter, low, high in self._bounds():
            clamp(parameter, low, high)

    def _in_range(self) -> tuple[Tensor, Tensor | None]:
        """Delays and widths, brought into their ranges; raises ArgumentError if they are not finite."""
        self.clamp_parameters()
        delays, sigma = self.delays, self.sigma
        # What stands in for a Parameter, as under `torch.func.functional_call` or a parametrization, is not changed.
        if is_transformed() or not isinstance(delays, nn.Parameter):
            delays = clamped(delays, 0, self._longest())
        if sigma is not None and not isinstance(sigma, nn.Parameter) and "sigma" not in self._buffers:
            sigma = clamped(sigma, SIGMA_FLOOR[self.interpolation], math.inf)
        if self._checks_values():
            for name, value in (("delays", delays), ("sigma", sigma)):
                if value is not None:
                    check_not_diverged(value, self._named(name))
        return delays, sigma

    def _checks_values(self) -> bool:
        """Whether values can be checked: not on a GPU, which would be waited for; there a NaN delay makes NaN taps."""
        return self.delays.device.type == "cpu" and not torch.compiler.is_compiling() and not is_transformed()

    def _named(self, parameter: str) -> str:
        """A parameter with its layer, for an error."""
        return f"{parameter} of {self.layer_name or type(self).__name__} {tuple(self.delays.shape)}"

    def _longest(self) -> Bound:
        """The largest delay that is allowed, in steps; by delay if some are held at zero."""
        return self.max_delay if self.active is None else self.active.to(self.delays) * self.max_delay

    def __setstate__(self, state: dict[str, Any]) -> None:
        state.pop("_kept", None)  # a cache that delayplug 0.1 had
        super().__setstate__(state)  # type: ignore[no-untyped-call]
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
