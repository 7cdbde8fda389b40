"""`to_netx`: a network with a delay per synapse in the HDF5 layout of lava-dl's netx, for Loihi 2.

With integers w, a leak of vDecay / 4096 and one of the current of iDecay / 4096, Loihi's neuron computes

    u <- u (1 - iDecay / 4096) + 64 sum w s
    v <- v (1 - vDecay / 4096) + u + 64 bias
    s  = v > 64 vThMant, and then v <- 0

which is `delayplug.Cell` with weights, thresholds and biases times a scale, products cut towards zero to whole numbers.
Spikes take one step from layer to layer, besides the delays: the network is that of delayplug, one step later for each
layer. Sources: lava-dl 0.6 (lib/dl/netx: README, hdf5, utils; lib/dl/slayer: block and neuron/cuba), lava-nc 0.10
(proc/lif, proc/dense).

Shapes: O outputs, I inputs of a layer, * the kernel of a convolution.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from .._extras import require
from .._files import path_to_write
from .._tables import counted, make_table, number, text, to_text
from ..errors import ExchangeError
from ..neurons.cell import Cell, Reset
from ..surgery.dataflow import Example
from .chain import Stage, stages_of
from .from_model import graph_of

if TYPE_CHECKING:
    from rich.console import RenderableType

MAX_DELAY = 62  # netx clamps longer ones
_LARGEST = 254  # of a weight of 8 bits: netx counts them in steps of two, -256..254
_DECAY = 4096  # 12 bits
_THRESHOLD = 2**17 - 1
_BIAS = 4095


@dataclass(frozen=True)
class NetxLayer:
    """One layer in the file, and what its numbers lost on the way to integers.

    Attributes:
        name: of the neurons in the model.
        kind: "dense" or "conv".
        scale: integers are this many times the model's weights and thresholds; a readout's membrane is
            v / (64 scale).
        max_delay: the longest delay, in steps.
        weights: how many there are; weights_lost: how many of those that were not zero became zero.
        weight_error: largest error of a weight, in percent of the largest weight.
        threshold_error: in percent of the threshold.
        decay_error: largest error of the membrane's and the current's part lost in a step, in percent of a state.
    """

    name: str
    kind: str
    scale: float
    max_delay: int
    weights: int
    weights_lost: int
    weight_error: float
    threshold_error: float
    decay_error: float


@dataclass(frozen=True)
class NetxFile:
    """What `to_netx` wrote: print it, or pass it to rich.

    Attributes:
        path: of the file.
        layers: in their order.
        notes: where the network on the device may differ from the model by more than rounding.
    """

    path: Path
    layers: tuple[NetxLayer, ...]
    notes: tuple[str, ...]

    @property
    def latency(self) -> int:
        """How many steps later the output of the device is than that of the model, one for each layer."""
        return len(self.layers)

    def __rich__(self) -> RenderableType:
        from rich.console import Group

        table = make_table(
            text("layer", wrap="anywhere"),
            text("kind"),
            *(number(name) for name in ("longest\ndelay", "weights", "became\nzero")),
            *(number(name) for name in ("weight\nerror", "threshold\nerror", "decay\nerror")),
            title=f"{self.path.name}: {self.latency} layers, each one step later than in the model",
            title_justify="left",
            gap=3,
        )
        for x in self.layers:
            errors = (f"{error:.2g} %" for error in (x.weight_error, x.threshold_error, x.decay_error))
            table.add_row(x.name, x.kind, str(x.max_delay), f"{x.weights:,}", f"{x.weights_lost:,}", *errors)
        return Group(table, *self.notes)

    def __str__(self) -> str:
        return to_text(self)


def to_netx(
    model: nn.Module, path: str | Path, *, example: Example | None = None, outputs: Sequence[str] | None = None
) -> NetxFile:
    """Write a feed-forward network as it is in `eval()`, delays rounded, in the HDF5 layout of lava-dl's netx.

    `lava.lib.dl.netx.hdf5.Network(net_config=path)` reads it, for Loihi 2 or for Lava's simulation of it. Delays are
    those of each synapse of a dense layer, 0..62; axonal and dendritic ones become so many equal ones. Weights are
    rounded to 8 bits with one scale per layer (even numbers, -254..254), which also scales thresholds. Thresholds of
    neurons that leak are exact then, leaks have 12 bits; what this loses is in the result.

    Supported are chains of linear layers and convolutions (Conv2d; these without delays, which netx's reader leaves
    out), with spiking neurons that reset to a value, with or without a current, and a readout that leaks to 0 at the
    end. Biases act from the first step on the device, before the input has come to a later layer, and are an error for
    neurons with a current, through which a bias of torch would go.

    Args:
        model: a network of any toolkit, or what `from_nir` returned; it is left as it was.
        path: of the file to write.
        example, outputs: as for `to_nir`.

    Returns:
        What was written, and what was lost by rounding, layer by layer.

    Raises:
        ExchangeError: something in the model, which is named, has no counterpart on the device. Nothing was written.
        ExtraMissingError: the package h5py is missing.
        OSError: the file cannot be written; what was there before is there still.
    """
    require("h5py", "netx", "delayplug.to_netx")
    path = path_to_write(path)
    made = []
    stages = stages_of(graph_of(model, example, outputs))
    for stage in stages:
        try:
            made.append(_layer(stage, is_last=stage is stages[-1]))
        except ExchangeError as error:
            raise ExchangeError(f"{stage.name}: {error}") from None
    notes = tuple(note for _, _, notes in made for note in notes)
    _write(path, [groups for _, groups, _ in made])
    for note in notes:
        warnings.warn(note, stacklevel=2)
    return NetxFile(path, tuple(layer for layer, _, _ in made), notes)


_Group = dict[str, Any]  # of datasets by name


def _write(path: Path, layers: list[list[_Group]]) -> None:
    """All layers, into a file that is there whole or not at all."""
    import h5py

    partial = path.with_name(f".{path.name}.partial")
    try:
        with h5py.File(partial, "w") as file:
            for i, group in enumerate(group for groups in layers for group in groups):
                for name, value in group.items():
                    kind, data = ("S10", [value]) if isinstance(value, bytes) else (None, value)
                    file.create_dataset(f"layer/{i}/{name}", data=data, dtype=kind)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _layer(stage: Stage, *, is_last: bool) -> tuple[NetxLayer, list[_Group], list[str]]:
    """The layer, its groups in the file (with a flatten in front of it, where there is one), and notes."""
    if stage.taps > 1:
        raise ExchangeError(f"{stage.taps} taps per synapse: netx has one weight and one delay for each")
    longest = 0 if stage.delays is None else int(stage.delays.max())
    if longest > MAX_DELAY:
        raise ExchangeError(
            f"delays of up to {longest} steps: netx holds 0..{MAX_DELAY}. See freeze_delays(model, target='loihi2')"
        )
    if stage.geometry is not None and longest:
        raise ExchangeError("a convolution with delays: netx's reader leaves them out. Linear layers can have delays")
    cell, group = _neuron(stage.cell, is_last)
    weight = stage.weight.double() * cell.gain.view(-1, *(1,) * (stage.weight.dim() - 1))
    largest = float(weight.abs().max())
    if largest == 0:
        raise ExchangeError("weights that are all zero")
    distance = None if cell.threshold is None else float(cell.threshold - cell.reset)
    scale, threshold = _scale(cell, distance, weight, largest)
    integers = (weight * scale / 2).round().clamp(-_LARGEST / 2, _LARGEST / 2).long() * 2
    bias, notes = _bias(stage, cell, scale)
    group |= {"neuron/vThMant": threshold, "weight": integers.int().numpy()}
    group |= _shape(stage) | ({} if bias is None else {"bias": bias.int().numpy()})
    if longest:
        assert stage.delays is not None
        group["delay"] = stage.delays.int().numpy()
    error = 100 * float((integers / scale - weight).abs().max()) / largest
    is_exact = distance is None or not bool(cell.leak)
    threshold_error = 0.0 if is_exact or distance is None else round(100 * abs(threshold / scale / distance - 1), 9)
    decays = {"neuron/vDecay": cell.leak, "neuron/iDecay": cell.synapse}
    decay = max(100 * abs(group[name] / _DECAY - float(part)) for name, part in decays.items() if part is not None)
    lost = int(((integers == 0) & (weight != 0)).sum())
    layer = NetxLayer(stage.name, stage.kind, scale, longest, weight.numel(), lost, error, threshold_error, decay)
    flatten: list[_Group] = [{"type": b"flatten", "shape": [math.prod(stage.fed)]}] if stage.flattens else []
    return layer, [*flatten, group], [*notes, *_overflow(stage.name, integers, cell)]


def _neuron(cell: Cell, is_last: bool) -> tuple[Cell, _Group]:
    """The cell, its numbers checked, and its decays in the file."""
    cell.only("Loihi's CUBA neuron, as netx reads it,", "leak", "rest", "threshold", "reset", "synapse")
    if cell.threshold is None and not is_last:
        raise ExchangeError("a readout in the middle of the network: it sends membranes, and Loihi sends spikes")
    if cell.threshold is None and bool(cell.rest):
        raise ExchangeError(f"a readout that leaks to {float(cell.rest):g}: Loihi's neurons leak to 0")
    if cell.threshold is not None:
        if cell.rule is not Reset.VALUE:
            raise ExchangeError(
                f"a reset by the rule {cell.rule.value!r}: Loihi's CUBA neuron resets to zero in the step of the "
                "spike. Train with neurons that do so"
            )
        if bool(cell.leak) and not Cell.close(cell.rest - cell.reset, 0.0):
            raise ExchangeError(f"a reset to {float(cell.reset):g} and a rest of {float(cell.rest):g}, which differ")
        if float(cell.threshold) <= float(cell.reset):
            raise ExchangeError("a threshold at or below the reset: such a neuron fires without input")
    current = _DECAY if cell.synapse is None else round(float(cell.synapse) * _DECAY)
    if current < 1:
        raise ExchangeError(f"a current that loses {float(cell.synapse or 0):g} of itself in a step: at least 1/4096")
    leak = min(round(float(cell.leak) * _DECAY), _DECAY - 1)
    group: _Group = {"neuron/type": b"CUBA", "neuron/iDecay": current, "neuron/vDecay": leak, "neuron/refDelay": 1}
    return cell, group | {"neuron/gradedSpike": False}


def _scale(cell: Cell, distance: float | None, weight: Tensor, largest: float) -> tuple[float, int]:
    """What weights are multiplied by, and the threshold in units of them.

    Weights that have 8 bits already, all of them whole multiples of one step, keep their values. Otherwise the scale
    makes the best use of 8 bits; with a leak it is a little smaller, such that the threshold is a whole number. Without
    a leak membranes are sums of weights, so that rounding the threshold down loses nothing. (A neuron that fires at its
    threshold has the next smaller number for one, see `Cell.below`.)
    """
    step = _common_step(weight, largest)
    scale = _LARGEST / largest if step is None else 2 * (_LARGEST // 2 // round(largest / step)) / step
    if distance is None:
        return scale, _THRESHOLD
    leaks = bool(cell.leak) or cell.synapse is not None
    most = math.floor(distance * scale)
    if leaks and step is not None and round(distance * scale) - distance * scale > 1e-5 * distance * scale:
        most = round(distance * scale)  # the nearest, but below a threshold that a sum of weights can meet exactly
    if most < 1:
        raise ExchangeError(
            f"a threshold of {distance:.3g}, where the largest weight is {largest:.3g}: with weights of 8 bits it is "
            f"less than one of {_LARGEST} steps"
        )
    if most > _THRESHOLD:
        return _THRESHOLD / distance, _THRESHOLD
    return (most / distance if leaks and step is None else scale), most


def _common_step(weight: Tensor, largest: float) -> float | None:
    """The largest step of which all weights are whole multiples, up to 127 of them; None if there is none."""
    for most in range(1, _LARGEST // 2 + 1):
        multiples = weight * (most / largest)
        if bool(((multiples - multiples.round()).abs() <= 1e-5).all()):
            return largest / most
    return None


def _bias(stage: Stage, cell: Cell, scale: float) -> tuple[Tensor | None, list[str]]:
    if stage.bias is None or not bool(stage.bias.any()):
        return None, []
    if cell.synapse is not None:
        raise ExchangeError(
            "a bias in front of a neuron with a current, through which it goes: Loihi adds it to the membrane. "
            "Train with bias=False"
        )
    bias = (stage.bias.double() * cell.gain * scale).round().long()
    if int(bias.abs().max()) > _BIAS:
        raise ExchangeError(f"a bias of {int(bias.abs().max())} in units of the weights: Loihi holds up to {_BIAS}")
    later = counted(stage.number + 1, "step")
    note = (
        f"{stage.name}: biases act from the first step on, and input arrives {later} later. Read the file with "
        "Network(net_config=..., reset_interval=n, reset_offset=1), n the steps of one sample with its delays, or "
        "train with bias=False"
    )
    return bias, [note]


def _shape(stage: Stage) -> _Group:
    if stage.geometry is None:
        outputs, inputs = stage.weight.shape
        return {"type": b"dense", "shape": [outputs], "inFeatures": inputs, "outFeatures": outputs}
    if len(stage.kernel) != 2:
        raise ExchangeError(f"a convolution over {len(stage.kernel)} dimension of space: netx has those over two")
    geometry = stage.geometry
    moves = {"stride": geometry.stride, "padding": geometry.padding, "dilation": geometry.dilation}
    return {
        "type": b"conv",
        "shape": list(stage.shape),
        "inChannels": stage.fed[0],
        "outChannels": stage.shape[0],
        "kernelSize": list(stage.kernel),
        "groups": geometry.groups,
        **{name: list(numbers) for name, numbers in moves.items()},
    }


def _overflow(name: str, integers: Tensor, cell: Cell) -> list[str]:
    """A note where the current could leave its 24 bits, in which it wraps around."""
    rows = integers.flatten(1)
    most = max(int(rows.clamp(min=0).sum(1).max()), -int(rows.clamp(max=0).sum(1).min()))
    at_once = most / (1.0 if cell.synapse is None else float(cell.synapse))
    if at_once * 64 <= 2**23:
        return []
    percent = 100 * 2**17 / at_once
    return [
        f"{name}: if more than {percent:.0f} % of a neuron's inputs spike at every step, its current leaves the 24 "
        "bits that it has, and changes its sign"
    ]
