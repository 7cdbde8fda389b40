"""Tables for the terminal look alike, and cost nothing before they are made."""

import subprocess
import sys

import pytest
from rich.console import Group

from delayplug._tables import lines, make_table, number, text, to_text, width_of


def test_text_is_left_and_numbers_are_right() -> None:
    table = make_table(text("layer"), number("delays"), title="two layers", caption="in steps")
    table.add_row("fc", "1,000")
    table.add_row("output", "5")
    assert to_text(table).splitlines() == [
        "   two layers",
        "",
        " layer   delays",
        " ──────────────",
        " fc       1,000",
        " output       5",
        "",
        "    in steps",
    ]


@pytest.mark.parametrize("gap", [1, 2])
def test_a_table_fits_into_its_width_and_into_none_below(gap) -> None:
    columns = [["layer", "output"], ["of a\nneuron", "1,000"]]
    table = make_table(*(text(column[0]) for column in columns), gap=gap)
    table.add_row(*(column[1] for column in columns))
    width = width_of(columns, gap)
    assert to_text(table, width) == to_text(table, 120)
    assert to_text(table, width - 1) != to_text(table, 120)


@pytest.mark.parametrize("gap", [1, 2, 3])
def test_gap_is_that_between_columns(gap) -> None:
    table = make_table(text("a"), number("b"), gap=gap)
    table.add_row("x", "y")
    assert to_text(table).splitlines()[-1] == " x" + gap * " " + "y"


def test_cells_titles_and_captions_are_no_markup() -> None:
    table = make_table(text("a"), title="t[/x] :smile:", caption="pip install 'delayplug[norse]'")
    table.add_row("[red]x[/red] \x1b[2J")
    table.add_row(lines("one[0]", "two[/]"))
    shown = to_text(table)
    for part in ("t[/x] :smile:", "'delayplug[norse]'", "[red]x[/red] \\x1b[2J", "one[0]", "two[/]"):
        assert part in shown


def test_title_can_stand_left() -> None:
    table = make_table(text("a long heading"), title="title", title_justify="left")
    assert to_text(table).startswith("title")


def test_number_may_stand_at_the_bottom_of_its_row() -> None:
    table = make_table(text("a"), number("top"), number("bottom", bottom=True))
    table.add_row("one\ntwo", "1", "2")
    one, two = to_text(table).splitlines()[-2:]
    assert "1" in one
    assert "2" in two


def test_narrow_terminal_breaks_text_as_asked() -> None:
    def cells(**options) -> list[str]:
        table = make_table(text("a", **options), number("b"))
        table.add_row("encoder.first block", "1,000,000")
        return to_text(table, width=20).splitlines()

    assert all("1,000,000" in "".join(cells(wrap=wrap)) for wrap in ("words", "anywhere"))
    assert [line.split()[0] for line in cells(wrap="words")[2:]] == ["encode…", "block"]
    assert [line.split()[0] for line in cells(wrap="anywhere")[2:]] == ["encoder", ".first", "block"]
    assert [line.split() for line in cells(wrap="never")[2:]] == [["encoder.fir…", "1,0…"]]  # both give way


def test_anything_that_rich_prints_becomes_text() -> None:
    class Printed:
        def __rich__(self) -> Group:
            return Group("", "[bold]one[/]  ", "two")

    assert to_text(Printed()) == "one\ntwo"
    assert to_text("a b", width=1) == "a\nb"


def test_import_loads_nothing() -> None:
    code = (
        "import sys, delayplug._tables, delayplug._colours; print([m for m in ('rich', 'torch') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_the_terminal_sets_the_width(monkeypatch):
    import io
    import sys

    from delayplug._tables import terminal_width, wrapped

    table = make_table(text("why"))
    table.add_row("words " * 30)
    assert terminal_width() is None
    assert max(map(len, to_text(table).splitlines())) > 80

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("COLUMNS", "80")
    assert terminal_width() == 80
    assert max(map(len, to_text(table).splitlines())) <= 80
    line = "      " + "a new sequence " * 8
    assert wrapped(line, None) == wrapped(line, 200) == line
    first, *others = wrapped(line, 80).splitlines()
    assert first.startswith("      a new")
    assert others
    assert all(other.startswith(" " * 10) and len(other) <= 80 for other in others)
