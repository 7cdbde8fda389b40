import itertools
import math

import pytest
import torch
from torch import nn

from delayplug import ArgumentError, LearnableDelay, SigmaSchedule, parameter_groups


def widths(schedule, layer, epochs):
    found = [layer.sigma.item()]
    for _ in range(epochs):
        schedule.step()
        found.append(layer.sigma.item())
    return found


def test_the_papers_annealing():
    layer = LearnableDelay(3, 2, max_delay=24, dtype=torch.float64)
    found = widths(SigmaSchedule(layer, epochs=150), layer, 150)
    assert found[0] == pytest.approx(12.27)
    assert found[36] > 0.5 + 1e-3
    assert found[37:] == pytest.approx([0.5] * 114)
    # DCLS's own parameter |SIG| = sigma - 0.27 falls from 12 to 0.23 by the same factor every epoch.
    sig = [width - 0.27 for width in found[:38]]
    assert sig[0] == pytest.approx(12)
    assert [b / a for a, b in itertools.pairwise(sig)] == pytest.approx([(0.23 / 12) ** (1 / 37)] * 37)


def test_the_papers_annealing_for_ssc():
    layer = LearnableDelay(3, 2, max_delay=30)
    found = widths(SigmaSchedule(layer, epochs=60), layer, 20)
    assert found[0] == pytest.approx(15.27)
    assert found[14] > 0.51
    assert found[15:] == pytest.approx([0.5] * 6)


def test_linear():
    layer = LearnableDelay(3, 2, max_delay=4, dtype=torch.float64)
    schedule = SigmaSchedule(layer, epochs=10, start=3.0, end=1.0, until=0.4, shape="linear")
    assert widths(schedule, layer, 6) == pytest.approx([3, 2.5, 2, 1.5, 1, 1, 1])


@pytest.mark.parametrize(("until", "length"), [(0.25, 10), (0.5, 20), (1.0, 40), (0.001, 1)])
def test_until(until, length):
    schedule = SigmaSchedule(LearnableDelay(3, 2, max_delay=4), epochs=40, until=until)
    assert schedule.length == length
    assert schedule.after(length - 1)[0] > schedule.after(length)[0]
    assert schedule.after(length) == schedule.after(length + 100) == pytest.approx([0.5])


def test_triangle_has_its_own_floor():
    layer = LearnableDelay(3, 2, max_delay=24, interpolation="triangle", dtype=torch.float64)
    found = widths(SigmaSchedule(layer, epochs=8), layer, 2)
    assert found == pytest.approx([13, 1 + math.sqrt(12 * 0.23), 1.23])


def test_mixed_models():
    model = nn.Sequential(
        LearnableDelay(3, max_delay=10),
        nn.Linear(3, 3),
        nn.ModuleDict({"deep": LearnableDelay(3, 2, max_delay=24, interpolation="triangle")}),
        LearnableDelay(2, 2, max_delay=6, interpolation="linear"),
        LearnableDelay(2, 2, max_delay=6, learn_sigma=True),
    )
    schedule = SigmaSchedule(model, epochs=4)
    assert schedule.after(0) == pytest.approx([5.27, 13])
    schedule.step()
    assert model[0].sigma.item() == pytest.approx(0.5)
    assert model[2]["deep"].sigma.item() == pytest.approx(1.23)
    assert model[3].sigma is None
    assert model[4].sigma.unique().tolist() == pytest.approx([3.27])


def test_start_is_set_at_once():
    layer = LearnableDelay(3, 2, max_delay=24)
    SigmaSchedule(layer, epochs=10, start=2.0)
    assert layer.sigma.item() == 2


def test_start_and_end_at_the_floor_do_not_divide_by_zero():
    layer = LearnableDelay(3, 2, max_delay=0, dtype=torch.float64)
    assert widths(SigmaSchedule(layer, epochs=4), layer, 3) == pytest.approx([0.27] * 4)
    linear = SigmaSchedule(layer, epochs=4, start=1.27, end=0.27, shape="linear")
    linear.step()
    assert layer.sigma.item() == pytest.approx(0.27)


def test_state_dict():
    layer, other = LearnableDelay(3, 2, max_delay=24), LearnableDelay(3, 2, max_delay=24)
    schedule = SigmaSchedule(layer, epochs=20, start=6.0, shape="linear")
    schedule.step()
    schedule.step()
    resumed = SigmaSchedule(other, epochs=99)
    resumed.load_state_dict(schedule.state_dict())
    assert other.sigma.item() == layer.sigma.item()
    assert widths(resumed, other, 5) == widths(schedule, layer, 5)
    assert resumed.state_dict() == schedule.state_dict()


def test_resuming_from_the_model_alone_would_start_anew_but_the_state_dict_knows():
    layer = LearnableDelay(3, 2, max_delay=24)
    schedule = SigmaSchedule(layer, epochs=40)
    for _ in range(4):
        schedule.step()
    restored = LearnableDelay(3, 2, max_delay=24)
    restored.load_state_dict(layer.state_dict())
    again = SigmaSchedule(restored, epochs=40)
    again.load_state_dict(schedule.state_dict())
    assert again.after(0) == pytest.approx([12.27])
    assert restored.sigma.item() == layer.sigma.item()


def test_state_dict_of_another_model_is_refused():
    schedule = SigmaSchedule(nn.Sequential(*(LearnableDelay(3, max_delay=4) for _ in range(2))), epochs=4)
    with pytest.raises(ArgumentError, match="state: expected the schedule of 1 layers, got 2 layers"):
        SigmaSchedule(LearnableDelay(3, max_delay=4), epochs=4).load_state_dict(schedule.state_dict())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs: expected an integer >= 1, got 0"),
        ({"epochs": 2.5}, "epochs: expected an integer >= 1, got 2.5"),
        ({"until": 0}, "until: expected a fraction between 0 .excluded. and 1, got 0"),
        ({"until": 1.1}, "until: .* got 1.1"),
        ({"until": math.nan}, "until: .* got nan"),
        ({"shape": "cosine"}, "shape: expected one of exponential, linear, got 'cosine'"),
        ({"start": 0.2}, "start: expected a width >= 0.27 steps, got 0.2"),
        ({"start": math.nan}, "start: .* got nan"),
        ({"start": math.inf}, "start: .* got inf"),
        ({"end": 0.27}, "end: expected a width > 0.27 steps for shape='exponential', got 0.27"),
        ({"end": 0.1, "shape": "linear"}, "end: expected a width >= 0.27 steps for shape='linear', got 0.1"),
        ({"end": math.nan}, "end: .* got nan"),
    ],
)
def test_errors(options, message):
    layer = LearnableDelay(3, 2, max_delay=4)
    with pytest.raises(ArgumentError, match=message):
        SigmaSchedule(layer, **{"epochs": 10, **options})
    assert layer.sigma.item() == pytest.approx(2.27)


@pytest.mark.parametrize(
    "model",
    [
        nn.Linear(2, 2),
        LearnableDelay(2, 2, max_delay=3, interpolation="linear"),
        LearnableDelay(2, 2, max_delay=3, learn_sigma=True),
    ],
    ids=["plain", "linear", "learned"],
)
def test_nothing_to_schedule(model):
    with pytest.raises(ArgumentError, match=f"model: expected .* got {type(model).__name__}"):
        SigmaSchedule(model, epochs=3)


# ------------------------------------------------------------------------------------------------ parameter groups


def model_of_all_sorts():
    model = nn.Sequential(
        nn.Linear(4, 4),
        nn.BatchNorm1d(4),
        LearnableDelay(4, 3, max_delay=5, taps=2, bias=True, learn_sigma=True),
        LearnableDelay(3, max_delay=5),
        nn.Linear(3, 3, bias=False),
    )
    model[4].weight.requires_grad_(False)
    return nn.Sequential(*model, nn.Linear(3, 4), model[0])  # the first layer is used twice


def test_each_parameter_is_in_exactly_one_group():
    model = model_of_all_sorts()
    groups = {group["name"]: group for group in parameter_groups(model, lr=1e-3, weight_decay=0.01)}
    names = {id(p): name for name, p in model.named_parameters()}
    found = {name: [names[id(p)] for p in group["params"]] for name, group in groups.items()}
    assert found == {
        "weights": ["0.weight", "2.weight", "5.weight"],
        "others": ["0.bias", "1.weight", "1.bias", "2.bias", "5.bias"],
        "delays": ["2.delays", "2.sigma", "3.delays"],
    }
    assert {name: group["weight_decay"] for name, group in groups.items()} == {
        "weights": 0.01,
        "others": 0,
        "delays": 0,
    }
    assert [groups[name]["lr"] for name in ("weights", "others", "delays")] == pytest.approx([1e-3, 1e-3, 0.1])


def test_rate_of_the_delays():
    groups = parameter_groups(LearnableDelay(4, 3, max_delay=5), lr=1e-3, delay_lr=0.0)
    assert [(g["name"], g["lr"]) for g in groups] == [("weights", 1e-3), ("delays", 0.0)]


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW])
def test_optimizers_take_the_groups(optimizer):
    model = model_of_all_sorts()
    made = optimizer(parameter_groups(model, lr=1e-3, delay_lr=0.5))
    model(torch.rand(6, 4)).square().sum().backward()
    made.step()
    assert [group["lr"] for group in made.param_groups] == [1e-3, 1e-3, 0.5]


def test_delays_do_not_decay():
    layer = LearnableDelay(4, 3, max_delay=5)
    delays, weight = layer.delays.detach().clone(), layer.weight.detach().clone()
    optimizer = torch.optim.AdamW(parameter_groups(layer, lr=0.1, weight_decay=0.5))
    for parameter in layer.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert torch.equal(layer.delays, delays)
    assert torch.allclose(layer.weight, weight * 0.95)


@pytest.mark.parametrize("name", ["lr", "delay_lr", "weight_decay"])
@pytest.mark.parametrize("value", [-1.0, math.nan])
def test_negative_rates(name, value):
    with pytest.raises(ArgumentError, match=f"{name}: expected a number >= 0, got"):
        parameter_groups(LearnableDelay(2, 2, max_delay=3), **{"lr": 1e-3, "delay_lr": 0.1, name: value})
