"""`delayplug speed`, as a user meets it."""

import json
from pathlib import Path

import pytest

from delayplug.bench.measure import speed as measured
from delayplug.bench.measure.speed import Comparison, Result
from delayplug.cli.speed import speed
from delayplug.errors import RunError
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


def test_what_fails_does_not_keep_the_others_from_being_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(comparison: Comparison, *_: object, **__: object) -> Result:
        if "140" in comparison.name:
            raise RuntimeError("out of memory")
        return Result(comparison, (1.0, 2.0), 2.0, (2.0, 2.0))

    monkeypatch.setattr(measured, "measure", measure)
    out = tmp_path / "speed.json"
    with pytest.raises(RunError, match="layer 140 -> 256, 25 taps: RuntimeError: out of memory"):
        speed(only=["layer"], backend=["norse"], rounds=3, seconds=0, threads=None, device="cpu",
              precision="highest", against=None, out=out, as_json=True)  # fmt: skip
    assert len(json.loads(out.read_text())["results"]) == 3
    assert json.loads(capsys.readouterr().out) == json.loads(out.read_text())
