"""The report on a folder of runs."""

import csv
import html
from pathlib import Path

import pytest

from delayplug.bench.config import RunConfig
from delayplug.bench.report.page import write_csv, write_page
from delayplug.bench.report.record_sources import read_records
from tests.bench.runs import Comparison, folds_and_refits


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
    write_page(found, [out], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert page.count('src="data:image/png;base64,') == 6  # accuracies, curves, three rasters, one histogram of delays
    assert "http" not in page  # it needs nothing from elsewhere
    assert "The test set was read once" in page
    assert rows["learned"]["command"] in page
    assert f"Computed on {records[0]['machine']['name']}, float32 precision highest" in html.unescape(page)
    assert {row["neurons"] for row in rows.values()} == {"spikingjelly: torch"}
    assert {row["precision"] for row in rows.values()} == {"highest"}


def test_page_of_folds_and_refits(tmp_path: Path) -> None:
    """No accuracy on held-out speakers is called one on the test set; networks that are not there have no pictures."""
    records = folds_and_refits()
    write_csv(records, tmp_path / "results.csv")
    with (tmp_path / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    for record, row in zip(records, rows, strict=True):
        if record["config"]["protocol"] == "speakers":
            assert (row["last_epoch"], row["test_recordings"], row["refit"]) == ("", "", "False")
            assert float(row["held_out_accuracy"]) == record["accuracy"]["last epoch"]
            assert row["held_out_recordings"] == "1600"
            assert row["fold"] == str(record["config"]["fold"])
        else:
            assert float(row["last_epoch"]) == record["accuracy"]["last epoch"]
            assert float(row["held_out_accuracy"]) == record["held_out"]["accuracy"]
            assert (row["fold"], row["test_recordings"], row["refit"]) == ("", "2264", "True")
        assert row["held_speakers"] in ("0 1", "2 3")
    write_page(records, [tmp_path], tmp_path / "report.html")
    page = " ".join(html.unescape((tmp_path / "report.html").read_text()).split())
    assert page.count('src="data:image/png;base64,') == 2
    for words in (
        "Accuracy on the test set and on held-out speakers",
        "A network was judged by recordings that it was not trained on: training recordings held out, all of the "
        "speakers [0, 1] or [2, 3]. Then another one was trained from the same seed on all training recordings",
        "The test set was not read, and no epoch was chosen: networks were tested after the last epoch on 2 groups of "
        "training speakers, (0, 1), (2, 3).",
        "gain in points over learned delays with the preset's values (the paper's recipe)",
        "<td>75.0 ±63.5</td>",
        "<td>+3.0 ±12.7</td>",
    ):
        assert words in page
    write_page([r for r in records if r["config"]["protocol"] == "speakers"], [], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "test recordings" not in page
    assert "test set&nbsp;%" not in page


@pytest.mark.trains
def test_pictures_are_of_the_run_itself(comparison: Comparison, tmp_path: Path) -> None:
    """Not of another one of the same name, in another folder."""
    _, out, records = comparison
    other = [{**record, "config": {**record["config"], "lr": 0.1}} for record in records]
    write_page(other, [out], tmp_path / "report.html")
    assert "What the networks do" not in (tmp_path / "report.html").read_text()
    write_page(other[:2] + records[2:], [tmp_path, out], tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text().count("Input and hidden spikes") == 1
    folder = out / RunConfig(**records[0]["config"]).name
    write_page(records[:1], [folder], tmp_path / "report.html")  # the folder of one run
    assert (tmp_path / "report.html").read_text().count("Input and hidden spikes") == 1
