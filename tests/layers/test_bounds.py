import copy
import gc
import io
import math
import pickle
import subprocess
import sys

import pytest
import torch
from torch import nn

from delayplug import LearnableDelay
from delayplug.layers import bounds as ranges
from delayplug.layers.taps import SIGMA_FLOOR

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=1e4, foreach=False),
    "sgd_foreach": lambda p: torch.optim.SGD(p, lr=1e4, momentum=0.9, foreach=True),
    "adam": lambda p: torch.optim.Adam(p, lr=1e4, foreach=False),
    "adam_foreach": lambda p: torch.optim.Adam(p, lr=1e4, foreach=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e4, foreach=False),
    "adamw_foreach": lambda p: torch.optim.AdamW(p, lr=1e4, foreach=True),
    "lbfgs": lambda p: torch.optim.LBFGS(p, lr=1e4, max_iter=2),
}


def loss(layer):
    x = torch.rand(8, 3, layer.in_features, generator=torch.Generator().manual_seed(0))
    return (layer(x) - 1).square().sum()


def train(layer, make=OPTIMIZERS["adam"], steps=2):
    """Steps, with a look at the delays right after each of them."""
    optimizer = make(layer.parameters())

    def closure():
        optimizer.zero_grad()
        value = loss(layer)
        value.backward()
        return value

    for _ in range(steps):
        optimizer.step(closure)
        assert in_range(layer)


def in_range(layer):
    return bool(((layer.delays >= 0) & (layer.delays <= layer.max_delay)).all())


def reaches_a_border(layer):
    return bool(((layer.delays == 0) | (layer.delays == layer.max_delay)).any())


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("interpolation", ["gauss", "triangle", "linear"])
def test_delays_are_in_range_after_each_optimizer_step(make, interpolation):
    layer = LearnableDelay(4, 3, max_delay=5, interpolation=interpolation)
    train(layer, make)
    assert reaches_a_border(layer)


def test_per_channel_and_several_groups():
    layer, other = LearnableDelay(4, max_delay=5), LearnableDelay(4, 2, max_delay=9)
    optimizer = torch.optim.SGD([{"params": [layer.delays]}, {"params": other.parameters(), "lr": 1e5}], lr=1e6)
    other(layer(torch.rand(8, 2, 4))).square().sum().backward()
    optimizer.step()
    assert in_range(layer)
    assert in_range(other)
    assert layer.delays.max() == 5
    assert other.delays.max() == 9


def test_two_optimizers_each_project_their_own():
    layer = LearnableDelay(4, 3, max_delay=5)
    weights, delays = torch.optim.Adam([layer.weight], lr=1e3), torch.optim.Adam([layer.delays], lr=1e3)
    loss(layer).backward()
    weights.step()
    delays.step()
    assert in_range(layer)
    assert layer.weight.abs().max() > 900


def test_hand_made_updates_are_projected_on_use():
    layer = LearnableDelay(4, 3, max_delay=5)
    with torch.no_grad():
        layer.delays.view(-1)[:4].copy_(torch.tensor([-3.0, 7.0, 5.0, 2.5]))
    assert not in_range(layer)
    layer(torch.zeros(2, 1, 4))
    assert layer.delays.view(-1)[:4].tolist() == [0, 5, 5, 2.5]
    layer.delays.data.fill_(99)
    layer.eval().step(torch.zeros(1, 4), layer.initial_state(1))
    assert layer.delays.unique().tolist() == [5]


def test_projection_between_forward_and_backward_is_no_inplace_error():
    layer = LearnableDelay(4, 3, max_delay=5)
    first = loss(layer)
    second = loss(layer)
    (first + second).backward()
    assert layer.delays.grad.isfinite().all()


def test_other_parameters_are_left_alone():
    model = nn.Sequential(nn.Linear(4, 4), LearnableDelay(4, 3, max_delay=5, bias=True))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e6)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    model(torch.rand(8, 3, 4)).square().sum().backward()
    optimizer.step()
    for name, parameter in model.named_parameters():
        if name != "1.delays":
            assert torch.allclose(parameter, before[name] - 1e6 * parameter.grad), name
    plain = nn.Parameter(torch.zeros(3))
    plain.grad = torch.full((3,), 50.0)
    torch.optim.SGD([plain], lr=1.0).step()
    assert plain.tolist() == [-50] * 3


def reload(layer):
    file = io.BytesIO()
    torch.save(layer, file)
    return torch.load(io.BytesIO(file.getvalue()), weights_only=False)


def from_meta(layer):
    new = LearnableDelay(4, 3, max_delay=5, learn_sigma=True, device="meta")
    new.load_state_dict(layer.state_dict(), assign=True)
    return new


def emptied(_):
    new = LearnableDelay(4, 3, max_delay=5, learn_sigma=True, device="meta").to_empty(device="cpu")
    new.reset_parameters()
    return new


@pytest.mark.parametrize(
    "copied",
    [
        copy.deepcopy,
        copy.copy,
        lambda layer: pickle.loads(pickle.dumps(layer)),
        reload,
        lambda layer: copy.deepcopy(nn.Sequential(layer))[0],
        lambda layer: layer.double().float(),
        from_meta,
        emptied,
    ],
    ids=["deepcopy", "copy", "pickle", "torch.save", "inside", "dtype", "assign", "to_empty"],
)
def test_ranges_survive_copies(copied):
    layer = copied(LearnableDelay(4, 3, max_delay=5, learn_sigma=True))
    with torch.no_grad():
        layer.sigma.fill_(1.0)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    layer.delays.grad = torch.full_like(layer.delays, -100)
    layer.sigma.grad = torch.full_like(layer.sigma, 100)
    optimizer.step()
    assert layer.delays.unique().tolist() == [5]
    assert layer.sigma.unique().tolist() == pytest.approx([0.27])


@pytest.mark.parametrize("interpolation", ["gauss", "triangle"])
def test_learned_sigma_stays_above_its_floor(interpolation):
    layer = LearnableDelay(4, 3, max_delay=5, interpolation=interpolation, learn_sigma=True)
    optimizer = torch.optim.SGD([layer.sigma], lr=1.0)
    layer.sigma.grad = torch.full_like(layer.sigma, 1e6)
    optimizer.step()
    assert torch.equal(layer.sigma, torch.full_like(layer.sigma, SIGMA_FLOOR[interpolation]))
    assert loss(layer).isfinite()
    layer.sigma.data.fill_(-1)
    assert loss(layer).isfinite()
    assert layer.sigma.min() == torch.tensor(SIGMA_FLOOR[interpolation])
    train(layer)
    assert layer.sigma.min() >= torch.tensor(SIGMA_FLOOR[interpolation])
    assert layer.sigma.isfinite().all()


def test_reset_and_frozen_delays():
    layer = LearnableDelay(4, 3, max_delay=5, init=2)
    layer.delays.requires_grad_(False)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1e4)
    loss(layer).backward()
    optimizer.step()
    assert layer.delays.unique().tolist() == [2]


# --------------------------------------------------------------------------------------------- what is global, and when


def in_a_process(code):
    """What it prints, by lines; a process of its own, since the hook stays once it is there."""
    code = "import torch, delayplug\nfrom torch.optim.optimizer import _global_optimizer_post_hooks as hooks\n" + code
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    return done.stdout.split()


@pytest.mark.slow
def test_the_first_layer_with_delays_registers_the_only_hook():
    code = """
print(len(hooks))
parameter = torch.nn.Parameter(torch.ones(3))
parameter.grad = torch.ones(3)
torch.optim.SGD([parameter]).step()
print(len(hooks))
layers = [delayplug.LearnableDelay(4, 3, max_delay=5) for _ in range(3)]
print(len(hooks))
"""
    assert in_a_process(code) == ["0", "0", "1"]


@pytest.mark.slow
def test_without_delays_the_hook_looks_at_no_parameter():
    code = """
import gc, types
layer = delayplug.LearnableDelay(4, 3, max_delay=5, learn_sigma=True)
(hook,) = hooks.values()
class Groups(list):
    def __iter__(self):
        print("looked")
        return super().__iter__()
optimizer = types.SimpleNamespace(param_groups=Groups())
hook(optimizer)
del layer
gc.collect()
hook(optimizer)
print("end")
"""
    assert in_a_process(code) == ["looked", "end"]


def test_deleted_layers_leave_no_range_behind():
    gc.collect()
    before = len(ranges._ranges)
    layer = LearnableDelay(4, 3, max_delay=5, learn_sigma=True)
    copies = [copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), layer.double()]
    assert len(ranges._ranges) == before + 6
    del layer, copies
    gc.collect()
    assert len(ranges._ranges) == before


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p)), lambda p: nn.Parameter(p.detach().clone())]
)
def test_a_bare_copy_of_delays_is_a_parameter_like_any_other(copied):
    parameter = copied(LearnableDelay(4, 3, max_delay=5).delays)
    parameter.grad = torch.full_like(parameter, -100)
    torch.optim.SGD([parameter], lr=1.0).step()
    assert parameter.min() > 50


def test_moves_that_swap_tensors():
    """`swap_tensors` refuses tensors with weak references."""
    layer = LearnableDelay(4, 3, max_delay=5, learn_sigma=True)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        layer.double()
        layer.load_state_dict(LearnableDelay(4, 3, max_delay=5, learn_sigma=True).double().state_dict())
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)
    layer.delays.grad = torch.full_like(layer.delays, -100)
    optimizer.step()
    assert layer.delays.dtype == torch.float64
    assert layer.delays.unique().tolist() == [5]


def test_an_error_while_moving_or_loading_keeps_the_ranges():
    layer = LearnableDelay(4, 3, max_delay=5)
    with pytest.raises(AttributeError):
        layer._apply(lambda tensor: tensor.no_such_method)
    with pytest.raises(RuntimeError, match="size mismatch"):
        layer.load_state_dict(LearnableDelay(2, 3, max_delay=5).state_dict())
    train(layer)


def test_pruned_delays_are_clamped_to_zero():
    """The upper end differs by entry, in the hook and before use."""
    layer = LearnableDelay(4, 3, max_delay=5)
    active = torch.eye(3, 4).unsqueeze(-1)
    layer.prune(active.bool())
    layer.delays.grad = torch.full_like(layer.delays, -100)
    torch.optim.SGD([layer.delays], lr=1.0).step()
    assert torch.equal(layer.delays, 5 * active)
    layer.delays.data.fill_(99)
    layer(torch.zeros(2, 1, 4))
    assert torch.equal(layer.delays, 5 * active)


def test_infinity_is_in_no_interval():
    """It would be the longest delay, which looks right."""
    value = torch.tensor([math.inf, -math.inf, math.nan, 9.0, -9.0, 2.0])
    for high in (5.0, torch.full((6,), 5.0)):
        parameter = nn.Parameter(value.clone())
        ranges.clamp(parameter, 0, high)
        for found in (parameter.data, ranges.clamped(value, 0, high)):
            assert found[:3].isnan().all()
            assert found[3:].tolist() == [5, 0, 2]


def test_clamping_a_copy_has_a_gradient_inside():
    value = torch.tensor([-1.0, 0.5, 7.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(ranges.clamped(value, 0, 5).sum(), value)
    assert gradient.tolist() == [0, 1, 0]
