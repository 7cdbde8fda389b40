"""Reads the records of a report from several folders of runs and files of records."""

import json
from collections.abc import Sequence
from pathlib import Path

from ...errors import RunError
from ..comparison.collection import records_in
from ..comparison.records import Record, check_comparable
from ..config import RunConfig
from ..task import FILES
from .methods import data_of


def read_records(*sources: Path) -> list[Record]:
    """The records of all finished runs in folders and files; of several records of a run, the one that finished last.

    A file contains one record on each line, or is JSON: a list of records, or an object with that list as "records".

    Raises:
        RunError: a source has no records, a record is damaged, or the records are of several data sets.
    """
    latest: dict[str, Record] = {}
    for source in sources:
        for record in records_in(source):
            config = RunConfig(**record["config"]).to_json()  # with settings that were added after the record was made
            key = json.dumps({**config, "dataset": data_of(record)}, sort_keys=True)
            if key not in latest or latest[key]["finished"] < record["finished"]:
                latest[key] = record
    records = list(latest.values())
    check_one_data_set(records, " and ".join(map(str, sources)))
    return records


def check_one_data_set(records: Sequence[Record], where: str) -> None:
    """Raise RunError unless all runs have the same data set: its name, and the content of the files that they read."""
    names = list(dict.fromkeys(data_of(record) for record in records))
    if len(names) > 1:
        advice = "Make a report for each data set"
        raise RunError(f"{where}: expected runs of one data set, got {', '.join(names)}. {advice}")
    check_comparable(records, where, tuple(name for name in FILES if name != "dataset"))
