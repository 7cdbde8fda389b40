"""The options that all layers with delays share: how their delays begin, and how these become a kernel."""

import math
from dataclasses import dataclass
from numbers import Real
from typing import Literal

from torch import Tensor

from .._extras import require
from ..errors import ArgumentError, did_you_mean
from .engines.convolve import Engine
from .taps import SIGMA_FLOOR, Interpolation, check_interpolation

LearnSigma = bool | Literal["layer"]
DelayKind = Literal["synapse", "channel", "convolution"]

# The engines of each kind of delays, and what an error calls these.
_ENGINES: dict[DelayKind, tuple[tuple[Engine, ...], str]] = {
    "synapse": (("auto", "fft", "direct", "products", "dcls"), "delays per synapse"),
    "channel": (("auto", "channel"), "delays per channel"),
    "convolution": (("auto", "direct"), "convolutions"),
}


@dataclass(frozen=True)
class KernelOptions:
    """Options of a layer with delays, checked; each is the argument of that name of `LearnableDelay`.

    Raises:
        ArgumentError: an option is not what it should be, or does not go with another one. `init` and `engine`, which
            depend on the layer, are checked by it: see `check_init` and `check_engine`.
    """

    interpolation: Interpolation = "gauss"
    sigma: float | None = None
    learn_sigma: LearnSigma = False
    init: str | float = "uniform"
    round_in_eval: bool = True
    engine: Engine = "auto"

    def __post_init__(self) -> None:
        check_interpolation(self.interpolation)
        if not isinstance(self.learn_sigma, bool) and self.learn_sigma != "layer":
            expected, hint = "False, True (one per delay) or 'layer' (one)", did_you_mean(self.learn_sigma, ["layer"])
            raise ArgumentError("learn_sigma", expected, repr(self.learn_sigma), hint)
        if self.interpolation != "linear":
            _check_width(self.sigma, self.interpolation)
        elif self.sigma is not None:
            raise ArgumentError("sigma", "None with interpolation='linear', which has no width", self.sigma)
        elif self.learn_sigma:
            expected = "False with interpolation='linear', which has no width"
            raise ArgumentError("learn_sigma", expected, repr(self.learn_sigma))

    def first_width(self, max_delay: int) -> float | None:
        """The width in steps before training: `sigma`, or one that reaches across all delays; None for "linear"."""
        if self.interpolation == "linear":
            return None
        return float(max_delay / 2 + SIGMA_FLOOR[self.interpolation] if self.sigma is None else self.sigma)


def check_init(init: str | float, max_delay: int) -> None:
    """Raise ArgumentError unless it is "uniform" or a delay in the range."""
    if isinstance(init, str):
        if init != "uniform":
            raise ArgumentError("init", "'uniform' or a delay in steps", repr(init), did_you_mean(init, ["uniform"]))
    elif not isinstance(init, Real) or isinstance(init, bool) or not 0 <= init <= max_delay:
        raise ArgumentError("init", f"a delay between 0 and max_delay={max_delay} steps", init)


def check_engine(engine: str, kind: DelayKind, advice: str = "") -> None:
    """Raise ArgumentError unless there is such an engine for this kind of delays.

    Raises:
        ExtraMissingError: the engine is "dcls" and DCLS is not installed.
    """
    engines, delays = _ENGINES[kind]
    if engine not in engines:
        hint = " ".join(filter(None, (did_you_mean(engine, engines), advice)))
        raise ArgumentError("engine", f"one of {', '.join(engines)} for {delays}", repr(engine), hint)
    if engine == "dcls":
        require("DCLS", "dcls", "engine='dcls'")


def check_widths(sigma: Tensor, interpolation: Interpolation, name: str) -> None:
    """Raise ArgumentError unless all widths are finite and at least the floor; waits for the device."""
    floor = SIGMA_FLOOR[interpolation]
    if not bool(((sigma >= floor) & sigma.isfinite()).all()):
        got = f"values from {sigma.min().item():g} to {sigma.max().item():g}"
        raise ArgumentError(name, f"finite widths >= {floor} steps", got)


def _check_width(sigma: float | None, interpolation: Interpolation) -> None:
    floor = SIGMA_FLOOR[interpolation]
    if sigma is not None and not (isinstance(sigma, Real) and math.isfinite(sigma) and sigma >= floor):
        raise ArgumentError("sigma", f"a width >= {floor} steps with interpolation={interpolation!r}", sigma)
