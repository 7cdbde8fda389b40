"""`delayplug bench publish`, `collect` and `leaderboard`, as a user meets them."""

import json
from pathlib import Path

import pytest

from delayplug import pretrained
from delayplug.bench.comparison.collection import read_collection, write_collection
from tests.bench.conftest import comparison as comparison
from tests.bench.leaderboard.records import record
from tests.bench.runs import Comparison
from tests.cli.command import delayplug


@pytest.mark.slow
@pytest.mark.trains
def test_from_runs_to_files_and_pages(comparison: Comparison, tmp_path: Path) -> None:
    configs, out, records = comparison
    done = delayplug("bench", "publish", str(out / configs[-1].name), "tiny", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    accuracy = 100 * records[-1]["accuracy"]["last epoch"]
    assert f"Accuracy of the run: {accuracy:.2f} %, of the file: " in done.stdout
    assert pretrained(str(tmp_path / "models" / "tiny.safetensors")).trainable() == records[-1]["parameters"]
    assert {path.name for path in tmp_path.glob("models/*.md")} == {"tiny.md", "index.md"}
    done = delayplug("bench", "collect", str(out), "--out", "results/tiny.json", cwd=tmp_path)
    assert "results/tiny.json: 3 records put in, 3 in all" in done.stdout, done.stderr
    assert [each["config"] for each in read_collection(tmp_path / "results" / "tiny.json")]
    done = delayplug("bench", "leaderboard", "--out", "page.md", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "page.md").read_text().count("$ delayplug bench run") == 3


@pytest.mark.slow
def test_refused_records_are_told_and_the_command_fails(tmp_path: Path) -> None:
    wrong = record(seed=1)
    wrong["versions"] = {}
    write_collection(tmp_path / "results" / "shdr.json", [record(), wrong])
    done = delayplug("bench", "leaderboard", "--out", "page.md", cwd=tmp_path)
    assert done.returncode == 1
    assert (
        "refused: results/shdr.json: shdr-shd-spikingjelly-learned-seed1: it does not say the version of" in done.stdout
    )
    assert (tmp_path / "page.md").read_text().count("$ delayplug bench run") == 1
    (tmp_path / "results" / "shdr.json").write_text(json.dumps([]))
    done = delayplug("bench", "leaderboard", "--out", "page.md", cwd=tmp_path)
    assert done.returncode == 1
    assert "expected a file of records" in done.stderr
