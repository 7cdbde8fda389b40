"""Delays under programs that trace a model: one node for torch.fx, and no silence for exporters that drop them.

What happens inside of a layer of delays depends on the values, so torch.fx sees its call and no more. Exporters to NIR
that are built on nirtorch run a model, note which modules were called, and write what they know about their classes:
of a layer with delays that is the layer without them.
"""

from typing import Any

import torch
from torch import fx, nn
from torch.nn.modules.module import register_module_forward_hook

from ..errors import ExchangeError, WiringError


def traced_call(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The call of a layer with delays, of which the first argument is a proxy, as a node of the graph.

    Raises:
        WiringError: what traces knows no modules.
        ExchangeError: an exporter that knows no delays traces it.
    """
    tracer = args[0].tracer
    if type(tracer).__module__.split(".")[0] == "nirtorch":
        raise _lost(layer)
    if not isinstance(tracer, fx.Tracer):
        raise WiringError(
            f"{type(layer).__name__}, a layer with delays, is traced by {type(tracer).__name__}, which knows no "
            "modules: trace the model with a torch.fx.Tracer, which keeps such layers whole"
        )
    return tracer.create_proxy("call_module", tracer.path_of_module(layer), args, kwargs)


def refuse_other_exporters(layer: nn.Module, *, within: bool = False) -> None:
    """Raise ExchangeError if an exporter that knows no delays watches the call of a layer that has some.

    With `within`, for a layer in a model with hooks, it is raised at the end of the module that contains the layer: at
    once, nirtorch would answer with an error of its own if this is the first module that it meets.
    """
    call = nn.Module.__call__  # which nirtorch replaces while it runs a model
    if torch.compiler.is_compiling() or call.__module__ != "nirtorch.graph" or hasattr(call, "has_met_delays"):
        return
    error = _lost(layer)
    if not within:
        raise error
    vars(call)["has_met_delays"] = True

    def at_the_end(module: nn.Module, args: object, output: object) -> None:
        if nn.Module.__call__ is not call:  # another error ended that run
            handle.remove()
        elif module is not layer and any(part is layer for part in module.modules()):
            handle.remove()
            raise error

    handle = register_module_forward_hook(at_the_end)


def _lost(layer: nn.Module) -> ExchangeError:
    return ExchangeError(
        f"a {type(layer).__name__} has delays, which exporters built on nirtorch do not write, so that they would be "
        "lost: use delayplug.to_nir(model, dt=...)"
    )
