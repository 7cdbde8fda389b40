"""What the commands print with."""

import ast
import re
from pathlib import Path

import pytest

from delayplug._tables import to_text
from delayplug.cli import console

HOUSE = Path(console.__file__).parents[1]
SAY = {"say": "out", "note": "err", "warn": "err", "fail": "err"}


@pytest.mark.parametrize("how", SAY)
def test_a_line_is_printed_as_it_is(how: str, capsys: pytest.CaptureFixture[str]) -> None:
    line = "a[/x]/pip install 'delayplug[norse]' :smile: " + "/long" * 40
    getattr(console, how)(line)
    captured = capsys.readouterr()
    assert getattr(captured, SAY[how]).rstrip("\n").endswith(line)  # not broken
    assert not getattr(captured, "out" if SAY[how] == "err" else "err")


def test_what_a_terminal_would_obey_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    console.say("a\x1b[2J\x07b")
    assert capsys.readouterr().out == "a\\x1b[2J\\x07b\n"


def test_a_quiet_process_prints_errors_only(capsys: pytest.CaptureFixture[str]) -> None:
    console.be_quiet()
    try:
        for how in SAY:
            getattr(console, how)(how)
        with console.working("work"), console.progress_bars() as bars:
            bars.add_task("runs", total=1, note="")
    finally:
        console.be_quiet(False)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "error: fail\n"


def test_work_that_takes_long_is_named_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "_PATIENCE", 0.02)
    with console.working("reading [/x]") as update:
        while "reading [/x] (0 s)" not in (told := capsys.readouterr()).err:
            pass
        assert told.out == ""
        update("drawing")
        while "drawing" not in capsys.readouterr().err:
            pass


@pytest.mark.parametrize("width", [60, 80])
def test_bars_keep_counts_and_times_in_a_narrow_terminal(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    bars = console.progress_bars()
    bars.add_task("runs", total=2, completed=2, note="")
    name = "spikingjelly[/x], learned-recurrent-axonal, fold 1, seed 0"
    bars.add_task(name, total=150, completed=150, note="loss 12.332, valid. 19.1 %")
    shown = to_text(bars.get_renderable(), width)
    assert "…" not in shown
    assert "150/150" in shown
    assert shown.count("0:00:00") == shown.count("-:--:--") == 2
    assert "valid." in shown


# Who else calls these might read text of others as markup, or print to the wrong stream.
ONLY_IN = {
    "Console": {"cli/console.py", "_tables.py"},
    "Table": {"_tables.py"},
    "print": {"cli/__init__.py", "toolkits/discovery.py"},  # to stderr, without rich
}


def called(tree: ast.AST) -> set[str]:
    """The names that are called, such as print and Console."""
    calls = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    return {func.id for func in calls if isinstance(func, ast.Name)}


def markup(tree: ast.AST) -> list[str]:
    """Texts in the code that are written in rich's markup; docstrings are not."""
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [text for text in texts if re.search(r"\[(?:dim|bold|red|green|yellow)\b[^\]]*\]", text)]


def test_nothing_else_prints_or_writes_markup() -> None:
    for path in sorted(HOUSE.rglob("*.py")):
        name, tree = path.relative_to(HOUSE).as_posix(), ast.parse(path.read_text())
        wrong = [function for function in called(tree) & set(ONLY_IN) if name not in ONLY_IN[function]]
        assert wrong == [], f"{name}: print by cli/console, and make tables by _tables"
        assert "rich.markup" not in path.read_text(), name
        assert markup(tree) == [], name


def test_markup_is_noticed() -> None:
    tree = ast.parse("print('[red]x[/]', Console())")
    assert called(tree) == {"print", "Console"}
    assert markup(tree) == ["[red]x[/]"]
