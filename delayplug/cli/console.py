"""Printing, the one way: results go to stdout, everything else to stderr, and text of others is never read as markup.

Names of folders and errors of plugins may look like rich's markup (`pip install 'delayplug[norse]'`), hold characters
that a terminal cannot show, or be longer than it is wide. Commands print through these functions only; a test sees to
that.
"""

import contextlib
import os
import re
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator

from rich.console import Console, RenderableType
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
from rich.text import Text

from .._tables import plain

_WIDE = 160  # columns of tables in a file or a pipe, which cut nothing
_NO_BREAK = "\N{NO-BREAK SPACE}"
_PATIENCE = 3.0  # seconds after which a command that is piped says what takes so long, and says it again

Update = Callable[[str], None]


class _Quiet:
    """Whether this process prints nothing; one of several processes of a run speaks."""

    on = False


def be_quiet(quiet: bool = True) -> None:
    """Print nothing from now on, but errors."""
    _Quiet.on = quiet


def is_quiet() -> bool:
    """Whether nothing is printed, but errors."""
    return _Quiet.on


def _console(*, stderr: bool = False) -> Console:
    console = Console(stderr=stderr, highlight=False, emoji=False, markup=False, quiet=_Quiet.on)
    if not console.is_terminal and not os.environ.get("COLUMNS", "").isdigit():
        console.width = _WIDE
    return console


def _print(console: Console, line: str, before: Text | None = None) -> None:
    """Print a line, which a terminal that is too narrow gets in several, with paths and commands in one piece."""
    if console.is_terminal:
        width = console.width - (len(before) if before else 0)
        line = "\n".join(_wrapped(each, width) for each in line.splitlines())
    console.print(plain(line) if before is None else before + plain(line), soft_wrap=True)


def _wrapped(line: str, width: int) -> str:
    """A line broken between words, but not inside of a command.

    >>> print(_wrapped("norse needs the package 'norse'. Run: pip install 'delayplug[norse]'", 30))
    norse needs the package
    'norse'. Run:
    pip install 'delayplug[norse]'
    """
    whole = re.sub(r"(?:pip install|delayplug (?:bench|data|backends|speed))\b.*", _unbroken, line)
    pieces = textwrap.wrap(whole, max(width, 20), break_long_words=False, break_on_hyphens=False)
    return "\n".join(pieces).replace(_NO_BREAK, " ")


def _unbroken(command: re.Match[str]) -> str:
    return command[0].replace(" ", _NO_BREAK)


def say(line: str) -> None:
    """A line of a result, on stdout."""
    _print(_console(), line)


def show(result: RenderableType) -> None:
    """A table, or several, on stdout."""
    _console().print(result)


def note(line: str, bars: Progress | None = None) -> None:
    """A line on how a command proceeds, on stderr, above its bars."""
    _print(_console(stderr=True) if bars is None else bars.console, line)


def warn(line: str) -> None:
    """A warning, on stderr."""
    _print(_console(stderr=True), line, plain("warning:", "yellow") + " ")


def fail(line: str) -> None:
    """An error, on stderr, even if this process is quiet otherwise."""
    console = _console(stderr=True)
    console.quiet = False
    _print(console, line, plain("error:", "red") + " ")


@contextlib.contextmanager
def working(text: str) -> Iterator[Update]:
    """Say on stderr what takes long: in a terminal with a spinner, elsewhere in a line every few seconds.

    Yields:
        a function that takes what is done now.
    """
    console = _console(stderr=True)
    if console.is_terminal and not console.is_dumb_terminal:
        with console.status(plain(text)) as status:
            yield lambda text: status.update(plain(text))
        return
    now, done, began = [text], threading.Event(), time.monotonic()

    def report() -> None:
        while not done.wait(_PATIENCE):
            console.print(plain(f"{now[0]} ({time.monotonic() - began:.0f} s)"), soft_wrap=True)

    thread = threading.Thread(target=report, daemon=True, name="working")
    thread.start()
    try:
        yield lambda text: now.__setitem__(0, text)
    finally:
        done.set()
        thread.join()


def progress_bars(*columns: ProgressColumn) -> Progress:
    """Bars on stderr with these columns behind each; by default counts, times, and the field `note` of its task.

    Where stderr is no terminal, nothing is drawn.

    Where a terminal is too narrow, names and notes take several lines, and numbers and times stay whole.
    """
    console = _console(stderr=True)
    # an own column for each: rich keeps a table's cells in it
    name, note = (Column(overflow="fold") for _ in range(2))
    count, elapsed, remaining = (Column(no_wrap=True, min_width=width) for width in (3, 7, 7))
    columns = columns or (
        MofNCompleteColumn(table_column=count),
        TimeElapsedColumn(table_column=elapsed),
        TimeRemainingColumn(table_column=remaining),
        TextColumn("{task.fields[note]}", markup=False, table_column=note),
    )
    bar = BarColumn(bar_width=24 if console.width >= 100 else 8 if console.width >= 60 else 4)
    label = TextColumn("{task.description}", markup=False, table_column=name)
    return Progress(label, bar, *columns, console=console, disable=not console.is_terminal or console.quiet)


def prepare_streams() -> None:
    """Have stdout and stderr show what they cannot encode, such as a file's name that is not UTF-8, as an escape."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
