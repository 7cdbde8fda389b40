"""The report on a folder of runs."""

import csv
import html
from pathlib import Path

import pytest

from delayplug import RunError
from delayplug.bench.config import configure
from delayplug.bench.report.page import read_records, write_csv, write_page
from tests.bench.runs import Comparison, put_record


@pytest.mark.trains
def test_report(comparison: Comparison, tmp_path: Path) -> None:
    _, out, records = comparison
    found = read_records(out)
    assert {record["config"]["delays"] for record in found} == {"none", "fixed", "learned"}
    write_csv(found, tmp_path / "results.csv")
    with (tmp_path / "results.csv").open() as file:
        rows = {row["delays"]: row for row in csv.DictReader(file)}
    for record in records:
        row = rows[record["config"]["delays"]]
        assert float(row["last_epoch"]) == record["accuracy"]["last epoch"]
        assert int(row["parameters"]) == record["parameters"]
    write_page(found, out, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert page.count('src="data:image/png;base64,') == 6  # accuracies, curves, three rasters, one histogram of delays
    assert "http" not in page  # it needs nothing from elsewhere
    assert "The test set was read once" in page
    assert rows["learned"]["command"] in page
    assert f"Computed on {records[0]['machine']['name']}, float32 precision highest" in html.unescape(page)
    assert {row["neurons"] for row in rows.values()} == {"spikingjelly: torch"}
    assert {row["precision"] for row in rows.values()} == {"highest"}


def test_report_on_what_is_no_comparison(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="expected finished runs, got none"):
        read_records(tmp_path)
    for name, epochs in (("a", 1), ("b", 2)):
        put_record(tmp_path / name, configure("quick", epochs=epochs))
    with pytest.raises(RunError, match="differ in backend, variant and seed only"):
        read_records(tmp_path)


def test_report_on_runs_of_other_data(tmp_path: Path) -> None:
    """The same words for two data sets: their accuracies are not averaged."""
    put_record(tmp_path / "a", configure("quick", seed=0))
    put_record(tmp_path / "b", configure("quick", seed=1))
    assert len(read_records(tmp_path)) == 2
    put_record(tmp_path / "b", configure("quick", seed=1), {"train": "3" * 64, "test": "4" * 64})
    with pytest.raises(RunError, match="expected runs of the same data, got other checksums in"):
        read_records(tmp_path)
    for name, seed in (("a", 0), ("b", 1)):
        put_record(tmp_path / name, configure("quick", seed=seed), None)  # of a version without checksums
    assert len(read_records(tmp_path)) == 2
