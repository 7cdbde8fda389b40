"""Delays as DCLS 0.1.1 writes them: the reference for our kernels, and the way in and out for its checkpoints.

DCLS counts positions from the middle of the kernel and towards later inputs: position = K - 1 - K // 2 - delay. With an
even K its largest position, K / 2, lies outside of its own kernel. Its widths are |SIG| plus a floor.

Importing this module does not import DCLS; calling it does, and says which extra brings it.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .._extras import extra
from ..errors import ArgumentError, choice_error
from .taps import SIGMA_FLOOR, Interpolation

VERSIONS: dict[Interpolation, str] = {"gauss": "gauss", "triangle": "max", "linear": "v1"}


class Parts(NamedTuple):
    """The contents of a `Dcls1d`, with delays instead of positions; delays and widths are in steps.

    Shapes: O outputs, I inputs, N taps.
    """

    interpolation: Interpolation
    max_delay: int
    delays: Tensor  # (O, I, N)
    weight: Tensor  # (O, I, N)
    bias: Tensor | None  # (O,)
    sigma: Tensor | None  # (O, I, N)
    learns_delays: bool
    learns_sigma: bool


def is_dcls(module: nn.Module) -> bool:
    """Whether a module is a `Dcls1d`, of DCLS or of DCLG, as it was called before; imports neither."""
    return any(
        cls.__name__ == "Dcls1d" and cls.__module__.split(".")[0] in ("DCLS", "DCLG") for cls in type(module).__mro__
    )


def taps(
    delays: Tensor, weights: Tensor, sigma: Tensor | None, *, max_delay: int, interpolation: Interpolation
) -> Tensor:
    """`delayplug.layers.taps.taps` for (O, I, N), as DCLS's own `ConstructKernel1d` computes it."""
    with extra("dcls", "engine='dcls'"):
        from DCLS.construct.modules import ConstructKernel1d

    size = max_delay + 1
    out_features, in_features, count = delays.shape
    construct = ConstructKernel1d(out_features, in_features, 1, count, (size,), VERSIONS[interpolation])
    width = None if sigma is None else (sigma - SIGMA_FLOOR[interpolation]).expand_as(delays).unsqueeze(0)
    kernel: Tensor = construct(weights, mirrored(delays, size).unsqueeze(0), width)
    return kernel.flip(-1).permute(2, 0, 1)


def read(module: nn.Module) -> Parts:
    """Take a `Dcls1d` of stride 1, padding 0 and groups 1 apart, or raise ArgumentError."""
    with extra("dcls", "LearnableDelay.from_dcls"):
        from DCLS.construct.modules import Dcls1d

    if not isinstance(module, Dcls1d):
        raise ArgumentError("module", "a DCLS.construct.modules.Dcls1d", type(module).__name__)
    dcls: Any = module
    known: dict[str, Interpolation] = {version: name for name, version in VERSIONS.items()}
    if dcls.version not in known:
        raise choice_error("module.version", known, dcls.version)
    for name, wanted in {"stride": (1,), "padding": (0,), "groups": 1}.items():
        if getattr(dcls, name) != wanted:
            raise ArgumentError(f"module.{name}", str(wanted), getattr(dcls, name))
    size, interpolation = dcls.dilated_kernel_size[0], known[dcls.version]
    return Parts(
        interpolation=interpolation,
        max_delay=size - 1,
        delays=mirrored(dcls.P.detach()[0], size),
        weight=dcls.weight.detach(),
        bias=None if dcls.bias is None else dcls.bias.detach(),
        sigma=None if dcls.SIG is None else dcls.SIG.detach()[0].abs() + SIGMA_FLOOR[interpolation],
        learns_delays=dcls.P.requires_grad,
        learns_sigma=dcls.SIG is not None and dcls.SIG.requires_grad,
    )


def build(parts: Parts, *, groups: int = 1) -> nn.Module:
    """The `Dcls1d` (stride 1, no padding) that holds `parts`."""
    with extra("dcls", "LearnableDelay.to_dcls"):
        from DCLS.construct.modules import Dcls1d

    out_features, per_group, count = parts.weight.shape
    size = parts.max_delay + 1
    module: Any = Dcls1d(
        per_group * groups,
        out_features,
        count,
        dilated_kernel_size=size,
        groups=groups,
        bias=parts.bias is not None,
        version=VERSIONS[parts.interpolation],
    ).to(parts.delays.device, parts.delays.dtype)
    with torch.no_grad():
        module.P.copy_(mirrored(parts.delays, size)).requires_grad_(parts.learns_delays)
        module.weight.copy_(parts.weight)
        if parts.bias is not None:
            module.bias.copy_(parts.bias)
        if parts.sigma is not None:
            module.SIG.copy_(parts.sigma - SIGMA_FLOOR[parts.interpolation]).requires_grad_(parts.learns_sigma)
    built: nn.Module = module
    return built


def mirrored(values: Tensor, size: int) -> Tensor:
    """Delays to positions, and back: the map is its own inverse."""
    return size - 1 - size // 2 - values
