"""Devices: their limits, `check_device`, and `freeze_delays(target=...)`, which never shortens delays in silence."""

from dataclasses import replace

import pytest
import snntorch
import torch
from torch import nn

import delayplug
from delayplug import ArgumentError, LearnableDelay, WiringError, check_device, devices, freeze_delays
from delayplug.deploy.devices import device_of

LONG = {"loihi2": 62, "spinnaker1": 15, "spinnaker1-extended": 127, "spinnaker2": 7, "fpga": 15, "genn": 254}


def delayed(granularity: str = "synaptic", max_delay: int = 100) -> nn.Module:
    net = nn.Sequential(nn.Linear(12, 6), snntorch.Leaky(beta=0.8, init_hidden=True))
    return delayplug.add_delays(net, granularity=granularity, max_delay=max_delay).eval()


def state(net: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


def test_every_device_has_limits_that_its_bits_hold_and_sources() -> None:
    for name, device in devices().items():
        assert device.name == name
        assert 0 < device.max_delay < 2**device.delay_bits
        assert device.sources
        assert all(len(source) > 20 for source in device.sources)
        assert device.weight_bits is None or 2 <= device.weight_bits <= 16


@pytest.mark.parametrize(("name", "longest"), LONG.items())
def test_delays_of_up_to_the_limit_fit_and_longer_ones_do_not(name: str, longest: int) -> None:
    layer = LearnableDelay(4, 3, max_delay=300, init=float(longest))
    assert check_device(layer, name).fits
    with torch.no_grad():
        layer.delays[1, 2] = longest + 1
    report = check_device(layer, name)
    assert not report.fits
    misfit = report.misfits[0]
    assert (misfit.number, misfit.of, misfit.worst, misfit.allowed) == (1, 12, longest + 1, longest)


def test_delays_count_as_rounded() -> None:
    assert check_device(LearnableDelay(4, 3, max_delay=300, init=62.4), "loihi2").fits
    assert not check_device(LearnableDelay(4, 3, max_delay=300, init=62.6), "loihi2").fits


def test_a_network_that_does_not_fit_is_refused_with_numbers_and_stays_as_it_was() -> None:
    net = delayed()
    with torch.no_grad():
        net[0].delay.delays.fill_(3.0)
        net[0].delay.delays[0, :5] = 90.0
    before = state(net)
    with pytest.raises(ArgumentError, match=r"loihi2") as error:
        freeze_delays(net, target="loihi2")
    words = " ".join(str(error.value).split())
    assert "5 72 90 steps 62" in words  # values, of, worst, allowed
    assert "clamp=True" in words
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_clamp_shortens_and_reports() -> None:
    net = delayed()
    with torch.no_grad():
        net[0].delay.delays.fill_(3.0)
        net[0].delay.delays[0, :5] = 90.0
    report = freeze_delays(net, target="loihi2", clamp=True)
    assert int(net[0].delay.delays.max()) == net[0].delay.max_delay == 62
    assert [(c.moved, c.largest) for c in report.changes if c.what == "at most 62 steps"] == [(5, 28.0)]
    assert report.target is not None
    assert "Loihi 2" in str(report)
    assert "do" in str(report.target)


def test_a_shorter_max_delay_is_an_answer_too() -> None:
    net = delayed()
    freeze_delays(net, target="loihi2", max_delay=30)
    assert net[0].delay.max_delay == 30


def test_a_network_that_fits_is_frozen_without_a_change_and_within_the_limit() -> None:
    net = delayed(max_delay=100)
    with torch.no_grad():
        net[0].delay.delays.fill_(3.0)
    report = freeze_delays(net, target="loihi2")
    assert all(change.moved == 0 for change in report.changes)
    assert net[0].delay.max_delay == 62


def test_steps_of_another_length_are_counted_before_the_limit() -> None:
    net = delayed(max_delay=40)
    with torch.no_grad():
        net[0].delay.delays.fill_(40.0)
    with pytest.raises(ArgumentError, match="80"):
        freeze_delays(net, target="loihi2", step_ms=(10, 5))


def test_delays_that_a_device_has_no_place_for_cannot_be_clamped() -> None:
    for granularity in ("synaptic", "dendritic"):
        net = delayed(granularity, max_delay=10)
        with pytest.raises(ArgumentError, match=granularity) as error:
            freeze_delays(net, target="truenorth", clamp=True)
        assert "clamp=True" not in str(error.value)
    assert freeze_delays(delayed("axonal", max_delay=10), target="truenorth").target.fits


@pytest.mark.parametrize("granularity", ["axonal", "dendritic", "synaptic"])
def test_a_device_with_a_delay_per_synapse_holds_all_of_them(granularity: str) -> None:
    assert check_device(delayed(granularity, max_delay=10), "loihi2").fits


def test_fan_in_counts_taps_and_kernels() -> None:
    small = replace(devices()["loihi2"], fan_in=20, weight_bits=None)
    assert check_device(delayed(max_delay=5), small).fits
    (misfit, *_) = check_device(LearnableDelay(12, 6, max_delay=5, taps=3), small).misfits
    assert misfit.worst == 36
    net = nn.Sequential(nn.Conv2d(3, 4, 3), snntorch.Leaky(beta=0.8, init_hidden=True))
    of_kernel, of_fan_in = check_device(delayplug.add_delays(net, max_delay=5), small).misfits
    assert (of_fan_in.number, of_fan_in.of, of_fan_in.allowed) == (7, 27, 20)
    assert "convolution" in of_kernel.what
    assert not of_kernel.blocks  # the chip can have them, its software for convolutions cannot


def test_what_weights_lose_is_told_and_blocks_nothing() -> None:
    net = delayed(max_delay=7)
    with torch.no_grad():
        net[0].weight.uniform_(-1, 1)
    report = check_device(net, "spinnaker2")
    (misfit,) = report.misfits
    assert report.fits
    assert not misfit.blocks
    assert misfit.unit == "%"
    assert 0 < misfit.worst <= 100 * 0.5 / 15 + 1e-4  # half a step of the largest weight
    assert freeze_delays(net, target="loihi2").target.misfits


def test_weights_that_were_shortened_lose_nothing_more() -> None:
    net = delayed(max_delay=10)
    assert freeze_delays(net, target="loihi2", weight_bits=8).target.misfits == ()
    assert check_device(net, "loihi2").misfits == ()


def test_different_weights_of_a_neuron_are_counted_where_a_device_has_few() -> None:
    net = delayed("axonal", max_delay=10)
    (_, misfit) = check_device(net, "truenorth").misfits
    assert (misfit.number, misfit.of, misfit.allowed, misfit.unit) == (6, 6, 4, "weights")
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([-1.0, 0.0, 1.0]).repeat(6, 4))
    assert check_device(net, "truenorth").misfits == ()


@pytest.mark.parametrize(("options", "word"), [({"max_delay": 63}, "max_delay"), ({"weight_bits": 9}, "weight_bits")])
def test_more_than_the_device_holds_cannot_be_asked_for(options: dict[str, int], word: str) -> None:
    with pytest.raises(ArgumentError, match=f"{word}: expected at most .*loihi2"):
        freeze_delays(delayed(), target="loihi2", **options)


def test_clamp_needs_a_target() -> None:
    with pytest.raises(ArgumentError, match="clamp"):
        freeze_delays(delayed(), clamp=True)


def test_frozen_delays_are_checked_and_not_changed() -> None:
    net = delayed()
    with torch.no_grad():
        net[0].delay.delays.fill_(90.0)
    freeze_delays(net)
    with pytest.raises(ArgumentError, match="90"):
        freeze_delays(net, target="loihi2", clamp=True)
    assert int(net[0].delay.delays.max()) == 90


def test_a_device_of_ones_own() -> None:
    mine = replace(devices()["fpga"], name="mine", max_delay=3)
    with pytest.raises(ArgumentError, match="mine"):
        freeze_delays(delayed(), target=mine)


def test_unknown_devices_and_networks_without_delays() -> None:
    with pytest.raises(ArgumentError, match="Did you mean 'loihi2'"):
        freeze_delays(delayed(), target="Loihi-2")
    with pytest.raises(ArgumentError, match="one of loihi2"):
        device_of(2)
    with pytest.raises(WiringError, match="no delays"):
        check_device(nn.Linear(2, 2), "loihi2")


def test_reports_are_readable() -> None:
    text = str(check_device(LearnableDelay(4, 3, max_delay=300, init=70.0), "loihi2"))
    assert "Intel Loihi 2" in text
    assert "delays of more than 62 steps" in " ".join(text.split())
    fine = str(check_device(LearnableDelay(4, max_delay=3), "loihi2"))
    assert "1 layer with delays fits" in fine
