"""The variants of the benchmark's network: which delays there are. Imports no torch: commands list them."""

from typing import Literal, get_args

Variant = Literal["none", "fixed", "constant", "learned", "axonal", "dendritic"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)
PER_SYNAPSE: tuple[Variant, ...] = ("fixed", "constant", "learned")
ANNEALED: tuple[Variant, ...] = ("learned", "axonal", "dendritic")


def learns_delays(delays: Variant) -> bool:
    """Whether the delays of this variant are trained."""
    return delays not in ("none", "fixed")


def variant_name(delays: str, fan_in: int) -> str:
    """The name of delays and fan-in together, such as "learned" or "learned-sparse10"."""
    return f"{delays}-sparse{fan_in}" if fan_in else delays
