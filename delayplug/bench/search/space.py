"""The settings that a sweep searches: fields of `RunConfig`, each with a range or a list of values.

Imports no torch.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ...errors import ArgumentError, did_you_mean, shortened
from ..config import RunConfig
from ..settings import Setting, settings

# What a search may not change: the data, how settings are judged, and the seeds, which all settings share.
_NOT_SEARCHED = frozenset({
    *("dataset", "preset", "time_unit", "seed", "fold", "held_speakers", "refit"),
    *("protocol", "validation", "validation_fraction", "validate_every"),
})  # fmt: skip

_MOST_VALUES = 1_000_000  # of a range of which all values are listed


@dataclass(frozen=True)
class Range:
    """All numbers between two, both included.

    Attributes:
        low, high: the ends.
        log: draw the logarithm uniformly, and not the number itself.
        step: distance between the numbers, counted from `low`; None: any number, or any integer.
        whole: integers only.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None
    whole: bool = False

    def values(self) -> tuple[object, ...]:
        """All numbers of the range, if it has a step or is of integers on a linear scale; else ()."""
        step = self.step or (1 if self.whole and not self.log else None)
        if step is None:
            return ()
        return tuple(
            self.tidy(self.low + n * step) for n in range(math.floor((self.high - self.low) / step + 1e-9) + 1)
        )

    def tidy(self, value: float) -> float:
        """Round a drawn number to an integer, or to four significant digits, within the range."""
        if self.whole:
            return round(value)
        return min(max(float(f"{value:.10g}" if self.step else f"{value:.4g}"), self.low), self.high)

    def holds(self, value: object) -> bool:
        """Whether a value belongs to the range, so that a sampler can learn from it."""
        if not isinstance(value, int | float) or isinstance(value, bool):
            return False
        return self.low <= value <= self.high and (self.step is None or value in self.values())


@dataclass(frozen=True)
class Choice:
    """A list of values without an order."""

    choices: tuple[object, ...]

    def values(self) -> tuple[object, ...]:
        """All choices."""
        return self.choices

    def holds(self, value: object) -> bool:
        """Whether a value is one of the choices, so that a sampler can learn from it."""
        return value in self.choices


Space = Mapping[str, Range | Choice]


def read_space(table: Mapping[str, object]) -> Space:
    """Read the table [search] of a sweep's file.

    Args:
        table: a range `{ low = 1e-3, high = 1e-2, log = true }`, `{ low = 16, high = 64, step = 16 }`, or
            `{ values = [0, 4, 8] }`, by the name of a field of `RunConfig`.

    Raises:
        ArgumentError: the table is empty, a name is not a field or must not be searched, or a value is not allowed.
    """
    if not table:
        raise ArgumentError("search", "at least one setting, such as lr = { low = 1e-3, high = 1e-2 }", "none")
    known = settings(RunConfig)
    for name in table:
        if name not in known:
            allowed = ", ".join(sorted(known.keys() - _NOT_SEARCHED))
            raise ArgumentError(f"search.{name}", f"a setting among {allowed}", repr(name))
        if name in _NOT_SEARCHED:
            raise ArgumentError(f"search.{name}", "a setting of the network or of its training", repr(name))
    return {name: _read(f"search.{name}", known[name], value) for name, value in table.items()}


def _read(where: str, setting: Setting, value: object) -> Range | Choice:
    """Read one range or list of values."""
    wanted = "{ values = [...] }" if _is_listed(setting) else "{ low = ..., high = ... } or { values = [...] }"
    if not isinstance(value, dict) or not (value.keys() >= {"low", "high"} or value.keys() == {"values"}):
        raise ArgumentError(where, wanted, shortened(value))
    if "values" in value:
        return _read_choice(where, setting, value["values"])
    if _is_listed(setting):
        raise ArgumentError(where, f"{wanted} with {setting.expected}", shortened(value))
    if unknown := sorted(value.keys() - {"low", "high", "log", "step"}):
        keys = ("low", "high", "log", "step")
        hint = did_you_mean(unknown[0], keys)
        raise ArgumentError(where, f"the keys {', '.join(keys)}", ", ".join(unknown), hint)
    return _read_range(where, setting, **value)


def _is_listed(setting: Setting) -> bool:
    return bool(setting.choices) or setting.is_list or setting.type in (bool, str)


def _read_choice(where: str, setting: Setting, values: object) -> Choice:
    if not isinstance(values, list) or not values:
        raise ArgumentError(f"{where}.values", "a list of one value or more", shortened(values))
    for each in values:
        setting.check(each, where)
    if any(each in values[:n] for n, each in enumerate(values)):
        raise ArgumentError(f"{where}.values", "each value once", shortened(values))
    return Choice(tuple(tuple(each) if isinstance(each, list) else each for each in values))


def _read_range(
    where: str, setting: Setting, low: object, high: object, log: object = False, step: object = None
) -> Range:
    whole = setting.type is int
    for end, value in (("low", low), ("high", high)):
        setting.check(value, f"{where}.{end}")
    assert isinstance(low, int | float)
    assert isinstance(high, int | float)
    if not low < high:
        raise ArgumentError(f"{where}.high", f"more than low, {low}", high)
    if not isinstance(log, bool):
        raise ArgumentError(f"{where}.log", "true or false", repr(log))
    if log and low <= 0:
        raise ArgumentError(f"{where}.low", "more than 0 for a logarithmic range", low)
    if step is None:
        if whole and not log and high - low > _MOST_VALUES:
            raise ArgumentError(where, f"at most {_MOST_VALUES:,} integers", f"{high - low:,}", "Or take log = true")
        return Range(low, high, log, None, whole)
    kinds = int if whole else (int, float)
    if isinstance(step, bool) or not isinstance(step, kinds) or not 0 < step <= high - low or log:
        expected = f"{'an integer' if whole else 'a number'} above 0 and at most high - low, and no log"
        raise ArgumentError(f"{where}.step", expected, shortened(step))
    if not (high - low) / step <= _MOST_VALUES:
        raise ArgumentError(f"{where}.step", f"at most {_MOST_VALUES:,} steps", step, "Take a larger step")
    return Range(low, high, log, step, whole)


def points(space: Space) -> Iterator[tuple[object, ...]]:
    """The values of each setting in turn, as the axes of a grid.

    Raises:
        ArgumentError: a range has no step.
    """
    for name, dimension in space.items():
        values = dimension.values()
        if not values:
            expected = "values, or a range with a step, for a grid"
            raise ArgumentError(f"search.{name}", expected, "a range without a step", "Or take sampler = 'tpe'")
        yield values
