"""Speed and peak memory of delays: this library against DCLS and the paper's network, side by side.

Every comparison is a pair of functions that do the same work. Their runs take turns in one process, so that whatever
else the machine does affects both; the result is the median of the ratios. Peak memory is that of a process of its
own for each side. On a GPU runs are timed by its own events, and a profiler tells how many kernels a run launches and
for which share of the time the GPU is busy. `comparisons` has the list.
"""

import json
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from rich.table import Table
from rich.text import Text

from ..._tables import lines, make_table, number, plain, text
from ...errors import ArgumentError, did_you_mean
from ..hardware import device_name
from ..training.peak_memory import PeakMemory
from ..whole_files import make_folder, write_whole
from ..workers import run_in_worker
from .activity import Activity, activity_of

Run = Callable[[], object]

_DESCRIPTION = ("name", "ours", "theirs", "target", "is_cost")  # of a comparison, in the file of the results
_GPU_ROUND = 0.05  # seconds for which each side runs in a round on a GPU: events are exact, and clocks need to settle
_MOST_REPEATS = 100


@dataclass(frozen=True)
class Comparison:
    """Two ways to do the same work, or one alone.

    Attributes:
        name: the work, in words.
        ours, theirs: the two sides, in words; theirs is "" where ours is measured alone.
        target: the ratio theirs / ours to reach (for costs, the largest ratio ours / theirs); None for none.
        make: `make(side, device)` builds everything and returns the run to be timed; side is "ours" or "theirs".
        is_cost: the ratio is a cost, ours / theirs, and should be small.
        memory: the peak memory of both sides is measured, too.
        limits_ms: the longest that ours may take on an H100 or H200, by the setting of
            `torch.set_float32_matmul_precision`.
        memory_limit_mb: the most memory that ours may take.
        memory_share: the most memory that ours may take, as a share of theirs.
        times_itself: the run returns the seconds that count, such as those of an epoch in the middle of a training.
    """

    name: str
    ours: str
    theirs: str
    target: float | None
    make: Callable[[str, torch.device], Run]
    is_cost: bool = False
    memory: bool = False
    limits_ms: Mapping[str, float] = field(default_factory=dict)
    memory_limit_mb: float | None = None
    memory_share: float | None = None
    times_itself: bool = False

    @property
    def sides(self) -> tuple[str, ...]:
        return ("ours", "theirs") if self.theirs else ("ours",)


@dataclass(frozen=True)
class Result:
    """What was measured.

    Attributes:
        comparison: what of.
        seconds: medians of (ours, theirs), or of (ours,).
        ratio: the median over rounds; None without another side.
        spread: the middle half of the rounds: of the ratio, or of our seconds.
        memory: the peak of each side in MB above what the process had before; () if it was not measured.
        activity: launches and busy share of each side on a GPU; () elsewhere.
    """

    comparison: Comparison
    seconds: tuple[float, ...]
    ratio: float | None
    spread: tuple[float, float]
    memory: tuple[float, ...] = ()
    activity: tuple[Activity, ...] = ()

    def to_json(self) -> dict[str, object]:
        """The numbers, and the comparison that they are of."""
        numbers = {name: value for name, value in vars(self).items() if name not in ("comparison", "activity")}
        activity = [vars(each) for each in self.activity]
        return {name: getattr(self.comparison, name) for name in _DESCRIPTION} | numbers | {"activity": activity}


def measure(comparison: Comparison, device: torch.device, *, rounds: int = 10, seconds: float = 20.0) -> Result:
    """Time both sides in turns: at least three rounds, at most `rounds`, and no new one after so many seconds."""
    runs = [comparison.make(side, device) for side in comparison.sides]
    clocks = [_clock(run, comparison, device) for run in runs]  # not timed: what is built on first use
    times: list[list[float]] = []
    start = time.perf_counter()
    while len(times) < 3 or (len(times) < rounds and time.perf_counter() - start < seconds):
        times.append([clock() for clock in clocks])
    ours, *theirs = ([round_[side] for round_ in times] for side in range(len(runs)))
    numbers = sorted(_ratios(comparison, ours, theirs[0]) if theirs else ours)
    quarters = statistics.quantiles(numbers, n=4, method="inclusive")
    return Result(
        comparison,
        tuple(statistics.median(side) for side in (ours, *theirs)),
        quarters[1] if theirs else None,
        (quarters[0], quarters[2]),
        _memory(comparison, device) if comparison.memory else (),
        tuple(map(activity_of, runs)) if device.type == "cuda" and not comparison.times_itself else (),
    )


def _ratios(comparison: Comparison, ours: list[float], theirs: list[float]) -> list[float]:
    return [a / b if comparison.is_cost else b / a for a, b in zip(ours, theirs, strict=True)]


def _clock(run: Run, comparison: Comparison, device: torch.device) -> Callable[[], float]:
    """A function that runs and returns the seconds of one run; the run is warm when this returns."""
    if comparison.times_itself:
        return partial(_own_seconds, run)
    run()
    if device.type != "cuda":
        return lambda: _seconds(run)
    for _ in range(2):  # kernels are compiled, graphs captured, and the memory is there
        run()
    once = _gpu_seconds(run, device, 1)
    repeats = min(_MOST_REPEATS, max(1, round(_GPU_ROUND / max(once, 1e-6))))
    return lambda: _gpu_seconds(run, device, repeats)


def _own_seconds(run: Run) -> float:
    seconds = run()
    assert isinstance(seconds, float)
    return seconds


def _seconds(run: Run) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _gpu_seconds(run: Run, device: torch.device, repeats: int) -> float:
    """Seconds of one of several runs, by events of the GPU: from the first kernel's start to the last one's end."""
    with torch.cuda.device(device):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(device)
        start.record()
        for _ in range(repeats):
            run()
        end.record()
        torch.cuda.synchronize(device)
    return float(start.elapsed_time(end)) / 1000 / repeats


def _memory(comparison: Comparison, device: torch.device) -> tuple[float, ...]:
    """Peak memory of each side, measured in a process of its own."""
    how = device, torch.get_num_threads(), torch.get_float32_matmul_precision()
    return tuple(run_in_worker(_peak, comparison, side, *how) for side in comparison.sides)


def _peak(comparison: Comparison, side: str, device: torch.device, threads: int, precision: str) -> float:
    """Peak memory of one side, in MB above what this process has before it runs."""
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision(precision)
    run = comparison.make(side, device)
    with PeakMemory() as before:
        pass
    with PeakMemory() as peak:
        run()
    return peak.megabytes - before.megabytes


def choose(available: Sequence[Comparison], parts: Sequence[str]) -> list[Comparison]:
    """The comparisons whose names have one of these parts; all if there are none."""
    names = [each.name.lower() for each in available]
    for part in parts:
        if not any(part.lower() in name for name in names):
            words = {word.strip(",") for name in names for word in name.split()}
            hint = did_you_mean(part, words)
            raise ArgumentError("only", f"parts of {'; '.join(each.name for each in available)}", repr(part), hint)
    return [each for each in available if not parts or any(part.lower() in each.name.lower() for part in parts)]


def record(results: Sequence[Result], device: torch.device) -> dict[str, object]:
    """Where it was measured, and all results, for a JSON file."""
    return {
        "device": _name(device),
        "torch": torch.__version__,
        "precision": torch.get_float32_matmul_precision(),
        "results": [result.to_json() for result in results],
    }


def write(results: Sequence[Result], device: torch.device, path: Path) -> None:
    """The record as a JSON file."""
    make_folder(path.parent)
    write_whole(path, json.dumps(record(results, device), indent=2) + "\n")


def table(results: Sequence[Result], device: torch.device) -> Table:
    """One row per comparison."""
    on_gpu = any(result.activity for result in results)
    more = (number("kernels", bottom=True), number("busy\n%", bottom=True)) if on_gpu else ()
    precision = torch.get_float32_matmul_precision()
    result = make_table(
        text("comparison", wrap="anywhere", min_width=20),
        *(number(header, bottom=True) for header in ("ms", "ms", "ratio", "half of\nrounds", "target", "peak MB")),
        *more,
        title=f"{_name(device)}, torch {torch.__version__}, precision {precision!r}: medians of rounds in turns",
        caption="ratio: how many times faster the first of two is; where small is better (<=), how much longer"
        + (". kernels, busy: launched by a run, and the share of its time in which they ran" if on_gpu else ""),
    )
    for r in results:
        work = r.comparison
        names = f"{work.ours} / {work.theirs}" if work.theirs else work.ours
        scale = 1 if r.ratio is not None else 1000
        activity = (
            _pair(f"{each.kernels:,.0f}" for each in r.activity),
            _pair(f"{100 * each.busy:.0f}" for each in r.activity),
        )
        result.add_row(
            lines(work.name, names),
            *(f"{1000 * seconds:,.{1 if seconds > 0.01 else 2}f}" for seconds in r.seconds),
            *[""] * (2 - len(r.seconds)),
            "" if r.ratio is None else _coloured(f"{r.ratio:.2f}", _ratio_met(r)),
            "-".join(f"{scale * bound:.{2 if scale * bound < 1 else 1}f}" for bound in r.spread),
            _targets(r, precision, device),
            _pair(f"{megabytes:.0f}" for megabytes in r.memory),
            *(activity if on_gpu else ()),
        )
    return result


def _pair(cells: Iterable[str]) -> str:
    return " / ".join(cells)


def _ratio_met(r: Result) -> bool | None:
    target = r.comparison.target
    if r.ratio is None or target is None:
        return None
    return r.ratio <= target if r.comparison.is_cost else r.ratio >= target


def _coloured(cell: str, met: bool | None) -> Text:
    return plain(cell, "" if met is None else "green" if met else "red")


def _targets(r: Result, precision: str, device: torch.device) -> Text:
    """What is to be reached: the ratio, and on a GPU the time."""
    work, targets = r.comparison, list[Text]()
    if work.target is not None:
        targets.append(plain(f"{'<=' if work.is_cost else '>='} {work.target:g}", ""))
    limit = work.limits_ms.get(precision)
    if limit is not None and device.type == "cuda":
        targets.append(_coloured(f"<= {limit:g} ms", 1000 * r.seconds[0] <= limit))
    if work.memory_limit_mb is not None and r.memory:
        targets.append(_coloured(f"<= {work.memory_limit_mb:g} MB", r.memory[0] <= work.memory_limit_mb))
    if work.memory_share is not None and len(r.memory) == 2:
        targets.append(_coloured(f"<= {work.memory_share:g} of MB", r.memory[0] <= work.memory_share * r.memory[1]))
    return plain("\n", "").join(targets)


def _name(device: torch.device) -> str:
    return f"{device_name(device)}, {torch.get_num_threads()} threads" if device.type == "cpu" else device_name(device)


def check_device(name: str) -> torch.device:
    """The device of this name, or ArgumentError if there is none here."""
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        hint = did_you_mean(name, ("cpu", "cuda", "mps", "xpu"))
        raise ArgumentError("device", "one that is there, such as cpu or cuda", repr(name), hint) from error
    return device
