"""Records of many runs in one file, to keep and to pass on: `results/*.json`.

A record in such a file is a `Record` like that in a run's folder, with a few of its epochs in place of all, and
without the path that its data had.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...errors import RunError
from ..config import SYNTHETIC, RunConfig
from ..known_frames import known_frames
from ..training.outcome import Epoch
from ..whole_files import write_whole
from .records import RECORD, Record, check_record, read_record

COLLECTION_FORMAT = 1
_EPOCHS = 10  # about so many are kept


def records_in(path: Path) -> list[Record]:
    """The records in a folder of runs, in the folder of one run, or in a file of records; in the order of their names.

    Raises:
        RunError: there are none, or one is damaged.
    """
    if not path.is_dir():
        return read_collection(path)
    files = [path / RECORD] if (path / RECORD).exists() else sorted(path.glob(f"*/{RECORD}"))
    if not files:
        raise RunError(f"{path}: expected finished runs, got none. Make some with delayplug bench run --out {path}")
    return [read_record(file) for file in files]


def read_collection(path: Path) -> list[Record]:
    """The records in a file: one that `write_collection` made, a list of records, one on each line, or a single one.

    Raises:
        RunError: it is no such file, or a record in it is damaged.
    """
    values = _values_in(path)
    if not values:
        raise RunError(f"{path}: expected records of runs, got none")
    return [check_record(value, f"{path}, record {n}") for n, value in enumerate(values, start=1)]


def _values_in(path: Path) -> list[object]:
    try:
        text = path.read_text()
        try:
            content: object = json.loads(text)
        except json.JSONDecodeError:
            return [json.loads(line) for line in text.splitlines() if line.strip()]
    except FileNotFoundError as error:
        raise RunError(
            f"{path}: expected a folder of runs or a file of records, got nothing of that name. Check the path"
        ) from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise RunError(f"{path}: expected a folder of runs or a file of records, got other text: {error}") from error
    except OSError as error:
        raise RunError(f"{path}: expected a folder of runs or a file of records, got {error}") from error
    if isinstance(content, dict) and isinstance(content.get("records"), list):
        return list(content["records"])
    return content if isinstance(content, list) else [content]


def write_collection(path: Path, records: Sequence[Record]) -> None:
    """Write records into a file, one per line, in the order of their configurations."""
    ordered = sorted(map(compact, records), key=_key)
    lines = ",\n".join(json.dumps(record) for record in ordered)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, f'{{"collection": {COLLECTION_FORMAT}, "records": [\n{lines}\n]}}\n')


def collect(sources: Iterable[Path], out: Path) -> tuple[int, int]:
    """Put the records of finished runs into a file, beside those that are in it; a newer one replaces that of the run.

    Args:
        sources: folders and files as `records_in` takes them.
        out: the file; it may exist.

    Returns:
        How many records were put in, and how many there are.

    Raises:
        RunError: a source has none, one is damaged, or the file is something else.
    """
    new = [record for source in sources for record in records_in(source)]
    there = read_collection(out) if out.exists() else []
    every = {_key(compact(record)): record for record in (*there, *new)}
    write_collection(out, list(every.values()))
    return len(new), len(every)


def compact(record: Record) -> Record:
    """A record with a few of its epochs, and without the path of its data; of a compact record, the record itself."""
    config = RunConfig(**record["config"])
    known = known_frames(record["config"], record["data"].get("checksums"))
    if config.dataset != SYNTHETIC:
        dataset = known.dataset if known else f"data/{Path(config.dataset).name}"
        config = replace(config, dataset=dataset)
    result: Record = {**record, "config": config.to_json(), "epochs": _some(record["epochs"])}
    if known and config.dataset != SYNTHETIC:
        result["data"] = {**record["data"], "name": known.name}
    if "held_out" in record:
        result["held_out"] = {**record["held_out"], "epochs": _some(record["held_out"]["epochs"])}
    return result


def _some(epochs: Sequence[Epoch]) -> list[Epoch]:
    """The first epoch, the last one, and some between, the same ones for all runs of that length."""
    last = epochs[-1]["epoch"]
    every = max(1, last // _EPOCHS)
    return [entry for entry in epochs if entry["epoch"] in (1, last) or entry["epoch"] % every == 0]


def _key(record: Record) -> str:
    """What tells one run from another, so that names sort: data, then all settings."""
    config: dict[str, Any] = record["config"]
    first = ("dataset", "preset", "protocol", "delays", "backend", "seed", "fold")
    return json.dumps([[config[name] for name in first], config, record["data"].get("checksums")], sort_keys=True)
