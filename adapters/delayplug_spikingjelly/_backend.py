"""SpikingJelly: neurons that keep their state and switch between steps ("s") and sequences ("m")."""

import dataclasses
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal

import torch
from spikingjelly.activation_based import base, functional, layer, neuron, rnn, surrogate
from torch import Tensor, nn
from torch.nn.utils import parametrize

from delayplug import (
    Benchmarks,
    Cell,
    ChannelDelays,
    Containers,
    Dynamics,
    ExchangeError,
    Exchanges,
    FusedNeurons,
    Mode,
    NeuronActivity,
    OwnDelays,
    OwnWeights,
    Reset,
    ResetAfter,
    Streams,
    TimeInside,
    Toolkit,
    never_fires,
    run_fused,
    tensors_in,
)

from .adaptive import AdaptiveLIFNode
from .dynamics import dynamics as dynamics_of, output

_NEURONS = "spikingjelly.activation_based.neuron"
_RECURRENT = "spikingjelly.activation_based.rnn"
_CONTAINERS = "spikingjelly.activation_based.layer.container"
# These fold the time into the batch and call torch's own forward, or do nothing at all.
_PLAIN = (
    layer.Linear,
    *(layer.Conv1d, layer.Conv2d, layer.Conv3d),
    *(layer.ConvTranspose1d, layer.ConvTranspose2d, layer.ConvTranspose3d),
)
# Those whose computation is known; classes that derive from them may do something else.
_DESCRIBED = (
    *(neuron.IFNode, neuron.LIFNode, neuron.ParametricLIFNode, neuron.CUBALIFNode),
    *(neuron.NonSpikingLIFNode, neuron.NonSpikingIFNode),
)

# The threshold of a readout, which no membrane reaches. SpikingJelly's CUDA kernels refuse an infinite one.
_NEVER = 1e9


class SpikingJelly(Toolkit, Containers, OwnWeights, OwnDelays, Streams, Exchanges, Benchmarks, FusedNeurons):
    """Neurons of SpikingJelly 2.0: whatever its neuron package defines, and subclasses of it."""

    def is_neuron(self, module: nn.Module) -> bool:
        return _comes_from(module, _NEURONS) or _comes_from(module, _RECURRENT) or _is_users(module)

    def is_spiking(self, neuron_: nn.Module) -> bool:
        return not isinstance(neuron_, neuron.NonSpikingBaseNode) and not never_fires(neuron_, "v_threshold")

    def cuts_graph(self, neuron_: nn.Module) -> bool:
        return isinstance(neuron_, neuron.OTTTLIFNode | neuron.SLTTLIFNode)

    def own_input(self, neuron_: nn.Module) -> tuple[int, int] | None:
        return (getattr(neuron_, "input_size"), 0) if _comes_from(neuron_, _RECURRENT) else None  # noqa: B009

    def recurrent_layer(self, module: nn.Module) -> str | None:
        if isinstance(module, layer.LinearRecurrentContainer):
            return "rc"
        return "" if _comes_from(module, _RECURRENT) else None

    def own_delays(self, module: nn.Module) -> ChannelDelays | None:
        if type(module) is not layer.Delay:
            return None
        own: Any = module
        leading = 1 if own.step_mode == "s" else 2
        return ChannelDelays(torch.tensor(float(own.delay_steps)), own.delay_steps, leading=leading, resets="reset")

    def is_plain(self, layer_: nn.Module) -> bool:
        return parametrize.type_before_parametrizations(layer_) in _PLAIN

    def mode(self, neuron_: nn.Module) -> Mode:
        if isinstance(neuron_, rnn.SpikingRNNCellBase):
            return Mode.STEP
        return Mode.STEP if getattr(neuron_, "step_mode", "m") == "s" else Mode.SEQUENCE

    def held_state(self, neuron_: nn.Module) -> tuple[object, ...]:
        return tuple(neuron_._memories.values()) if isinstance(neuron_, base.MemoryModule) else ()

    def kept_state(self, module: nn.Module) -> dict[str, Any]:
        return dict(module._memories) if isinstance(module, base.MemoryModule) else {}

    def passed_state(
        self, neuron_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Tensor, ...] | None:
        if isinstance(neuron_, base.MemoryModule):
            return None
        # The cells and layers of rnn.py.
        passed = tensors_in((args[1:], {name: value for name, value in kwargs.items() if name != "x"}))
        return _batch_first(neuron_, passed)

    def returned_state(self, neuron_: nn.Module, output: Any) -> tuple[Tensor, ...]:
        if isinstance(neuron_, base.MemoryModule):
            return ()
        if isinstance(neuron_, rnn.SpikingRNNBase):
            return _batch_first(neuron_, tensors_in(output[1:]))
        # A cell returns its state, of which its output is the first or the only part.
        return tuple(tensors_in(output)) if isinstance(neuron_, rnn.SpikingRNNCellBase) else ()

    def is_fresh(self, neuron_: nn.Module, state: tuple[Tensor, ...], x: Tensor | None = None) -> Tensor | bool | None:
        # A neuron's own reset is seen; any other tensor in its memory was put there by hand.
        if isinstance(neuron_, base.MemoryModule) or not state:
            return None
        return torch.stack([~tensor.detach().any() for tensor in state]).all()

    def reset_methods(self, neuron_: nn.Module) -> tuple[str, ...]:
        return ("reset",) if isinstance(neuron_, base.MemoryModule) else ()

    def reset_signal(self, neuron_: nn.Module) -> str:
        return "functional.reset_net(model)" if self.held_state(neuron_) else "each call of the model"

    def in_order(self, container: nn.Module) -> bool:
        return isinstance(container, nn.Sequential) and _comes_from(container, _CONTAINERS)

    def time_inside(self, container: nn.Module) -> TimeInside:
        # OTTTSequential calls what is behind its first neuron twice per step, while training.
        if isinstance(container, layer.TLastSeqToANNContainer | layer.OTTTSequential):
            return TimeInside.HIDDEN
        if isinstance(container, layer.TLastMultiStepContainer):
            return TimeInside.LAST
        if isinstance(container, layer.StepModeContainer):
            return TimeInside.STEPS if container.stateful else TimeInside.FOLDED
        if isinstance(container, layer.SeqToANNContainer):
            return TimeInside.FOLDED
        steps = isinstance(container, layer.LinearRecurrentContainer) and container.step_mode == "m"
        return TimeInside.STEPS if steps or isinstance(container, layer.MultiStepContainer) else TimeInside.SAME

    def instead_of(self, container: nn.Module) -> str:
        if isinstance(container, layer.TLastSeqToANNContainer):
            return "TLastMultiStepContainer runs it step by step, and SeqToANNContainer has the time first: take one"
        return ""

    def explicit_forward(self, neuron_: nn.Module) -> str:
        return "functional_forward" if isinstance(neuron_, base.MemoryModule) else ""

    def remembers(self, module: nn.Module) -> bool:
        return isinstance(module, base.MemoryModule) and not self.is_neuron(module)

    def reset(self, module: nn.Module) -> None:
        if isinstance(module, base.MemoryModule):
            module.reset()

    def as_sequence(self, neuron_: nn.Module) -> AbstractContextManager[None] | None:
        return _in_multi_step_mode(neuron_) if hasattr(neuron_, "multi_step_forward") else None

    def describe(self, neuron_: nn.Module) -> Cell:
        """IFNode, LIFNode, ParametricLIFNode, CUBALIFNode and the two that do not spike.

        SpikingJelly fires at its threshold and others above theirs: the threshold of the cell is the next smaller
        float32. (SpikingJelly's own table has the threshold itself, which is another neuron where a membrane comes
        to it exactly.)
        """
        node: Any = neuron_
        if isinstance(node, AdaptiveLIFNode):
            raise ExchangeError(
                "expected a neuron that NIR can describe, got an adaptive neuron (adLIF): train with --neuron lif"
            )
        if type(node) not in _DESCRIBED:
            names = ", ".join(kind.__name__ for kind in _DESCRIBED)
            raise ExchangeError(f"of SpikingJelly's neurons, only {names} are supported")
        if isinstance(node, neuron.NonSpikingBaseNode):
            if node.decode is not None:
                raise ExchangeError(
                    f"decode={node.decode!r}: a readout gives its membrane at every step; use decode=None"
                )
            leak = 1 / node.tau if isinstance(node, neuron.NonSpikingLIFNode) else 0.0
            return Cell.of(leak=leak, gain=leak or 1.0, threshold=None)
        reset = 0.0 if node.v_reset is None else node.v_reset
        numbers: dict[str, Any] = {"leak": 0.0, "rest": reset, "reset": reset}
        if isinstance(node, neuron.CUBALIFNode):
            if reset != 0:
                raise ExchangeError("a CUBALIFNode with v_reset other than zero begins where it does not rest")
            numbers |= {"leak": 1 - node.v_decay, "synapse": 1 - node.c_decay}
        elif not isinstance(node, neuron.IFNode):
            leak = (
                float(node.w.detach().double().sigmoid())
                if isinstance(node, neuron.ParametricLIFNode)
                else 1 / node.tau
            )
            numbers |= {"leak": leak, "gain": leak if node.decay_input else 1.0}
        if never_fires(node, "v_threshold"):
            return Cell.of(**numbers, threshold=None)
        threshold = Cell.below(torch.tensor(float(node.v_threshold), device="cpu"))
        return Cell.of(**numbers, threshold=threshold, rule=Reset.SUBTRACT if node.v_reset is None else Reset.VALUE)

    def build(self, cell: Cell) -> nn.Module:
        """The node in step mode "s" (readouts: a sequence, which is all that they take)."""
        cell.only("a neuron of SpikingJelly's", "leak", "rest", "threshold", "reset", "synapse")
        leak, rest = float(cell.leak), float(cell.rest)
        if cell.threshold is None:
            cell.needs("a readout of SpikingJelly's", "no current", cell.synapse is None)
            cell.needs("a readout of SpikingJelly's", "a rest of zero", rest == 0)
            readout: nn.Module = neuron.NonSpikingLIFNode(1 / leak) if leak else neuron.NonSpikingIFNode()
            return readout
        if cell.rule not in (Reset.VALUE, Reset.SUBTRACT):
            raise ExchangeError(f"SpikingJelly has no reset by the rule {cell.rule.value!r}: train with reset to zero")
        v_reset = float(cell.reset) if cell.rule is Reset.VALUE else None
        if leak:
            cell.needs("a neuron of SpikingJelly's", "a reset to where it rests", rest == (v_reset or 0.0))
        options = {"v_threshold": float(Cell.above(cell.threshold)), "v_reset": v_reset}
        node: nn.Module
        if cell.synapse is not None:
            cell.needs("SpikingJelly's CUBALIFNode", "a rest of zero", rest == 0)
            node = neuron.CUBALIFNode(c_decay=1 - float(cell.synapse), v_decay=1 - leak, **options)
        elif leak == 0:
            node = neuron.IFNode(**options)
        else:
            cell.needs("SpikingJelly's LIFNode", "a time constant above one step", leak < 1)
            node = neuron.LIFNode(tau=1 / leak, decay_input=not Cell.close(cell.gain, 1.0), **options)
        return node

    def gains(self, cell: Cell) -> tuple[Tensor, ...]:
        one = torch.ones_like(cell.leak)
        if cell.synapse is not None or bool((cell.leak == 0).all()):
            return (one,)
        return (cell.leak,) if cell.threshold is None else (one, cell.leak)

    def dynamics(self, neuron_: nn.Module) -> Dynamics | None:
        """IFNode, LIFNode, ParametricLIFNode, CUBALIFNode and the two that do not spike."""
        return dynamics_of(neuron_)

    def fused_output(self, neuron_: nn.Module, activity: NeuronActivity) -> Any:
        return output(neuron_, activity)

    def spiking_neuron(
        self, *, tau: float, threshold: float = 1.0, alpha: float = 5.0, reset: Literal["zero", "subtract"] = "zero"
    ) -> nn.Module:
        node: nn.Module = neuron.LIFNode(
            tau=tau,
            decay_input=False,
            v_threshold=threshold,
            v_reset=0.0 if reset == "zero" else None,
            surrogate_function=surrogate.ATan(alpha=alpha),
            detach_reset=reset == "zero",
            step_mode="m",
        )
        return node

    def adaptive_neuron(
        self, size: int, *, step_ms: float, strength: float = 12.0, threshold: float = 1.0, alpha: float = 5.0
    ) -> nn.Module:
        return AdaptiveLIFNode(
            size,
            step_ms=step_ms,
            strength=strength,
            v_threshold=threshold,
            surrogate_function=surrogate.ATan(alpha=alpha),
            step_mode="m",
        )

    def readout_neuron(self, *, tau: float) -> nn.Module:
        node: nn.Module = neuron.LIFNode(
            tau=tau, decay_input=False, v_threshold=_NEVER, detach_reset=True, step_mode="m", store_v_seq=True
        )
        return node

    def run(self, neuron_: nn.Module, x: Tensor) -> Tensor:
        functional.reset_net(neuron_)
        node: Any = neuron_
        dynamics = self.dynamics(node)
        if dynamics is not None and never_fires(node, "v_threshold"):
            dynamics = dataclasses.replace(dynamics, threshold=None, after=ResetAfter.NONE, gives_membrane=True)
        activity = run_fused(dynamics, x)
        if activity is not None:
            return activity.output
        spikes = node(x)
        out: Tensor = node.v_seq if node.store_v_seq else spikes
        functional.reset_net(node)  # leave nothing of the sequence, or of its graph, behind
        return out

    def run_masked(self, neuron_: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
        functional.reset_net(neuron_)
        activity = run_fused(self.dynamics(neuron_), x, mask=mask, in_half=True)
        return super().run_masked(neuron_, x, mask) if activity is None else activity.output

    def implementation(self, neuron_: nn.Module, device: torch.device) -> str:
        if isinstance(neuron_, AdaptiveLIFNode):
            return ""
        try:
            chosen = functional.neuron_implementation("lif", device)["implementation"]
        except (ValueError, RuntimeError):  # a kind of device that SpikingJelly does not choose for
            chosen = "torch-reference"
        return f"spikingjelly: {str(chosen).removesuffix('-reference')}"


def _batch_first(neuron_: nn.Module, state: list[Tensor]) -> tuple[Tensor, ...]:
    """The state of a layer of rnn.py, (layers, B, F), as (B, layers, F)."""
    layers = isinstance(neuron_, rnn.SpikingRNNBase)
    return tuple(tensor.movedim(1, 0) if layers and tensor.dim() == 3 else tensor for tensor in state)


@contextmanager
def _in_multi_step_mode(node: Any) -> Iterator[None]:
    node.step_mode = "m"
    try:
        yield
    finally:
        node.step_mode = "s"


def _is_users(module: nn.Module) -> bool:
    """Whether a module with a memory is somebody's own neuron: no class of SpikingJelly's, and without weights."""
    if not isinstance(module, base.MemoryModule) or type(module).__module__.startswith("spikingjelly"):
        return False
    return not any(parameter.dim() > 1 for parameter in module.parameters())


def _comes_from(module: nn.Module, package: str) -> bool:
    """Whether the class of a module, or one that it derives from, is defined in a package."""
    return any(cls.__module__.startswith(package) for cls in type(module).__mro__)
