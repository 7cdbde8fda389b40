"""Random neurons for the tests of the kernels."""

import dataclasses
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from delayplug import Adaptation, NeuronActivity, run_fused
from delayplug._triton import interpreted
from delayplug.neurons.dynamics import CONSTANTS, ChargeRule, CurrentRule, Dynamics, ResetAfter, ResetBefore
from delayplug.neurons.surrogates import Surrogate, SurrogateForm

CHANNELS = 3
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
GRID = 2.0**-4  # inputs and constants are multiples: membranes come to thresholds exactly


@st.composite
def dynamics(draw: st.DrawFn, channels: int) -> Dynamics:
    """Any that `Dynamics` takes, with numbers, tensors of one element and one for each channel."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))

    def constant(low: float, high: float, tensors: bool = True) -> float | Tensor:
        kind = draw(st.sampled_from(["number", "one", "each"] if tensors else ["number"]))
        value = low + (high - low) * torch.rand(channels if kind == "each" else (), generator=generator)
        if draw(st.booleans()):
            value = (value / GRID).round() * GRID
        return float(value) if kind == "number" else value.requires_grad_(draw(st.booleans()))

    charge = draw(st.sampled_from(ChargeRule))
    divided = charge in (ChargeRule.DIVIDED, ChargeRule.DIVIDED_AND_ADD)
    current = draw(st.sampled_from(CurrentRule))
    fires = draw(st.integers(0, 4)) > 0
    before = draw(st.sampled_from(ResetBefore)) if fires else ResetBefore.NONE
    after = draw(st.sampled_from(ResetAfter)) if fires else ResetAfter.NONE
    surrogate = Surrogate(draw(st.sampled_from(SurrogateForm)), draw(st.sampled_from([0.5, 2.0, 3.0])), 0.75, 0.25)
    gives = not fires or draw(st.booleans())
    return Dynamics(
        charge=charge,
        leak=constant(1.0, 4.0, tensors=False) if divided else constant(0.0, 1.0),
        rest=constant(-0.5, 0.5),
        gain=constant(0.5, 2.0),
        current=current,
        synapse=constant(-1.0, 0.0) if current is CurrentRule.JUMP else constant(0.0, 1.0),
        threshold=constant(0.25, 1.5) if fires else None,
        fires_at=draw(st.booleans()),
        before=before,
        after=after,
        reset=constant(-0.5, 0.25) if not before and after is ResetAfter.VALUE else 0.0,
        is_detached=draw(st.booleans()),
        surrogate=surrogate if fires else None,
        scale=torch.tensor(0.5, requires_grad=True) if fires and draw(st.integers(0, 3)) == 0 else None,
        start=constant(-0.5, 0.5),
        divisor=draw(st.sampled_from([None, None, 0.75])),
        gives_membrane=gives,
        shows_membrane=draw(st.booleans()),
        shows_current=draw(st.booleans()),
    )


def copy(neurons: Dynamics) -> Dynamics:
    """The same with leaves of its own."""
    changed: dict[str, Any] = {}
    for name in CONSTANTS:
        value = getattr(neurons, name)
        if isinstance(value, Tensor):
            changed[name] = value.detach().clone().requires_grad_(value.requires_grad)
    return dataclasses.replace(neurons, **changed)


def leaves(neurons: Dynamics) -> list[Tensor]:
    """The constants that are learned."""
    values = (getattr(neurons, name) for name in CONSTANTS)
    return [value for value in values if isinstance(value, Tensor) and value.requires_grad]


def inputs(neurons: Dynamics, steps: int, given_state: bool, seed: int) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """x (T, 2, 3), and the membrane and current before the first step, or None."""
    generator = torch.Generator().manual_seed(seed)
    x = ((2 * torch.rand(steps, 2, CHANNELS, generator=generator) - 0.5) / GRID).round() * GRID
    membrane, current = (torch.rand(2, CHANNELS, generator=generator).requires_grad_() for _ in range(2))
    if not given_state:
        return x.requires_grad_(), None, None
    return x.requires_grad_(), membrane, current if neurons.current else None


def projected(did: NeuronActivity) -> Tensor:
    """A random linear function of all that neurons did."""
    generator = torch.Generator().manual_seed(5)
    there = [value for value in did[1:] if value is not None]
    return torch.stack([(value * torch.randn(value.shape, generator=generator)).sum() for value in there]).sum()


def in_kernel(neurons: Dynamics, x: Tensor, *states: Tensor | None) -> NeuronActivity | None:
    """`run_fused` for tensors on the CPU: on a GPU if there is one, or else in Triton's interpreter."""
    with kernels():
        moved: dict[str, Any] = {name: getattr(neurons, name) for name in (*CONSTANTS, "start")}
        moved = {name: value.to(DEVICE) for name, value in moved.items() if isinstance(value, Tensor)}
        if neurons.adaptation is not None:
            w = neurons.adaptation
            moved["adaptation"] = Adaptation(*(on_device(value) for value in (w.decay, w.coupling, w.jump)))
        factors = tuple(f.to(DEVICE) if isinstance(f, Tensor) else f for f in neurons.factors)
        given = [None if state is None else state.to(DEVICE) for state in states]
        did = run_fused(dataclasses.replace(neurons, factors=factors, **moved), x.to(DEVICE), *given)
    return None if did is None else NeuronActivity(*(None if value is None else value.cpu() for value in did))


def on_device(value: float | Tensor) -> float | Tensor:
    return value.to(DEVICE) if isinstance(value, Tensor) else value


def kernels() -> AbstractContextManager[None]:
    """Within the block, kernels run on `DEVICE`."""
    return nullcontext() if DEVICE.type == "cuda" else interpreted()
