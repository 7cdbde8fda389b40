"""The report on a folder of runs: a file of numbers to compute with, and a page to show."""

import base64
import csv
import io
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from statistics import mean

from matplotlib.figure import Figure

from ...errors import RunError
from ..comparison.records import Record, read_example, read_record
from ..config import SYNTHETIC, RunConfig
from ..serialise import to_command
from ..variants import learns_delays
from .figures import COLOURS, accuracy_figure, delays_figure, learning_curves_figure, raster_figure
from .tables import grouped, over_seeds, planted_means, split_of, variant_of, wilson

_COLUMNS: dict[str, Callable[[Record], object]] = {
    "dataset": lambda r: Path(r["config"]["dataset"]).name,
    "preset": lambda r: r["config"]["preset"],
    "protocol": lambda r: r["config"]["protocol"],
    "backend": lambda r: r["config"]["backend"],
    "delays": lambda r: r["config"]["delays"],
    "fan_in": lambda r: r["config"]["fan_in"],
    "seed": lambda r: r["config"]["seed"],
    "epochs": lambda r: r["config"]["epochs"],
    "last_epoch": lambda r: r["accuracy"]["last epoch"],
    "best_on_validation": lambda r: r["accuracy"].get("best on validation", ""),
    "best_on_test": lambda r: r["accuracy"].get("best on test", ""),
    "best_epoch": lambda r: r["best_epoch"],
    "test_recordings": lambda r: r["data"]["test"],
    "parameters": lambda r: r["parameters"],
    "spikes_per_neuron": lambda r: " ".join(f"{value:.3f}" for value in r["spikes_per_neuron"]),
    "planted_correlation": lambda r: r.get("planted_correlation", {}).get("after training", ""),
    "planted_correlation_untrained": lambda r: r.get("planted_correlation", {}).get("before training", ""),
    "seconds_per_epoch": lambda r: r["seconds_per_epoch"],
    "waiting": lambda r: r["waiting"],
    "peak_memory_mb": lambda r: r["peak_memory_mb"],
    "command": lambda r: to_command(RunConfig(**r["config"])),
}

_PROTOCOLS = {
    "heldout": "The test set was read once, when all was trained. The epoch called best was chosen on recordings that "
    "were not trained on: {split}.",
    "official": "The test set was read once, when all was trained. The epoch called best was chosen on the validation "
    "file that comes with the data.",
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
    return records


def write_csv(records: Sequence[Record], path: Path) -> None:
    """Write one line per run."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        writer.writerows([value(record) for value in _COLUMNS.values()] for record in records)


def write_page(records: Sequence[Record], folder: Path, path: Path) -> None:
    """Write one HTML file that needs no other files."""
    from jinja2 import Environment  # comes with torch

    text = resources.files(__package__).joinpath("page.html.jinja").read_text()
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(text)
    first = records[0]
    config, data = first["config"], first["data"]
    best = next(name for name in first["accuracy"] if name != "last epoch")
    page = template.render(
        name=Path(config["dataset"]).name,
        colours=COLOURS,
        config=config,
        data=data,
        chance=100 / len(data["classes"]),
        best=best,
        rows=[_row(group, best) for group in grouped(records).values()],
        planted=any(record.get("planted_correlation") for record in records),
        frames=""
        if config["dataset"] == SYNTHETIC
        else f"{config['step_ms']:g} ms per step, binning "
        f"“{config['binning']}”, {config['pool']} neighbouring channels summed",
        protocol=_PROTOCOLS[config["protocol"]].format(split=split_of(records)),
        seeds=sorted({record["config"]["seed"] for record in records}),
        accuracies=_picture(accuracy_figure(records)),
        curves=_picture(learning_curves_figure(records)),
        runs=[
            {
                "name": f"{record['config']['backend']}, {variant_of(record)}",
                "raster": _picture(raster_figure(read_example(_folder(folder, record)))),
                "delays": _picture(delays_figure(record, _folder(folder, record)))
                if learns_delays(record["config"]["delays"])
                else "",
            }
            for record in _first_seeds(records)
        ],
        commands=[to_command(RunConfig(**record["config"])) for record in records],
        versions=_versions(records),
        machine=first["machine"],
    )
    path.write_text(page)


def _versions(records: Sequence[Record]) -> dict[str, str]:
    """The versions of all packages that the runs were made with, by name; several where they differ."""
    names = dict.fromkeys(name for record in records for name in record["versions"])
    versions = {name: dict.fromkeys(r["versions"][name] for r in records if name in r["versions"]) for name in names}
    return {name: " and ".join(values) for name, values in versions.items()}


def _row(group: list[Record], best: str) -> dict[str, str | float]:
    """One row of the page's table: numbers as text, means and intervals in percent."""
    first = group[0]
    last = [record["accuracy"]["last epoch"] for record in group]
    low, high = wilson(mean(last), first["data"]["test"])
    planted = planted_means(group)
    layers = zip(*(record["spikes_per_neuron"] for record in group), strict=True)
    return {
        "backend": first["config"]["backend"],
        "delays": variant_of(first),
        "kind": first["config"]["delays"],
        "mean": 100 * mean(last),
        "low": 100 * low,
        "high": 100 * high,
        "last": over_seeds(last),
        "best": over_seeds([record["accuracy"][best] for record in group]),
        "parameters": f"{first['parameters']:,}",
        "spikes": " / ".join(f"{mean(layer):.1f}" for layer in layers),
        "planted": "" if planted is None else f"{planted[1]:.2f}",
        "untrained": "" if planted is None else f"{planted[0]:.2f}",
        "seconds": f"{mean(record['seconds_per_epoch'] for record in group):.2f}",
        "waiting": f"{100 * mean(record['waiting'] for record in group):.1f}",
        "memory": f"{max(record['peak_memory_mb'] for record in group):,.0f}",
    }


def _first_seeds(records: Sequence[Record]) -> list[Record]:
    """The runs that are drawn: the first seed of each backend and variant."""
    return [group[0] for group in grouped(records).values()]


def _folder(folder: Path, record: Record) -> Path:
    """The folder of one run."""
    return folder / RunConfig(**record["config"]).name


def _picture(figure: Figure) -> str:
    """A picture as the source of an <img>."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
