"""Whether delays fit into the sequence: what is delayed for longer than the sequence lasts never arrives."""

import warnings
from collections.abc import Iterable, Mapping

from torch import nn

from .called import watch_of
from .find import named_delays
from .plan import Connection, Plan


def longest_path(connections: Iterable[Connection], limits: Mapping[str, int]) -> list[str]:
    """The layers, one behind the other, whose largest delays add up to the most; those without delays are left out.

    Args:
        connections: of one plan.
        limits: the largest delay of each layer, in steps.
    """
    behind = {c.layer: c.behind for c in connections}
    paths: dict[str, list[str]] = {}

    def path_to(layer: str) -> list[str]:
        if layer not in paths:
            paths[layer] = []  # of a layer on a circle, while it is looked at
            before = max(map(path_to, behind.get(layer, ())), key=total, default=[])
            paths[layer] = [*before, layer] if limits.get(layer) else before
        return paths[layer]

    def total(path: list[str]) -> int:
        return sum(limits.get(layer, 0) for layer in path)

    return max(map(path_to, behind), key=total, default=[])


def steps_needed(connections: Iterable[Connection], limits: Mapping[str, int]) -> int:
    """How many steps a sequence must have for its first input to arrive through the longest delays."""
    return sum(limits[layer] for layer in longest_path(connections, limits)) + 1


def warn_if_too_long(
    connections: Iterable[Connection], limits: Mapping[str, int], steps: int, sequence: str, stacklevel: int
) -> None:
    """Warn, with the numbers, if a sequence of so many steps is shorter than the delays that lie in a row."""
    path = longest_path(connections, limits)
    most = sum(limits[layer] for layer in path)
    if most < steps:
        return
    fitting = (steps - 1) // len(path)
    row = " -> ".join(f"{layer} {limits[layer]}" for layer in path)
    adds = f"add up to {most} steps" if len(path) > 1 else f"are up to {most} steps long"
    if fitting:
        advice = f"max_delay={fitting} fits"
    else:
        advice = f"{len(path)} layers in a row have no room for delays: take more steps, or delay fewer with filter_fn"
    longer = "; if your sequences are longer than that, all is well" if "example" in sequence else ""
    warnings.warn(
        f"the largest delays on the way through the network ({row}) {adds}, and {sequence} has {steps}: what is "
        f"delayed longest never arrives. {advice}{longer}",
        stacklevel=stacklevel + 1,
    )


def warn_of_short_example(model: nn.Module, plan: Plan, stacklevel: int) -> None:
    """Warn if the sequence of a plan's example is too short for the delays that the model has now.

    If the example was none, or a single step, the model remembers to warn when it runs on a sequence: `unroll` does,
    and so does the second of two calls that run a sequence each.
    """
    connections, limits = _all_delays(model)
    watch = watch_of(model)
    if plan.steps is not None:
        warn_if_too_long(connections, limits, plan.steps, "the sequence of the example", stacklevel + 1)
    elif watch is not None:
        watch.steps_needed = steps_needed(connections, limits)
        watch.warn_of_short_sequence = warn_of_short_sequence


def warn_of_short_sequence(model: nn.Module, steps: int, stacklevel: int) -> None:
    """Warn, once for a model, if it runs on a sequence that is too short for its delays and no example has shown it."""
    watch = watch_of(model)
    if watch is None or steps >= watch.steps_needed or steps < 2:
        return
    watch.steps_needed = 0
    connections, limits = _all_delays(model)
    warn_if_too_long(connections, limits, steps, "the sequence", stacklevel + 1)


def _all_delays(model: nn.Module) -> tuple[list[Connection], dict[str, int]]:
    """The connections with delays of a model, by the plans that made them, and the largest delay of each."""
    limits = {name: delay.max_delay for name, delay in named_delays(model)}
    watch = watch_of(model)
    plans = [plan for plan in (watch.plans if watch else ()) if isinstance(plan, Plan)]
    return [c for plan in plans for c in plan.connections if c.layer in limits], limits
