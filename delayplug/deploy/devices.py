"""What devices can hold, with the sources of these numbers, and what of a network does not fit: `check_device`.

Delays are counted as delayplug does: 0 is a spike that arrives in the step in which the layer before sends it. Devices
whose shortest delay is one step add that step to every layer, so that what they call 1..n is 0..n - 1 here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .._tables import make_table, number, text, to_text
from ..errors import ArgumentError, WiringError, did_you_mean
from ..layers.base import DelayLayer
from ..layers.conv import ConvDelay, Convolution
from ..layers.taps import round_delays
from ..surgery.delayed import Delayed, weights_of
from ..surgery.find import named_delays
from ..toolkits.vocabulary import Granularity
from .quantise import quantised, rows_of, transposed_groups

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True)
class Device:
    """A device, or a simulator with a fixed format, and what it holds. Where sources disagree, the smaller figure.

    Attributes:
        name: as `freeze_delays(model, target=...)` takes it.
        title: in full.
        max_delay: the longest delay, in steps.
        delay_bits: in which a delay is stored.
        granularity: the finest one: "synaptic" devices hold axonal and dendritic delays too, as many equal ones.
        weight_bits: of an integer weight with its sign; None for floating-point weights.
        fan_in: the most synapses of one neuron; None where it is not one number.
        sources: where these numbers come from.
        distinct_weights: the most different weights, except zero, that one neuron can have; None for any number.
        convolutions: whether its software holds delays of convolutions; if not, the layer has to be written as a linear
            one.

    >>> import delayplug
    >>> delayplug.devices()["loihi2"].max_delay
    62
    """

    name: str
    title: str
    max_delay: int
    delay_bits: int
    granularity: Granularity
    weight_bits: int | None
    fan_in: int | None
    sources: tuple[str, ...]
    distinct_weights: int | None = None
    convolutions: bool = True


_S, _A = Granularity.SYNAPTIC, Granularity.AXONAL
_SPYNNAKER = "sPyNNaker, spynnaker/pyNN/utilities/constants.py: MAX_SUPPORTED_DELAY_TICS = 16, the shortest delay is 1"
_DEVICES = (
    Device(
        "loihi2",
        "Intel Loihi 2, by Lava",
        62,
        6,
        _S,
        8,
        None,
        (
            "lava-nc 0.10, lava/proc/dense/models.py: 6 bits, 0 to 63 steps, weights of 8 bits",
            "lava-dl 0.6, lava/lib/dl/netx/hdf5.py: delays above 62 are clamped, a delay per synapse in dense layers",
            "Meszaros, Knight, Timcheck, Nowotny 2025, arXiv:2510.13757: synaptic delays on Loihi 2 (by summaries)",
        ),
        convolutions=False,
    ),
    Device(
        "spinnaker1",
        "SpiNNaker 1, by sPyNNaker",
        15,
        4,
        _S,
        16,
        None,
        (_SPYNNAKER, "static synapses have weights of 16 bits; not read again"),
    ),
    Device(
        "spinnaker1-extended",
        "SpiNNaker 1 with delay extensions, by sPyNNaker",
        127,
        7,
        _S,
        16,
        None,
        (
            _SPYNNAKER,
            "the same file in its older versions: MAX_DELAY_BLOCKS = 8 of 16 steps each; newer ones have more",
        ),
    ),
    Device(
        "spinnaker2",
        "SpiNNaker 2, by py-spinnaker2",
        7,
        3,
        _S,
        5,
        None,
        ("py-spinnaker2, neuron model lif: delays of up to 7 steps, weights of 4 bits and a sign; not read again",),
    ),
    Device(
        "fpga",
        "FPGA processor of Chen et al.",
        15,
        4,
        _S,
        8,
        None,
        ("Chen, Tian, Wu, Ying, Wen, Liu 2025, arXiv:2511.01158: up to 15 steps, weights of 8 bits (by summaries)",),
    ),
    Device(
        "truenorth",
        "IBM TrueNorth",
        14,
        4,
        _A,
        9,
        256,
        (
            "Merolla et al., Science 345, 2014, and its supplement: 256 axons per core; a spike carries a delay of 4 "
            "bits, 1 to 15 steps, one for each neuron; not read again",
            "Cassidy et al., IJCNN 2013: signed weights of 9 bits, four different ones for each neuron; not read again",
        ),
        distinct_weights=4,
    ),
    Device(
        "genn",
        "GeNN, by mlGeNN",
        254,
        8,
        _S,
        None,
        None,
        (
            "mlGeNN, ml_genn/compilers/weight_update_models.py: the delay is a uint8_t",
            "mlGeNN, ml_genn/compilers/event_prop_compiler.py: at most 255 slots, 0 to 254 steps; newer versions have "
            "16 bits",
        ),
    ),
)


def devices() -> dict[str, Device]:
    """The devices that `freeze_delays(model, target=...)` and `check_device` know, by name.

    >>> import delayplug
    >>> list(delayplug.devices())
    ['loihi2', 'spinnaker1', 'spinnaker1-extended', 'spinnaker2', 'fpga', 'truenorth', 'genn']
    """
    return {device.name: device for device in _DEVICES}


def device_of(target: str | Device) -> Device:
    """The device of a name, or what it is itself.

    Raises:
        ArgumentError: no device has this name.
    """
    if isinstance(target, Device):
        return target
    known = devices()
    if not isinstance(target, str) or target not in known:
        advice = did_you_mean(target, known) or "A Device of your own can be passed, too"
        raise ArgumentError("target", f"one of {', '.join(known)}", repr(target), advice)
    return known[target]


@dataclass(frozen=True)
class Misfit:
    """Something in one layer that a device does not hold.

    Attributes:
        layer: dotted name.
        what: the limit, and what to do.
        number, of: how many values are beyond it, and how many there are.
        worst: the one that is farthest beyond, in `unit`; for weights, the largest rounding error in percent of the
            largest weight.
        allowed: what the device holds, in `unit`.
        unit: "steps", "delays", "synapses", "weights" or "%".
        blocks: whether `freeze_delays` refuses it unless `clamp=True`. Weights are rounded in every device with integer
            weights, and do not block.
        can_clamp: whether `clamp=True` mends it, at the cost of accuracy.
    """

    layer: str
    what: str
    number: int
    of: int
    worst: float
    allowed: float
    unit: str
    blocks: bool = True
    can_clamp: bool = False


@dataclass(frozen=True)
class DeviceReport:
    """What of a network a device does not hold: print it, or pass it to rich.

    Attributes:
        device: the device.
        layers: how many layers of delays were looked at.
        misfits: what does not fit; empty if everything does.
    """

    device: Device
    layers: int
    misfits: tuple[Misfit, ...]

    @property
    def fits(self) -> bool:
        """Whether the delays fit as they are; weights that have to be rounded do not count."""
        return not any(misfit.blocks for misfit in self.misfits)

    def __rich__(self) -> RenderableType:
        device, layers = self.device, f"{self.layers} layer{'' if self.layers == 1 else 's'} with delays"
        verdict = "fit" if self.fits else "do not fit"
        if self.layers == 1:
            verdict = "fits" if self.fits else "does not fit"
        title = f"{device.title}: {layers} {verdict} (delays 0..{device.max_delay}, {device.granularity})"
        if not self.misfits:
            return title
        table = make_table(
            text("layer", wrap="anywhere"),
            text("what does not fit"),
            *(number(name) for name in ("values", "of", "worst", "allowed")),
            title=title,
            title_justify="left",
            gap=3,
        )
        for m in self.misfits:
            worst = f"{m.worst:.2g} %" if m.unit == "%" else f"{m.worst:,.0f} {m.unit}"
            table.add_row(m.layer or "(model)", m.what, f"{m.number:,}", f"{m.of:,}", worst, f"{m.allowed:,.0f}")
        return table

    def __str__(self) -> str:
        return to_text(self)


@torch.no_grad()
def check_device(model: nn.Module, target: str | Device) -> DeviceReport:
    """What of a network's delays and weights a device does not hold; nothing is changed.

    Args:
        model: with learned or frozen delays; these count as rounded, as in `eval()`.
        target: a name of `devices()`, or a `Device`.

    Raises:
        WiringError: the model has no delays.
        ArgumentError: no device has this name.

    >>> import delayplug
    >>> layer = delayplug.LearnableDelay(20, 10, max_delay=100, init=80.0)
    >>> delayplug.check_device(layer, "loihi2").misfits[0].number
    200
    """
    device = device_of(target)
    layers = list(named_delays(model))
    if not layers:
        raise WiringError("nothing to check: the model has no delays")
    misfits: list[Misfit] = []
    for name, delay in layers:
        module = model.get_submodule(name)
        delayed = module if isinstance(module, Delayed) and module.delay is delay else None
        whole = round_delays(delay.delays.float().clamp(0, delay.max_delay))
        misfits += misfits_of(name, delay, delayed, whole, device)
        misfits += weight_misfits(name, delay, delayed, device)
    return DeviceReport(device, len(layers), tuple(misfits))


def misfits_of(
    name: str, delay: DelayLayer, delayed: Delayed | None, whole: Tensor, device: Device
) -> Iterator[Misfit]:
    """What of one layer a device does not hold, its weights' bits apart; `whole` are its delays in steps."""
    granularity = _granularity(delay, delayed)
    number, longest = int((whole > device.max_delay).sum()), float(whole.max()) if whole.numel() else 0.0
    if number:
        what = f"delays of more than {device.max_delay} steps: train with max_delay={device.max_delay}, or clamp them"
        yield Misfit(name, what, number, whole.numel(), longest, device.max_delay, "steps", can_clamp=True)
    if device.granularity is not Granularity.SYNAPTIC and granularity is not device.granularity:
        what = (
            f"{granularity} delays: the device has {device.granularity} ones, train with "
            f"granularity={device.granularity.value!r}"
        )
        yield Misfit(name, what, whole.numel(), whole.numel(), whole.numel(), 0, "delays")
    if not device.convolutions and _is_convolution(delay, delayed) and granularity is Granularity.SYNAPTIC:
        what = f"delays in the kernel of a convolution: {device.name}'s software has none, write it as a linear layer"
        yield Misfit(name, what, whole.numel(), whole.numel(), whole.numel(), 0, "delays", blocks=False)
    fan_in = _fan_in(delay, delayed)
    if device.fan_in is not None and fan_in is not None and fan_in > device.fan_in:
        what = f"synapses of one neuron: the device has {device.fan_in}, prune or split the layer"
        yield Misfit(name, what, fan_in - device.fan_in, fan_in, fan_in, device.fan_in, "synapses")


def _is_convolution(delay: DelayLayer, delayed: Delayed | None) -> bool:
    return isinstance(delay, ConvDelay) or (delayed is not None and isinstance(weights_of(delayed), Convolution))


def _granularity(delay: DelayLayer, delayed: Delayed | None) -> Granularity:
    """What the delays of a layer belong to; delays per channel that stand alone are those of what feeds them."""
    if delayed is not None:
        return delayed.delay_place.granularity
    return Granularity.SYNAPTIC if delay.delays.dim() > 1 else Granularity.AXONAL


def _weight(delay: DelayLayer, delayed: Delayed | None) -> Tensor | None:
    if delayed is None:
        return delay.weight
    weight = getattr(weights_of(delayed), "weight", None)
    return weight if isinstance(weight, Tensor) else None


def _fan_in(delay: DelayLayer, delayed: Delayed | None) -> int | None:
    """Synapses of one neuron, or None where a layer has delays but no weights."""
    weight = _weight(delay, delayed)
    if weight is None or weight.dim() < 2:
        return None
    rows = rows_of(tuple(weight.shape), transposed_groups(delay if delayed is None else weights_of(delayed)))
    return rows.shape[1]


@torch.no_grad()
def weight_misfits(name: str, delay: DelayLayer, delayed: Delayed | None, device: Device) -> Iterator[Misfit]:
    """What the weights of a layer lose if each output has a scale of its own, in the bits of the device."""
    weight = _weight(delay, delayed)
    if device.weight_bits is None or weight is None or weight.dim() < 2 or not weight.numel():
        return
    rows = rows_of(tuple(weight.shape), transposed_groups(delay if delayed is None else weights_of(delayed)))
    short, _ = quantised(weight, rows, device.weight_bits)
    error, largest = (short - weight).abs(), float(weight.abs().max())
    number = int((error > 1e-6 * largest).sum())
    if number:
        bits = device.weight_bits
        what = f"weights, rounded to {bits} bits on the device; weight_bits={bits} does so here"
        worst = 100 * float(error.max()) / largest
        yield Misfit(name, what, number, weight.numel(), worst, 0.0, "%", blocks=False)
    if device.distinct_weights is not None:
        each = [len(row[row != 0].unique()) for row in short.flatten()[rows.to(short.device)]]
        beyond = sum(n > device.distinct_weights for n in each)
        if beyond:
            what = "neurons with more different weights than the device has for each"
            yield Misfit(name, what, beyond, len(each), max(each), device.distinct_weights, "weights", blocks=False)
