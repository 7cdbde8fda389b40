"""What is compared: layers, kernels, training steps and epochs, each made by a function for one side and device.

Read `comparisons` first. Some have limits in milliseconds, which are for an H100 or H200, beside ratios.
"""

import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ...data import Frames
from ...errors import choice_error
from ...layers.engines.convolve import Engine
from ...layers.linear import LearnableDelay
from ...learning.captured import CapturedStep
from ...running.loop import step_by_step
from ...running.unroll import unroll
from ...surgery.apply import add_delays
from ...toolkits import plugins
from ...toolkits.capabilities import benchmarks, streams
from ...toolkits.toolkit import Toolkit
from ...toolkits.vocabulary import Mode
from ..config import RunConfig, configure
from ..model.network import DelayNetwork, class_scores
from ..resources import Resources
from ..task import Task
from ..training.trainer import train
from ..variants import Variant
from .paper import PaperNetwork, dcls_forward, dcls_layer
from .speed import Comparison, Run

_SIZES = (140, 256, 256, 20)  # of the networks: channels, hidden, classes
_PAPER = "DCLS + SpikingJelly"
_RECORDINGS = (8156, 2264)  # of SHD, to train and to test


def comparisons(backends: Sequence[str], device: torch.device, against: Sequence[str] = ()) -> list[Comparison]:
    """All comparisons on a kind of device; those of networks for the backends named.

    Args:
        backends: names of toolkits.
        device: a GPU has some of its own.
        against: "sparx" for those with that package.
    """
    on_gpu = device.type == "cuda"
    result = [*_layers(on_gpu), *_networks(backends, on_gpu)]
    result += [*_engines(), *_long_sequences(backends), *_epochs(backends)] if on_gpu else [*_on_cpu(backends)]
    for name in against:
        if name != "sparx":
            raise choice_error("against", ["sparx"], name)
    for backend in backends if "sparx" in against else ():
        name = f"training step, {backend}, against sparx"
        make = partial(_against_sparx, backend=backend)
        result.append(Comparison(name, "delayplug", "sparx (JAX)", 1, make))
    return result


def _layers(on_gpu: bool) -> Iterator[Comparison]:
    """Layers and kernels against DCLS, which uses TF32 in convolutions on a GPU, as cuDNN does by default."""
    layer = partial(_layer, i=256, o=256, taps=25)
    long = partial(layer, taps=250, steps=1000, batch=32)
    against = partial(Comparison, ours="delayplug", theirs="DCLS")
    limits = {"highest": 1.1, "medium": 0.45}
    share = 0.5 if on_gpu else None
    yield against("layer 256 -> 256, 25 taps", target=8, make=layer, memory=True, limits_ms=limits, memory_share=share)
    yield against("layer 140 -> 256, 25 taps", target=5, make=partial(layer, i=140))
    yield against("layer 256 -> 20, 25 taps", target=3, make=partial(layer, o=20), memory=on_gpu)
    if on_gpu:
        wide = partial(layer, i=512, o=512, taps=31, batch=128)
        yield against("layer 512 -> 512, 31 taps", target=None, make=wide)
    yield against("layer 256 -> 256, 250 taps, 1000 steps", target=35, make=long, memory=True)
    yield Comparison("250 taps instead of 25, 1000 steps", "250 taps", "25 taps", 2, _longer, is_cost=True)
    yield against("kernel of 256 x 256, 25 taps", target=5 if on_gpu else 4, make=_kernel)
    if on_gpu:
        yield Comparison("depthwise, 256 channels, 25 taps", "delayplug", "torch's conv1d", 1, _depthwise)


def _networks(backends: Sequence[str], on_gpu: bool) -> Iterator[Comparison]:
    """Training steps against the paper's network, without delays, and in a time loop."""
    limits = {"highest": 2.6, "medium": 1.6}
    for backend in backends:
        step = partial(_training_step, backend=backend)
        name = f"training step, {backend}"
        yield Comparison(name, "delayplug", _PAPER, 3, step, memory=True)
        if on_gpu:
            as_graph = partial(step, graph=True)
            yield Comparison(f"{name}, as a CUDA graph", "delayplug", _PAPER, None, as_graph, limits_ms=limits)
            shipped = partial(as_graph, cudnn=False)  # the paper's code switches cuDNN off with its seeds
            yield Comparison(f"{name}, against the paper's code as shipped", "delayplug", _PAPER, None, shipped)
    for backend in backends:
        make = partial(_channels, backend=backend)
        name = f"delays per channel, {backend}"
        yield Comparison(name, "a delay per channel", "no delays", 1.3, make, is_cost=True)
    for backend in filter(_takes_steps, backends):
        make = partial(_unrolled, backend=backend)
        yield Comparison(f"training step by unroll, {backend}", "unroll", "time loop", 20 if on_gpu else 5, make)


def _on_cpu(backends: Sequence[str]) -> Iterator[Comparison]:
    """With compiled loops, which a GPU has no use for; and event by event, which it does not do."""
    for backend in filter(_takes_steps, backends):
        step = partial(_training_step, backend=backend, compile=True)
        yield Comparison(f"training step, {backend}, compiled", "delayplug", _PAPER, 6, step)
        unrolled = partial(_unrolled, backend=backend, compile=True)
        yield Comparison(f"training step by unroll, {backend}, compiled", "unroll", "time loop", 5, unrolled)
    yield Comparison("one step of 512 -> 512, 2 % active", "event-driven", "dense", 10, _events)


def _engines() -> Iterator[Comparison]:
    """`auto` against each engine, at sizes where one or the other is fast."""
    layers: dict[str, Callable[..., Run]] = {
        "256 -> 256, 25 taps": partial(_engine, i=256, o=256, taps=25),
        "256 -> 20, 25 taps": partial(_engine, i=256, o=20, taps=25),
        "512 -> 512, 31 taps": partial(_engine, i=512, o=512, taps=31, batch=128),
        "256 -> 256, 60 taps": partial(_engine, i=256, o=256, taps=60),
        "256 -> 256, 100 taps, 500 steps": partial(_engine, i=256, o=256, taps=100, steps=500, batch=64),
        "256 -> 256, 250 taps, 1000 steps": partial(_engine, i=256, o=256, taps=250, steps=1000, batch=32),
    }
    for (name, layer), engine in itertools.product(layers.items(), ("products", "fft", "direct")):
        make = partial(layer, engine=engine)
        yield Comparison(f"auto, {name}, against {engine}", "auto", engine, 1.1, make, is_cost=True)


def _long_sequences(backends: Sequence[str]) -> Iterator[Comparison]:
    for backend in backends:
        name = f"1127 steps, 512 delay steps, {backend}"
        make = partial(_long, backend=backend)
        limits = dict.fromkeys(("highest", "high", "medium"), 30.0)
        yield Comparison(name, "delayplug", "", None, make, memory=True, limits_ms=limits, memory_limit_mb=3000)
        make = partial(_long_channels, backend=backend)
        name = f"1127 steps, 512 delay steps per channel, {backend}"
        yield Comparison(name, "per channel", "per synapse", 1, make, is_cost=True)


def _epochs(backends: Sequence[str]) -> Iterator[Comparison]:
    """Of `bench run`: an epoch's training, and all of it; 150 of these are to take 20 s, and 14 s in "medium"."""
    parts = {"training": {"highest": 120.0, "medium": 80.0}, "with validation": {"highest": 133.0, "medium": 93.0}}
    for backend, (part, limits) in itertools.product(backends, parts.items()):
        make = partial(_epoch, backend=backend, whole=part != "training")
        name = f"epoch of 8,156 recordings, {part}, {backend}"
        yield Comparison(name, "bench run", "", None, make, limits_ms=limits, times_itself=True)


def _spikes(*shape: int, device: torch.device, density: float = 0.05) -> Tensor:
    torch.manual_seed(0)
    return (torch.rand(*shape, device=device) < density).float()


def _backward(layer: nn.Module, run: Callable[[], Tensor], x: Tensor | None = None) -> Run:
    """Forward and backward of a layer, with a gradient of ones for the output; x is its input, if it has one."""

    def step() -> None:
        layer.zero_grad()
        if x is not None:
            x.grad = None
        y = run()
        y.backward(torch.ones_like(y))

    return step


def _layer(side: str, device: torch.device, i: int, o: int, taps: int, steps: int = 100, batch: int = 256) -> Run:
    """One delay layer, forward and backward with the construction of its kernel."""
    x = _spikes(steps, batch, i, device=device).requires_grad_()
    if side == "ours":
        layer = LearnableDelay(i, o, max_delay=taps - 1, device=device)
        return _backward(layer, lambda: layer(x), x)
    dcls = dcls_layer(i, o, taps).to(device)
    return _backward(dcls, lambda: dcls_forward(dcls, x), x)


def _longer(side: str, device: torch.device) -> Run:
    x = _spikes(1000, 128, 256, device=device).requires_grad_()
    layer = LearnableDelay(256, 256, max_delay=249 if side == "ours" else 24, device=device)
    return _backward(layer, lambda: layer(x), x)


def _kernel(side: str, device: torch.device) -> Run:
    if side == "ours":
        layer = LearnableDelay(256, 256, max_delay=24, device=device)
        return _backward(layer, layer.kernel)
    dcls: Any = dcls_layer(256, 256, 25).to(device)
    return _backward(dcls, lambda: dcls.DCK(dcls.weight, dcls.P, dcls.SIG))


def _training_step(
    side: str, device: torch.device, backend: str, compile: bool = False, graph: bool = False, cudnn: bool = True
) -> Run:
    """The network for SHD on one batch: forward, loss, backward and both optimizers.

    `graph`: ours replays as a CUDA graph, as in the benchmark. `cudnn`: theirs may use it, which the paper's code does
    not: it switches cuDNN off where it sets its seeds.
    """
    x = _spikes(100, 256, 140, device=device)
    if side == "theirs":
        paper = PaperNetwork(_SIZES, dropout=0.4)
        step = _step(paper, lambda x: class_scores(paper(x)), x)
        return step if cudnn else partial(_without_cudnn, step)
    network = DelayNetwork(_SIZES, plugins.toolkit(backend), RunConfig(dropout=0.4, compile=compile))
    if graph:
        return _captured_step(network, x.to(torch.uint8))
    return _step(network, lambda x: class_scores(network(x)), x)


def _without_cudnn(run: Run) -> None:
    with torch.backends.cudnn.flags(enabled=False):
        run()


def _step(network: nn.Module, scores: Callable[[Tensor], Tensor], x: Tensor) -> Run:
    """A training step of the network, of which `scores` makes the logits (B, classes) for x."""
    labels = torch.arange(x.shape[1], device=x.device) % _SIZES[-1]
    optimizer = torch.optim.Adam(network.to(x.device).parameters(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(scores(x), labels).backward()
        optimizer.step()

    return step


def _captured_step(network: DelayNetwork, x: Tensor) -> Run:
    """A training step as the benchmark's: the network as a graph, its optimizer and the masks of dropout outside."""
    labels = torch.arange(x.shape[1], device=x.device) % _SIZES[-1]
    optimizer = torch.optim.Adam(network.to(x.device).parameters(), lr=1e-3, fused=True)

    def learn(x: Tensor, labels: Tensor, *masks: Tensor) -> Tensor:
        loss = nn.functional.cross_entropy(class_scores(network(x, masks)), labels)
        loss.backward()
        return loss.detach()

    captured = CapturedStep(learn, network)

    def step() -> None:
        captured(x, labels, *network.draw_masks(x.shape[1]))
        optimizer.step()

    return step


def _channels(side: str, device: torch.device, backend: str) -> Run:
    """The same network with linear layers, with and without a delay for each of their inputs."""
    config = RunConfig(delays="axonal" if side == "ours" else "none", dropout=0.4)
    network = DelayNetwork(_SIZES, plugins.toolkit(backend), config)
    network.tail = 0  # sequences of the same length
    return _step(network, lambda x: class_scores(network(x)), _spikes(100, 256, 140, device=device))


def _engine(
    side: str,
    device: torch.device,
    engine: Engine,
    i: int,
    o: int,
    taps: int,
    steps: int = 100,
    batch: int = 256,
) -> Run:
    """The products of one layer, forward and backward, by the engine that `auto` takes or by a named one."""
    x = _spikes(steps, batch, i, device=device).requires_grad_()
    layer = LearnableDelay(i, o, max_delay=taps - 1, engine="auto" if side == "ours" else engine, device=device)
    return _backward(layer, lambda: layer(x), x)


def _depthwise(side: str, device: torch.device) -> Run:
    """A delay per channel, forward and backward, against a grouped convolution with the same kernel."""
    x = _spikes(100, 256, 256, device=device).requires_grad_()
    layer = LearnableDelay(256, max_delay=24, device=device)
    if side == "ours":
        return _backward(layer, lambda: layer(x), x)
    kernel = layer.kernel().detach().flip(0).t().unsqueeze(1).contiguous().requires_grad_()  # (C, 1, K)

    def convolve() -> Tensor:
        padded = nn.functional.pad(x.permute(1, 2, 0), (24, 0))
        return nn.functional.conv1d(padded, kernel, groups=256).permute(2, 0, 1)

    return _backward(layer, convolve, x)


def _long_network(device: torch.device, backend: str, delays: Variant) -> Run:
    """A training step on sequences as long as SHD's in milliseconds, all 700 channels, and delays of half a second."""
    config = RunConfig(delays=delays, max_delay=512, dropout=0.4)
    network = DelayNetwork((700, 256, 20), plugins.toolkit(backend), config)
    x = _spikes(1127, 256, 700, device=device, density=0.01)
    return _step(network, lambda x: class_scores(network(x)), x.to(torch.uint8))


def _long(side: str, device: torch.device, backend: str) -> Run:
    return _long_network(device, backend, "learned")


def _long_channels(side: str, device: torch.device, backend: str) -> Run:
    return _long_network(device, backend, "axonal" if side == "ours" else "learned")


def _epoch(side: str, device: torch.device, backend: str, whole: bool) -> Run:
    """The median epoch of a run of the benchmark on recordings of SHD's sizes: its training, or all of it.

    The first epochs, in which kernels are compiled and graphs captured, do not count.
    """
    config = configure("shd", backend=backend, epochs=12, precision=torch.get_float32_matmul_precision())
    generator = torch.Generator().manual_seed(0)

    def frames(number: int) -> Frames:
        counts = (torch.rand(100, number, 140, generator=generator) < 0.05).to(torch.uint8)
        labels = torch.randint(20, (number,), generator=generator)
        return Frames.dense(counts, labels, tuple(map(str, range(20))))

    tested = frames(_RECORDINGS[1])
    task = Task(frames(_RECORDINGS[0]), tested, tested, "none", "best on test")
    resources = Resources("gpu" if device.type == "cuda" else device.type)

    def run() -> float:
        ends: list[float] = []
        outcome = train(config, task, resources, on_epoch=lambda _: ends.append(time.perf_counter()))
        if whole:
            return statistics.median(b - a for a, b in list(itertools.pairwise(ends))[2:])
        return statistics.median(epoch["seconds"] for epoch in outcome.epochs[3:])

    return run


def _against_sparx(side: str, device: torch.device, backend: str) -> Run:
    if side == "ours":
        return _training_step("ours", device, backend, graph=device.type == "cuda")
    from .sparx_network import training_step

    return training_step(_SIZES, _spikes(100, 256, 140, device=torch.device("cpu")).numpy())


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


def _unrolled(side: str, device: torch.device, backend: str, compile: bool = False) -> Run:
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


def _takes_steps(backend: str) -> bool:
    """Whether the benchmark's neuron of a backend is called once per step, so that a sequence is a loop."""
    toolkit = plugins.toolkit(backend)
    return toolkit.mode(benchmarks(toolkit).spiking_neuron(tau=2.0)) == Mode.STEP
