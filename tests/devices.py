"""The device that the tests run on: the CPU, or the one that DELAYPLUG_TEST_DEVICE names.

That is "cuda", or "pretended", which needs no GPU (`tests/pretended.py`). There, tensors that a test makes are on the
device, and so are the networks that it makes, while the package's own code still has to say where it makes a tensor:
a default device of torch's would hide where it does not. Random numbers are the CPU's, moved to the device, so that
tests see the same ones everywhere and may use the generators of the CPU.
"""

import os
import sys
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils import _device as _device_of_torch
from torch.utils._device import _device_constructors

from tests import pretended

ROOT = Path(__file__).parents[1]
NAME = os.environ.get("DELAYPLUG_TEST_DEVICE") or "cpu"

_OWN = tuple(f"{ROOT / folder}{os.sep}" for folder in ("tests", "delayplug/testing", "docs", "examples"))
_PACKAGE = tuple(f"{ROOT / folder}{os.sep}" for folder in ("delayplug", "adapters"))


def missing() -> str:
    """Why there is no such device; "" where there is."""
    if NAME == "pretended":
        return "" if pretended.is_possible() else "this version of torch takes no device that is written in Python"
    try:
        torch.zeros((), device=NAME)
    except (RuntimeError, AssertionError) as error:
        return f"torch has no device {NAME!r} here: {str(error).splitlines()[0]}"
    return ""


def _device() -> torch.device:
    if NAME == "pretended" and pretended.is_possible():
        pretended.register()
    return torch.device("cpu" if missing() else NAME if ":" in NAME or NAME == "cpu" else f"{NAME}:0")


class Follow(TorchFunctionMode):
    """Functions that make tensors make them on the device, where a test calls them."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        # Within `with torch.device(...)` a test says where.
        free = kwargs.get("device") is None and _device_of_torch.CURRENT_DEVICE is None
        if func in _CONSTRUCTORS and free and _is_for_a_test(sys._getframe(1)):
            if func in _RANDOM:
                made = func(*args, **{**kwargs, "device": "cpu", "requires_grad": False}).to(NAME)
                return made.requires_grad_() if kwargs.get("requires_grad") else made
            kwargs = {**kwargs, "device": NAME}
        return func(*args, **kwargs)


DEVICE = _device()
_CONSTRUCTORS = frozenset(_device_constructors())
_RANDOM = frozenset({torch.rand, torch.randn, torch.randint, torch.randperm})


def _is_for_a_test(frame: FrameType | None) -> bool:
    """Whether it is a test that makes a tensor, by itself or by making a module, and not the package in its work."""
    called: FrameType | None = None  # of the package's functions the one that the test called
    while frame is not None and not frame.f_code.co_filename.startswith(_OWN):
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return False  # the constants of a package, which a test imports
        if frame.f_code.co_filename.startswith(_PACKAGE):
            called = frame
        frame = frame.f_back
    if called is None:
        return True
    return called.f_code.co_name == "__init__" and isinstance(called.f_locals.get("self"), nn.Module)


def follow() -> Callable[[], None]:
    """From now on tests make their tensors on the device.

    Returns:
        What ends it.
    """
    if NAME == "cpu":
        return lambda: None
    stack = ExitStack()
    if DEVICE.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False  # in the plain convolutions that tests compare with
    if NAME == "pretended":
        stack.enter_context(pretended.provided())
    stack.enter_context(Follow())
    return stack.close


def waits(run: Callable[[], Any]) -> int:
    """How often the host waits for the device."""
    if DEVICE.type == pretended.NAME:
        with pretended.waits() as names:
            run()
        return len(names)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            run()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing" in str(warning.message) for warning in said)
