"""Speed and peak memory of delays: this library against DCLS and the paper's network, side by side.

Every comparison is a pair of functions that do the same work. Their runs take turns in one process, so that whatever
else the machine does affects both; the result is the median of the ratios. Peak memory is that of a process of its
own for each side.
"""

import itertools
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import Tensor, nn

from ..._tables import make_table, number, text
from ...errors import ArgumentError
from ...layers.linear import LearnableDelay
from ...running.loop import step_by_step
from ...running.unroll import unroll
from ...surgery.apply import add_delays
from ...toolkits import plugins
from ...toolkits.capabilities import benchmarks, streams
from ...toolkits.toolkit import Toolkit
from ...toolkits.vocabulary import Mode
from ..config import RunConfig
from ..model.network import DelayNetwork, class_scores
from ..training.peak_memory import PeakMemory
from ..workers import run_in_worker
from .paper import PaperNetwork, dcls_forward, dcls_layer

Run = Callable[[], object]

_SIZES = (140, 256, 256, 20)  # of the networks: channels, hidden, classes
_DESCRIPTION = ("name", "ours", "theirs", "target", "is_cost")  # of a comparison, in the file of the results


@dataclass(frozen=True)
class Comparison:
    """Two ways to do the same work.

    Attributes:
        name: the work, in words.
        ours, theirs: the two sides, in words.
        target: the ratio theirs / ours to reach (for costs, the largest ratio ours / theirs).
        is_cost: the ratio is a cost, ours / theirs, and should be small.
        memory: the peak memory of both sides is measured, too.
        make: `make(side, device)` builds everything and returns the run to be timed; side is "ours" or "theirs".
    """

    name: str
    ours: str
    theirs: str
    target: float
    make: Callable[[str, torch.device], Run]
    is_cost: bool = False
    memory: bool = False


@dataclass(frozen=True)
class Result:
    """What was measured: seconds are medians; the ratio is the median over rounds, with the middle half of them.

    `memory` is the peak of (ours, theirs) in MB above what the process had before.
    """

    comparison: Comparison
    seconds: tuple[float, float]
    ratio: float
    spread: tuple[float, float]
    memory: tuple[float, float] | None = None

    def to_json(self) -> dict[str, object]:
        """The numbers, and the comparison that they are of."""
        numbers = {name: value for name, value in vars(self).items() if name != "comparison"}
        return {name: getattr(self.comparison, name) for name in _DESCRIPTION} | numbers


def comparisons(backends: Sequence[str]) -> list[Comparison]:
    """All comparisons; those of networks for the backends named."""
    layer = partial(_layer, i=256, o=256, taps=25)
    long = partial(layer, taps=250, steps=1000, batch=32)
    result = [
        Comparison("layer 256 -> 256, 25 taps", "delayplug", "DCLS", 8, layer, memory=True),
        Comparison("layer 140 -> 256, 25 taps", "delayplug", "DCLS", 5, partial(layer, i=140)),
        Comparison("layer 256 -> 20, 25 taps", "delayplug", "DCLS", 3, partial(layer, o=20)),
        Comparison("layer 256 -> 256, 250 taps, 1000 steps", "delayplug", "DCLS", 35, long, memory=True),
        Comparison("250 taps instead of 25, 1000 steps", "250 taps", "25 taps", 2, _longer, is_cost=True),
        Comparison("kernel of 256 x 256, 25 taps", "delayplug", "DCLS", 4, _kernel),
    ]
    paper = "DCLS + SpikingJelly"
    for backend, compiled in itertools.product(backends, (False, True)):
        if compiled and not _takes_steps(backend):
            continue  # there is no loop to compile
        make = partial(_training_step, backend=backend, compile=compiled)
        name = f"training step, {backend}{', compiled' if compiled else ''}"
        result.append(Comparison(name, "delayplug", paper, 6 if compiled else 3, make, memory=not compiled))
    for backend in backends:
        make = partial(_channels, backend=backend)
        name = f"delays per channel, {backend}"
        result.append(Comparison(name, "a delay per channel", "no delays", 1.3, make, is_cost=True))
    for backend, compiled in itertools.product(filter(_takes_steps, backends), (False, True)):
        make = partial(_unrolled, backend=backend, compile=compiled)
        name = f"training step by unroll, {backend}{', compiled' if compiled else ''}"
        result.append(Comparison(name, "unroll", "time loop", 5, make))
    result.append(Comparison("one step of 512 -> 512, 2 % active", "event-driven", "dense", 10, _events))
    return result


def _takes_steps(backend: str) -> bool:
    """Whether the benchmark's neuron of a backend is called once per step, so that a sequence is a loop."""
    toolkit = plugins.toolkit(backend)
    return toolkit.mode(benchmarks(toolkit).spiking_neuron(tau=2.0)) == Mode.STEP


def measure(comparison: Comparison, device: torch.device, *, rounds: int = 10, seconds: float = 20.0) -> Result:
    """Time both sides in turns: at least three rounds, at most `rounds`, and no new one after so many seconds."""
    ours, theirs = comparison.make("ours", device), comparison.make("theirs", device)
    for run in (ours, theirs):  # not timed: what is built on first use
        run()
    times: list[tuple[float, float]] = []
    start = time.perf_counter()
    while len(times) < 3 or (len(times) < rounds and time.perf_counter() - start < seconds):
        times.append((_seconds(ours, device), _seconds(theirs, device)))
    ratios = sorted(a / b if comparison.is_cost else b / a for a, b in times)
    quarters = statistics.quantiles(ratios, n=4, method="inclusive")
    return Result(
        comparison,
        (statistics.median(a for a, _ in times), statistics.median(b for _, b in times)),
        quarters[1],
        (quarters[0], quarters[2]),
        _memory(comparison, device) if comparison.memory else None,
    )


def _seconds(run: Run, device: torch.device) -> float:
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def _memory(comparison: Comparison, device: torch.device) -> tuple[float, float]:
    """Peak memory of each side, measured in a process of its own."""
    threads = torch.get_num_threads()
    ours, theirs = (run_in_worker(_peak, comparison.name, side, device, threads) for side in ("ours", "theirs"))
    return ours, theirs


def _peak(name: str, side: str, device: torch.device, threads: int) -> float:
    """Peak memory of one side, in MB above what this process has before it runs."""
    torch.set_num_threads(threads)
    comparison = next(each for each in comparisons(plugins.ready()) if each.name == name)
    run = comparison.make(side, device)
    with PeakMemory() as before:
        pass
    with PeakMemory() as peak:
        run()
    return peak.megabytes - before.megabytes


def choose(available: Sequence[Comparison], parts: Sequence[str]) -> list[Comparison]:
    """The comparisons whose names have one of these parts; all if there are none."""
    chosen = [each for each in available if not parts or any(part.lower() in each.name.lower() for part in parts)]
    if not chosen:
        raise ArgumentError("only", f"parts of {'; '.join(each.name for each in available)}", ", ".join(parts))
    return chosen


def write(results: Sequence[Result], device: torch.device, path: Path) -> None:
    """A JSON file: where it was measured, and all results."""
    record = {"device": _name(device), "torch": torch.__version__, "results": [result.to_json() for result in results]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=2) + "\n")


def table(results: Sequence[Result], device: torch.device) -> Table:
    """One row per comparison."""
    result = make_table(
        text("comparison", wrap="anywhere", min_width=20),
        *(number(header, bottom=True) for header in ("ms", "ms", "ratio", "half of\nrounds", "target", "peak MB")),
        title=f"{_name(device)}, torch {torch.__version__}: medians of rounds in turns",
        caption="ratio: how many times faster the first of two is; where small is better (<=), how much longer",
    )
    for r in results:
        work = r.comparison
        met = r.ratio <= work.target if work.is_cost else r.ratio >= work.target
        memory = "" if r.memory is None else f"{r.memory[0]:.0f} / {r.memory[1]:.0f}"
        result.add_row(
            f"{work.name}\n[dim]{work.ours} / {work.theirs}[/]",
            *(f"{1000 * seconds:,.1f}" for seconds in r.seconds),
            f"[{'green' if met else 'red'}]{r.ratio:.2f}[/]",
            f"{r.spread[0]:.1f}-{r.spread[1]:.1f}",
            f"{'<=' if work.is_cost else '>='} {work.target:g}",
            memory,
        )
    return result


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"{device.type} with {torch.get_num_threads()} threads"


def check_device(name: str) -> torch.device:
    """The device of this name, or ArgumentError if there is none here."""
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ArgumentError("device", "one that is there, such as cpu or cuda", repr(name)) from error
    return device


# ------------------------------------------------------------------------------------------- the comparisons


def _spikes(*shape: int, device: torch.device, density: float = 0.05) -> Tensor:
    torch.manual_seed(0)
    return (torch.rand(*shape, device=device) < density).float()


def _backward(layer: nn.Module, run: Callable[[], Tensor]) -> Run:
    """Forward and backward of a layer, with a gradient of ones for the output."""

    def step() -> None:
        layer.zero_grad()
        y = run()
        y.backward(torch.ones_like(y))

    return step


def _layer(side: str, device: torch.device, i: int, o: int, taps: int, steps: int = 100, batch: int = 256) -> Run:
    """One delay layer, forward and backward with the construction of its kernel."""
    x = _spikes(steps, batch, i, device=device).requires_grad_()
    if side == "ours":
        layer = LearnableDelay(i, o, max_delay=taps - 1, device=device)
        return _backward(layer, lambda: layer(x))
    dcls = dcls_layer(i, o, taps).to(device)
    return _backward(dcls, lambda: dcls_forward(dcls, x))


def _longer(side: str, device: torch.device) -> Run:
    x = _spikes(1000, 128, 256, device=device).requires_grad_()
    layer = LearnableDelay(256, 256, max_delay=249 if side == "ours" else 24, device=device)
    return _backward(layer, lambda: layer(x))


def _kernel(side: str, device: torch.device) -> Run:
    if side == "ours":
        layer = LearnableDelay(256, 256, max_delay=24, device=device)
        return _backward(layer, layer.kernel)
    dcls: Any = dcls_layer(256, 256, 25).to(device)
    return _backward(dcls, lambda: dcls.DCK(dcls.weight, dcls.P, dcls.SIG))


def _training_step(side: str, device: torch.device, backend: str, compile: bool) -> Run:
    """The network for SHD on one batch: forward, loss, backward and both optimizers."""
    network: nn.Module
    if side == "ours":
        network = DelayNetwork(_SIZES, plugins.toolkit(backend), RunConfig(dropout=0.4, compile=compile))
    else:
        network = PaperNetwork(_SIZES, dropout=0.4)
    return _step(network, lambda x: class_scores(network(x)), _spikes(100, 256, 140, device=device))


def _step(network: nn.Module, scores: Callable[[Tensor], Tensor], x: Tensor) -> Run:
    """A training step of the network, of which `scores` makes the logits (B, classes) for x."""
    labels = torch.arange(x.shape[1], device=x.device) % _SIZES[-1]
    optimizer = torch.optim.Adam(network.to(x.device).parameters(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(scores(x), labels).backward()
        optimizer.step()

    return step


def _channels(side: str, device: torch.device, backend: str) -> Run:
    """The same network with linear layers, with and without a delay for each of their inputs."""
    config = RunConfig(delays="axonal" if side == "ours" else "none", dropout=0.4)
    network = DelayNetwork(_SIZES, plugins.toolkit(backend), config)
    network.tail = 0  # sequences of the same length
    return _step(network, lambda x: class_scores(network(x)), _spikes(100, 256, 140, device=device))


class _StepNetwork(nn.Module):
    """Linear layers and neurons of any toolkit, one step at a time.

    Takes (B, I) and the state that the step before returned, None at the beginning; returns (B, O) and the next state.
    """

    def __init__(self, sizes: Sequence[int], toolkit: Toolkit) -> None:
        super().__init__()
        self.toolkit = toolkit
        self.linears = nn.ModuleList(nn.Linear(i, o) for i, o in itertools.pairwise(sizes))
        self.neurons = nn.ModuleList(benchmarks(toolkit).spiking_neuron(tau=2.0) for _ in sizes[1:])

    def forward(self, x: Tensor, state: list[Any] | None = None) -> tuple[Tensor, list[Any]]:
        carried = [()] * len(self.neurons) if state is None else state
        following: list[Any] = []
        for linear, neuron, own in zip(self.linears, self.neurons, carried, strict=True):
            out = neuron(linear(x), *own)
            x, *rest = out if isinstance(out, tuple) else (out,)
            # What a neuron holds by itself it goes on from.
            following.append(() if self.toolkit.held_state(neuron) else tuple(rest))
        return x, following


def _unrolled(side: str, device: torch.device, backend: str, compile: bool) -> Run:
    """A network of step neurons with delays, over a sequence: its own time loop against `unroll`."""
    toolkit = plugins.toolkit(backend)
    network = _StepNetwork(_SIZES, toolkit).to(device)
    x = _spikes(100, 64, 140, device=device)
    add_delays(network, max_delay=24, backend=backend, example=x[0])

    def loop(x: Tensor) -> Tensor:
        for module in network.modules():
            streams(toolkit).reset(module)
        outputs: Tensor = step_by_step(network, x)[0]
        return outputs

    # The network is known to be feed-forward: nothing to check.
    run = loop if side == "theirs" else partial(unroll, network, check=False, compile=compile)
    return _step(network, lambda x: run(x).sum(0), x)


def _events(side: str, device: torch.device) -> Run:
    """A hundred steps of a layer with rounded delays, one sample."""
    layer = LearnableDelay(512, 512, max_delay=24, device=device).eval()
    layer.engine = "auto" if side == "ours" else "direct"
    x = _spikes(100, 1, 512, device=device, density=0.02)

    @torch.no_grad()
    def run() -> None:
        state = layer.initial_state(1)
        for x_t in x.unbind(0):
            _, state = layer.step(x_t, state)

    return run
