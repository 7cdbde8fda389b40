"""Rows of the leaderboard: the runs of one method under one toolkit and protocol, brought together over seeds."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from ..comparison.records import Record
from ..config import RunConfig, configure
from ..known_frames import KnownFrames, known_frames
from ..report.intervals import student, wilson
from ..serialise import to_command
from ..settings import settings
from ..variants import WITH_RECURRENT_DELAYS, variant_name
from .verification import size_of

# The fields that say how a network is judged or computed; all others are the method.
_JUDGED_BY = frozenset({
    *("protocol", "validation", "validation_fraction", "validate_every", "refit", "fold", "held_speakers"),
    *("seed", "dataset", "time_unit", "precision", "compile"),
})  # fmt: skip
_NAMED = frozenset({"preset", "backend", "delays", "fan_in", "recurrent"})


@dataclass(frozen=True)
class Entry:
    """A record, and who made it."""

    record: Record
    by: str


@dataclass(frozen=True)
class Row:
    """Runs of one method.

    Attributes:
        data: that they were made with.
        by: who made them.
        records: those that were tested on the test set.
        speakers: those that were tested on speakers held out of the training file.
    """

    data: KnownFrames
    by: str
    records: Sequence[Record]
    speakers: Sequence[Record]

    @property
    def first(self) -> Record:
        """One of the records."""
        return (*self.records, *self.speakers)[0]

    @property
    def config(self) -> RunConfig:
        """Of the first record."""
        return RunConfig(**self.first["config"])

    @property
    def method(self) -> str:
        """Its delays, and the settings that are not the preset's, in words."""
        config, base = self.config, configure(self.config.preset)
        names = [name for name in settings(RunConfig) if name not in _JUDGED_BY | _NAMED]
        changed = [
            f"{name} {_text(getattr(config, name))}" for name in names if getattr(config, name) != getattr(base, name)
        ]
        return ", ".join([f"{config.preset}: {variant_name(config.delays, config.fan_in, config.recurrent)}", *changed])

    @property
    def protocol(self) -> str:
        """That of the test set; "" if that was not read."""
        if not self.records:
            return ""
        return self.config.protocol + (", refit" if self.config.refit else "")

    @property
    def seeds(self) -> list[int]:
        """Of the runs that were tested on the test set, or of all others."""
        return sorted({record["config"]["seed"] for record in self.records or self.speakers})

    @property
    def accuracy(self) -> float:
        """The mean of the test accuracies after the last epoch; -1 if there are none."""
        return mean(_last(self.records)) if self.records else -1.0

    def commands(self) -> list[str]:
        """What makes the runs again: those of the test set, and those of held-out speakers."""
        return [_command(records, self.data) for records in (self.records, self.speakers) if records]

    @property
    def delay_bits(self) -> int:
        """Bits of a delay in whole steps; 0 without delays."""
        config = self.config
        has_delays = config.delays != "none" or config.recurrent in WITH_RECURRENT_DELAYS
        return config.max_delay.bit_length() if has_delays else 0

    @property
    def footprint(self) -> int:
        """Bytes of parameters and buffers, delays in whole steps."""
        return size_of(self.first).footprint

    def inference(self) -> dict[str, float]:
        """What a recording takes, means over the runs: see `Inference`. {} where the records do not say.

        Keys: spikes, multiply (multiply-accumulates), accumulate (accumulates), sparsity (share of hidden neurons and
        steps without a spike).
        """
        known = [record["inference"] for record in self.records or self.speakers if "inference" in record]
        if not known:
            return {}
        hidden = self.config.hidden
        places = sum(size * steps for size, steps in zip(hidden, known[0]["steps"], strict=False))
        spikes = mean(sum(each["active"][1:]) for each in known)
        return {
            "spikes": spikes,
            "multiply": mean(each["operations"][0] for each in known),
            "accumulate": mean(sum(each["operations"][1:]) for each in known),
            "sparsity": 1 - spikes / places if places else 1.0,
        }

    def on_speakers(self) -> str:
        """The accuracy on held-out speakers, with its interval, in words; "" if it was not measured."""
        return over_runs(self.speakers)


def rows_of(entries: Iterable[Entry]) -> list[Row]:
    """The rows of all data sets; of each, those with the highest accuracy first."""
    tested: dict[tuple[str, ...], list[Record]] = defaultdict(list)
    speakers: dict[tuple[str, ...], list[Record]] = defaultdict(list)
    data: dict[str, KnownFrames] = {}
    for entry in entries:
        config = entry.record["config"]
        known = known_frames(config, entry.record["data"].get("checksums"))
        assert known is not None  # or it was refused
        data[known.name] = known
        method = (known.name, entry.by, _method(config))
        if config["protocol"] == "speakers":
            speakers[method].append(entry.record)
        else:
            tested[*method, config["protocol"], str(RunConfig(**config).refit)].append(entry.record)
    rows = [Row(data[key[0]], key[1], records, speakers.get(key[:3], ())) for key, records in tested.items()]
    seen = {key[:3] for key in tested}
    rows += [Row(data[key[0]], key[1], (), records) for key, records in speakers.items() if key not in seen]
    return sorted(rows, key=lambda row: (row.data.name, -row.accuracy, row.method, row.config.backend, row.by))


def over_runs(records: Sequence[Record]) -> str:
    """The mean accuracy after the last epoch in percent, with the 95 % interval: Student's, of one run Wilson's."""
    values = _last(records)
    if not values:
        return ""
    if len(values) == 1:
        low, high = wilson(values[0], records[0]["data"]["test"])
        return f"{100 * values[0]:.2f} ({100 * low:.1f} - {100 * high:.1f})"
    return f"{100 * mean(values):.2f} ± {100 * student(values):.2f}"


def _command(records: Sequence[Record], data: KnownFrames) -> str:
    """One command for all seeds and folds of some runs."""
    command = to_command(RunConfig(**{**records[0]["config"], "dataset": data.dataset}))
    for option, name in (("--seeds", "seed"), ("--folds", "fold")):
        values = sorted({record["config"].get(name, 0) for record in records})
        command = command.replace(
            f"{option} {records[0]['config'].get(name, 0)}", f"{option} {' '.join(map(str, values))}"
        )
    return command


def _last(records: Sequence[Record]) -> list[float]:
    return [record["accuracy"]["last epoch"] for record in records]


def _method(config: dict[str, Any]) -> str:
    """All settings that are not about judging, as text."""
    complete = RunConfig(**config).to_json()
    return json.dumps({name: value for name, value in complete.items() if name not in _JUDGED_BY}, sort_keys=True)


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
