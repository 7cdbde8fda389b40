"""The report on a folder of runs: a file of numbers to compute with, and a page to show."""

import base64
import csv
import io
from collections.abc import Sequence
from functools import partial
from importlib import resources
from pathlib import Path
from typing import NamedTuple, Protocol

from ..._extras import extra
from ..comparison.records import MODEL, RECORD, Record, read_record
from ..comparison.trained import read_example
from ..config import RunConfig
from ..serialise import to_command
from ..variants import learns_delays
from ..whole_files import write_whole
from .figures import COLOURS, accuracy_figure, delays_figure, learning_curves_figure, raster_figure
from .methods import Row, data_of, held_speakers, last_epoch, on_test_set, rows_of
from .tables import chosen_by, computed_by, frames_of, held_header, held_of, recipe_of, split_of, summary, title_of

with extra("bench", "the report"):
    from matplotlib.figure import Figure

_NARROW = "720px"  # screens of less show each row of the table as a card
_PROTOCOLS = {
    "heldout": "The test set was read once, after training. The epoch called best was chosen by the accuracy on "
    "recordings that were not trained on: {split}.",
    "official": "The test set was read once, after training. The epoch called best was chosen by the accuracy on the "
    "validation file that comes with the data.",
    "paper": "As published, the epoch called best was chosen by the accuracy on the test set itself, so that this "
    "accuracy is too high. The accuracy after the last epoch involves no choice.",
    "refit": "A network was judged by recordings that it was not trained on: {split}. Then another one was trained "
    "from the same seed on all training recordings, and the test set was read once, after its last epoch. No epoch was "
    "chosen.",
    "held": "The test set was not read, and no epoch was chosen: networks were tested after the last epoch on {held}.",
}


class Pictures(NamedTuple):
    """A chart in two layouts, as sources of an <img>: for screens, and for phones."""

    wide: str
    narrow: str


def write_csv(records: Sequence[Record], path: Path) -> None:
    """Write one line per run."""
    rows = [_line(record) for record in records]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, text.getvalue())


def _line(record: Record) -> dict[str, object]:
    """The columns of one run. last_epoch and best_on_... are accuracies on the test set; held_out_accuracy never is."""
    config = RunConfig(**record["config"]).to_json()  # with settings that were added after the record was made
    accuracy, planted = record["accuracy"], record.get("planted_correlation", {})
    settings = ("preset", "protocol", "backend", "delays", "fan_in", "seed", "epochs")
    held_out = record["held_out"]["accuracy"] if "held_out" in record else ""
    by_speakers, tested = config["protocol"] == "speakers", on_test_set(record)
    return {
        "dataset": data_of(record),
        **{name: config[name] for name in settings},
        "fold": config["fold"] if by_speakers and not config["held_speakers"] else "",
        "held_speakers": " ".join(map(str, held_speakers(record))),
        "refit": config.get("refit", False),
        "held_out_accuracy": held_out if tested else last_epoch(record),
        "held_out_recordings": record["data"]["valid"] if tested else record["data"]["test"],
        "last_epoch": last_epoch(record) if tested else "",
        "best_on_validation": accuracy.get("best on validation", ""),
        "best_on_test": accuracy.get("best on test", ""),
        "best_epoch": record["best_epoch"],
        "test_recordings": record["data"]["test"] if tested else "",
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


def write_page(records: Sequence[Record], folders: Sequence[Path], path: Path) -> None:
    """Write one HTML file that needs no other files.

    Args:
        records: of the runs.
        folders: of the runs, with their trained networks; for runs that are in none of them no pictures are drawn.
        path: of the file.
    """
    with extra("bench", "the report"):
        from jinja2 import Environment

    text = resources.files(__package__).joinpath("page.html.jinja").read_text()
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(text)
    first, config, rows = records[0], records[0]["config"], rows_of(records)
    cells = [summary(row, rows) for row in rows]
    columns = {key for cell in cells for key, value in cell.items() if value}
    held, tested = held_header(records), any(map(on_test_set, records))
    labels_of_percentages = [f"held-out {held.split(' ')[1]} %", "test set %"]
    # Of the columns of the table, in their order; none where a cell speaks for itself.
    labels = [
        *("", "", "runs", ""),
        *([labels_of_percentages[0]] if "held" in columns else []),
        *(["over the recipe"] if "held_gain" in columns else []),
        *([labels_of_percentages[1]] if tested else []),
        *(["over the recipe"] if "gain" in columns else []),
        *(["95 % interval"] if tested else []),
        *([f"{best} %"] if (best := chosen_by(records)) else []),
        *("parameters", "spikes per neuron"),
        *(["planted delays r"] if "planted" in columns else []),
        *("s per epoch", "waiting for data", "peak MB"),
    ]
    values = {
        **first,  # config, data and machine
        "name": data_of(first),
        "title": title_of(records),
        "hidden": config["hidden"],
        "alike": all(_network(record) == _network(first) for record in records),
        "colours": COLOURS,
        "chance": 100 / len(first["data"]["classes"]),
        "best": chosen_by(records),
        "rows": cells,
        "columns": columns,
        "held": held,
        "recipe": recipe_of(records),
        "tested": [record for record in records if on_test_set(record)],
        "frames": frames_of(records),
        "protocols": _protocols(records),
        "accuracies": _pictures(partial(accuracy_figure, records)),
        "curves": _pictures(partial(learning_curves_figure, records)),
        "narrow": _NARROW,
        "labels": labels,
        "percentages": labels_of_percentages,
        "runs": list(filter(None, (_run(row, folders) for row in rows))),
        "commands": [to_command(RunConfig(**record["config"])) for record in records],
        "computed": computed_by(records),
        "versions": _versions(records),
    }
    write_whole(path, template.render(values))


def _versions(records: Sequence[Record]) -> dict[str, str]:
    """The versions of all packages that the runs were made with, by name; joined by "and" if runs differ."""
    names = dict.fromkeys(name for record in records for name in record["versions"])
    versions = {name: dict.fromkeys(r["versions"][name] for r in records if name in r["versions"]) for name in names}
    return {name: " and ".join(values) for name, values in versions.items()}


def _protocols(records: Sequence[Record]) -> list[str]:
    """A text for each protocol that says how its runs were judged."""
    texts = []
    for key, text in _PROTOCOLS.items():
        judged_so = [record for record in records if _judged(record) == key]
        if judged_so:
            texts.append(text.format(split=split_of(judged_so), held=held_of(judged_so)))
    return texts


def _judged(record: Record) -> str:
    if not on_test_set(record):
        return "held"
    return "refit" if record["config"].get("refit") else str(record["config"]["protocol"])


def _network(record: Record) -> tuple[object, ...]:
    """What the lead of the page says about a network: the sizes of its layers, and the length of its steps."""
    return record["config"]["hidden"], record["data"]["channels"], record["config"]["step_ms"]


def _folder_of(record: Record, folders: Sequence[Path]) -> Path | None:
    """The folder of a run with its network; runs in different folders may have the same name."""
    name = RunConfig(**record["config"]).name
    candidates = (each for folder in folders for each in (folder / name, folder))  # of many runs, or of this one
    complete = (each for each in candidates if (each / RECORD).exists() and (each / MODEL).exists())
    return next((each for each in complete if read_record(each / RECORD)["config"] == record["config"]), None)


def _run(row: Row, folders: Sequence[Path]) -> dict[str, str | Pictures | None] | None:
    """The pictures of the first run of a method; None if its network is in none of the folders."""
    record = row.records[0]
    config, folder = RunConfig(**record["config"]), _folder_of(record, folders)
    if folder is None:
        return None
    learns = learns_delays(config.delays, config.recurrent)
    return {
        "name": f"{config.backend}, {row.name}",
        "raster": _pictures(partial(raster_figure, read_example(folder))),
        "delays": _pictures(partial(delays_figure, record, folder)) if learns else None,
    }


class _Chart(Protocol):
    def __call__(self, *, narrow: bool) -> Figure | None:
        """The chart for a screen, or for a phone."""


def _pictures(chart: _Chart) -> Pictures | None:
    """A chart for both; None if there is nothing to draw."""
    wide, narrow = (chart(narrow=each) for each in (False, True))
    return None if wide is None or narrow is None else Pictures(_picture(wide), _picture(narrow))


def _picture(figure: Figure) -> str:
    """A picture as the source of an <img>."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
