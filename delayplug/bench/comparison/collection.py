"""Collections: records of many runs in one file, for archiving and publishing, such as `results/*.json`.

A record in such a file is a `Record` as in the folder of a run, but with only a few of its epochs, and without the path
of its data on the computer that made it.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...errors import RunError
from ..config import SYNTHETIC, RunConfig
from ..known_frames import known_frames
from ..schema import UnreadableError, parse_json
from ..training.outcome import Epoch
from ..whole_files import make_folder, write_whole
from .records import RECORD, Record, check_record, read_record

COLLECTION_FORMAT = 1
_EPOCHS = 10  # about so many epochs of a run are stored


def records_in(path: Path) -> list[Record]:
    """Read the records in a folder of runs, in the folder of one run, or in a file of records.

    Returns:
        Records of a folder in the order of the names of their runs, records of a file in its order.

    Raises:
        RunError: there are no records, or one is damaged.
    """
    if not path.is_dir():
        return read_collection(path)
    files = [path / RECORD] if (path / RECORD).exists() else sorted(path.glob(f"*/{RECORD}"))
    if not files:
        raise RunError(f"{path}: expected finished runs, got none. Make some with delayplug bench run --out {path}")
    return [read_record(file) for file in files]


def read_collection(path: Path) -> list[Record]:
    """Read a file of records: a collection, JSON of a list of records or of one record, or one record on each line.

    Raises:
        RunError: it is not such a file, or a record in it is damaged.
    """
    values = _values_in(path)
    if not values:
        raise RunError(f"{path}: expected records of runs, got none")
    return [check_record(value, f"{path}, record {n}") for n, value in enumerate(values, start=1)]


def _values_in(path: Path) -> list[object]:
    expected = "expected a folder of runs or a file of records"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise RunError(f"{path}: {expected}, got nothing of that name. Check the path") from error
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{path}: {expected}, got {error}") from error
    try:
        content = parse_json(text)
    except UnreadableError as error:
        try:
            return [parse_json(line) for line in text.splitlines() if line.strip()]
        except UnreadableError:
            raise RunError(f"{path}: {expected}, got other text: {error}") from error
    if isinstance(content, dict) and isinstance(content.get("records"), list):
        return list(content["records"])
    return content if isinstance(content, list) else [content]


def write_collection(path: Path, records: Sequence[Record]) -> None:
    """Write records into a file, one per line, sorted by their configurations; only a few epochs of each are stored."""
    ordered = sorted(map(compact, records), key=_key)
    lines = ",\n".join(json.dumps(record) for record in ordered)
    make_folder(path.parent)
    write_whole(path, f'{{"collection": {COLLECTION_FORMAT}, "records": [\n{lines}\n]}}\n')


def collect(sources: Iterable[Path], out: Path) -> tuple[int, int]:
    """Add the records of finished runs to a file; a record replaces that of the same run in the file.

    Args:
        sources: folders and files, as for `records_in`.
        out: the file; it is made if it does not exist.

    Returns:
        How many records the sources have, and how many the file contains now.

    Raises:
        RunError: a source has no records, a record is damaged, or the file is not a file of records.
    """
    new = [record for source in sources for record in records_in(source)]
    old = read_collection(out) if out.exists() else []
    by_key = {_key(compact(record)): record for record in (*old, *new)}
    write_collection(out, list(by_key.values()))
    return len(new), len(by_key)


def compact(record: Record) -> Record:
    """A copy of a record with only a few of its epochs, and without the path of its data."""
    config = RunConfig(**record["config"])
    known = known_frames(record["config"], record["data"].get("checksums"))
    if config.dataset != SYNTHETIC:
        dataset = known.dataset if known else f"data/{Path(config.dataset).name}"
        config = replace(config, dataset=dataset)
    result: Record = {**record, "config": config.to_json(), "epochs": _few_epochs(record["epochs"])}
    if known and config.dataset != SYNTHETIC:
        result["data"] = {**record["data"], "name": known.name}
    result.pop("model", None)  # the networks stay behind
    if "held_out" in record:
        result["held_out"] = {**record["held_out"], "epochs": _few_epochs(record["held_out"]["epochs"])}
    return result


def _few_epochs(epochs: Sequence[Epoch]) -> list[Epoch]:
    """The first epoch, the last one, and about _EPOCHS evenly spaced ones between them."""
    last = epochs[-1]["epoch"]
    spacing = max(1, last // _EPOCHS)
    return [entry for entry in epochs if entry["epoch"] in (1, last) or entry["epoch"] % spacing == 0]


def _key(record: Record) -> str:
    """A key that differs between runs, and by which they are sorted: the data, then all settings."""
    config: dict[str, Any] = record["config"]
    first = ("dataset", "preset", "protocol", "delays", "backend", "seed", "fold")
    return json.dumps([[config[name] for name in first], config, record["data"].get("checksums")], sort_keys=True)
