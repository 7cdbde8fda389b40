"""By what the settings of a sweep are judged: which runs, in which order, and how many settings get how many."""

import math
from dataclasses import dataclass
from pathlib import Path

from ...data import find_splits
from ...errors import ArgumentError
from ..config import SYNTHETIC, Protocol, RunConfig
from ..task import number_of_folds
from .sweep_config import SweepConfig, SweepOptions


@dataclass(frozen=True)
class Part:
    """A run of a setting: on which fold, with which seed. `fold` is None where there are no folds."""

    fold: int | None
    seed: int

    @property
    def name(self) -> str:
        """Such as "fold 2, seed 0"."""
        return f"seed {self.seed}" if self.fold is None else f"fold {self.fold}, seed {self.seed}"


@dataclass(frozen=True)
class Judge:
    """By what settings are judged; none of it reads the test set.

    Attributes:
        protocol: of the runs that judge.
        parts: the runs of a setting that gets all of them, in their order.
        rungs: how many of the parts a setting has after each rung.
        final: what a run of the chosen setting has, which reads the test set: its protocol, and perhaps a refit.
    """

    protocol: Protocol
    parts: tuple[Part, ...]
    rungs: tuple[int, ...]
    final: dict[str, object]

    @property
    def text(self) -> str:
        """What settings are judged by, in words."""
        folds = sorted({part.fold for part in self.parts if part.fold is not None})
        seeds = sorted({part.seed for part in self.parts})
        of = f"{'seeds' if len(seeds) > 1 else 'seed'} {', '.join(map(str, seeds))}"
        if not folds:
            return f"validation recordings, {of}"
        return (
            f"speakers held out of training, {'folds' if len(folds) > 1 else 'fold'} {', '.join(map(str, folds))}, {of}"
        )

    def planned(self, options: SweepOptions) -> int:
        """How many runs a sweep has, if all settings can be trained."""
        below, alive, total = 0, options.budget, len(options.final_seeds)
        for runs in self.rungs:
            alive = survivors(alive, options.halving) if below else alive
            total += (alive + options.baseline) * (runs - below)
            below = runs
        return total

    def run(self, config: SweepConfig, values: dict[str, object], part: Part) -> RunConfig:
        """A run that judges a setting.

        Raises:
            ArgumentError: the values do not go together.
        """
        fold = {} if part.fold is None else {"fold": part.fold}
        return config.run(values, protocol=self.protocol, seed=part.seed, **fold)

    def final_run(self, config: SweepConfig, values: dict[str, object], seed: int) -> RunConfig:
        """A run of the chosen setting, which reads the test set."""
        return config.run(values, seed=seed, **self.final)


def judge_of(config: SweepConfig) -> Judge:
    """What the data of a sweep has to judge by: a validation set of its own, or else the speakers of its training file.

    Raises:
        ArgumentError: folds that there are not.
        DataError: the data cannot be used, or names no speakers.
    """
    options = config.options
    if config.dataset == SYNTHETIC or "valid" in find_splits(Path(config.dataset)):
        if options.folds:
            expected = f"none for {config.dataset}, which has validation recordings of its own"
            raise ArgumentError("folds", expected, list(options.folds))
        parts = tuple(Part(None, seed) for seed in options.seeds)
        protocol: Protocol = "heldout" if config.dataset == SYNTHETIC else "official"
        return Judge("validation", parts, rungs(len(parts), options.halving), {"protocol": protocol})
    number = number_of_folds(config.run({}, protocol="speakers"))
    folds = options.folds or tuple(range(number))
    if max(folds) >= number:
        raise ArgumentError("folds", f"0 to {number - 1}, of which {config.dataset} has speakers", list(folds))
    parts = tuple(Part(fold, seed) for seed in options.seeds for fold in folds)
    return Judge("speakers", parts, rungs(len(parts), options.halving), {"protocol": "heldout", "refit": True})


def rungs(parts: int, halving: int) -> tuple[int, ...]:
    """How many parts a setting has after each rung: 1, h, h * h, ..., all.

    Not fewer epochs: the schedules of learning rates and sigma span a whole training, so that the first epochs of one
    say little.

    >>> rungs(10, 3)
    (1, 3, 9, 10)
    """
    if halving == 1:
        return (parts,)
    powers = [halving**n for n in range(parts.bit_length()) if halving**n < parts]
    return (*powers, parts)


def survivors(tried: int, halving: int) -> int:
    """How many of the settings of a rung go on to the next."""
    return math.ceil(tried / halving)
