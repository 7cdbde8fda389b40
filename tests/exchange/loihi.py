"""A file of netx, read and run in whole numbers, written from lava-dl's README and the documentation of Lava's LIF.

It is not Lava: that needs another Python than delayplug does. `netx/recorded.npz` is what Lava itself computed for
`netx/recorded.net` (lava-nc 0.10, lava-dl 0.6, fixed_pt models; see `run_in_lava.py`), and a test compares them.
"""

from pathlib import Path

import h5py
import numpy as np

Array = np.ndarray


def layers_of(path: Path) -> list[dict[str, Array | dict[str, Array]]]:
    """The layers of a file, each a dictionary of its datasets."""
    with h5py.File(path) as file:
        groups = [file["layer"][str(i)] for i in range(len(file["layer"]))]
        return [{key: _value(item) for key, item in group.items()} for group in groups]


def _value(item):
    if isinstance(item, h5py.Group):
        return {key: _value(value) for key, value in item.items()}
    value = item[()]
    return value[0].decode("ascii") if value.dtype.kind == "S" else value


def run(path: Path, spikes_TI: Array) -> Array:
    """Spikes (T, I) of zeros and ones through the dense layers of a file, (T, O). A layer takes a step."""
    for layer in layers_of(path):
        spikes_TI = _dense(layer, spikes_TI)
    return spikes_TI


def _dense(layer, spikes_TI: Array) -> Array:
    weight = layer["weight"].astype(np.int64)
    delay = layer.get("delay", np.zeros_like(weight))
    neuron, bias = layer["neuron"], layer.get("bias", 0)
    steps, outputs = len(spikes_TI), len(weight)
    arriving = np.zeros((steps + 1 + int(delay.max()), outputs), dtype=np.int64)
    for t in range(steps):
        for d in np.unique(delay):
            arriving[t + 1 + d] += np.where(delay == d, weight, 0) @ spikes_TI[t].astype(np.int64)
    u, v = np.zeros(outputs, dtype=np.int64), np.zeros(outputs, dtype=np.int64)
    out = np.zeros((steps, outputs))
    for t in range(steps):
        u = _lose(u, neuron["iDecay"]) + 64 * arriving[t]
        v = _lose(v, neuron["vDecay"]) + u + 64 * bias
        out[t] = v > 64 * neuron["vThMant"]
        v = np.where(out[t] > 0, 0, v)
    return out


def _lose(state: Array, decay: int) -> Array:
    """Cut towards zero, as Loihi does."""
    return np.sign(state) * (np.abs(state) * (4096 - int(decay)) >> 12)
