"""The variants of the benchmark's network: which delays there are. Imports no torch: commands list them."""

from typing import Literal, get_args

Variant = Literal["none", "fixed", "constant", "learned", "axonal", "dendritic"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)
PER_SYNAPSE: tuple[Variant, ...] = ("fixed", "constant", "learned")
ANNEALED: tuple[Variant, ...] = ("learned", "axonal", "dendritic")
WITH_RECURRENT_DELAYS = ("axonal", "synaptic")


def learns_delays(delays: Variant, recurrent: str = "none") -> bool:
    """Whether delays of this variant, or of this kind of recurrent connections, are trained."""
    return delays not in ("none", "fixed") or recurrent in WITH_RECURRENT_DELAYS


def anneals(delays: Variant, recurrent: str = "none") -> bool:
    """Whether the sigma of these delays shrinks while they are trained."""
    return delays in ANNEALED or (recurrent in WITH_RECURRENT_DELAYS and delays != "constant")


def variant_name(delays: str, fan_in: int, recurrent: str = "none") -> str:
    """The name of a combination of the three, such as "learned", "learned-sparse10" or "learned-recurrent-axonal"."""
    name = f"{delays}-sparse{fan_in}" if fan_in else delays
    return name if recurrent == "none" else f"{name}-recurrent-{recurrent}"
