"""Tables for the terminal, all of one look: `make_table(text("layer"), number("delays"), title="...")`.

Rich is imported when a table is made, so that importing this module costs nothing.
"""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import RenderableType
    from rich.table import Column, Table
    from rich.text import Text


def text(header: str, *, wrap: Literal["words", "anywhere", "never"] = "words", min_width: int | None = None) -> Column:
    """A column of text, left-aligned.

    Args:
        header: its heading.
        wrap: where a cell that is too wide for the terminal is broken: between words; at any character, which suits
            dotted names; never, so that the other columns give way.
        min_width: in characters.
    """
    from rich.table import Column

    overflow: Literal["fold", "ellipsis"] = "fold" if wrap == "anywhere" else "ellipsis"
    return Column(header, overflow=overflow, no_wrap=wrap == "never", min_width=min_width)


def number(header: str, *, wrap: bool = False, bottom: bool = False) -> Column:
    """A column of numbers, right-aligned.

    Args:
        header: its heading; a line break in it keeps the column narrow.
        wrap: whether a cell may be broken between words.
        bottom: whether a number stands at the bottom of a row of several lines, and not at its top.
    """
    from rich.table import Column

    return Column(header, justify="right", no_wrap=not wrap, vertical="bottom" if bottom else "top")


def make_table(
    *columns: Column,
    title: str | None = None,
    caption: str | None = None,
    title_justify: Literal["left", "center"] = "center",
    gap: Literal[1, 2, 3] = 2,
) -> Table:
    """A table without rows; `add_row` takes one cell per column: text as it is, or what `plain` and `lines` make.

    Nothing is read as rich's markup: layers, folders and plugins may have names that look like it.

    Args:
        columns: from `text` and `number`.
        title: above the table.
        caption: None for no such text.
        title_justify: where the title stands.
        gap: spaces between two columns.
    """
    from rich import box
    from rich.table import Table

    class PlainTable(Table):
        """A table whose cells are not read as markup."""

        def add_row(self, *cells: RenderableType | None, **options: Any) -> None:
            super().add_row(*(plain(cell) if isinstance(cell, str) else cell for cell in cells), **options)

    heading, below = (None if line is None else plain(line) for line in (title, caption))
    padding = {1: (0, 0, 0, 0), 2: (0, 1, 0, 0), 3: (0, 1, 0, 1)}[gap]  # beside the one space that the box has itself
    return PlainTable(
        *columns,
        title=heading,
        caption=below,
        title_justify=title_justify,
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=padding,
    )


def plain(line: str, style: str = "") -> Text:
    """Text that rich prints as it is, in a style of rich's, such as "red" or "dim".

    What others have written may look like rich's markup, or hold sequences that a terminal obeys: those are shown.
    """
    from rich.text import Text

    return Text(re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", lambda control: repr(control[0])[1:-1], line), style)


def lines(first: str, below: str) -> Text:
    """A cell of two lines, of which the second one is pale."""
    from rich.text import Text

    return Text("\n").join((plain(first), plain(below, "dim")))


def counted(number: int, what: str) -> str:
    """A number and what it counts, in the plural unless it is one.

    >>> counted(1, "layer"), counted(2000, "class")
    ('1 layer', '2,000 classes')
    """
    return f"{number:,} {what}{'' if number == 1 else 'es' if what.endswith('s') else 's'}"


def width_of(columns: Iterable[Iterable[str]], gap: int) -> int:
    """How many characters of a terminal a table of `make_table` takes whose columns hold these headings and cells.

    A terminal that has fewer breaks the cells of its columns, or cuts them.
    """
    widths = [max((len(line) for cell in column for line in cell.splitlines()), default=0) for column in columns]
    return sum(widths) + gap * (len(widths) - 1) + 2


def terminal_width() -> int | None:
    """How many characters a line of the terminal has; None if standard output is no terminal."""
    return shutil.get_terminal_size().columns if sys.stdout is not None and sys.stdout.isatty() else None


def wrapped(line: str, width: int | None) -> str:
    """A line broken between words, what follows further to the right than its beginning; as it is without a width."""
    if width is None or len(line) <= width:
        return line
    indent = " " * (len(line) - len(line.lstrip()))
    return textwrap.fill(
        line.strip(),
        max(width, 40),
        initial_indent=indent,
        subsequent_indent=f"{indent}    ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def to_text(renderable: RenderableType, width: int | None = None) -> str:
    """What rich prints for a table, a group of them, or anything else that it can print, without colours.

    Args:
        renderable: an object with `__rich__` among others.
        width: in characters; by default that of the terminal, if standard output is one, and at most 120.

    Returns:
        Lines without spaces behind them, and without empty lines before the first and after the last.
    """
    from rich.console import Console

    console = Console(width=width or min(terminal_width() or 120, 120), color_system=None)
    with console.capture() as capture:
        console.print(renderable)
    return "\n".join(line.rstrip() for line in capture.get().splitlines()).strip("\n")
