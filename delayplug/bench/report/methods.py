"""Rows of a comparison: the runs of one method under one backend, on the test set, on held-out speakers, or on both.

A method is the set of all settings that decide what is trained, without those that decide how it is judged.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import mean
from typing import Any

from ..comparison.records import Record
from ..config import RunConfig, configure
from ..settings import settings
from ..task import LAST, TEST_SET
from ..variants import VARIANTS, Variant, variant_name
from .intervals import half_difference, half_interval, means_of_groups

# The fields that decide how a network is judged and where it is computed; all others belong to the method.
_JUDGED_BY = frozenset({
    *("protocol", "validation", "validation_fraction", "fold", "held_speakers", "refit", "validate_every"),
    *("dataset", "time_unit", "seed", "compile"),
})  # fmt: skip
# Those that the name of a row, or the title of a table, always shows.
_NAMED = frozenset({"preset", "backend", "delays", "fan_in"})

Settings = tuple[tuple[str, object], ...]


@dataclass(frozen=True)
class Estimate:
    """A mean over runs, and half the width of its 95 % interval, as shares (0.9 is 90 %)."""

    mean: float
    half: float

    def percent(self, *, sign: bool = False) -> str:
        """As text in percent, such as "94.0 +-0.2"; with a sign for differences, in percentage points."""
        return f"{100 * self.mean:{'+' if sign else ''}.1f} +-{100 * self.half:.1f}"


@dataclass(frozen=True)
class Row:
    """The runs of a method under one backend.

    Attributes:
        backend, delays, fan_in, preset: of all these runs.
        settings: names and values of the settings that differ from the preset.
        protocol: of the runs on the test set, such as "heldout, refit"; "" if there are none.
        tested: runs that were tested on the test set.
        held: runs that were tested on recordings held out of training, without reading the test set.
        name: in words; it differs from the names of other rows with the same backend in the table.
    """

    backend: str
    delays: Variant
    fan_in: int
    preset: str
    settings: Settings
    protocol: str
    tested: tuple[Record, ...]
    held: tuple[Record, ...]
    name: str

    @property
    def records(self) -> tuple[Record, ...]:
        """All runs; those on the test set come first."""
        return (*self.tested, *self.held)

    @property
    def method(self) -> tuple[object, ...]:
        """A key that is equal for rows of the same method and backend."""
        return self.preset, self.backend, self.delays, self.fan_in, self.settings

    @cached_property
    def on_test(self) -> Estimate | None:
        """The accuracy on the test set after the last epoch: the mean over seeds."""
        return _estimate(self.tested, [])

    @cached_property
    def on_held(self) -> Estimate | None:
        """The accuracy on held-out recordings after the last epoch: the mean over seeds, or over the means of folds."""
        return _estimate(self.held, [_speakers_of(record) for record in self.held])


def rows_of(records: Sequence[Record]) -> list[Row]:
    """Group runs into a row for each backend, method and protocol on the test set.

    Runs on held-out speakers are put into the row of the same method; if that has several rows, into the one with a
    refit. The training before a refit counts as such a run if whole speakers were held out. Runs on a validation file
    are put there if no runs on speakers are among the records, and else have a row of their own. Runs of a row with the
    same seed and the same held-out speakers are repetitions of one run: only the one that finished last counts.

    Returns:
        Rows sorted by backend, preset, fan-in, delays, and the other settings.
    """
    tested, held = defaultdict[tuple[Any, ...], list[Record]](list), defaultdict[tuple[Any, ...], list[Record]](list)
    for record in filter(on_test_set, records):
        tested[*_method(record), _protocol(record)].append(record)
    for record in held_runs(records):
        held[*_method(record), _protocol(record)].append(record)
    first = min((key[-1] for key in held), default="")  # "speakers" before "validation"
    # For each method, the key of the row that its runs on held-out recordings are put into.
    row_of = {key[:-1]: key for key in sorted(tested, key=lambda key: key[-1] != "heldout, refit", reverse=True)}
    row_of |= {key[:-1]: (*key[:-1], "") for key in held if key[-1] == first and key[:-1] not in row_of}
    others = [key for key in held if key[-1] != first]
    shared, presets = shared_settings(records), {record["config"]["preset"] for record in records}
    ambiguous = len({key[-1] for key in tested}) > 1 or bool(others)
    rows = []
    for key in sorted({*tested, *row_of.values(), *others}, key=_order):
        preset, backend, delays, fan_in, changed, protocol = key
        words = [variant_name(delays, fan_in), *(setting_text(*each) for each in changed if each not in shared)]
        words += [f"preset {preset}"] if len(presets) > 1 else []
        words += [protocol] if ambiguous and protocol else []
        on_held = held.get((*key[:-1], first) if row_of.get(key[:-1]) == key else key, [])
        lists = (_without_repetitions(tested.get(key, [])), _without_repetitions(on_held))
        protocol = protocol if lists[0] else ""
        rows.append(Row(backend, delays, fan_in, preset, changed, protocol, *lists, ", ".join(words)))
    return rows


def difference(row: Row, rows: Sequence[Row], *, on_test: bool) -> Estimate | None:
    """The gain of a method over the recipe, which is the preset's values with learned delays under the same backend.

    Settings that all runs of the table share do not count as differences from the recipe. Runs are paired by seed and
    held-out speakers, and on the test set also by protocol.

    Args:
        row: of the method.
        rows: all rows of the table, among which the recipe is looked up.
        on_test: on the test set, or on held-out recordings.

    Returns:
        The mean difference over pairs; with several folds, over the means of folds. None for the recipe itself, and if
        there are no pairs.
    """
    shared = shared_settings([record for each in rows for record in each.records])
    recipe = (row.preset, row.backend, "learned", 0, tuple(each for each in row.settings if each in shared))
    if row.method == recipe:
        return None
    same = [each for each in rows if each.method == recipe and (not on_test or each.protocol == row.protocol)]
    recipe_runs = {_pair(r): r for each in same for r in (each.tested if on_test else each.held)}
    runs = {_pair(r): r for r in (row.tested if on_test else row.held)}
    pairs = [(last_epoch(runs[key]), last_epoch(recipe_runs[key])) for key in runs if key in recipe_runs]
    if not pairs:
        return None
    recordings = row.records[0]["data"]["test"] if on_test else row.held[0]["data"]["test"]
    groups = [] if on_test else [_speakers_of(runs[key]) for key in runs if key in recipe_runs]
    gains = means_of_groups([first - second for first, second in pairs], groups)
    return Estimate(mean(gains), half_difference(pairs, recordings, groups))


def shared_settings(records: Sequence[Record]) -> Settings:
    """The settings that differ from the preset and are the same in all runs."""
    each = [_changed(record["config"]) for record in records]
    return tuple(setting for setting in each[0] if all(setting in other for other in each))


def setting_text(name: str, value: object) -> str:
    """A setting in words, such as "channel_shift 4"."""
    if isinstance(value, bool):
        return name if value else f"no {name}"
    if isinstance(value, list | tuple):
        return f"{name} {'-'.join(map(str, value)) or 'none'}"
    return f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"


def on_test_set(record: Record) -> bool:
    """Whether a run was tested on the test set."""
    default = "" if record["config"].get("protocol") == "speakers" else TEST_SET
    return record["data"].get("tested_on", default) == TEST_SET


def last_epoch(record: Record) -> float:
    """The accuracy after the last epoch, on the recordings that the run was tested on."""
    return record["accuracy"]["last epoch"]


def data_of(record: Record) -> str:
    """The name of the data set; for data that is not known by name, of its folder."""
    return record["data"].get("name") or Path(record["config"]["dataset"]).name


def held_speakers(record: Record) -> tuple[int, ...]:
    """The speakers that were held out of training."""
    return tuple(record["data"].get("held_speakers", ()))


def held_runs(records: Sequence[Record]) -> list[Record]:
    """The runs that were tested on held-out recordings.

    They include the training before each refit, if whole speakers were held out: a run with the protocol "speakers"
    trains and tests the same network. If there is such a run, too, only that one is returned.
    """
    runs = [record for record in records if not on_test_set(record)]
    known = {(_method(record), _pair(record)) for record in runs}
    others = (_before_refit(record) for record in records if "held_out" in record and held_speakers(record))
    return runs + [record for record in others if (_method(record), _pair(record)) not in known]


def _before_refit(record: Record) -> Record:
    config, data, held = record["config"], record["data"], record["held_out"]
    return {
        **record,
        "config": {**config, "protocol": "speakers", "refit": False, "held_speakers": list(held_speakers(record))},
        "data": {**data, "test": data["valid"], "tested_on": data["split"]},
        "epochs": held["epochs"],
        "accuracy": {LAST: held["accuracy"]},
    }


def _estimate(records: Sequence[Record], groups: Sequence[object]) -> Estimate | None:
    values = [last_epoch(record) for record in records]
    if not values:
        return None
    return Estimate(mean(means_of_groups(values, groups)), half_interval(values, records[0]["data"]["test"], groups))


def _without_repetitions(records: Sequence[Record]) -> tuple[Record, ...]:
    """For each run, the record that finished last."""
    return tuple({_pair(record): record for record in sorted(records, key=lambda each: each["finished"])}.values())


def _speakers_of(record: Record) -> object:
    """A key that is equal for runs with the same held-out speakers, or the same fold."""
    config = record["config"]
    return held_speakers(record) or tuple(config.get("held_speakers", ())) or config.get("fold", 0)


def _pair(record: Record) -> tuple[object, ...]:
    """A key that differs between the runs of a row. A refit trains on all speakers, so its key names none of them."""
    config = record["config"]
    if config["protocol"] == "speakers":
        return config["seed"], _speakers_of(record)
    return config["seed"], () if config.get("refit") else held_speakers(record)


def _protocol(record: Record) -> str:
    """The protocol in words; for "heldout" also how recordings were held out, if that is not the default."""
    config, words = record["config"], [str(record["config"]["protocol"])]
    if config.get("refit"):
        return f"{words[0]}, refit"
    if words[0] == "heldout":
        usual = RunConfig()
        words += ["stratified"] if config.get("validation", usual.validation) == "stratified" else []
        share = config.get("validation_fraction", usual.validation_fraction)
        words += [f"{share:g} held out"] if share != usual.validation_fraction else []
    return ", ".join(words)


def _method(record: Record) -> tuple[Any, ...]:
    config = record["config"]
    return config["preset"], config["backend"], config["delays"], config["fan_in"], _changed(config)


def _changed(config: dict[str, Any]) -> Settings:
    complete, base = RunConfig(**config), configure(config["preset"])
    names = (name for name in settings(RunConfig) if name not in _JUDGED_BY | _NAMED)
    values = ((name, getattr(complete, name)) for name in names)
    return tuple((name, value) for name, value in values if value != getattr(base, name))


def _order(key: tuple[Any, ...]) -> tuple[Any, ...]:
    preset, backend, delays, fan_in, changed, protocol = key
    return backend, preset, fan_in, VARIANTS.index(delays), len(changed), str(changed), protocol
