"""The report on a folder of runs: a file of numbers to compute with, and a page to show."""

import base64
import csv
import io
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from matplotlib.figure import Figure

from ...errors import RunError
from ..comparison.records import Record, check_comparable, read_example, read_record
from ..config import RunConfig
from ..serialise import to_command
from ..variants import learns_delays
from .figures import COLOURS, accuracy_figure, delays_figure, learning_curves_figure, raster_figure
from .tables import computed_by, data_of, frames_of, grouped, rule_of, split_of, summary, variant_of

_PROTOCOLS = {
    "heldout": "The test set was read once, when all was trained. The epoch called best was chosen on recordings that "
    "were not trained on: {split}.",
    "official": "The test set was read once, when all was trained. The epoch called best was chosen on the validation "
    "file that comes with the data.",
    "validation": "The test set was not read, and nothing was chosen. The accuracy is that of the validation "
    "recordings after the last epoch.",
    "paper": "As published: the test set itself chose the epoch called best, so that this accuracy is too high. That "
    "after the last epoch was not chosen by anything.",
}


def read_records(folder: Path) -> list[Record]:
    """The records of all finished runs in a folder.

    Raises:
        RunError: there are none, one is not a record, or they are of several data sets or settings.
    """
    records = [read_record(path) for path in sorted(folder.glob("*/record.json"))]
    if not records:
        raise RunError(f"{folder}: expected finished runs, got none. Make some with delayplug bench run --out {folder}")
    varied = ("backend", "delays", "fan_in", "seed", "compile")
    same = {str({k: v for k, v in record["config"].items() if k not in varied}) for record in records}
    if len(same) > 1:
        raise RunError(f"{folder}: expected runs that differ in backend, variant and seed only, got others too")
    check_comparable(records, folder)
    return records


def write_csv(records: Sequence[Record], path: Path) -> None:
    """Write one line per run."""
    rows = [_line(record) for record in records]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def _line(record: Record) -> dict[str, object]:
    """The columns of one run."""
    config, accuracy, planted = record["config"], record["accuracy"], record.get("planted_correlation", {})
    settings = ("preset", "protocol", "backend", "delays", "fan_in", "seed", "epochs")
    return {
        "dataset": data_of(record),
        **{name: config[name] for name in settings},
        "last_epoch": accuracy["last epoch"],
        "best_on_validation": accuracy.get("best on validation", ""),
        "best_on_test": accuracy.get("best on test", ""),
        "best_epoch": record["best_epoch"],
        "test_recordings": record["data"]["test"],
        "parameters": record["parameters"],
        "spikes_per_neuron": " ".join(f"{value:.3f}" for value in record["spikes_per_neuron"]),
        "planted_correlation": planted.get("after training", ""),
        "planted_correlation_untrained": planted.get("before training", ""),
        "seconds_per_epoch": record["seconds_per_epoch"],
        "waiting": record["waiting"],
        "peak_memory_mb": record["peak_memory_mb"],
        "device": record["machine"].get("name", ""),
        "precision": config.get("precision", "highest"),
        "neurons": record["machine"].get("neurons", ""),
        "command": to_command(RunConfig(**config)),
    }


def write_page(records: Sequence[Record], folder: Path, path: Path) -> None:
    """Write one HTML file that needs no other files."""
    from jinja2 import Environment  # comes with torch

    text = resources.files(__package__).joinpath("page.html.jinja").read_text()
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(text)
    first, config, groups = records[0], records[0]["config"], list(grouped(records).values())
    values = {
        **first,  # config, data and machine, which all runs share
        "name": data_of(first),
        "colours": COLOURS,
        "chance": 100 / len(first["data"]["classes"]),
        "best": rule_of(first),
        "rows": [summary(group) for group in groups],
        "planted": any(record.get("planted_correlation") for record in records),
        "frames": frames_of(config),
        "protocol": _PROTOCOLS[config["protocol"]].format(split=split_of(records)),
        "seeds": {record["config"]["seed"] for record in records},
        "accuracies": _picture(accuracy_figure(records)),
        "curves": _picture(learning_curves_figure(records)),
        "runs": [_run(group[0], folder) for group in groups],
        "commands": [to_command(RunConfig(**record["config"])) for record in records],
        "computed": computed_by(records),
        "versions": _versions(records),
    }
    path.write_text(template.render(values))


def _versions(records: Sequence[Record]) -> dict[str, str]:
    """The versions of all packages that the runs were made with, by name; several where they differ."""
    names = dict.fromkeys(name for record in records for name in record["versions"])
    versions = {name: dict.fromkeys(r["versions"][name] for r in records if name in r["versions"]) for name in names}
    return {name: " and ".join(values) for name, values in versions.items()}


def _run(record: Record, folder: Path) -> dict[str, str]:
    """The pictures of one run, which is in a folder of its own in `folder`."""
    config = RunConfig(**record["config"])
    own = folder / config.name
    return {
        "name": f"{config.backend}, {variant_of(record)}",
        "raster": _picture(raster_figure(read_example(own))),
        "delays": _picture(delays_figure(record, own)) if learns_delays(config.delays, config.recurrent) else "",
    }


def _picture(figure: Figure) -> str:
    """A picture as the source of an <img>."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
