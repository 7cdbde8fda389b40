"""`delayplug speed`, as a user meets it."""

import json
from pathlib import Path

import pytest

from tests.cli.command import delayplug


@pytest.mark.slow
def test_one_comparison(tmp_path: Path) -> None:
    args = ["--only", "layer 256 -> 20", "--rounds", "3", "--seconds", "0", "--threads", "1", "--out", "speed.json"]
    done = delayplug("speed", *args, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "layer 256 -> 20, 25 taps" in done.stdout
    assert "target" in done.stdout
    (result,) = json.loads((tmp_path / "speed.json").read_text())["results"]
    assert result["ratio"] > 0


@pytest.mark.parametrize(("args", "word"), [(["--device", "abacus"], "device"), (["--only", "nothing"], "only")])
def test_errors_are_one_message(args: list[str], word: str) -> None:
    done = delayplug("speed", *args)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {word}: expected")
