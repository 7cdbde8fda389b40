"""Draws the settings that a sweep tries next.

A draw depends only on the settings that were tried, their accuracies, and the seed, so that an interrupted sweep draws
the same settings when it continues.
"""

import json
import math
import random
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ..._extras import extra
from ...errors import ArgumentError
from .space import Choice, Range, Space, points
from .sweep_config import Sampler

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution

_ATTEMPTS = 100  # to draw a setting that was not tried before
_LARGEST_GRID = 1_000_000


@dataclass(frozen=True)
class Tried:
    """A setting that was tried.

    Attributes:
        values: by the name of the field.
        accuracy: in 0..1; None if it could not be trained.
    """

    values: Mapping[str, object]
    accuracy: float | None


def check_sampler(sampler: Sampler, space: Space) -> None:
    """Raise an error unless this sampler can draw from this space.

    Raises:
        ExtraMissingError: the sampler is "tpe" and Optuna is not installed.
        ArgumentError: a grid of a range without steps, or with too many points.
    """
    if sampler == "grid":
        size = math.prod(len(values) for values in points(space))
        if size > _LARGEST_GRID:
            raise ArgumentError("sampler", f"a grid of at most {_LARGEST_GRID} points", size, "Take sampler = 'random'")
    elif sampler == "tpe":
        with extra("sweep", "sampler = 'tpe'"):
            import optuna  # noqa: F401


def draw(space: Space, tried: Sequence[Tried], number: int, sampler: Sampler, seed: int) -> list[dict[str, object]]:
    """Draw settings that differ from each other and from those tried before.

    Args:
        space: what is searched.
        tried: the settings tried so far.
        number: how many settings to draw.
        sampler: "tpe", Optuna's tree-structured Parzen estimator (Bergstra et al., NeurIPS 2011); "random"; or "grid",
            all points in a random order.
        seed: of the sampler.

    Returns:
        The values of each setting; fewer settings than `number` if no others are left.
    """
    known = {_key(each.values) for each in tried}
    drawn: list[dict[str, object]] = []
    if sampler == "grid":
        for values in _grid(space, len(known) + number, seed):
            if len(drawn) < number and _key(values) not in known:
                drawn.append(values)
        return drawn
    propose = _parzen(space, tried) if sampler == "tpe" else partial(_at_random, space)
    while len(drawn) < number:
        attempts = ((seed, len(tried) + len(drawn), attempt) for attempt in range(_ATTEMPTS))
        new = next((values for seeds in attempts if _key(values := propose(seeds)) not in known), None)
        if new is None:
            break
        known.add(_key(new))
        drawn.append(new)
    return drawn


def _grid(space: Space, number: int, seed: int) -> list[dict[str, object]]:
    """The first `number` points of a grid in a random order, which does not depend on `number`."""
    values = list(points(space))
    size = math.prod(map(len, values))
    chosen = []
    for index in random.Random(seed).sample(range(size), size)[:number]:
        point: dict[str, object] = {}
        for name, each in zip(space, values, strict=True):
            index, position = divmod(index, len(each))
            point[name] = each[position]
        chosen.append(point)
    return chosen


def _at_random(space: Space, seeds: Sequence[int]) -> dict[str, object]:
    """A setting with each value drawn independently."""
    rng = np.random.default_rng(seeds)
    return {name: _draw_value(dimension, rng) for name, dimension in space.items()}


def _draw_value(dimension: Range | Choice, rng: np.random.Generator) -> object:
    if values := dimension.values():
        return values[rng.integers(len(values))]
    assert isinstance(dimension, Range)
    if dimension.log:
        return dimension.tidy(math.exp(rng.uniform(math.log(dimension.low), math.log(dimension.high))))
    return dimension.tidy(rng.uniform(dimension.low, dimension.high))


def _parzen(space: Space, tried: Sequence[Tried]) -> Callable[[Sequence[int]], dict[str, object]]:
    """A function from seeds to a setting, by a tree-structured Parzen estimator that has learned from `tried`."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = _study(space, tried)
    distributions = {name: _distribution(dimension) for name, dimension in space.items()}

    def propose(seeds: Sequence[int]) -> dict[str, object]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # constant_liar is experimental in Optuna 4
            # constant_liar: settings without a result count as bad ones, so that those drawn together are different.
            seed = int(np.random.SeedSequence(seeds).generate_state(1)[0])
            study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        params = study.ask(distributions).params
        return {name: _decode(dimension, params[name]) for name, dimension in space.items()}

    return propose


def _study(space: Space, tried: Sequence[Tried]) -> "Study":
    """An Optuna study with all tried settings that lie in the space; those that could not be trained are failures."""
    from optuna import create_study
    from optuna.trial import TrialState, create_trial

    study = create_study(direction="maximize")
    for each in tried:
        if all(dimension.holds(each.values[name]) for name, dimension in space.items()):
            study.add_trial(
                create_trial(
                    state=TrialState.FAIL if each.accuracy is None else TrialState.COMPLETE,
                    value=each.accuracy,
                    params={name: _encode(dimension, each.values[name]) for name, dimension in space.items()},
                    distributions={name: _distribution(dimension) for name, dimension in space.items()},
                )
            )
    return study


def _distribution(dimension: Range | Choice) -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(dimension, Choice):
        return CategoricalDistribution([json.dumps(each) for each in dimension.choices])
    if dimension.whole:
        return IntDistribution(int(dimension.low), int(dimension.high), dimension.log, int(dimension.step or 1))
    return FloatDistribution(dimension.low, dimension.high, dimension.log, dimension.step)


def _encode(dimension: Range | Choice, value: object) -> object:
    """A value as Optuna stores it: it has no lists, so that those are JSON."""
    if isinstance(dimension, Range):
        return value
    return json.dumps(next(each for each in dimension.choices if each == value))  # 0 == 0.0, but their JSON differs


def _decode(dimension: Range | Choice, value: float | str) -> object:
    if isinstance(dimension, Range):
        return dimension.tidy(float(value))
    return next(each for each in dimension.choices if json.dumps(each) == value)


def _key(values: Mapping[str, object]) -> tuple[tuple[str, object], ...]:
    """A key that is equal for equal settings: 0 and 0.0 are equal, and so are a list (from JSON) and a tuple."""
    return tuple(sorted((name, tuple(v) if isinstance(v, list) else v) for name, v in values.items()))
