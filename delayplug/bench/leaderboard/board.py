"""The page of the leaderboard, made from files of records."""

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

CONTRIBUTED = "contributed"  # a folder; the name of a file in it is that of its contributor
OURS = "delayplug"  # the contributor of all other records

_HEAD = """# Leaderboard

`delayplug bench leaderboard` makes this page from records of runs: ours (`results/*.json`) and contributed ones
(`results/contributed/*.json`); CONTRIBUTING.md says how to add one. It refuses records that cannot be correct: of
unknown data (by the checksums of its frames); without versions, seed or protocol; with accuracies that are impossible
for their number of recordings; with another number of parameters than the network of their configuration; or with
numbers that contradict each other. An accuracy that stands in a record only once cannot be checked in this way, but the
command beside it can be run again.

- **Test accuracy** is the accuracy after the last epoch (no epoch was chosen), in percent: the mean over seeds, and
  half its 95 % interval (Student; for a single run Wilson). The protocol says which recordings were trained on: with
  `heldout` the training file without the recordings held out, with `heldout, refit` and `paper` all of it, and with
  `official` all of the training file of data that has a validation file.
- **Speakers held out** is the accuracy on speakers of the training file that were not trained on (`--protocol
  speakers`), the mean over folds and seeds, once for each method; the interval is computed from the means of the folds.
  On SHD's test set methods hardly differ any more; here they do.
- **Delay bits** is the number of bits of a delay in whole steps. All accuracies are measured with whole delays.
- Costs are those of [NeuroBench](https://arxiv.org/abs/2304.04640) (Yik et al., Nature Communications 2025), but
  for a whole recording, where NeuroBench counts per step. **Footprint**: bytes of parameters and buffers, with delays
  in whole steps. **MACs, ACs**: effective synaptic operations: multiply-accumulates in the first layer, whose inputs
  are counts, and accumulates in all other layers, whose inputs are spikes. **Sparsity**: share of pairs of a hidden
  neuron and a step without a spike, including the silent steps after a recording.
"""
_COLUMNS = (
    "#", "method", "toolkit", "protocol", "seeds", "test accuracy %", "speakers held out %", "parameters", "delay bits",
    "footprint kB", "spikes", "MACs", "ACs", "sparsity", "by",
)  # fmt: skip


@dataclass(frozen=True)
class Refused:
    """A record that was refused: the file that contains it, the name of its run, and the reasons in words."""

    source: Path
    run: str
    reasons: Sequence[str]

    def __str__(self) -> str:
        return f"{self.source}: {self.run}: {'; '.join(self.reasons)}"


def leaderboard(sources: Iterable[Path]) -> tuple[str, list[Refused]]:
    """The page as Markdown, and the records that were refused.

    Args:
        sources: files of records, folders of such files (with contributed ones in "contributed"), or folders of runs.

    Raises:
        RunError: a source does not exist, or contains no readable records.
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
    """The files of records in a folder; the source itself if it is a file or a folder of runs."""
    if not source.exists():
        raise RunError(f"{source}: expected a file of records, or a folder of them, got nothing")
    files = [*sorted(source.glob("*.json")), *sorted(source.glob(f"{CONTRIBUTED}/*.json"))] if source.is_dir() else []
    runs = source.is_file() or (source / "record.json").exists() or any(source.glob("*/record.json"))
    return [source] if runs else files


def _once(entries: Iterable[Entry]) -> list[Entry]:
    """The entries without duplicates: of each run of each contributor, the last one."""
    return list({(entry.by, str(entry.record["config"]), _data(entry.record)): entry for entry in entries}.values())


def _data(record: Record) -> str:
    return str(record["data"].get("checksums"))


def _page(rows: Sequence[BoardRow]) -> str:
    parts = [_HEAD]
    if not rows:
        parts.append("There are no records yet.\n")
    for name, group in groupby(rows, key=lambda row: row.data.name):
        ranked = list(group)
        lines = [_line(n, row) for n, row in enumerate(ranked, start=1)]
        commands = [f"$ {command}  # {n}" for n, row in enumerate(ranked, start=1) for command in row.commands]
        parts += [
            f"## {name}\n\n{textwrap.fill(ranked[0].data.about, 120)}\n",
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
