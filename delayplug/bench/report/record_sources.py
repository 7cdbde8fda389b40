"""Where the records of a report come from: folders of runs, and files of records, brought together."""

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
    """The records of all finished runs in folders and files; of a run that is there twice, the last one to finish.

    A file holds one record on each line, or is JSON: a list of records, or an object with that list as "records".

    Raises:
        RunError: a source has none, one is not a record, or they are of several data sets.
    """
    found: dict[str, Record] = {}
    for source in sources:
        for record in records_in(source):
            config = RunConfig(**record["config"]).to_json()  # with the settings that there were not yet
            key = json.dumps({**config, "dataset": data_of(record)}, sort_keys=True)
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
