"""The variants of the benchmark's network: which delays there are. Imports no torch: commands list them."""

from typing import Literal, get_args

from ..errors import ArgumentError

Variant = Literal["none", "fixed", "constant", "learned", "axonal", "dendritic"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)
PER_SYNAPSE: tuple[Variant, ...] = ("fixed", "constant", "learned")
ANNEALED: tuple[Variant, ...] = ("learned", "axonal", "dendritic")


def learns_delays(delays: Variant) -> bool:
    """Whether the delays of this variant are trained."""
    return delays not in ("none", "fixed")


def check_variant(delays: Variant, taps: int, fan_in: int) -> None:
    """Raise ArgumentError unless a layer can have these delays, taps per synapse and synapses per neuron."""
    if delays not in VARIANTS:
        raise ArgumentError("delays", f"one of {', '.join(VARIANTS)}", repr(delays))
    if fan_in < 0:
        raise ArgumentError("fan_in", "a number of synapses, or 0 for all", fan_in)
    if taps < 1:
        raise ArgumentError("taps", "an integer >= 1", taps)
    if taps > 1 and delays not in PER_SYNAPSE:
        advice = f"Take --delays {' '.join(PER_SYNAPSE)}"
        raise ArgumentError("taps", f"1 for the variant {delays!r}, which has no delay per synapse", taps, advice)


def variant_name(delays: str, fan_in: int) -> str:
    """The name of delays and fan-in together, such as "learned" or "learned-sparse10"."""
    return f"{delays}-sparse{fan_in}" if fan_in else delays
