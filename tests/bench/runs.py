"""A small comparison, and what its tests share."""

from pathlib import Path
from typing import NamedTuple

from delayplug.bench.comparison.records import Record
from delayplug.bench.config import RunConfig

TINY = {"epochs": 2, "hidden": (8,), "max_delay": 6}


class Comparison(NamedTuple):
    """Finished runs: their configurations, the folder that they are in, and their records."""

    configs: list[RunConfig]
    out: Path
    records: list[Record]
