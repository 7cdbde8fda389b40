"""Frozen delays meet what is for learned ones."""

import pytest
import snntorch as snn
import torch
from snntorch import utils
from torch import nn

import delayplug
from delayplug import ArgumentError


def network() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), snn.Leaky(beta=0.9, init_hidden=True), nn.Linear(8, 3))
    model.append(snn.Leaky(beta=0.9, init_hidden=True))
    return delayplug.add_delays(model, max_delay=7)


def run(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    utils.reset(model)
    with torch.no_grad():
        return torch.stack([model(x_t) for x_t in x])


def test_what_is_pruned_stays_at_zero_when_frozen() -> None:
    model = network()
    pruning = delayplug.DelayPruning(model, 0.3, epochs=2, begin=0, end=1)
    pruning.step(), pruning.step()
    x = 2 * torch.rand(20, 4, 6)
    model.eval()
    expected = run(model, x)
    delayplug.freeze_delays(model)
    assert torch.equal(run(model, x), expected)
    assert torch.equal(run(model.train(), x), expected)
    assert 0 < float(expected.mean()) < 1
    for row, (_, delay) in zip(pruning.report(), delayplug.named_delays(model), strict=True):
        assert 0 < int((delay.delays > 0).sum()) <= row.active


@pytest.mark.parametrize(
    "aid",
    [
        delayplug.delay_penalty,
        lambda model: delayplug.delay_penalty(model, "entropy"),
        lambda model: delayplug.DelayPruning(model, 0.5, epochs=2),
        delayplug.restart_delays,
        delayplug.DelayRestarts,
    ],
)
def test_aids_of_learning_say_that_there_is_nothing_to_learn(aid) -> None:
    model = network()
    delayplug.freeze_delays(model)
    with pytest.raises(ArgumentError, match=r"model: expected learned delays, got frozen ones in 0, 2"):
        aid(model)


def test_histories_of_frozen_delays() -> None:
    model = network()
    delayplug.freeze_delays(model)
    history = delayplug.DelayHistory(model)
    history.record()
    assert torch.equal(history.delays("0")[0], history.delays("0")[1])
