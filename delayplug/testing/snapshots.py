"""What a user could notice about a network, in a form that can be compared, and every way to copy one."""

import copy
import io
import pickle
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ..toolkits.capabilities import containers
from ..toolkits.toolkit import Toolkit

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_forward_hooks_with_kwargs", "_forward_pre_hooks_with_kwargs")


def is_same(a: object, b: object) -> bool:
    """Whether two tensors have the same content; of anything else, whether it is the same or equal and of one type."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return torch.equal(a, b)
    return a is b or (type(a) is type(b) and bool(a == b))


def snapshot(net: nn.Module, toolkit: Toolkit) -> dict[str, Any]:
    """Everything that a user could notice about a module."""
    modules = dict(net.named_modules())
    return {
        "types": {name: type(module) for name, module in modules.items()},
        "keys": list(net.state_dict()),
        "attributes": {name: set(module.__dict__) for name, module in modules.items()},
        "hooks": {(name, h): len(getattr(module, h)) for name, module in modules.items() for h in _HOOKS},
        "parameters": {name: id(parameter) for name, parameter in net.named_parameters()},
        "stateful": {
            name: [child for child in module._modules if containers(toolkit).is_stateful(module, child)]
            for name, module in modules.items()
        },
        "values": {k: (v.shape, v.dtype, v.tolist()) for k, v in net.state_dict().items() if isinstance(v, Tensor)},
    }


def states(net: nn.Module, toolkit: Toolkit) -> dict[str, tuple[object, object]]:
    """Every buffer and state on a network: the object, and a copy of its content."""
    values: dict[str, object] = {
        f"{n}.{key}": value for n, m in net.named_modules() for key, value in m._buffers.items()
    }
    for name, module in net.named_modules():
        if toolkit.is_neuron(module):
            values |= {f"{name}.state {i}": value for i, value in enumerate(toolkit.held_state(module))}
    return {k: (v, v.detach().clone() if isinstance(v, Tensor) else v) for k, v in values.items()}


def can_pickle(net: nn.Module) -> bool:
    """Whether a network can be pickled."""
    try:
        pickle.dumps(net)
    except Exception:
        return False
    return True


def copies(net: nn.Module) -> Iterator[nn.Module]:
    """The network copied in every way that it can be."""
    yield copy.deepcopy(net)
    if can_pickle(net):
        yield pickle.loads(pickle.dumps(net))
        file = io.BytesIO()
        torch.save(net, file)
        file.seek(0)
        yield torch.load(file, weights_only=False)
