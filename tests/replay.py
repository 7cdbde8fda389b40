"""What a CUDA graph does, on a CPU: torch's operators are recorded, and executed again on the same tensors.

As with CUDA graphs, Python does not run again: results are written to where they were written when recording, and
inputs are read from where they were read.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from delayplug.layers import checks, taps
from delayplug.layers.base import DelayLayer
from delayplug.learning import captured
from delayplug.learning.captured import Replay
from tests.devices import DEVICE

R = TypeVar("R")

_LOOKS = "_local_scalar_dense"  # the operator of `.item()`, `bool(tensor)` and `float(tensor)`


class Operators(TorchDispatchMode):
    """Records all operators within the block, those of the backward pass included.

    To read a value that was computed in the block is an error, as it is while CUDA records. Others may be constants,
    which are on the CPU where the network is on a GPU, too.
    """

    def __init__(self) -> None:
        super().__init__()
        self._computed: list[torch.UntypedStorage] = []
        self.calls: list[tuple[Callable[..., Any], Any, Any, list[Tensor]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if _LOOKS in func.name() and any(args[0].untyped_storage().data_ptr() == s.data_ptr() for s in self._computed):
            raise RuntimeError("operation not permitted when stream is capturing")
        result = func(*args, **kwargs)
        # Without a graph: of the tensors of autograd, the data.
        args, kwargs = tree_map_only(Tensor, Tensor.detach, (args, kwargs))
        read = {x.untyped_storage().data_ptr() for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        made = [x.detach() if isinstance(x, Tensor) else None for x in tree_leaves(result)]
        # Views, and what was written in place, are where they are.
        made = [None if x is None or x.untyped_storage().data_ptr() in read else x for x in made]
        self.calls.append((func, args, kwargs, made))
        self._computed += [x.untyped_storage() for x in made if x is not None]
        return result

    @torch.no_grad()
    def replay(self) -> None:
        """Do all that once more."""
        for func, args, kwargs, made in self.calls:
            for old, new in zip(made, tree_leaves(func(*args, **kwargs)), strict=True):
                if old is not None:
                    old.copy_(new)


class Recorder:
    """Takes the place of a device's CUDA graphs.

    Attributes:
        recordings: one for each recording.
        replays: how often one was replayed.
    """

    def __init__(self) -> None:
        self.replays = 0
        self.recordings: list[Operators] = []

    def warm_up(self, run: Callable[[], object]) -> None:
        for _ in range(3):
            run()

    def record(self, run: Callable[[], R]) -> tuple[R, Replay]:
        with Operators() as operators:
            result = run()
        # Recording a CUDA graph computes nothing: what is there until the first replay is noise.
        for _, _, _, made in operators.calls:
            for tensor in made:
                if tensor is not None and tensor.is_floating_point():
                    tensor.fill_(torch.nan)
        self.recordings.append(operators)

        def replay() -> None:
            self.replays += 1
            operators.replay()

        return result, replay


def capturing(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """Have steps recorded on a CPU, by what is returned; layers look at no values, as on a GPU."""
    if DEVICE.type != "cpu":
        pytest.skip("steps are executed again on a CPU")
    recorder = Recorder()
    monkeypatch.setattr(captured, "recorder_on", lambda device: recorder)
    monkeypatch.setattr(DelayLayer, "_checks_values", lambda self: False)
    monkeypatch.setattr(checks, "_is_finite", lambda x: True)
    monkeypatch.setattr(taps, "_number", lambda width: width)
    return recorder
