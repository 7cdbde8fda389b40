"""Shared by all commands: the console, list options, progress bars."""

from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from typer.core import TyperCommand

console = Console()


def say(line: str) -> None:
    """Print a line as it is: names of folders and files may look like rich's markup."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)


class SpreadCommand(TyperCommand):
    """A command whose list options take several values after one name: `--seeds 0 1 2`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat the name of a list option before each of its values, as the parser wants it."""
        lists = {name for parameter in self.params if getattr(parameter, "multiple", False) for name in parameter.opts}
        return super().parse_args(ctx, spread(args, lists))


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


def progress_bars(*columns: ProgressColumn) -> Progress:
    """Bars with these columns behind each; by default counts, times, and a note, the field `note` of its task.

    Where a terminal is too narrow, names and notes take several lines, and numbers and times stay whole.
    """
    # an own column for each: rich keeps a table's cells in it
    name, note = (Column(overflow="fold") for _ in range(2))
    count, elapsed, remaining = (Column(no_wrap=True, min_width=width) for width in (3, 7, 7))
    columns = columns or (
        MofNCompleteColumn(table_column=count),
        TimeElapsedColumn(table_column=elapsed),
        TimeRemainingColumn(table_column=remaining),
        TextColumn("{task.fields[note]}", table_column=note),
    )
    bar = BarColumn(bar_width=24 if console.width >= 100 else 8)
    return Progress(TextColumn("{task.description}", table_column=name), bar, *columns, console=console)
