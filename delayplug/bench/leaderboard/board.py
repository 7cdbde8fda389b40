"""The page of the leaderboard, made of files of records."""

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from ...errors import RunError
from ..comparison.collection import records_in
from ..comparison.records import Record
from ..config import RunConfig
from .board_rows import BoardRow, Entry, board_rows
from .verification import doubts

CONTRIBUTED = "contributed"  # the folder of records that others made
OURS = "delayplug"

_HEAD = """# Leaderboard

Made of records by `delayplug bench leaderboard`, ours (`results/*.json`) and contributed ones
(`results/contributed/*.json`); CONTRIBUTING.md says how to add one. Records that cannot be what they say are refused:
those of unknown data (by the checksums of its frames), without versions, seed or protocol, with accuracies that cannot
come from that number of recordings, with other parameters than their configuration's network has, or with numbers that
contradict each other. An accuracy that only one number tells cannot be checked: the command beside it can.

- **Test accuracy** is that after the last epoch, which nothing chose, in percent: the mean over seeds, and half its
  95 % interval (Student; of a single run Wilson). The protocol says what was trained on: `heldout` without the
  recordings held out of the training file, `heldout, refit` and `paper` on all of it, `official` on the training file
  beside a validation file.
- **Speakers held out** is the accuracy on speakers of the training file that were not trained on (`--protocol
  speakers`), mean over folds and seeds, once for each method; its interval is that of the means of the folds. On SHD's
  test set methods hardly differ any more; here they do.
- **Delay bits** are those of a delay in whole steps; all accuracies are those with whole delays.
- Costs are in [NeuroBench](https://arxiv.org/abs/2304.04640)'s terms (Yik et al., Nature Communications 2025), for a
  whole recording, where NeuroBench counts per step. **Footprint**: bytes of parameters and buffers, delays in whole
  steps. **MACs, ACs**: effective synaptic operations, of the first layer, whose input are counts, and of all others,
  whose input are spikes. **Sparsity**: share of hidden neurons and steps without a spike. Steps of silence behind a
  recording count.
"""
_COLUMNS = (
    "#", "method", "toolkit", "protocol", "seeds", "test accuracy %", "speakers held out %", "parameters", "delay bits",
    "footprint kB", "spikes", "MACs", "ACs", "sparsity", "by",
)  # fmt: skip


@dataclass(frozen=True)
class Refused:
    """A record that was not taken: where it is from, the name of its run, and why."""

    source: Path
    run: str
    reasons: Sequence[str]

    def __str__(self) -> str:
        return f"{self.source}: {self.run}: {'; '.join(self.reasons)}"


def leaderboard(sources: Iterable[Path]) -> tuple[str, list[Refused]]:
    """The page as Markdown, and the records that were refused.

    Args:
        sources: files of records, folders of them (their folder "contributed" is that of others), or folders of runs.

    Raises:
        RunError: a file has no records that can be read.
    """
    entries, refused = list[Entry](), list[Refused]()
    for path in (file for source in sources for file in _files(source)):
        by = path.stem if path.parent.name == CONTRIBUTED else OURS
        for record in records_in(path):
            if reasons := doubts(record):
                refused.append(Refused(path, RunConfig(**record["config"]).name, reasons))
            else:
                entries.append(Entry(record, by))
    return _page(board_rows(_once(entries))), refused


def _files(source: Path) -> list[Path]:
    """The files of records in a folder; the source itself if it has none, or is none."""
    if not source.exists():
        raise RunError(f"{source}: expected a file of records, or a folder of them, got nothing")
    files = [*sorted(source.glob("*.json")), *sorted(source.glob(f"{CONTRIBUTED}/*.json"))] if source.is_dir() else []
    runs = source.is_file() or (source / "record.json").exists() or any(source.glob("*/record.json"))
    return [source] if runs else files


def _once(entries: Iterable[Entry]) -> list[Entry]:
    """Each run of each maker once, the last of them."""
    return list({(entry.by, str(entry.record["config"]), _data(entry.record)): entry for entry in entries}.values())


def _data(record: Record) -> str:
    return str(record["data"].get("checksums"))


def _page(rows: Sequence[BoardRow]) -> str:
    parts = [_HEAD]
    if not rows:
        parts.append("There are no records yet.\n")
    for name, group in groupby(rows, key=lambda row: row.data.name):
        own = list(group)
        lines = [_line(n, row) for n, row in enumerate(own, start=1)]
        commands = [f"$ {command}  # {n}" for n, row in enumerate(own, start=1) for command in row.commands]
        parts += [
            f"## {name}\n\n{textwrap.fill(own[0].data.about, 120)}\n",
            "\n".join([_cells(_COLUMNS), _cells(["---"] * len(_COLUMNS)), *lines]) + "\n",
            "Commands, by row:\n\n```console\n" + "\n".join(commands) + "\n```\n",
        ]
    return "\n".join(parts)


def _line(n: int, row: BoardRow) -> str:
    costs = row.inference()
    counts = [f"{costs[name]:,.0f}" if costs else "" for name in ("spikes", "multiply", "accumulate")]
    return _cells([
        str(n),
        row.method,
        row.runs.backend,
        row.runs.protocol,
        " ".join(map(str, row.seeds)),
        row.accuracy,
        row.on_speakers,
        f"{row.size.parameters:,}",
        str(row.delay_bits or ""),
        f"{row.size.footprint / 1000:,.0f}",
        *counts,
        f"{costs['sparsity']:.3f}" if costs else "",
        row.by,
    ])  # fmt: skip


def _cells(values: Iterable[str]) -> str:
    return f"| {' | '.join(values)} |"
