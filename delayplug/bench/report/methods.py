"""Rows of a comparison: the runs of one method under one backend, on the test set, on held-out speakers, or on both.

A method is all settings that decide what is trained, and none of those that say how it is judged.
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

# The fields that say how and where a network is judged or computed; all others are the method.
_JUDGED_BY = frozenset({
    *("protocol", "validation", "validation_fraction", "fold", "held_speakers", "refit", "validate_every"),
    *("dataset", "time_unit", "seed", "compile"),
})  # fmt: skip
# Those that have a place of their own in the name of a row, or in the title of a table.
_NAMED = frozenset({"preset", "backend", "delays", "fan_in"})

Settings = tuple[tuple[str, object], ...]


@dataclass(frozen=True)
class Estimate:
    """A mean over runs, and half the 95 % interval in which the true one lies; numbers between 0 and 1."""

    mean: float
    half: float

    def percent(self, *, sign: bool = False) -> str:
        """In percent, or in points with a sign."""
        return f"{100 * self.mean:{'+' if sign else ''}.1f} +-{100 * self.half:.1f}"


@dataclass(frozen=True)
class Row:
    """The runs of a method.

    Attributes:
        backend, delays, fan_in, preset: of all of them.
        settings: names and values of those that are not the preset's.
        protocol: that of the runs on the test set, such as "heldout, refit"; "" if there are none.
        tested: runs that were tested on the test set.
        held: runs that were tested on recordings held out of training, and did not read the test set.
        name: what tells it from other rows of its table with the same backend.
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
        """All runs, those on the test set first."""
        return (*self.tested, *self.held)

    @property
    def method(self) -> tuple[object, ...]:
        """What is trained, as a key."""
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
    """A row for each backend, method and protocol of the test set, by backend, fan-in, delays and what else differs.

    Runs on held-out speakers stand in the row of the same method, that of a refit if there are several, and so does the
    training before a refit where whole speakers were held out; runs on a validation file do where there are none on
    speakers. Of runs of a row with the same seed and the same speakers held out, which are one run made twice, the last
    to finish counts.
    """
    tested, held = defaultdict[tuple[Any, ...], list[Record]](list), defaultdict[tuple[Any, ...], list[Record]](list)
    for record in filter(on_test_set, records):
        tested[*_method(record), _protocol(record)].append(record)
    for record in held_runs(records):
        held[*_method(record), _protocol(record)].append(record)
    first = min((key[-1] for key in held), default="")  # "speakers" before "validation"
    # The row of each method in which its other runs stand.
    places = {key[:-1]: key for key in sorted(tested, key=lambda key: key[-1] != "heldout, refit", reverse=True)}
    places |= {key[:-1]: (*key[:-1], "") for key in held if key[-1] == first and key[:-1] not in places}
    others = [key for key in held if key[-1] != first]
    shared, presets = shared_settings(records), {record["config"]["preset"] for record in records}
    ambiguous = len({key[-1] for key in tested}) > 1 or bool(others)
    rows = []
    for key in sorted({*tested, *places.values(), *others}, key=_order):
        preset, backend, delays, fan_in, changed, protocol = key
        words = [variant_name(delays, fan_in), *(setting_text(*each) for each in changed if each not in shared)]
        words += [f"preset {preset}"] if len(presets) > 1 else []
        words += [protocol] if ambiguous and protocol else []
        own = held.get((*key[:-1], first) if places.get(key[:-1]) == key else key, [])
        lists = (_once(tested.get(key, [])), _once(own))
        protocol = protocol if lists[0] else ""
        rows.append(Row(backend, delays, fan_in, preset, changed, protocol, *lists, ", ".join(words)))
    return rows


def difference(row: Row, rows: Sequence[Row], *, on_test: bool) -> Estimate | None:
    """What a method gains over the recipe: the preset's values with learned delays, under the same backend.

    Runs are paired by seed and held-out speakers; on the test set also by protocol.

    Args:
        row: of the method.
        rows: of its table, in which the recipe is searched. A setting that all runs share is no difference to it.
        on_test: on the test set, or on held-out recordings.

    Returns:
        The mean over the pairs, where there are several folds over their means; None for the recipe itself, and without
        pairs.
    """
    shared = shared_settings([record for each in rows for record in each.records])
    recipe = (row.preset, row.backend, "learned", 0, tuple(each for each in row.settings if each in shared))
    if row.method == recipe:
        return None
    same = [each for each in rows if each.method == recipe and (not on_test or each.protocol == row.protocol)]
    theirs = {_pair(r): r for each in same for r in (each.tested if on_test else each.held)}
    ours = {_pair(r): r for r in (row.tested if on_test else row.held)}
    pairs = [(last_epoch(ours[key]), last_epoch(theirs[key])) for key in ours if key in theirs]
    if not pairs:
        return None
    recordings = row.records[0]["data"]["test"] if on_test else row.held[0]["data"]["test"]
    groups = [] if on_test else [_speakers_of(ours[key]) for key in ours if key in theirs]
    gains = means_of_groups([first - second for first, second in pairs], groups)
    return Estimate(mean(gains), half_difference(pairs, recordings, groups))


def shared_settings(records: Sequence[Record]) -> Settings:
    """The settings that are not the preset's, and the same in all runs."""
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
    """Whether the accuracies of a run are those of the test set."""
    default = "" if record["config"].get("protocol") == "speakers" else TEST_SET
    return record["data"].get("tested_on", default) == TEST_SET


def last_epoch(record: Record) -> float:
    """The accuracy after the last epoch, on whatever was tested on."""
    return record["accuracy"]["last epoch"]


def data_of(record: Record) -> str:
    """The name of the data set, or of its folder where it is not a known one."""
    return record["data"].get("name") or Path(record["config"]["dataset"]).name


def held_speakers(record: Record) -> tuple[int, ...]:
    """The speakers that were held out of training."""
    return tuple(record["data"].get("held_speakers", ()))


def held_runs(records: Sequence[Record]) -> list[Record]:
    """The runs that were tested on held-out recordings.

    With them the training before each refit, if whole speakers were held out, as the run that the protocol "speakers"
    makes: it is the same network, tested alike. A network that is there twice counts once.
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


def _once(records: Sequence[Record]) -> tuple[Record, ...]:
    """Of records of the same run the last to finish."""
    return tuple({_pair(record): record for record in sorted(records, key=lambda each: each["finished"])}.values())


def _speakers_of(record: Record) -> object:
    """What tells the held-out recordings of one fold from those of another."""
    config = record["config"]
    return held_speakers(record) or tuple(config.get("held_speakers", ())) or config.get("fold", 0)


def _pair(record: Record) -> tuple[object, ...]:
    """What tells the runs of a row apart. A refit is trained on all speakers, whichever were held out before it."""
    config = record["config"]
    if config["protocol"] == "speakers":
        return config["seed"], _speakers_of(record)
    return config["seed"], () if config.get("refit") else held_speakers(record)


def _protocol(record: Record) -> str:
    """The protocol in words, and which recordings were held out of training where that is not the default."""
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
