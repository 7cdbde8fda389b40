"""A device that is not there: its tensors are on "pretended:0", and are calculated on the CPU.

What a GPU refuses it refuses, too: operations on its tensors and those of the CPU, except where torch takes a number
from the CPU; masks and indices on another device; `numpy()`. And what makes the host wait for a GPU can be counted. So
a machine without a GPU finds what would fail on one. Compilers, processes and kernels of a device are not pretended.
"""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import backend_registration
from torch.utils._device import _device_constructors
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

NAME = "pretended"
aten = torch.ops.aten

# They copy from any device, or to it.
_COPIES = {"aten::copy_", "aten::_to_copy", "aten::_copy_from", "aten::set_", "aten::resize_as_"}
# Indices may be on the CPU, where the tensor is on a GPU.
_INDEXED = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_", "aten::_unsafe_index"}
# One of the values is a number from the CPU.
_TAKES_NUMBERS = {"aten::where", "aten::masked_fill", "aten::masked_fill_", "aten::index_put", "aten::index_put_"}
# The host needs values, or the size of the result depends on them.
_WAITS = {
    "aten::_local_scalar_dense", "aten::is_nonzero", "aten::equal", "aten::nonzero", "aten::masked_select",
    "aten::_unique2", "aten::unique_dim", "aten::unique_consecutive", "aten::repeat_interleave.Tensor",
}  # fmt: skip


class Pretended(Tensor):
    """A tensor of the device; `held` is the one on the CPU that has its numbers."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "Pretended":
        place: Any = {"strides": held.stride(), "storage_offset": held.storage_offset(), "device": f"{NAME}:0"}
        outer = Tensor._make_wrapper_subclass(cls, held.shape, dtype=held.dtype, **place)
        outer.held = held
        return outer

    @property
    def data(self) -> Tensor:
        return torch._C.TensorBase.data.__get__(self)  # type: ignore[attr-defined, no-any-return]

    @data.setter
    def data(self, new: Tensor) -> None:
        if not isinstance(new, Pretended) or new.shape != self.shape or new.dtype != self.dtype:
            raise RuntimeError("the pretended device takes new data of the same shape and dtype alone")
        self.held = new.held

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["held"], None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, Tensor], *_: Any) -> "Pretended":
        return Pretended(inner["held"])

    def __reduce_ex__(self, protocol: Any) -> Any:
        held = self.held.detach()
        if isinstance(self, torch.nn.Parameter):
            return _loaded_parameter, (held, self.requires_grad)
        return _loaded, (held, self.requires_grad)


def _loaded(held: Tensor, requires_grad: bool) -> Tensor:
    return Pretended(held).requires_grad_(requires_grad)


def _loaded_parameter(held: Tensor, requires_grad: bool) -> torch.nn.Parameter:
    return torch.nn.Parameter(Pretended(held), requires_grad)


class _Module:
    """What torch asks the module of a device, `torch.pretended`."""

    def is_initialized(self) -> bool:
        return True

    def is_available(self) -> bool:
        return True

    def current_device(self) -> int:
        return 0

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        """The generator of the CPU draws for it."""

    def device_count(self) -> int:
        return 1

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


class _Functions(TorchFunctionMode):
    """What torch does in C++ with a tensor, before operations are dispatched."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _CONSTRUCTORS and _is_pretended(kwargs.get("device")):
            options = {name: value for name, value in kwargs.items() if name not in ("device", "requires_grad")}
            made = func(*tree_map(_held, args), device="cpu", **options)
            made = made.to(NAME)
            return made.requires_grad_() if kwargs.get("requires_grad") else made  # not within `torch.func`
        if args and isinstance(args[0], Pretended):
            if func in (Tensor.numpy, Tensor.__array__):
                raise TypeError("can't convert a tensor of the pretended device to numpy: use Tensor.cpu() first")
            if func is Tensor.new_tensor:
                kwargs = {"dtype": args[0].dtype, "device": NAME, **kwargs}
                return self.__torch_function__(torch.tensor, types, args[1:], kwargs)
            if func in (Tensor.__getitem__, Tensor.__setitem__):
                args = (args[0], _with_indices(args[1]), *args[2:])
            if func in (Tensor.tolist, Tensor.data_ptr, Tensor.__repr__, Tensor.__str__, Tensor.__format__):
                if func is Tensor.tolist:
                    _wait("tolist")
                return func(args[0].held.detach(), *args[1:], **kwargs)
        return func(*args, **kwargs)


_CONSTRUCTORS = frozenset(_device_constructors())
_waits: list[list[str]] = []


def _with_indices(place: Any) -> Any:
    """Lists as tensors: torch makes them in a way that a device in Python cannot follow."""
    if isinstance(place, tuple):
        return tuple(map(_with_indices, place))
    return torch.tensor(place, device="cpu") if isinstance(place, list) else place


def _is_pretended(device: Any) -> bool:
    return device is not None and torch.device(device).type == NAME


def _held(x: Any) -> Any:
    return x.held if isinstance(x, Pretended) else x


def _wait(name: str) -> None:
    for names in _waits:
        names.append(name)


@contextmanager
def waits() -> Iterator[list[str]]:
    """The operations within the block for which the host waits for the device."""
    names: list[str] = []
    _waits.append(names)
    try:
        yield names
    finally:
        _waits.remove(names)


def _fail_if_refused(func: Any, name: str, args: Any, kwargs: Any) -> None:
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    others = [x for x in tensors if not isinstance(x, Pretended)]
    if not others or len(others) == len(tensors) or name in _COPIES:
        return
    if torch.Tag.pointwise in func.tags or name in _TAKES_NUMBERS:
        written = args[0] if func._schema.is_mutable and isinstance(args[0], Tensor) else None
        others = [x for x in others if x.ndim > 0 or x is written]
    if name in _INDEXED and isinstance(args[0], Pretended):
        indices = {id(x) for x in args[1] if x is not None}
        others = [x for x in others if id(x) not in indices]
    if others:
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found at least two devices, {NAME}:0 and cpu! "
            f"({func}, with tensors of the CPU of shapes {[tuple(x.shape) for x in others]})"
        )


def _run(func: Any, args: Any, kwargs: Any) -> Any:
    name = func._schema.name
    if name in ("aten::_thnn_fused_lstm_cell", "aten::_thnn_fused_gru_cell"):  # which torch has for other devices alone
        pytest.skip("the pretended device has no cells of RNNs")
    _fail_if_refused(func, name, args, kwargs)
    masks = name in _INDEXED and any(i is not None and i.dtype == torch.bool for i in args[1])
    if name in _WAITS or masks:
        _wait(name.removeprefix("aten::"))
    inner, options = tree_map(_held, args), tree_map(_held, kwargs)
    device = kwargs.get("device")
    if device is not None:
        options["device"] = torch.device("cpu") if _is_pretended(device) else device
    if "pin_memory" in options:
        options["pin_memory"] = False
    if name == "aten::copy_":
        if isinstance(args[1], Pretended) and not isinstance(args[0], Pretended):
            _wait("copy to the CPU")
        inner[0].copy_(*inner[1:], **options)
        return args[0]
    # Of zeros without memory autograd knows by the tensor outside, which here would not say so.
    result = (aten.zeros.default if name == "aten::_efficientzerotensor" else func)(*inner, **options)
    if device is not None and not _is_pretended(device):
        if any(isinstance(x, Pretended) for x in tree_leaves(args)):
            _wait("copy to the CPU")
        return result
    outer = tree_map(lambda x: Pretended(x) if isinstance(x, Tensor) else x, result)
    try:
        return return_and_correct_aliasing(func, args, kwargs, outer)
    except RuntimeError as error:  # views of what inference mode made have no versions that could be one
        if "inference tensor" not in str(error):
            raise
        return outer


def is_possible() -> bool:
    """Whether this version of torch takes a device that is written in Python."""
    return hasattr(backend_registration, "_setup_privateuseone_for_python_backend")


@functools.cache
def register() -> torch.library.Library:
    """Make the device known to torch, once in a process; what is returned has to live as long."""
    backend_registration._setup_privateuseone_for_python_backend(NAME, _Module())
    torch.serialization.add_safe_globals([_loaded, _loaded_parameter])
    library = torch.library.Library("_", "IMPL")
    library.fallback(lambda func, *args, **kwargs: _run(func, args, kwargs), "PrivateUse1")
    return library


@contextmanager
def provided() -> Iterator[None]:
    """Within the block, and on this thread, the device is there."""
    register()
    with _Functions():
        yield
