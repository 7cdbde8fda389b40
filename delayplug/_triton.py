"""Where Triton kernels run, and how what launches them is made known to torch.

Kernels are in modules of their own (`layers/engines/kernels`, `neurons/kernels`), which import Triton at their top and
are imported by the operators below when these first run. Nothing else imports Triton, but to see whether it works on
the GPU that is there, and nothing needs it: it comes with torch's packages for CUDA on Linux, and not with those for
CPUs, macOS and Windows.

Every launch is an operator of torch's, so that `torch.compile`, fake tensors and profilers see it as one operation.
"""

import functools
import importlib.util
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import torch

F = TypeVar("F", bound=Callable[..., None])
P = TypeVar("P", bound=Callable[..., object])

_LIBRARY = torch.library.Library("delayplug", "FRAGMENT")
_LEAST_CAPABILITY = (8, 0)  # the first with products of bf16
_on_cpu: ContextVar[bool] = ContextVar("delayplug_triton_on_cpu", default=False)


def runs_on(device: torch.device) -> bool:
    """Whether Triton kernels run on a device: NVIDIA's from compute capability 8.0 on, where Triton is installed.

    On a CPU only within `interpreted`.
    """
    if device.type == "cuda":
        return _is_capable(device.index)
    return device.type == "cpu" and _is_interpreted()


def half(device: torch.device) -> torch.dtype:
    """The dtype in which kernels take factors that are rounded to bf16: that, and float32 in the interpreter.

    The product of the interpreter is silently wrong for bf16.
    """
    return torch.float32 if device.type == "cpu" else torch.bfloat16


@contextmanager
def interpreted() -> Iterator[None]:
    """Within the block kernels run on CPU tensors, too, in Triton's interpreter: very slowly, for tests.

    Raises:
        RuntimeError: Triton is not installed, or was not told to interpret before it was imported.
    """
    if not is_installed() or os.environ.get("TRITON_INTERPRET") != "1":
        raise RuntimeError("expected Triton and TRITON_INTERPRET=1 in the environment, set before Triton is imported")
    token = _on_cpu.set(True)
    try:
        yield
    finally:
        _on_cpu.reset(token)


def constant(question: P) -> P:
    """Decorator: while `torch.compile` traces, the function is called, not traced, and its answer counts for good.

    For questions about the machine, whose arguments are constants, too. What `torch.compiler.assume_constant_result`
    does, which imports the compiler.
    """
    question._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return question


@constant
def _is_interpreted() -> bool:
    return _on_cpu.get()  # torch 2.6 cannot trace this, nor export what asks for it


@functools.cache
def is_installed() -> bool:
    """Whether Triton is; it is not imported for that."""
    return importlib.util.find_spec("triton") is not None


@constant
def _is_capable(index: int | None) -> bool:
    return _asked(index)


@functools.cache
def _asked(index: int | None) -> bool:
    # A build for AMD's devices calls them "cuda", too; nobody has tried the kernels there.
    if not is_installed() or torch.version.hip is not None or not torch.cuda.is_available():
        return False
    return torch.cuda.get_device_capability(index) >= _LEAST_CAPABILITY and _launches()


@functools.cache
def _launches() -> bool:
    """Whether Triton can launch anything: the system's C compiler, which some have not, compiles how it does that."""
    try:
        from triton.runtime import driver

        driver.active.get_current_target()
    except Exception as error:  # of the compiler, the linker or the driver
        advice = "Delays and neurons run in torch's own operations, which is slower. Is gcc installed, and Python.h?"
        warnings.warn(f"Triton launches no kernels here ({type(error).__name__}: {error}). {advice}", stacklevel=2)
        return False
    return True


def operator(schema: str) -> Callable[[F], F]:
    """Decorator: make a function that launches a kernel torch's operator `delayplug::...`.

    Args:
        schema: such as "scale(Tensor x, float by, Tensor(a!) out) -> ()". The caller makes the tensors that are
            written to, so that a launch has no result and a fake one has nothing to do.

    Returns:
        The operator, to be called like the function, with the arguments in the order of the schema.
    """
    name = schema.partition("(")[0]

    def register(launch: F) -> F:
        _LIBRARY.define(schema)
        for key in ("CUDA", "CPU"):
            _LIBRARY.impl(name, launch, key)
        torch.library.register_fake(f"delayplug::{name}", _nothing, lib=_LIBRARY)
        return getattr(torch.ops.delayplug, name).default  # type: ignore[no-any-return]

    return register


def _nothing(*_: Any, **__: Any) -> None:
    """What a launch does to fake tensors."""
