"""Where the records of a report come from: folders of runs, and files of records, brought together."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from ...errors import RunError
from ..comparison.records import RECORD, Record, check_comparable, check_record, read_record
from ..task import FILES
from .methods import data_of


def read_records(*sources: Path) -> list[Record]:
    """The records of all finished runs in folders and files; of a run that is there twice, the last one to finish.

    A file holds one record on each line, or is JSON: a list of records, or an object with that list as "records".

    Raises:
        RunError: a source has none, one is not a record, or they are of several data sets.
    """
    found: dict[str, Record] = {}
    for source in sources:
        for record in _records_in(source):
            key = json.dumps({**record["config"], "dataset": data_of(record)}, sort_keys=True)
            if key not in found or found[key]["finished"] < record["finished"]:
                found[key] = record
    records = list(found.values())
    check_one_data_set(records, " and ".join(map(str, sources)))
    return records


def check_one_data_set(records: Sequence[Record], where: str) -> None:
    """Raise RunError unless runs are of one data set: its name, and what was in the files that they both read."""
    names = list(dict.fromkeys(data_of(record) for record in records))
    if len(names) > 1:
        advice = "Report on each by itself"
        raise RunError(f"{where}: expected runs of one data set, got {', '.join(names)}. {advice}")
    check_comparable(records, where, tuple(name for name in FILES if name != "dataset"))


def _records_in(source: Path) -> Iterable[Record]:
    if source.is_dir():
        paths = [source / RECORD] if (source / RECORD).exists() else sorted(source.glob(f"*/{RECORD}"))
        if not paths:
            advice = f"Make some with delayplug bench run --out {source}"
            raise RunError(f"{source}: expected finished runs, got none. {advice}")
        return [read_record(path) for path in paths]
    values = _values_in(source)
    if not values:
        raise RunError(f"{source}: expected records of runs, got none")
    return [check_record(value, f"{source}, record {n}") for n, value in enumerate(values, start=1)]


def _values_in(file: Path) -> list[object]:
    try:
        text = file.read_text()
        try:
            content: object = json.loads(text)
        except json.JSONDecodeError:
            return [json.loads(line) for line in text.splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise RunError(f"{file}: expected a folder of runs or a file of records, got {error}") from error
    if isinstance(content, dict) and isinstance(content.get("records"), list):
        return list(content["records"])
    return content if isinstance(content, list) else [content]
