"""How commands take arguments: lists after one option, help that is readable at 80 columns, errors of one line."""

import re
from collections.abc import Iterable
from typing import Any, Protocol

import typer
from typer.core import TyperCommand, TyperGroup

from ..errors import did_you_mean

# The error that a command line is wrong: click's, of which Typer may have a copy of its own.
USAGE_ERROR: Any = typer.BadParameter.__base__


class UsageError(Protocol):
    """An error in the arguments of a command."""

    ctx: Any  # of the command, None before that is known
    exit_code: int

    def format_message(self) -> str:
        """What is wrong."""


class Command(TyperCommand):
    """A command with help in plain text, whose list options take several values after one name: `--seeds 0 1 2`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "rich_markup_mode": None})

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat the name of a list option before each of its values, as the parser wants it."""
        lists = {name for parameter in self.params if getattr(parameter, "multiple", False) for name in parameter.opts}
        return super().parse_args(ctx, spread(args, lists))

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """The arguments and options under the headings of their panels."""
        _format(self.get_params(ctx), ctx, formatter)


class Group(TyperGroup):
    """A group of commands, with help in plain text."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "rich_markup_mode": None})

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """The commands first, then the options."""
        commands = [(name, self.commands[name]) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, (command.help or "").partition("\n\n")[0]) for name, command in commands])
        _format(self.get_params(ctx), ctx, formatter)


def _format(params: Iterable[Any], ctx: Any, formatter: Any) -> None:
    panels: dict[str, list[tuple[str, str]]] = {}
    for param in params:
        usual = "Arguments" if param.param_type_name == "argument" else "Options"
        if (record := param.get_help_record(ctx)) is not None:
            panels.setdefault(getattr(param, "rich_help_panel", None) or usual, []).append(_shorten(*record))
    if "Options" in panels:  # --help and the like at the end
        panels["Options"] = panels.pop("Options")
    for heading, rows in panels.items():
        with formatter.section(heading):
            formatter.write_dl(rows, col_max=26)


def _shorten(name: str, text: str) -> tuple[str, str]:
    """The two columns of an option, with short words for types and without bounds: an error tells those."""
    name = re.sub(r"<list\[(.*)\]>", r"<\1> ...", name)
    name = re.sub(r"<(?:int|integer)( range)?>|INTEGER( RANGE)?", "N", name)
    name = re.sub(r"<float( range)?>|FLOAT( RANGE)?", "X", name)
    name = re.sub(r"<str>|<text>", "TEXT", name)
    name = re.sub(r"<path>|<directory>", "PATH", name, flags=re.IGNORECASE)
    name = re.sub(r"<([^>]*\|[^>]*)>", r"\1", name)
    bounds = r"(?:[\d.-]+<=?)?x(?:[<>]=?[\d.-]+)?"
    return name, re.sub(rf"; {bounds}\]$", "]", re.sub(rf"\s*\[{bounds}\]$", "", text))


def explain(error: UsageError) -> str:
    """What is wrong with the arguments of a command, in a line, and the choice or the name that may have been meant."""
    message, hint = error.format_message().replace("Value error, ", ""), ""
    if wrong := re.search(r"'([^']*)' is not one of (.+?)\.?$", message):
        choices = re.findall(r"'([^']*)'", wrong[2])
        message, hint = f"{message.rstrip('.')}.", did_you_mean(wrong[1], choices)
    elif wrong := re.search(r"[Nn]o such option:? '?(-[\w-]+)", message):
        params = [] if error.ctx is None else error.ctx.command.params
        names = [name for param in params for name in (*param.opts, *param.secondary_opts)]
        message, hint = f"No such option: {wrong[1]}.", did_you_mean(wrong[1], [*names, "--help"])
    elif wrong := re.search(r"[Nn]o such command '([^']*)'", message):
        names = list(getattr(getattr(error.ctx, "command", None), "commands", {}))
        message, hint = f"No such command: {wrong[1]}. There are {', '.join(names)}.", did_you_mean(wrong[1], names)
    lines = [" ".join(filter(None, (message, hint)))]
    if error.ctx is not None:
        lines.append(f"Try: {error.ctx.command_path} --help")
    return "\n".join(lines)


def spread(args: list[str], lists: set[str]) -> list[str]:
    """`--seeds 0 1` as `--seeds 0 --seeds 1`, for the options named.

    >>> spread(["--seeds", "0", "1", "--epochs", "3"], {"--seeds"})
    ['--seeds', '0', '--seeds', '1', '--epochs', '3']
    """
    result: list[str] = []
    current, values = "", 0
    for arg in args:
        name, equals, _ = arg.partition("=")
        if equals and name in lists:  # --seeds=0 1
            current, values = name, 1
        elif arg.startswith("-"):
            current, values = (arg if arg in lists else ""), 0
        elif current:
            values += 1
            if values > 1:
                result.append(current)
        result.append(arg)
    return result
