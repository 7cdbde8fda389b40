"""The configuration of a sweep, read from CONFIG.toml."""

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from ...errors import ArgumentError, RunError, did_you_mean
from ..config import SYNTHETIC, RunConfig, configure
from ..settings import Setting, check_settings, settings
from ..task import usual_preset
from .space import Space, read_space

Sampler = Literal["tpe", "random", "grid"]
_SHOWN = 3  # differences that a message lists

# Fields of a run that a sweep sets itself, and what to write instead.
_SET_BY_THE_SWEEP = {
    "seed": "seeds = [...], which all settings share",
    "fold": "folds = [...]",
    "protocol": "nothing: settings are judged by held-out speakers, or by the validation file that comes with the data",
    "held_speakers": "folds = [...]",
    "refit": "final_seeds = [...], the seeds of the chosen setting's runs",
}


@dataclass(frozen=True)
class SweepOptions:
    """How settings are drawn and judged.

    Raises:
        ArgumentError: a value of the wrong type or out of its bounds.
    """

    seeds: Annotated[tuple[int, ...], Setting("Seeds; each setting is judged with all of them.", at_least=0)] = (0,)
    folds: Annotated[tuple[int, ...], Setting("Folds of --protocol speakers; empty: all of them.", at_least=0)] = ()
    budget: Annotated[int, Setting("Number of settings that are drawn.", at_least=1)] = 30
    baseline: Annotated[bool, Setting("Judge the preset's own values, too; they do not count in the budget.")] = True
    sampler: Annotated[Sampler, Setting("How settings are drawn: by Optuna's TPE, at random, or from a grid.")] = "tpe"
    sampler_seed: Annotated[int, Setting("Seed of the sampler.", at_least=0)] = 0
    at_once: Annotated[int, Setting("Number of settings drawn together, to be trained side by side.", at_least=1)] = 1
    halving: Annotated[
        int, Setting("Each rung passes on one of this many settings, the best; 1: no rungs.", at_least=1)
    ] = 3
    final_seeds: Annotated[
        tuple[int, ...], Setting("Seeds of the chosen setting's runs on the test set; empty: no such runs.", at_least=0)
    ] = (0, 1, 2, 3, 4)

    def __post_init__(self) -> None:
        check_settings(self)
        for name in ("seeds", "folds", "final_seeds"):
            values = tuple(getattr(self, name))
            if len(set(values)) < len(values):
                raise ArgumentError(name, "each number once", list(values))
            object.__setattr__(self, name, values)
        if not self.seeds:
            raise ArgumentError("seeds", "at least one", "none")


@dataclass(frozen=True)
class SweepConfig:
    """The content of CONFIG.toml.

    Attributes:
        options: how settings are drawn and judged.
        preset: name of the preset of all runs.
        fixed: values of the fields of `RunConfig` that all runs share.
        search: the table [search] as it stands in the file.
        space: the same table as ranges and choices.
    """

    options: SweepOptions
    preset: str
    fixed: Mapping[str, object]
    search: Mapping[str, object]
    space: Space

    @property
    def dataset(self) -> str:
        """The `dataset` of all runs: a folder, or "synthetic"."""
        return str(self.fixed.get("dataset", SYNTHETIC))

    def run(self, values: Mapping[str, object], **how: object) -> RunConfig:
        """The configuration of a run of a setting.

        Args:
            values: of the searched fields.
            how: values of other fields: protocol, seed, fold and so on.

        Raises:
            ArgumentError: the values contradict each other.
        """
        return configure(self.preset, **{**self.fixed, **values, **how})

    def baseline(self) -> dict[str, object]:
        """The preset's values of the searched fields."""
        preset = configure(self.preset)
        return {name: getattr(preset, name) for name in self.space}

    def to_json(self) -> dict[str, object]:
        """The whole configuration, as the record of the sweep contains it."""
        options = {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self.options).items()}
        return {**options, "preset": self.preset, **self.fixed, "search": dict(self.search)}

    def check_same(self, other: Mapping[str, object], where: Path) -> None:
        """Raise RunError, with the differences, unless `other`, the JSON of the sweep in `where`, equals this one."""
        there, here = _flat(other), _flat(self.to_json())
        keys = sorted(there.keys() | here.keys())
        unlike = [f"{k}: {there.get(k)!r} there, {here.get(k)!r} here" for k in keys if there.get(k) != here.get(k)]
        if unlike:
            more = f"; and {len(unlike) - _SHOWN} more" if len(unlike) > _SHOWN else ""
            advice = "Choose another --out, or move it away"
            raise RunError(f"{where} is of another sweep ({'; '.join(unlike[:_SHOWN])}{more}). {advice}")


def _flat(values: Mapping[str, object]) -> dict[str, object]:
    search = values.get("search")
    inner = search if isinstance(search, dict) else {}
    return {**{k: v for k, v in values.items() if k != "search"}, **{f"search.{k}": v for k, v in inner.items()}}


def read_sweep(path: Path) -> SweepConfig:
    """Read the file of a sweep: options of `SweepOptions`, values of fields of `RunConfig`, and the table [search].

    Raises:
        ArgumentError: the file does not exist or is not TOML; a key is not a setting; or a value is not allowed.
    """
    try:
        values: dict[str, object] = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ArgumentError("config", "a TOML file", path, str(error)) from error
    search = values.pop("search", {})
    if not isinstance(search, dict):
        raise ArgumentError(f"search in {path}", "a table, [search]", repr(search))
    own: dict[str, Any] = {name: values.pop(name) for name in settings(SweepOptions) if name in values}
    for name, setting in settings(SweepOptions).items():
        if name in own and not setting.allows(own[name]):
            raise ArgumentError(f"{name} in {path}", setting.expected, repr(own[name]))
    space = read_space(search)
    _check_fixed(values, space, path)
    preset = str(values.pop("preset", None) or usual_preset(str(values.get("dataset", SYNTHETIC))))
    return SweepConfig(SweepOptions(**own), preset, values, search, space)


def _check_fixed(values: Mapping[str, object], space: Space, path: Path) -> None:
    """Raise ArgumentError unless the other keys of a file are fields of `RunConfig` with allowed values."""
    known = settings(RunConfig)
    if own := values.keys() & _SET_BY_THE_SWEEP.keys():
        name = min(own)
        raise ArgumentError(f"{name} in {path}", _SET_BY_THE_SWEEP[name], repr(values[name]))
    if unknown := sorted(values.keys() - known.keys()):
        names = ", ".join(sorted({*known, *settings(SweepOptions), "search"} - _SET_BY_THE_SWEEP.keys()))
        raise ArgumentError(
            f"config {path}", f"settings among {names}", ", ".join(unknown), did_you_mean(unknown[0], known)
        )
    for name, value in values.items():
        if name in space:
            raise ArgumentError(f"{name} in {path}", "a value here or in [search], not both", repr(value))
        if not known[name].allows(value):
            raise ArgumentError(f"{name} in {path}", known[name].expected, repr(value))
    if "backend" not in values and "backend" not in space:
        raise ArgumentError(f"backend in {path}", "the name of a toolkit", "none", "`delayplug backends` lists them")
