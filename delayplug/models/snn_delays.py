"""Checkpoints of the paper's code, as networks.

Hammouamri, Khalfaoui-Hassani, Masquelier, ICLR 2024; their code is https://github.com/Thvnvtos/SNN-delays. It saves the
state dict of a network whose modules are numbered in a row: for each hidden layer a DCLS convolution, a batch norm if
there is one, a neuron of SpikingJelly's and a dropout; then a DCLS convolution and the readout. Shapes: O outputs, I
inputs, N taps per synapse.
"""

import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from ..bench.config import RunConfig
from ..bench.model.network import DelayNetwork
from ..errors import ArgumentError, DataError
from ..layers.checks import check_count, check_delays
from ..layers.dcls import VERSIONS, mirrored
from ..layers.linear import LearnableDelay
from ..layers.taps import SIGMA_FLOOR
from ..toolkits import plugins

Layer = dict[str, Tensor]  # the tensors of a module by their names


def from_snn_delays(
    checkpoint: str | Path | Mapping[str, Tensor],
    *,
    max_delay: int,
    tau: float | None = None,
    threshold: float = 1.0,
    version: Literal["gauss", "max"] = "gauss",
    backend: str = "spikingjelly",
) -> DelayNetwork:
    """A network of SNN-delays, the paper's code, from its checkpoint, with the neurons of a toolkit.

    It maps (T, B, I) to the membrane of the readout, (T + layers * (max_delay // 2), B, O), as that code does, and is
    returned in `eval()`, where delays are rounded, as that code does for its test. Weights, delays and widths can be
    trained further, frozen and exported. What the checkpoint does not hold has to be given.

    Args:
        checkpoint: the file that its `torch.save(model.state_dict(), ...)` wrote, or the state dict.
        max_delay: the `max_delay` of its configuration, which is the size of the kernel, less one, in steps: 24 for
            SHD, with 250 ms of steps of 10 ms.
        tau: the time constant of its neurons, in steps: `init_tau` / `time_step` of its configuration, 1.005 for SHD.
            None where the checkpoint has learned ones ("plif"), which become constants.
        threshold: `v_threshold` of its configuration.
        version: `DCLSversion` of its configuration.
        backend: the toolkit whose neurons to use.

    Raises:
        DataError: the file cannot be read, or is no such checkpoint; what is wrong is named.
        ArgumentError: tau is missing, or positions do not fit into a kernel of max_delay + 1 steps.
        BackendError: the toolkit cannot be used.
    """
    check_count("max_delay", max_delay, 0)
    if version not in ("gauss", "max"):
        raise ArgumentError("version", "'gauss' or 'max'", repr(version))
    state = _read(checkpoint) if isinstance(checkpoint, str | Path) else dict(checkpoint)
    modules = _modules(state)
    convolutions = [n for n, module in modules.items() if "P" in module]
    layers = [_layer(n, modules[n], max_delay, version) for n in convolutions]
    sizes = [layers[0].in_features, *(layer.out_features or 0 for layer in layers)]
    learned = [_learned_tau(modules, n) for n in convolutions]
    taus = [own if own is not None else tau for own in learned]
    if any(each is None for each in taus):
        advice = "It is init_tau / time_step of its configuration, such as tau=1.005"
        raise ArgumentError("tau", "the time constant of the neurons in steps, which the checkpoint lacks", tau, advice)
    constants = [float(each) for each in taus if each is not None]
    config = RunConfig(max_delay=max_delay, taps=layers[0].taps, tau=constants[0], dropout=0.0, compile=False)
    network = DelayNetwork(sizes, plugins.toolkit(backend), config)
    for synapses, layer in zip(network.layers, layers, strict=True):
        synapses.weights = layer
    for n, (convolution, constant) in enumerate(zip(convolutions[:-1], constants, strict=False)):
        norm = modules.get(convolution + 1, {})
        if "running_mean" in norm:
            network.norms[n].load_state_dict(norm)
        else:
            network.norms[n] = nn.Identity()
        network.neurons[n] = network.benchmark.spiking_neuron(tau=constant, threshold=threshold)
    network.readout = network.benchmark.readout_neuron(tau=constants[-1])
    return network.eval()


def _read(path: str | Path) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises errors of any kind
        raise DataError(f"{path}: expected a checkpoint of SNN-delays, got {type(error).__name__}: {error}") from error
    if not isinstance(state, dict):
        raise DataError(f"{path}: expected the state dict of a network, got {type(state).__name__}")
    return state


def _modules(state: Mapping[str, Tensor]) -> dict[int, Layer]:
    """The tensors of each numbered module, checked for being those of such a network."""
    modules: dict[int, Layer] = {}
    for key, value in state.items():
        match = re.fullmatch(r"model\.(\d+)\.(\w+)", str(key))
        if match is None or not isinstance(value, Tensor):
            raise DataError(f"expected a checkpoint of SNN-delays, with keys such as model.0.P, got the key {key!r}")
        modules.setdefault(int(match[1]), {})[match[2]] = value
    convolutions = sorted(n for n, module in modules.items() if "P" in module)
    if not convolutions or convolutions[0] != 0:
        raise DataError("expected a checkpoint of SNN-delays, whose first module is a DCLS convolution, model.0")
    known = set(convolutions)
    for n, following in itertools.zip_longest(convolutions, convolutions[1:]):
        norm = "running_mean" in modules.get(n + 1, {})
        neuron = n + 1 + norm
        known |= {n + 1} if norm else set()
        known |= {neuron} if set(modules.get(neuron, {})) == {"w"} else set()
        if following is not None and following != neuron + 2:
            raise DataError(
                f"model.{neuron + 2}: expected the next DCLS convolution, got another module before it, such as a "
                "SynapseFilter (stateful_synapse), which is not supported"
            )
    unknown = sorted(set(modules) - known)
    if unknown:
        keys = ", ".join(f"model.{unknown[0]}.{name}" for name in modules[unknown[0]])
        raise DataError(f"expected DCLS convolutions, batch norms and LIF neurons, got {keys}")
    return dict(sorted(modules.items()))


def _layer(n: int, tensors: Layer, max_delay: int, version: Literal["gauss", "max"]) -> LearnableDelay:
    """The DCLS convolution with these tensors as a layer of delays."""
    where = f"model.{n}"
    weight, positions, widths = (tensors.get(name) for name in ("weight", "P", "SIG"))
    fits = weight is not None and positions is not None and positions.shape == (1, *weight.shape) and weight.dim() == 3
    if not fits or (widths is not None and positions is not None and widths.shape != positions.shape):
        shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in tensors.items())
        raise DataError(
            f"{where}: expected weight (O, I, N), P and SIG (1, O, I, N) of a DCLS convolution, got {shapes}"
        )
    assert weight is not None
    assert positions is not None
    size = max_delay + 1
    delays = mirrored(positions[0], size)
    check_delays(delays, max_delay, f"{where}.P", "Is max_delay that of its configuration (the kernel's size, less 1)?")
    width = torch.zeros(1) if widths is None else widths.abs()
    if not bool((width == width.flatten()[0]).all()):
        raise DataError(f"{where}.SIG: expected one width for all synapses, as that code has, got several")
    interpolation = next(name for name, own in VERSIONS.items() if own == version)
    sigma = float(width.flatten()[0]) + SIGMA_FLOOR[interpolation]
    outputs, inputs, taps = weight.shape
    options = {"interpolation": interpolation, "sigma": sigma, "taps": taps, "bias": "bias" in tensors}
    layer = LearnableDelay(inputs, outputs, max_delay=max_delay, **options)  # type: ignore[arg-type]
    with torch.no_grad():
        layer.delays.copy_(delays)
        layer.get_parameter("weight").copy_(weight)
        if "bias" in tensors:
            layer.get_parameter("bias").copy_(tensors["bias"])
    return layer


def _learned_tau(modules: Mapping[int, Layer], convolution: int) -> float | None:
    """The time constant that the neuron behind a convolution has learned, in steps; None if it has none."""
    for n in (convolution + 1, convolution + 2):
        if set(modules.get(n, {})) == {"w"}:
            return float(1 / modules[n]["w"].double().sigmoid())
    return None
