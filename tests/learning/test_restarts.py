import copy

import pytest
import torch
from torch import nn

from delayplug import ArgumentError, DelayRestarts, LearnableDelay, named_delays, restart_delays


def with_delays(values: list[float], max_delay: int = 8) -> LearnableDelay:
    layer = LearnableDelay(len(values), max_delay=max_delay)
    with torch.no_grad():
        layer.delays.copy_(torch.tensor(values))
    return layer


def test_only_delays_at_a_border_are_drawn() -> None:
    layer = with_delays([0, 3, 8, 0.01, 7.99])
    assert restart_delays(layer) == {"": 2}
    assert layer.delays[[1, 3, 4]].tolist() == pytest.approx([3, 0.01, 7.99])
    assert ((layer.delays > 0) & (layer.delays < 8)).all()


def test_every_model(model: nn.Module) -> None:
    with torch.no_grad():
        for _, delay in named_delays(model):
            delay.delays.fill_(3).view(-1)[:2] = torch.tensor([0.0, delay.max_delay])
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    drawn = restart_delays(model)
    assert drawn == {name: 2 for name, _ in named_delays(model)}
    changed = sum(int((p != before[name]).sum()) for name, p in model.named_parameters())
    assert changed == sum(drawn.values())


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.Adam(p, lr=0.1, amsgrad=True),
        lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
        lambda p: torch.optim.RMSprop(p, lr=0.1, momentum=0.9, centered=True),
        lambda p: torch.optim.Adagrad(p, lr=0.1),
    ],
)
def test_the_optimizer_forgets_those_entries_and_no_others(make) -> None:
    layer = with_delays([40.0, 20, 0, 21], max_delay=40)
    optimizer = make([layer.delays])
    for _ in range(3):
        layer.delays.grad = torch.tensor([-1.0, 1, 1, -1])
        optimizer.step()
    before = copy.deepcopy(optimizer.state[layer.delays])
    assert restart_delays(layer, optimizer) == {"": 2}
    averages = {name: value for name, value in optimizer.state[layer.delays].items() if name != "step"}
    assert averages
    for name, value in averages.items():
        assert value[[0, 2]].tolist() == [0, 0], name
        assert torch.equal(value[[1, 3]], before[name][[1, 3]])
    assert optimizer.state[layer.delays].get("step") == before.get("step")
    drawn = layer.delays.detach().clone()
    layer.delays.grad = torch.zeros(4)
    optimizer.step()
    assert torch.equal(layer.delays[[0, 2]], drawn[[0, 2]])  # no momentum pushes them back


def test_without_clearing_momentum_would_push_them_back() -> None:
    layer = with_delays([8.0])
    optimizer = torch.optim.SGD([layer.delays], lr=1.0, momentum=0.9)
    layer.delays.grad = torch.tensor([-20.0])
    optimizer.step()
    restart_delays(layer)
    layer.delays.grad = torch.zeros(1)
    optimizer.step()
    assert layer.delays.item() == 8


def test_patience() -> None:
    layer = with_delays([0.0, 8, 4, 0])
    restarts = DelayRestarts(layer, patience=3)
    assert [restarts.step()[""] for _ in range(2)] == [0, 0]
    with torch.no_grad():
        layer.delays[0] = 8  # the other border: it is moving
        layer.delays[3] = 1
    assert restarts.step() == {"": 1}
    assert 0 < layer.delays[1] < 8
    assert layer.delays[[0, 2, 3]].tolist() == [8, 4, 1]
    with torch.no_grad():
        layer.delays[3] = 0
    assert [restarts.step()[""] for _ in range(3)] == [0, 1, 1]


def test_until() -> None:
    restarts = DelayRestarts(with_delays([0.0] * 4), patience=1, until=1)
    assert restarts.step() == {"": 4}
    layer = with_delays([0.0] * 4)
    late = DelayRestarts(layer, patience=1, until=0)
    assert late.step() == {"": 0}
    assert layer.delays.tolist() == [0] * 4


def test_pruned_and_frozen_delays_stay() -> None:
    layer = with_delays([5.0, 0, 8])
    layer.prune(torch.tensor([False, True, True]))
    assert restart_delays(layer) == {"": 2}
    assert layer.delays[0] == 0
    frozen = with_delays([0.0, 8])
    frozen.delays.requires_grad_(False)
    assert restart_delays(frozen) == {"": 0}
    assert restart_delays(LearnableDelay(3, max_delay=0)) == {"": 0}


def test_draws_are_spread_evenly_and_repeat_with_the_generator() -> None:
    layers = [LearnableDelay(2000, max_delay=10, init=0) for _ in range(2)]
    for layer in layers:
        restart_delays(layer, generator=torch.Generator().manual_seed(3))
    assert torch.equal(layers[0].delays, layers[1].delays)
    counts = layers[0].delays.detach().floor().long().bincount(minlength=10)
    assert counts.min() > 150
    assert counts.max() < 260


def test_state_dict() -> None:
    layer = with_delays([0.0, 8, 4])
    restarts = DelayRestarts(layer, patience=3)
    restarts.step(), restarts.step()
    again = DelayRestarts(with_delays([0.0, 8, 4]), patience=3)
    again.load_state_dict(restarts.state_dict())
    assert again.step() == {"": 2}
    with pytest.raises(ArgumentError, match="state: expected that of layers"):
        DelayRestarts(with_delays([0.0]), 3).load_state_dict(restarts.state_dict())


@pytest.mark.parametrize(("patience", "found"), [(2, 5.0), (99, 30.0)])
def test_a_restarted_delay_finds_what_lies_behind_a_hill(patience: int, found: float) -> None:
    """A loss that falls towards 5 below 15, and towards the border at 30 above."""
    layer = with_delays([29.0], max_delay=30)
    optimizer = torch.optim.Adam([layer.delays], lr=0.5)
    restarts = DelayRestarts(layer, patience, generator=torch.Generator().manual_seed(0))
    for _ in range(60):
        for _ in range(20):
            layer.delays.grad = torch.where(layer.delays > 15, -1.0, layer.delays.detach() - 5)
            optimizer.step()
        restarts.step(optimizer)
    assert layer.delays.item() == pytest.approx(found, abs=0.5)


@pytest.mark.parametrize("options", [{"patience": 0}, {"until": -1}, {"patience": 1.5}])
def test_wrong_options(options: dict) -> None:
    with pytest.raises(ArgumentError, match="expected an integer >= "):
        DelayRestarts(with_delays([0.0]), **options)
