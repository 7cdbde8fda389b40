"""`delayplug bench publish`, `collect` and `leaderboard`, as a user meets them."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from delayplug import pretrained
from delayplug.bench.comparison.collection import read_collection, write_collection
from delayplug.cli import app
from tests.bench.conftest import comparison as comparison
from tests.bench.leaderboard.records import record
from tests.bench.runs import Comparison
from tests.cli.command import delayplug


def here(*args: str) -> Result:
    """`delayplug bench ARGS` in this process."""
    return CliRunner().invoke(app, ["bench", *args], env={"COLUMNS": "140"})


@pytest.mark.slow
@pytest.mark.trains
def test_from_runs_to_files_and_pages(comparison: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    configs, out, records = comparison
    done = delayplug("bench", "publish", str(out / configs[-1].name), "tiny", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    accuracy = 100 * records[-1]["accuracy"]["last epoch"]
    assert f"Accuracy of the run: {accuracy:.2f} %, of the file: " in done.stdout
    assert pretrained(str(tmp_path / "models" / "tiny.safetensors")).trainable() == records[-1]["parameters"]
    assert {path.name for path in tmp_path.glob("models/*.md")} == {"tiny.md", "index.md"}
    done = here("collect", str(out), "--out", "results/tiny.json")
    assert "results/tiny.json: 3 records put in, 3 in all" in done.output
    assert [each["config"] for each in read_collection(tmp_path / "results" / "tiny.json")]
    done = here("leaderboard", "--out", "page.md")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "page.md").read_text().count("$ delayplug bench run") == 3


def test_refused_records_are_told_and_the_command_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    wrong = record(seed=1)
    wrong["versions"] = {}
    write_collection(tmp_path / "results" / "shdr.json", [record(), wrong])
    done = here("leaderboard", "--out", "page.md")
    assert done.exit_code == 1
    assert (
        "refused: results/shdr.json: shdr-shd-spikingjelly-learned-seed1: it does not say the version of" in done.output
    )
    assert (tmp_path / "page.md").read_text().count("$ delayplug bench run") == 1
    (tmp_path / "results" / "shdr.json").write_text(json.dumps([]))
    done = here("leaderboard", "--out", "page.md")
    assert done.exit_code == 1
    assert "expected records of runs, got none" in str(done.exception)
