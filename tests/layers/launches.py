"""Counts what would be launched on a GPU: operators of torch's that compute, and delayplug's kernels."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from delayplug.layers import checks, parameters

# They make tensors, and launch nothing.
_FREE = ("detach", "empty", "empty_like", "empty_strided", "new_empty")


class _Recorder(TorchDispatchMode):
    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self._names = names

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = str(func.overloadpacket)
        if not (func.is_view and isinstance(result, Tensor)) and name.rpartition(".")[2] not in _FREE:
            self._names.append(name)
        return result


@contextmanager
def launches() -> Iterator[list[str]]:
    """Names, such as "aten.add" or "delayplug.make_taps", of what is launched within the block, in order.

    Values are not checked within it, as on a GPU, where that would wait.
    """
    names: list[str] = []
    not_checked = patch.object(parameters.DelayParameters, "_checks_values", lambda _: False)
    with not_checked, patch.object(checks, "_is_finite", lambda _: True), _Recorder(names):
        yield names
