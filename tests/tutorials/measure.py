"""What delays cost in a tutorial's network: attempts, laws, time."""

import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

import delayplug
from delayplug.testing import Laws

from .tutorial import Attempt, Tutorial

_MAX_DELAY = 4  # that of the laws


def first_success(tutorial: Tutorial) -> tuple[int, Attempt] | None:
    """The number of attempts until the layers have delays, and the last of them; None if all fail."""
    for number, attempt in enumerate(tutorial.attempts, 1):
        try:
            tutorial.try_to_add(attempt, tutorial.network.build(), _MAX_DELAY)
        except delayplug.DelayplugError:
            continue
        return number, attempt
    return None


def laws_of(tutorial: Tutorial, attempt: Attempt) -> dict[str, Callable[[], None]]:
    """The laws that the network must keep with delays as an attempt adds them; each raises where it is broken."""

    # Those that have delays: some have more than the tutorial names.
    added = tutorial.try_to_add(attempt, tutorial.network.build(), _MAX_DELAY)
    network = replace(tutorial.network, layers=tuple(name for name, _ in delayplug.named_delays(added)))

    class Own(Laws):
        backend = tutorial.backend
        networks = (network,)

        def delayed(self, network: object, seed: int = 0, **options: object) -> nn.Module:
            options.pop("granularity", None)
            more = {"interpolation": "linear", "max_delay": _MAX_DELAY, **options}
            return tutorial.try_to_add(attempt, tutorial.network.build(seed), **more)  # type: ignore[arg-type]

    own = Own()
    granularity = delayplug.Granularity(attempt.options.get("granularity", "synaptic"))
    return {
        "no delay": lambda: own.test_zero_delay_is_the_plain_network(network, granularity, training=True),
        "shifted": lambda: own.test_a_whole_delay_is_a_shift_of_the_input(network, granularity, training=False),
        "sequences": lambda: own.test_each_sequence_starts_fresh(network),
        "frozen": lambda: own.test_frozen_delays_compute_what_eval_does(network, granularity),
        "gradients": lambda: own.test_gradients_reach_every_delay(network, granularity),
    }


@dataclass(frozen=True)
class Times:
    """Medians of a training step, forward and backward, in seconds; interleaved.

    Attributes:
        plain: without delays.
        delayed: with them.
        unrolled: with them, by `unroll`; NaN where that is not run.
        refusal: why `unroll` did not run it, or "".
    """

    plain: float
    delayed: float
    unrolled: float
    refusal: str = ""


def times(tutorial: Tutorial, attempt: Attempt, rounds: int = 5) -> Times:
    """Time training steps of the network without and with delays."""
    network, x = tutorial.network, tutorial.sample()
    plain = network.build()
    delayed = tutorial.try_to_add(attempt, network.build(), tutorial.max_delay)
    runs: dict[str, Callable[[], Tensor]] = {
        "plain": lambda: network.run(plain, x),
        "delayed": lambda: network.run(delayed, x),
    }
    network.run(delayed, x)  # which tells some networks how many steps there are
    refusal = ""
    unrolled = tutorial.unrolled
    if unrolled is not None:
        try:
            _step(lambda: unrolled(delayed, x))
            runs["unrolled"] = lambda: unrolled(delayed, x)
        except (delayplug.DelayplugError, TypeError) as error:
            refusal = str(error)
    taken = {name: list[float]() for name in runs}
    for count in range(rounds + 1):
        for name, run in runs.items():
            begin = time.perf_counter()
            _step(run)
            if count:  # the first one warms up
                taken[name].append(time.perf_counter() - begin)
    medians = {name: statistics.median(values) for name, values in taken.items()}
    return Times(medians["plain"], medians["delayed"], medians.get("unrolled", float("nan")), refusal)


def _step(run: Callable[[], object]) -> None:
    out = run()
    first = out
    while not isinstance(first, Tensor):
        first = first[0]  # type: ignore[index]
    if first.requires_grad:
        first.sum().backward()


@dataclass(frozen=True)
class Row:
    """What was seen of a tutorial.

    Attributes:
        attempts: 0 if all failed.
        words: what the one that succeeded was.
        laws: how many were checked.
        broken: those that the network does not keep, and how.
        times: None if they were not measured.
    """

    tutorial: Tutorial
    attempts: int
    words: str
    laws: int
    broken: tuple[str, ...]
    times: Times | None


def measure(tutorial: Tutorial, rounds: int = 5, laws: bool = True) -> Row:
    """Everything about one tutorial."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        success = first_success(tutorial)
        if success is None:
            return Row(tutorial, 0, "", 0, (), None)
        number, attempt = success
        checked = laws_of(tutorial, attempt) if laws else {}
        broken = []
        for name, law in checked.items():
            try:
                law()
            except Exception as error:
                broken.append(f"{name}: {type(error).__name__}: {str(error).partition(chr(10))[0]}")
        taken = times(tutorial, attempt, rounds) if rounds else None
        return Row(tutorial, number, attempt.words, len(checked), tuple(broken), taken)
