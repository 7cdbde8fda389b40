"""Comparisons: which runs there are, and which of them are made."""

from pathlib import Path

import pytest

from delayplug import ArgumentError, RunError, UnknownBackendError
from delayplug.bench.comparison.compare import compare, configurations
from delayplug.bench.config import configure
from delayplug.bench.resources import Resources
from tests.bench.runs import Comparison


@pytest.mark.trains
def test_finished_runs_are_not_made_again(comparison: Comparison) -> None:
    configs, out, records = comparison
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert compare(configs, out) == records
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_a_value_given_twice_makes_one_run() -> None:
    assert len(configurations("quick", backends=["norse"], delays=["none", "fixed", "none"], seeds=[1, 1])) == 2


def test_unknown_backends() -> None:
    with pytest.raises(UnknownBackendError, match="Did you mean 'snntorch'"):
        configurations("quick", backends=["snntroch"])


def test_out_must_be_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="out: expected a folder that can be written to"):
        compare([configure("quick", backend="norse")], tmp_path / "file")


def test_unknown_accelerator(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"accelerator: expected .* got 'abacus'"):
        compare([configure("quick", backend="norse")], tmp_path, resources=Resources("abacus"))
