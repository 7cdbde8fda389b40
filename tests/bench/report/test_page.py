"""The report on a folder of runs."""

import csv
import json
from pathlib import Path

import pytest

from delayplug import RunError
from delayplug.bench.comparison.records import FORMAT
from delayplug.bench.config import configure
from delayplug.bench.report.page import read_records, write_csv, write_page
from tests.bench.runs import Comparison


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


def test_report_on_what_is_no_comparison(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="expected finished runs, got none"):
        read_records(tmp_path)
    for name, epochs in (("a", 1), ("b", 2)):
        (tmp_path / name).mkdir()
        config = configure("quick", epochs=epochs).to_json()
        (tmp_path / name / "record.json").write_text(json.dumps({"format": FORMAT, "config": config}))
    with pytest.raises(RunError, match="differ in backend, variant and seed only"):
        read_records(tmp_path)
