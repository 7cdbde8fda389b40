import copy
import io

import pytest
import torch
from torch import Tensor, nn

from delayplug import ArgumentError, ConvDelay, DelayPruning, LearnableDelay, named_delays
from delayplug.layers import taps as kernels
from delayplug.surgery.find import buffer_cells, inputs, strengths
from tests.learning.models import MODELS, JellyNet, delayed

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True, foreach=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.5),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.5, weight_decay=0.1, amsgrad=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.5, momentum=0.9),
    "lbfgs": lambda p: torch.optim.LBFGS(p, max_iter=2),
}


def masks(model: nn.Module) -> list[Tensor]:
    return [delay.active for _, delay in named_delays(model) if delay.active is not None]


def held(model: nn.Module) -> bool:
    return all(bool((d.delays[~d.active] == 0).all()) for _, d in named_delays(model) if d.active is not None)


def learn(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor) -> None:
    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (model(x) - 1).square().sum() - sum(delay.delays.sum() for _, delay in named_delays(model))
        loss.backward()
        return loss

    optimizer.step(closure)


def test_the_fraction_follows_the_cubic_schedule_exactly() -> None:
    layer = LearnableDelay(100, 10, max_delay=9)
    pruning = DelayPruning(layer, 0.2, epochs=20, begin=0.2, end=0.7)
    assert (pruning.first, pruning.last) == (4, 14)
    for epoch in range(1, 21):
        pruning.step()
        part = min(max(epoch - 4, 0), 10) / 10
        pruned = 0.8 + (0.0 - 0.8) * (1 - part) ** 3  # Zhu and Gupta, equation 1
        assert pruning.after(epoch) == pytest.approx(pruned)
        assert pruning.report()[0].active == 1000 - round(1000 * pruned), epoch
    assert int((layer.delays == 0).sum()) == 800


def test_every_layer_of_every_model_keeps_the_fraction(model: nn.Module) -> None:
    pruning = DelayPruning(model, 0.25, epochs=4, begin=0, end=1)
    for _ in range(4):
        pruning.step()
    for row, (_, delay) in zip(pruning.report(), named_delays(model), strict=True):
        units = delay.delays.numel()
        assert (row.units, row.active) == (units, units - int(0.75 * units + 0.5))
        assert int((delay.delays != 0).sum()) == row.active


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", ["synapse", "channel"])
def test_pruned_delays_are_held_through_any_momentum(optimizer: str, name: str, x: Tensor) -> None:
    keep_pruned(MODELS[name](), OPTIMIZERS[optimizer], x)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_pruned_delays_are_held_in_every_model(optimizer: str, model: nn.Module, x: Tensor) -> None:
    keep_pruned(model, OPTIMIZERS[optimizer], x)


def keep_pruned(model: nn.Module, make, x: Tensor) -> None:
    optimizer = make(list(model.parameters()))
    for _ in range(3):  # momentum towards longer delays
        learn(model, optimizer, x)
    pruning = DelayPruning(model, 0.5, epochs=2, begin=0, end=1)
    for _ in range(3):
        pruning.step()
        for _ in range(2):
            learn(model, optimizer, x)
            assert held(model)
    assert any(bool((delay.delays > 0).any()) for _, delay in named_delays(model))


@pytest.mark.parametrize("make", [OPTIMIZERS["sgd"], OPTIMIZERS["adam"]])
def test_it_is_the_mask_that_holds_them(make) -> None:
    """The momentum of a pruned delay goes on pushing: once it is free, it moves without a gradient."""
    layer = LearnableDelay(3, max_delay=9, init=1)
    optimizer = make([layer.delays])
    for _ in range(3):
        layer.delays.grad = torch.full((3,), -1.0)
        optimizer.step()
    layer.prune(torch.tensor([False, True, True]))
    layer.delays.grad = torch.zeros(3)
    optimizer.step()
    assert layer.delays[0] == 0
    layer.prune(None)
    optimizer.step()
    assert layer.delays[0] > 0


def test_pruned_delays_get_no_gradient(model: nn.Module, x: Tensor) -> None:
    DelayPruning(model, 0.5, epochs=1, begin=0, end=1).step()
    model(x).square().sum().backward()
    for (_, delay), mask in zip(named_delays(model), masks(model), strict=True):
        assert (delay.delays.grad[~mask] == 0).all()


@pytest.mark.parametrize(
    "options", [{}, {"interpolation": "triangle"}, {"interpolation": "linear"}, {"engine": "dcls"}]
)
def test_a_pruned_synapse_is_one_of_a_plain_layer_however_wide_the_kernels(options: dict) -> None:
    layer = LearnableDelay(5, 4, max_delay=6, taps=2, dtype=torch.float64, **options)
    before = kernels.taps(layer.delays, layer.weight, layer.sigma, max_delay=6, interpolation=layer.interpolation)
    active = torch.rand(4, 5, 1).expand(4, 5, 2) > 0.5
    layer.prune(active)
    after = layer.kernel()
    assert torch.allclose(after[:, active[..., 0]], before[:, active[..., 0]], atol=1e-6)
    plain = after[:, ~active[..., 0]]
    assert torch.equal(plain[0], layer.weight[~active[..., 0]].sum(-1))
    assert plain[1:].abs().max() == 0
    after[0].sum().backward()
    assert (layer.weight.grad[~active] == 1).all()
    assert (layer.delays.grad[~active] == 0).all()


def test_a_state_under_way_notices_what_is_pruned_and_freed() -> None:
    layer = LearnableDelay(3, 2, max_delay=4)
    x = torch.rand(4, 1, 3)
    state = layer.initial_state(1)
    for t, active in enumerate([None, torch.zeros(2, 3, 1, dtype=torch.bool), None]):
        _, state = layer.step(x[t], state)
        layer.prune(active)
    y, _ = layer.step(x[3], state)
    assert torch.allclose(y, layer(x)[3], atol=1e-6)


def test_a_pruned_channel_passes_as_it_is() -> None:
    layer = LearnableDelay(4, max_delay=6)
    layer.prune(torch.tensor([False, True, False, True]))
    x = torch.rand(9, 2, 4)
    assert torch.equal(layer(x)[..., [0, 2]], x[..., [0, 2]])
    assert not torch.allclose(layer(x)[..., [1, 3]], x[..., [1, 3]])


def test_the_least_delay_times_weight_goes_first_and_stays_away() -> None:
    layer = LearnableDelay(4, 1, max_delay=8)
    with torch.no_grad():
        layer.delays.copy_(torch.tensor([8.0, 1, 4, 2]).view(1, 4, 1))
        layer.weight.copy_(torch.tensor([0.1, -3.0, 0.1, 2.0]).view(1, 4, 1))  # products 0.8, 3, 0.4, 4
    pruning = DelayPruning(layer, 0.25, epochs=3, begin=0, end=1)
    seen = []
    for _ in range(3):
        pruning.step()
        seen.append((~layer.active).flatten().nonzero().flatten().tolist())
        with torch.no_grad():
            layer.weight[0, 2] = 100.0  # now the pruned one would matter, if it had a delay
    assert seen == [[0, 2], [0, 1, 2], [0, 1, 2]]


def test_axonal_pruning_takes_whole_channels() -> None:
    layer = LearnableDelay(10, 6, max_delay=8, taps=2)
    cells = buffer_cells(layer)
    pruning = DelayPruning(layer, 0.3, epochs=1, begin=0, end=1, granularity="axonal")
    pruning.step()
    by_channel = layer.active.movedim(1, 0).flatten(1)
    assert torch.equal(by_channel.any(1), by_channel.all(1))
    assert int(by_channel.all(1).sum()) == pruning.report()[0].active == 3
    assert pruning.report()[0].cells < cells
    score = (layer.weight.abs() * layer.delays).sum((0, 2))
    assert (score[by_channel.all(1)] > 0).all()


@pytest.mark.parametrize("conv", [nn.Conv2d(4, 6, 3, groups=2), nn.ConvTranspose2d(4, 6, 3, groups=2)])
def test_axonal_pruning_of_a_convolution_leaves_the_other_channels_as_they_were(conv: nn.Module) -> None:
    delay = ConvDelay(conv, max_delay=5)
    pruning = DelayPruning(delay, 0.5, epochs=1, begin=0, end=1, granularity="axonal")
    pruning.step()
    pruned = [c for c in range(4) if bool((~delay.active)[inputs(delay) == c].all())]
    assert len(pruned) == 2
    x = torch.zeros(8, 1, 4, 5, 5)
    x[0, 0, pruned] = 1
    y = delay(x, weight=conv.weight)
    plain = nn.functional.conv2d if isinstance(conv, nn.Conv2d) else nn.functional.conv_transpose2d
    delay.eval()
    assert torch.allclose(delay(x, weight=conv.weight)[0], plain(x[0], conv.weight, groups=2), atol=1e-5)
    assert delay(x, weight=conv.weight)[1:].abs().max() == 0
    assert y.shape[0] == 8


def test_strength_of_a_channel_is_the_norm_of_its_weights() -> None:
    for granularity, dim in (("axonal", 0), ("dendritic", 1)):
        net = delayed(JellyNet, granularity)
        assert torch.allclose(strengths(net)["net.0"], net.net[0].weight.norm(dim=dim))


def pickled(layer: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(layer, file)
    return torch.load(io.BytesIO(file.getvalue()), weights_only=False)


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled, lambda layer: layer.double().float()])
def test_copies_are_held_too(copied) -> None:
    layer = LearnableDelay(4, 3, max_delay=5)
    layer.prune(torch.rand(4 * 3).view(3, 4, 1) > 0.5)
    other = copied(layer)
    assert torch.equal(other.active, layer.active)
    optimizer = torch.optim.SGD(other.parameters(), lr=1.0)
    other.delays.grad = torch.full_like(other.delays, -1.0)
    optimizer.step()
    assert held(other)
    assert (other.delays[other.active] > 0).all()


def test_the_mask_is_no_part_of_the_state_dict_and_a_checkpoint_does_not_lift_it(x: Tensor) -> None:
    layer = LearnableDelay(5, 3, max_delay=5)
    free = {name: value.clone() for name, value in layer.state_dict().items()}
    layer.prune(torch.rand(5 * 3).view(3, 5, 1) > 0.5)
    assert layer.state_dict().keys() == free.keys()
    layer.load_state_dict(free)
    layer(x)
    assert held(layer)


def test_an_interrupted_training_goes_on_as_one_that_was_not(x: Tensor) -> None:
    def train(model: nn.Module, pruning: DelayPruning, epochs: int) -> None:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(epochs):
            learn(model, optimizer, x)
            pruning.step()

    whole = LearnableDelay(5, 4, max_delay=6)
    part = copy.deepcopy(whole)
    pruning = DelayPruning(whole, 0.3, epochs=10)
    train(whole, pruning, 10)
    first = DelayPruning(part, 0.3, epochs=10)
    train(part, first, 4)
    resumed = LearnableDelay(5, 4, max_delay=6)
    resumed.load_state_dict(part.state_dict())
    second = DelayPruning(resumed, 1.0, epochs=99)
    second.load_state_dict(first.state_dict())
    train(resumed, second, 6)
    assert torch.equal(resumed.active, whole.active)
    assert torch.equal(resumed.delays, whole.delays)
    assert second.report() == pruning.report()


def test_state_of_another_model_changes_nothing() -> None:
    pruning = DelayPruning(LearnableDelay(3, 2, max_delay=4), 0.5, epochs=4, begin=0, end=1)
    pruning.step()
    other = LearnableDelay(3, 3, max_delay=4)
    target = DelayPruning(other, 0.5, epochs=8)
    with pytest.raises(ArgumentError, match="state: expected a mask"):
        target.load_state_dict(pruning.state_dict())
    with pytest.raises(ArgumentError, match="state: expected masks of 0, got none"):
        DelayPruning(nn.Sequential(other), 0.5, epochs=8).load_state_dict({"active": {}})
    assert target.epoch == 0
    assert other.active is None


def test_a_second_pruning_does_not_free_what_the_first_pruned() -> None:
    layer = LearnableDelay(10, 10, max_delay=4)
    DelayPruning(layer, 0.2, epochs=1, begin=0, end=1).step()
    DelayPruning(layer, 0.9, epochs=1, begin=0, end=1).step()
    assert int(layer.active.sum()) == 20


def test_pruned_delays_are_zero_in_eval(model: nn.Module, x: Tensor) -> None:
    DelayPruning(model, 0.0, epochs=1, begin=0, end=1).step()
    pruned = model.eval()(x)
    for _, delay in named_delays(model):
        delay.prune(None)
        assert (delay.delays == 0).all()
    assert torch.equal(model(x), pruned)


def test_the_report_is_a_table() -> None:
    model = nn.ModuleDict({"first": LearnableDelay(10, 100, max_delay=8), "second": LearnableDelay(4, max_delay=8)})
    lines = str(DelayPruning(model, 0.5, epochs=4)).splitlines()
    assert lines[0].split() == ["layer", "units", "active", "longest", "cells"]
    assert lines[2].split()[:3] == ["first", "1,000", "1,000"]  # below a rule
    assert len({len(line) for line in lines}) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fraction": 1.1}, "fraction: expected a fraction of the delays"),
        ({"epochs": 0}, "epochs: expected an integer >= 1"),
        ({"begin": 0.6, "end": 0.5}, "begin, end: .* got 0.6, 0.5"),
        ({"end": 1.5}, "begin, end: "),
        ({"granularity": "dendritic"}, "granularity: expected one of synaptic, axonal, got 'dendritic'"),
        ({"model": nn.Linear(2, 2)}, "model: expected a model with delays"),
    ],
)
def test_wrong_options(options: dict, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        DelayPruning(**{"model": LearnableDelay(3, 2, max_delay=4), "fraction": 0.5, "epochs": 4, **options})


def test_a_wrong_mask() -> None:
    layer = LearnableDelay(3, 2, max_delay=4)
    for wrong in (torch.ones(2, 3, dtype=torch.bool), torch.ones(2, 3, 1)):
        with pytest.raises(ArgumentError, match=r"active: expected torch\.bool"):
            layer.prune(wrong)
    assert layer.active is None
