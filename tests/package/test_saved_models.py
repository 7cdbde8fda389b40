"""Models that delayplug 0.1.0 saved whole with `torch.save` load, and compute what they computed.

Each file of saved_0_1 holds a model with the module paths of that version, and its output in eval() for `spikes`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from spikingjelly.activation_based import functional
from torch import Tensor, nn

SAVED = Path(__file__).parent / "saved_0_1"


def spikes(*shape: int) -> Tensor:
    return (torch.rand(*shape, generator=torch.Generator().manual_seed(1)) < 0.5).float()


def sequence(model: nn.Module) -> Tensor:
    functional.reset_net(model)
    y: Tensor = model(spikes(9, 2, 3))
    return y


def steps(model: nn.Module) -> Tensor:
    functional.reset_net(model)
    return torch.stack([model(x_t) for x_t in spikes(9, 2, 3)])


RUNS: dict[str, Callable[[Any], Tensor]] = {
    "synaptic": sequence,
    "channels": sequence,
    "convolution": lambda model: model(spikes(9, 2, 2, 5), weight=torch.ones(2, 2, 3)),
    "frozen": sequence,
    "spikingjelly": sequence,
    "steps": steps,
    "frozen_network": steps,
    "exchanged": lambda model: model(spikes(9, 2, 3)),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_model_saved_whole_loads_and_computes_the_same(name: str) -> None:
    saved = torch.load(SAVED / f"{name}.pt", weights_only=False)
    for _ in range(2):
        with torch.no_grad():
            assert torch.equal(RUNS[name](saved["model"]), saved["expected"])


def test_every_saved_model_is_tried() -> None:
    assert {path.stem for path in SAVED.glob("*.pt")} == set(RUNS)
