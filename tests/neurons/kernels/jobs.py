"""The kernels of neurons, to be compiled ahead of time."""

from typing import Any

from delayplug.neurons.dynamics import CONSTANTS, ChargeRule, CurrentRule, ResetAfter, ResetBefore
from tests.ahead import Job

KERNELS = {
    "forward": "delayplug.neurons.kernels.membranes:forward",
    "backward": "delayplug.neurons.kernels.gradients:backward",
}
NAMES = (*CONSTANTS, "start")


def job(
    kernel: str,
    capability: int,
    pointers: set[str],
    rules: dict[str, int],
    *,
    each: bool = False,
    flags: tuple[int, ...] = (),
) -> Job:
    """A kernel with these pointers, and constants that are numbers, or one for each neuron."""
    signature = {"x": "*fp32", **dict.fromkeys(pointers, "*fp32"), "divisor": "fp32"}
    signature |= dict.fromkeys(("T", "N", "SIZE", "REPEAT"), "i32") | {f"{name}_n": "fp32" for name in NAMES}
    signature |= {f"{name}_p": "*fp32" for name in NAMES if each}
    constants: dict[str, Any] = {name.upper(): 2 if each else 0 for name in NAMES} | {"BLOCK": 128, **rules}
    options: dict[str, Any] = {"num_warps": 4, "enable_fp_fusion": False}
    others = ["spikes", "charged", "membranes", "drives", "currents", "membrane", "current", "first_current"]
    if kernel == "backward":
        signature |= dict.fromkeys("abc", "fp32")
        constants |= dict(zip(("NEEDS_LAST", "NEEDS_DRIVE", "SAVED", "LEARNS_SYNAPSE"), flags, strict=True))
        del options["enable_fp_fusion"]
        over_time = ["spikes", "membranes", "currents", "membrane", "current", "start", "first_current"]
        others = ["charged", "membranes", "drives", "first_current", "gx", *(f"g_{name}" for name in over_time)]
        others += [f"g_{name}" for name in CONSTANTS]
    constants |= dict.fromkeys([*others, *(f"{name}_p" for name in NAMES)])
    constants = {name: value for name, value in constants.items() if name not in signature}
    return Job(KERNELS[kernel], signature, constants, options, capability)


def rules(
    charge: ChargeRule, current: CurrentRule = CurrentRule.NONE, before: ResetBefore = ResetBefore.NONE, **more: int
) -> dict[str, int]:
    return {
        "CHARGE": int(charge),
        "CURRENT": int(current),
        "BEFORE": int(before),
        "AFTER": int(ResetAfter.VALUE if before is ResetBefore.NONE else ResetAfter.NONE),
        "FIRES": 1,
        "AT": 0,
        "DIVIDES": 0,
        **more,
    }
