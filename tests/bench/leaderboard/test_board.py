"""The page of the leaderboard."""

from pathlib import Path

import pytest

from delayplug import RunError
from delayplug.bench.comparison.collection import write_collection
from delayplug.bench.leaderboard.board import leaderboard
from tests.bench.leaderboard.records import record

ROOT = Path(__file__).parents[3]


def test_the_page_of_the_documentation_is_that_of_the_records() -> None:
    """`delayplug bench leaderboard` makes it again."""
    page, refused = leaderboard([ROOT / "results"])
    assert refused == []
    assert page == (ROOT / "docs" / "benchmark" / "leaderboard.md").read_text()


def test_ours_and_contributed_records(tmp_path: Path) -> None:
    write_collection(tmp_path / "shdr.json", [record(seed=0), record(seed=1), record(delays="none", hits=1460)])
    write_collection(tmp_path / "contributed" / "somebody.json", [record(hits=2130)])
    page, refused = leaderboard([tmp_path])
    assert refused == []
    first, second, third = (line.split(" | ") for line in page.splitlines() if line.startswith("| ") and "shd:" in line)
    assert first[1:6] == ["shd: learned", "spikingjelly", "paper", "0", "94.08 (93.0 - 95.0)"]
    assert first[7:] == ["214,016", "5", "541", "3,840", "1,280,000", "680,960", "0.952", "somebody |"]
    assert second[4:6] == ["0 1", "93.82 ± 0.00"]
    assert third[1] == "shd: none"
    assert third[8] == ""
    assert page.count("$ delayplug bench run --preset shd --dataset data/shdr") == 3
    assert "## SHD-R" in page
    alone, _ = leaderboard([tmp_path / "shdr.json"])
    assert "somebody" not in alone


def test_what_is_refused_is_told(tmp_path: Path) -> None:
    wrong = record(seed=5)
    wrong["parameters"] = 3
    write_collection(tmp_path / "shdr.json", [record(), wrong])
    page, (refused,) = leaderboard([tmp_path])
    assert str(refused) == (
        f"{tmp_path / 'shdr.json'}: shdr-shd-spikingjelly-learned-seed5: it says 3 parameters, the network of its "
        "configuration has 214,016"
    )
    assert "seeds 0" in page
    assert "5" not in page.split("--seeds")[1].split("\n")[0].split("#")[0]


def test_a_run_that_is_there_twice_counts_once(tmp_path: Path) -> None:
    write_collection(tmp_path / "a.json", [record(2000)])
    write_collection(tmp_path / "b.json", [record(2124)])
    page, _ = leaderboard([tmp_path / "a.json", tmp_path / "b.json"])
    assert "93.82 (" in page
    assert "88.34" not in page


def test_without_records(tmp_path: Path) -> None:
    page, refused = leaderboard([tmp_path])
    assert "There are no records yet." in page
    assert refused == []
    with pytest.raises(RunError, match="got nothing"):
        leaderboard([tmp_path / "results"])
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(RunError, match="expected a file of records"):
        leaderboard([tmp_path])
