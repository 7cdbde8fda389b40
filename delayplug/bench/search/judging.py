"""How the settings of a sweep are judged: by which runs, in which order, and how many runs each setting gets."""

import math
from dataclasses import dataclass
from pathlib import Path

from ...data import find_splits
from ...errors import ArgumentError
from ..config import SYNTHETIC, Protocol, RunConfig
from ..task import number_of_folds
from .sweep_config import SweepConfig, SweepOptions


@dataclass(frozen=True)
class Repetition:
    """One of the runs that judge a setting: its fold and its seed. `fold` is None for data without folds."""

    fold: int | None
    seed: int

    @property
    def name(self) -> str:
        """In words, such as "fold 2, seed 0"."""
        return f"seed {self.seed}" if self.fold is None else f"fold {self.fold}, seed {self.seed}"


@dataclass(frozen=True)
class Judge:
    """How the settings of a sweep are judged. Only the runs described by `final` read the test set.

    Attributes:
        protocol: of the runs that judge settings.
        repetitions: these runs, in the order in which a setting gets them.
        rungs: number of runs that a setting has after each rung of successive halving.
        final: settings of a run of the chosen setting on the test set: its protocol, and perhaps refit.
    """

    protocol: Protocol
    repetitions: tuple[Repetition, ...]
    rungs: tuple[int, ...]
    final: dict[str, object]

    @property
    def text(self) -> str:
        """What settings are judged by, in words, such as "speakers held out of training, folds 0, 3, seed 0"."""
        folds = sorted({repetition.fold for repetition in self.repetitions if repetition.fold is not None})
        seeds = sorted({repetition.seed for repetition in self.repetitions})
        of = f"{'seeds' if len(seeds) > 1 else 'seed'} {', '.join(map(str, seeds))}"
        if not folds:
            return f"validation recordings, {of}"
        return (
            f"speakers held out of training, {'folds' if len(folds) > 1 else 'fold'} {', '.join(map(str, folds))}, {of}"
        )

    def planned(self, options: SweepOptions) -> int:
        """The number of runs of a whole sweep, if all settings can be trained."""
        below, alive, total = 0, options.budget, len(options.final_seeds)
        for runs in self.rungs:
            alive = survivors(alive, options.halving) if below else alive
            total += (alive + options.baseline) * (runs - below)
            below = runs
        return total

    def run(self, config: SweepConfig, values: dict[str, object], repetition: Repetition) -> RunConfig:
        """The configuration of a run that judges a setting.

        Raises:
            ArgumentError: the values contradict each other.
        """
        fold = {} if repetition.fold is None else {"fold": repetition.fold}
        return config.run(values, protocol=self.protocol, seed=repetition.seed, **fold)

    def final_run(self, config: SweepConfig, values: dict[str, object], seed: int) -> RunConfig:
        """The configuration of a run of the chosen setting on the test set."""
        return config.run(values, seed=seed, **self.final)


def judge_of(config: SweepConfig) -> Judge:
    """Choose how to judge: by the validation recordings of the data, or, without any, by speakers of its training file.

    Raises:
        ArgumentError: a fold does not exist.
        DataError: the data cannot be used, or does not name its speakers.
    """
    options = config.options
    if config.dataset == SYNTHETIC or "valid" in find_splits(Path(config.dataset)):
        if options.folds:
            expected = f"none for {config.dataset}, which has validation recordings of its own"
            raise ArgumentError("folds", expected, list(options.folds))
        repetitions = tuple(Repetition(None, seed) for seed in options.seeds)
        protocol: Protocol = "heldout" if config.dataset == SYNTHETIC else "official"
        return Judge("validation", repetitions, rungs(len(repetitions), options.halving), {"protocol": protocol})
    number = number_of_folds(config.run({}, protocol="speakers"))
    folds = options.folds or tuple(range(number))
    if max(folds) >= number:
        raise ArgumentError("folds", f"0 to {number - 1}, of which {config.dataset} has speakers", list(folds))
    repetitions = tuple(Repetition(fold, seed) for seed in options.seeds for fold in folds)
    return Judge(
        "speakers", repetitions, rungs(len(repetitions), options.halving), {"protocol": "heldout", "refit": True}
    )


def rungs(repetitions: int, halving: int) -> tuple[int, ...]:
    """The number of runs that a setting has after each rung: 1, h, h * h, ..., all (successive halving).

    Rungs differ in runs and not in epochs: the schedules of learning rates and sigma span a whole training, so that its
    first epochs predict little.

    >>> rungs(10, 3)
    (1, 3, 9, 10)
    """
    if halving == 1:
        return (repetitions,)
    powers = [halving**n for n in range(repetitions.bit_length()) if halving**n < repetitions]
    return (*powers, repetitions)


def survivors(tried: int, halving: int) -> int:
    """How many of the settings tried in one rung advance to the next."""
    return math.ceil(tried / halving)
