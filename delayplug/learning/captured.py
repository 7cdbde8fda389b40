"""A step of a training loop as a CUDA graph: what a GPU does in it is recorded once, and then launched as one."""

import contextlib
import functools
import gc
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

R = TypeVar("R")
Replay = Callable[[], None]

_WARM_UPS = 3  # runs before the recording, in which libraries choose, compile and allocate what they keep


class Recorder(Protocol):
    """Records what a device does."""

    def warm_up(self, run: Callable[[], object]) -> None:
        """Run it in the way in which it is recorded, without recording."""

    def record(self, run: Callable[[], R]) -> tuple[R, Replay]:
        """Record what it does to the device, and return its result with what does all that again."""


class CapturedStep(Generic[R]):
    """A function of tensors that runs as a CUDA graph: forward, loss and backward, or an evaluation.

    On a GPU the first call with inputs of a shape runs the function a few times, restores everything that this
    changed, and records it. Each call copies its inputs to where the recording reads them, and replays it: the
    numbers are those of the function, and it costs one launch instead of hundreds. On other devices, and where
    recording fails, which warns, the function is called as it is.

    What the function does is that of CUDA graphs: shapes and Python's decisions are those of the recording, so that
    nothing in it may look at a value on the GPU (`.item()`, `if tensor:`), and Python in it is not run again. Values
    that change between calls are inputs, or tensors that are changed in place, such as what a `SigmaSchedule` sets.
    Each combination of shapes, dtypes, modes (`train()`, `no_grad()`, autocast) has a recording of its own.

    Gradients of the parameters after a call are those of this call alone: there is nothing to zero, and the optimizer
    steps outside, where its schedule, delays' ranges and a `GradScaler` work as ever. Gradients and results lie in
    the recording's memory: the next call overwrites them. What holds the graph of an earlier step of the network, such
    as neurons that were not reset, can keep the first call from recording.

    Args:
        step: the function. It takes tensors, calls `backward()` itself, and returns tensors in whatever structure,
            without a graph.
        module: the network: its parameters, buffers and gradients are restored after the first runs.
        state: other tensors that the function changes in place, such as counters.
        most: how many recordings there may be; the function is called as it is for shapes that come after these.

    Attributes:
        reason: why the function is called as it is, though the device is a GPU; "" if it is not.

    >>> net = nn.Linear(3, 2)
    >>> optimizer = torch.optim.Adam(net.parameters())
    >>> def step(x, y):
    ...     loss = nn.functional.cross_entropy(net(x), y)
    ...     loss.backward()
    ...     return loss.detach()
    >>> step = CapturedStep(step, net)
    >>> for _ in range(2):
    ...     loss = step(torch.ones(4, 3), torch.zeros(4, dtype=torch.int64))
    ...     optimizer.step()
    """

    def __init__(
        self, step: Callable[..., R], module: nn.Module, *, state: Iterable[Tensor] = (), most: int = 8
    ) -> None:
        self.step, self.module, self.most, self.reason = step, module, most, ""
        self._state = list(state)
        self._recordings: dict[object, _Recording[R]] = {}
        self._recorder: Recorder | None = None

    def __call__(self, *inputs: Tensor) -> R:
        """What the function returns; see the class."""
        if self.reason:
            return self._plain(inputs)
        key = self._key(inputs)
        if key not in self._recordings:
            if len(self._recordings) >= self.most:
                return self._plain(inputs)
            if self._recorder is None:
                self._recorder = recorder_on(_device(inputs, self.module))
            recording = None if self._recorder is None else self._record(self._recorder, inputs)
            if recording is None:
                return self._plain(inputs)
            self._recordings[key] = recording
        return self._recordings[key](inputs)

    @property
    def captured(self) -> bool:
        """Whether there is a recording, which is replayed."""
        return bool(self._recordings)

    def clear(self) -> None:
        """Forget all recordings, and the gradients that lie in their memory: after the network was moved, say."""
        self._recordings.clear()
        self._recorder = None
        _forget_gradients(self.module)

    def _plain(self, inputs: tuple[Tensor, ...]) -> R:
        if torch.is_grad_enabled():
            _forget_gradients(self.module)
        return self.step(*inputs)

    def _key(self, inputs: tuple[Tensor, ...]) -> object:
        autocast = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
        modes = self.module.training, torch.is_grad_enabled(), torch.is_inference_mode_enabled(), autocast
        return modes, tuple((x.shape, x.dtype, x.device) for x in inputs)

    def _record(self, recorder: Recorder, inputs: tuple[Tensor, ...]) -> "_Recording[R] | None":
        """None if it cannot be recorded."""
        with torch.inference_mode(False):
            own = tuple(x.detach().clone() for x in inputs)
        run = functools.partial(self._plain, own)
        with _restored(self.module, self._state):
            recorder.warm_up(run)  # an error of the function itself is raised here
            torch.clear_autocast_cache()  # the recording casts weights by itself, as they are then
            try:
                result, replay = recorder.record(run)
            except Exception as error:  # whatever it is: the runs before had none
                self.reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
                self.clear()
                advice = "A step must not look at values on the GPU. It runs as it is"
                warnings.warn(f"no CUDA graph of a step could be recorded ({self.reason}). {advice}", stacklevel=4)
                return None
            torch.clear_autocast_cache()
            gradients = [(p, p.grad) for p in self.module.parameters()] if torch.is_grad_enabled() else []
            return _Recording(own, result, replay, gradients)


@dataclass(frozen=True)
class _Recording(Generic[R]):
    """What was recorded: its inputs, its result, how to do it again, and the gradient of each parameter after it."""

    inputs: tuple[Tensor, ...]
    result: R
    replay: Replay
    gradients: list[tuple[nn.Parameter, Tensor | None]]

    def __call__(self, inputs: tuple[Tensor, ...]) -> R:
        for own, given in zip(self.inputs, inputs, strict=True):
            own.copy_(given)
        self.replay()
        for parameter, gradient in self.gradients:
            parameter.grad = gradient  # another recording's, or None, by now
        return self.result


def recorder_on(device: torch.device) -> Recorder | None:
    """What records on a device; None where nothing can."""
    return _CudaGraphs(device) if device.type == "cuda" else None


class _CudaGraphs:
    """CUDA graphs that are replayed one at a time, and so share their memory."""

    def __init__(self, device: torch.device) -> None:
        # One stream for all: autograd's nodes that add gradients belong to the stream that they were made on.
        self._device, self._stream = device, torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    def warm_up(self, run: Callable[[], object]) -> None:
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            for _ in range(_WARM_UPS):
                run()
        torch.cuda.current_stream(self._device).wait_stream(self._stream)

    def record(self, run: Callable[[], R]) -> tuple[R, Replay]:
        graph = torch.cuda.CUDAGraph()
        # Other threads, which pin memory or save files, may do what they like. The outer stream restores the current
        # one if the recording fails, which the inner one does not.
        with _no_collection(), torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            try:
                with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                    result = run()
            except Exception:
                _record_nothing()
                raise
        return result, graph.replay


def _record_nothing() -> None:
    """Where a recording has failed, torch's generator takes itself for recorded, and draws no more, until one ends."""
    with contextlib.suppress(RuntimeError), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is empty
        graph = torch.cuda.CUDAGraph()
        graph.capture_begin()
        graph.capture_end()


@contextmanager
def _no_collection() -> Iterator[None]:
    """Garbage is collected before the block, not in it: what is destroyed there may be no part of a recording."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def _restored(module: nn.Module, state: list[Tensor]) -> Iterator[None]:
    """After the block everything has the values that it had before: tensors, and what random numbers come next."""
    tensors = [*module.parameters(), *module.buffers(), *state]
    device = next((tensor.device for tensor in tensors if tensor.device.type == "cuda"), None)
    with torch.random.fork_rng([] if device is None else [device]):
        values = [tensor.detach().clone() for tensor in tensors]
        try:
            yield
        finally:
            with torch.no_grad():
                for tensor, value in zip(tensors, values, strict=True):
                    tensor.copy_(value)


def _device(inputs: tuple[Tensor, ...], module: nn.Module) -> torch.device:
    return next(iter((*inputs, *module.parameters()))).device


def _forget_gradients(module: nn.Module) -> None:
    for parameter in module.parameters():
        parameter.grad = None
