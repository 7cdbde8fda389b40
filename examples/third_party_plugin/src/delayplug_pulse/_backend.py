"""pulse: neurons that keep their charge, take steps or sequences, and are told when a sequence begins."""

import functools
import math
from typing import Any

import pulse
import torch
from torch import Tensor, nn

import delayplug as dp
from delayplug import Benchmarks, Containers, Dynamics, FusedNeurons, Mode, NeuronActivity, OwnWeights, Streams, Toolkit


class Pulse(Toolkit, Containers, OwnWeights, Streams, Benchmarks, FusedNeurons):
    """Neurons of pulse 0.1."""

    def is_neuron(self, module: nn.Module) -> bool:
        return isinstance(module, pulse.Neuron)

    def is_spiking(self, neuron: nn.Module) -> bool:
        return isinstance(neuron, pulse.Spiking)

    def own_input(self, neuron: nn.Module) -> tuple[int, int] | None:
        return (neuron.inputs, 0) if isinstance(neuron, pulse.Cell) else None

    def mode(self, neuron: nn.Module) -> Mode:
        return Mode.SEQUENCE if neuron.over_time else Mode.STEP

    def held_state(self, neuron: nn.Module) -> tuple[object, ...]:
        # A new sequence leaves the charge where it is and only raises the flag: then the neuron does not go on from it.
        return () if neuron.fresh or neuron.charge is None else (neuron.charge,)

    def kept_state(self, module: nn.Module) -> dict[str, Any]:
        return {"charge": module.charge, "fresh": module.fresh} if isinstance(module, pulse.Neuron) else {}

    def passed_state(
        self, neuron: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Tensor, ...] | None:
        return None  # nobody passes a state: a neuron goes on from its charge

    def returned_state(self, neuron: nn.Module, output: Any) -> tuple[Tensor, ...]:
        return ()

    def reset(self, module: nn.Module) -> None:
        if isinstance(module, pulse.Neuron):
            self.put_state(module, {"charge": None, "fresh": True})

    def reset_signal(self, neuron: nn.Module) -> str:
        return "pulse.new_sequence(model)"

    def in_order(self, container: nn.Module) -> bool:
        return isinstance(container, pulse.Chain) and type(container).forward is pulse.Chain.forward

    def dynamics(self, neuron: nn.Module) -> Dynamics | None:
        if type(neuron) is pulse.Readout:
            return Dynamics(dp.ChargeRule.DECAY, leak=1 - 1 / neuron.tau, gives_membrane=True)
        if type(neuron) is not pulse.Spiking or neuron.smooth is not pulse.steep:
            return None
        steep = dp.Surrogate(dp.SurrogateForm.SIGMOID, 4.0, 4.0)
        options: dict[str, Any] = {"after": dp.ResetAfter.VALUE, "is_detached": True, "surrogate": steep}
        return Dynamics(dp.ChargeRule.DECAY, leak=1 - 1 / neuron.tau, threshold=neuron.threshold, **options)

    def fused_output(self, neuron: nn.Module, activity: NeuronActivity) -> Tensor:
        self.put_state(neuron, {"charge": activity.membrane, "fresh": False})
        return activity.output

    def spiking_neuron(self, *, tau: float, threshold: float = 1.0, alpha: float = 5.0) -> nn.Module:
        return pulse.Spiking(tau, threshold, functools.partial(_arctan, alpha=alpha))

    def readout_neuron(self, *, tau: float) -> nn.Module:
        return pulse.Readout(tau)

    def run(self, neuron: nn.Module, x: Tensor) -> Tensor:
        pulse.new_sequence(pulse.over_time(neuron))
        membrane: Any = neuron
        y: Tensor = membrane(x)
        membrane.charge = None  # leave nothing of the sequence, or of its graph, behind
        return y


def _arctan(z: Tensor, alpha: float) -> Tensor:
    """Has the derivative alpha / 2 / (1 + (pi / 2 alpha z)^2), the surrogate of the paper."""
    return torch.atan(math.pi / 2 * alpha * z) / math.pi
