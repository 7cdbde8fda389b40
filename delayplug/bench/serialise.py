"""A run's configuration as a TOML file and as a command; both make the run again."""

import json
import shlex
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..errors import ArgumentError, did_you_mean
from .config import RunConfig, configure
from .settings import settings

_SHOWN = 5  # unknown keys that a message lists


def read_toml(path: Path) -> dict[str, Any]:
    """Settings of a comparison from a file: fields of `RunConfig`; `backends`, `delays`, `fan_in`, `seeds` and `folds`
    as lists.

    Raises:
        ArgumentError: there is no such file, it is not TOML, or it has a key that is not a setting, or a value of
            another type or out of the setting's bounds.
    """
    values = parse_toml(path)
    known = {setting.key: setting for setting in settings(RunConfig).values()}
    unknown = sorted(values.keys() - known.keys())
    if unknown:
        raise unknown_setting("config", unknown, known, path)
    several = {key: value if isinstance(value, list) else [value] for key, value in values.items() if known[key].plural}
    for key, value in values.items():
        for each in several.get(key, [value]):
            known[key].check(each, f"{key} in {path}")
    return values | several


def parse_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file.

    Raises:
        ArgumentError: there is no such file, or it is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ArgumentError("config", "a TOML file", path, "its values are nested too deeply") from error
    except (OSError, ValueError) as error:  # the latter for text and numbers that TOML does not have, too
        raise ArgumentError("config", "a TOML file", path, str(error)) from error


def unknown_setting(where: str, unknown: Sequence[str], known: Iterable[str], path: Path) -> ArgumentError:
    """The error for keys of a file that are not settings, with the setting whose name is most like the first of them.

    Args:
        where: how the message begins.
        unknown: the keys; one at least.
        known: the names of the settings.
        path: the file.
    """
    names = sorted(known)
    got = f"{', '.join(unknown[:_SHOWN])} in {path}"
    return ArgumentError(where, f"settings among {', '.join(names)}", got, did_you_mean(unknown[0], names))


def to_toml(config: RunConfig) -> str:
    """The text of a file from which `read_toml` reads this run."""
    # Strings, numbers, booleans and lists of numbers look the same in JSON and in TOML.
    values = config.to_json()
    lines = (f"{setting.key} = {json.dumps(values[name])}" for name, setting in settings(RunConfig).items())
    return "\n".join(lines) + "\n"


def to_command(config: RunConfig) -> str:
    """The command that makes a run again, with an option for each value that differs from its preset.

    An empty list has no option; the command then names the `config.toml` in the run's folder.
    """
    words = ["delayplug", "bench", "run"]
    base = configure(config.preset)
    # Without these options a comparison makes several runs, or another preset's.
    always = ["preset", "backend", "delays", "seed"]
    if config.protocol == "speakers" and not config.held_speakers:
        always.append("fold")
    for name, setting in sorted(settings(RunConfig).items(), key=lambda item: item[0] != "preset"):
        value = getattr(config, name)
        if value == getattr(base, name) and name not in always:
            continue
        if value == ():
            return shlex.join([*words[:3], "--config", f"{config.name}/config.toml"])
        if isinstance(value, bool):
            words.append(setting.flag if value else f"--no-{setting.flag[2:]}")
        else:
            words += [setting.flag, *map(str, value if setting.is_list else [value])]
    return shlex.join(words)
