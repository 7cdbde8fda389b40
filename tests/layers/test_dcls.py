import pytest
import torch
from DCLS.construct.modules import Dcls1d
from torch import nn
from torch.nn import functional

from delayplug import ArgumentError, LearnableDelay
from delayplug.layers.taps import INTERPOLATIONS
from tests.devices import DEVICE
from tests.layers.running import F64, equal, make


def make_dcls(size=7, count=1, version="gauss", bias=True, learn_sigma=True):
    module = Dcls1d(4, 3, count, dilated_kernel_size=size, bias=bias, version=version).double().to(DEVICE)
    with torch.no_grad():
        low, high = -(size // 2), size - 1 - size // 2
        module.P.uniform_(low, high)
        module.P.view(-1)[0], module.P.view(-1)[1] = low, high
        if module.SIG is not None:
            module.SIG.uniform_(-3, 3)
            module.SIG.requires_grad_(learn_sigma)
    return module


def run_dcls(module, x):
    """x (T, B, I) through a Dcls1d, padded on the left."""
    padded = functional.pad(x.permute(1, 2, 0), (module.dilated_kernel_size[0] - 1, 0))
    return module(padded).permute(2, 0, 1)


@pytest.mark.parametrize("learn_sigma", [True, False], ids=["trained", "frozen"])
@pytest.mark.parametrize("version", ["gauss", "max", "v1"])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("size", [7, 8, 1])
def test_dcls_there_and_back(size, count, version, learn_sigma):
    module = make_dcls(size, count, version, learn_sigma=learn_sigma)
    if size == 1:
        module.P.data.zero_()
    x = torch.randn(12, 2, 4, dtype=F64)
    layer = LearnableDelay.from_dcls(module)
    assert equal(layer(x), run_dcls(module, x))
    assert isinstance(layer.sigma, nn.Parameter) == (learn_sigma and version != "v1")
    back = layer.to_dcls()
    assert equal(run_dcls(back, x), run_dcls(module, x))
    assert back.version == module.version
    for name, parameter in module.named_parameters():
        found = dict(back.named_parameters())[name]
        assert found.requires_grad == parameter.requires_grad, name
        assert torch.allclose(found, parameter.abs() if name == "SIG" else parameter), name
    again = LearnableDelay.from_dcls(back)
    assert torch.allclose(again.delays, layer.delays)
    assert equal(again(x), layer(x))


def test_dcls_of_a_fresh_layer_and_of_the_engine():
    x = torch.randn(12, 2, 4, dtype=F64)
    for interpolation in INTERPOLATIONS:
        layer = make(4, 3, taps=2, bias=True, interpolation=interpolation)
        assert equal(run_dcls(layer.to_dcls(), x), layer(x))
        assert LearnableDelay.from_dcls(layer.to_dcls(), engine="dcls", round_in_eval=False).engine == "dcls"


@pytest.mark.parametrize("learn_sigma", [True, False])
def test_dcls_of_delays_per_channel(learn_sigma):
    layer = make(4, learn_sigma=learn_sigma)
    module, x = layer.to_dcls(), torch.randn(12, 2, 4, dtype=F64)
    assert equal(run_dcls(module, x), layer(x))
    assert module.groups == 4
    assert not module.weight.requires_grad
    assert module.SIG.requires_grad == learn_sigma


def test_equal_widths_become_the_scalar_a_schedule_moves():
    module = make_dcls(learn_sigma=False)
    module.SIG.data.fill_(2.0)
    assert LearnableDelay.from_dcls(module).sigma.item() == pytest.approx(2.27)


def test_frozen_positions_stay_frozen():
    module = make_dcls()
    module.P.requires_grad_(False)
    layer = LearnableDelay.from_dcls(module)
    assert not layer.delays.requires_grad
    assert not layer.to_dcls().P.requires_grad


def test_converted_tensors_are_copies():
    module = make_dcls()
    layer = LearnableDelay.from_dcls(module)
    before = layer.weight.clone()
    module.weight.data.zero_()
    module.P.data.zero_()
    assert torch.equal(layer.weight, before)
    back = layer.to_dcls()
    layer.weight.data.zero_()
    assert torch.equal(back.weight, before)


def test_position_outside_of_an_even_kernel_is_refused():
    module = make_dcls(8)
    module.P.data.view(-1)[3] = 4.0  # K / 2: DCLS makes no tap of it
    with pytest.raises(ArgumentError, match=r"module.P: expected delays between 0 and 7 steps, got values from -1 to "):
        LearnableDelay.from_dcls(module)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Conv1d(2, 2, 3), "module: expected a DCLS.construct.modules.Dcls1d, got Conv1d"),
        (Dcls1d(2, 2, 1, stride=2, dilated_kernel_size=3), r"module.stride: expected \(1,\), got \(2,\)"),
        (Dcls1d(2, 2, 1, padding=1, dilated_kernel_size=3), r"module.padding: expected \(0,\), got \(1,\)"),
        (Dcls1d(2, 2, 1, groups=2, dilated_kernel_size=3), "module.groups: expected 1, got 2"),
        (Dcls1d(2, 2, 1, dilated_kernel_size=3, version="v0"), "module.version: expected one of gauss, max, v1, got"),
    ],
)
def test_modules_that_are_no_delay(module, message):
    with pytest.raises(ArgumentError, match=message):
        LearnableDelay.from_dcls(module)


def test_no_weights_no_dcls():
    with pytest.raises(ArgumentError, match="weight: expected a tensor"):
        LearnableDelay(4, 3, max_delay=2, weight=False).to_dcls()
