"""Options of a command that come from the fields of a dataclass of settings, `delayplug.bench.settings`."""

import inspect
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import typer

from ..bench.settings import DataclassInstance, Setting, settings
from ..errors import RunError

Command = TypeVar("Command", bound=Callable[..., None])


def check_folder(out: Path) -> None:
    """Raise RunError unless a folder can be made or written to; nothing is made before the work begins."""
    there = next((path for path in (out, *out.parents) if path.exists()), Path())
    if not there.is_dir() or not os.access(there, os.W_OK):
        reason = "cannot be written to" if there.is_dir() else "is a file"
        raise RunError(f"out: expected a folder that can be written to, got {out}: {there} {reason}")


def check_file(out: Path) -> None:
    """Raise RunError unless a file can be written, perhaps into a folder that is still to be made."""
    if out.is_dir():
        raise RunError(f"out: expected a file, got the folder {out}")
    check_folder(out.parent)


def with_settings(
    cls: type[DataclassInstance], *, in_presets: Collection[str], panels: Mapping[str, Collection[str]] | None = None
) -> Callable[[Command], Command]:
    """A decorator: a command with `**settings` gets an option for each field of `cls`, before its own options.

    `settings` then holds a value for each option under the setting's key, and None for those left out.

    Args:
        cls: a dataclass of settings.
        in_presets: names of the settings whose default depends on the preset.
        panels: headings in the help, and the settings below each.
    """
    panel_of = {name: heading for heading, names in (panels or {}).items() for name in names}

    def decorate(command: Command) -> Command:
        *own, _ = inspect.signature(command).parameters.values()  # without **settings, which is the last one
        options = [
            _parameter(setting, setting.name in in_presets, panel_of.get(setting.name))
            for setting in settings(cls).values()
        ]
        vars(command)["__signature__"] = inspect.Signature([*options, *own])
        return command

    return decorate


def _parameter(setting: Setting, in_presets: bool, panel: str | None) -> inspect.Parameter:
    """The keyword argument from which Typer makes the option."""
    flags = [setting.flag, f"--no-{setting.flag[2:]}"] if setting.type is bool else [setting.flag]
    option = typer.Option(
        "/".join(flags),
        help=_help(setting, in_presets),
        min=setting.at_least,
        max=setting.at_most,
        rich_help_panel=panel,
    )
    value: Any = setting.type
    if setting.plural or setting.is_list:
        value = list[value]  # Typer knows no lists of choices: `check_settings` refuses others
    elif setting.choices:
        value = Literal[setting.choices]
    return inspect.Parameter(
        setting.key, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[value | None, option]
    )


def _help(setting: Setting, in_presets: bool) -> str:
    """The help text, with the default in brackets behind it, unless it is a switch."""
    if setting.type is bool:
        return setting.help
    value = f"{setting.default:g}" if isinstance(setting.default, float) else setting.default
    default = setting.default_text or ("the preset's" if in_presets else value)
    words = f"{', '.join(setting.choices)}: " if setting.choices and setting.plural else ""
    return f"{words}{setting.help.removesuffix('.')} ({default})."
