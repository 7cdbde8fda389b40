"""Rows of the leaderboard: the runs of one method under one toolkit and protocol, and what they cost."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import mean

from ..comparison.records import Record
from ..config import RunConfig
from ..known_frames import KnownFrames, known_frames
from ..report.methods import Estimate, Row, rows_of, setting_text
from ..serialise import to_command
from ..variants import WITH_RECURRENT_DELAYS, variant_name
from .verification import Size, size_of


@dataclass(frozen=True)
class Entry:
    """A record, and the name of its contributor."""

    record: Record
    by: str


@dataclass(frozen=True)
class BoardRow:
    """Runs of one method.

    Attributes:
        data: the data set that they were made with.
        by: the name of their contributor.
        runs: on the test set and on held-out speakers.
    """

    data: KnownFrames
    by: str
    runs: Row

    @property
    def config(self) -> RunConfig:
        """The configuration of the first run."""
        return RunConfig(**self.runs.records[0]["config"])

    @property
    def method(self) -> str:
        """Its preset, its delays, and the settings that differ from the preset, in words."""
        first = f"{self.runs.preset}: {variant_name(self.runs.delays, self.runs.fan_in)}"
        return ", ".join([first, *(setting_text(*setting) for setting in self.runs.settings)])

    @property
    def seeds(self) -> list[int]:
        """The seeds of the runs on the test set; if there are none, of those on held-out speakers."""
        return sorted({record["config"]["seed"] for record in self.runs.tested or self.runs.held})

    @property
    def accuracy(self) -> str:
        """The accuracy on the test set after the last epoch, as text in percent; "" if the test set was not read."""
        return _percent(self.runs.on_test)

    @property
    def on_speakers(self) -> str:
        """The accuracy on held-out speakers, as text in percent; "" if it was not measured."""
        return _percent(self.runs.on_held)

    @property
    def commands(self) -> list[str]:
        """The command lines that repeat the runs: on the test set, and on held-out speakers."""
        tested = [_command(self.runs.tested, self.data)] if self.runs.tested else []
        # The command of a refit also repeats the training before it.
        return tested + _commands([record for record in self.runs.held if "held_out" not in record], self.data)

    @property
    def delay_bits(self) -> int:
        """The number of bits of a delay in whole steps; 0 without delays."""
        config = self.config
        has_delays = config.delays != "none" or config.recurrent in WITH_RECURRENT_DELAYS
        return config.max_delay.bit_length() if has_delays else 0

    @cached_property
    def size(self) -> Size:
        """The number of parameters and of bytes of the network."""
        return size_of(self.runs.records[0])

    def inference(self) -> dict[str, float]:
        """The costs of one recording, as means over the runs; {} if the records do not contain them. See `Inference`.

        Keys: spikes, multiply (multiply-accumulates), accumulate (accumulates), sparsity (share of pairs of a hidden
        neuron and a step without a spike).
        """
        records = self.runs.tested or self.runs.held
        known = [record["inference"] for record in records if "inference" in record]
        if not known:
            return {}
        possible = sum(size * steps for size, steps in zip(self.config.hidden, known[0]["steps"], strict=False))
        spikes = mean(sum(each["active"][1:]) for each in known)
        return {
            "spikes": spikes,
            "multiply": mean(each["operations"][0] for each in known),
            "accumulate": mean(sum(each["operations"][1:]) for each in known),
            "sparsity": 1 - spikes / possible if possible else 1.0,
        }


def board_rows(entries: Iterable[Entry]) -> list[BoardRow]:
    """The rows of all data sets, sorted by data set and then by accuracy, the highest first."""
    groups: dict[tuple[str, str], list[Record]] = defaultdict(list)
    data: dict[str, KnownFrames] = {}
    for entry in entries:
        known = known_frames(entry.record["config"], entry.record["data"].get("checksums"))
        assert known is not None  # other records were refused
        data[known.name] = known
        groups[known.name, entry.by].append(entry.record)
    rows = [BoardRow(data[name], by, row) for (name, by), records in groups.items() for row in rows_of(records)]
    return sorted(rows, key=_order)


def _order(row: BoardRow) -> tuple[object, ...]:
    test, held = (-1.0 if each is None else each.mean for each in (row.runs.on_test, row.runs.on_held))
    return row.data.name, -test, -held, row.method, row.runs.backend, row.by


def _percent(estimate: Estimate | None) -> str:
    return "" if estimate is None else f"{100 * estimate.mean:.2f} ± {100 * estimate.half:.2f}"


def _commands(records: Sequence[Record], data: KnownFrames) -> list[str]:
    """The command lines that repeat runs on held-out speakers; runs that differ only in seed or fold share one."""
    held: dict[tuple[tuple[int, ...], int], list[Record]] = defaultdict(list)
    for record in records:
        held[RunConfig(**record["config"]).held_speakers, record["config"]["seed"]].append(record)
    alike: dict[tuple[object, ...], list[Record]] = defaultdict(list)
    for (speakers, _), runs in held.items():
        alike[speakers, *sorted(RunConfig(**run["config"]).fold for run in runs)] += runs
    return [_command(runs, data) for runs in alike.values()]


def _command(records: Sequence[Record], data: KnownFrames) -> str:
    """One command line for all seeds and folds of these runs."""
    first = RunConfig(**{**records[0]["config"], "dataset": data.dataset})
    configs = [RunConfig(**record["config"]) for record in records]
    command = to_command(first)
    for option, one, all_of_them in (
        ("--seeds", first.seed, {config.seed for config in configs}),
        ("--folds", first.fold, {config.fold for config in configs}),
    ):
        command = command.replace(f"{option} {one}", f"{option} {' '.join(map(str, sorted(all_of_them)))}")
    return command
