"""What the commands share."""

import importlib

import pytest
from rich.console import Console

from delayplug._tables import to_text
from delayplug.cli.console import progress_bars, spread


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--a", "1", "2", "3"], ["--a", "1", "--a", "2", "--a", "3"]),
        (["--a", "1", "--b", "2", "3"], ["--a", "1", "--b", "2", "3"]),
        (["--a", "1", "--a", "2"], ["--a", "1", "--a", "2"]),
        (["--a=1", "2", "--b", "3"], ["--a=1", "--a", "2", "--b", "3"]),
        (["--b", "x", "--a", "1", "2", "--b", "y"], ["--b", "x", "--a", "1", "--a", "2", "--b", "y"]),
        ([], []),
    ],
)
def test_several_values_after_one_option(args: list[str], expected: list[str]) -> None:
    assert spread(args, {"--a"}) == expected


def test_bars_keep_counts_and_times_in_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("delayplug.cli.console"), "console", Console(width=80))
    bars = progress_bars()
    bars.add_task("runs", total=2, completed=2, note="")
    name = "spikingjelly, learned-recurrent-axonal, fold 1, seed 0"
    bars.add_task(name, total=150, completed=150, note="loss 12.332, valid. 19.1 %")
    shown = to_text(bars.get_renderable(), 80)
    assert "…" not in shown
    assert "150/150" in shown
    assert shown.count("0:00:00") == shown.count("-:--:--") == 2
    assert "valid." in shown
