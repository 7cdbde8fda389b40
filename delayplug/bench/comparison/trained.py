"""The trained network of a finished run, in its model.pt."""

import hashlib
import io
from pathlib import Path

import torch
from pydantic import InstanceOf
from torch import Tensor, nn
from typing_extensions import TypedDict

from ...errors import RunError
from ..schema import mismatch
from ..sealed import UnreadableTensorsError, load_tensors
from .records import MODEL, RECORD, read_record

_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)
_MOVE = "Move the folder away to make the run again"


class Model(TypedDict):
    """The content of model.pt.

    Keys:
        state: the state dict after the last epoch.
        delays: "before" and "after" training, of each layer with delays, in steps; NaN where there is no synapse.
        example: (time, channel) of the events of one test recording, and of the spikes of each hidden layer, (2, E).
    """

    state: dict[str, InstanceOf[Tensor]]
    delays: dict[str, list[InstanceOf[Tensor]]]
    example: list[InstanceOf[Tensor]]


def read_model(folder: Path) -> Model:
    """The trained network of a run, as `write_run` saves it.

    Raises:
        RunError: the file is missing, damaged, or not the one that the run wrote.
    """
    path = folder / MODEL
    try:
        content = path.read_bytes()
        model: Model = load_tensors(io.BytesIO(content))
    except (OSError, UnreadableTensorsError) as error:
        raise RunError(f"{path}: expected a trained network, got a damaged file: {error}. {_MOVE}") from error
    if wrong := mismatch(model, Model) or _unusable(model):
        raise RunError(f"{path}: expected a trained network, got a damaged file: {wrong}. {_MOVE}")
    noted = read_record(folder / RECORD).get("model") if (folder / RECORD).exists() else None
    if noted not in (None, hashlib.sha256(content).hexdigest()):
        got = f"another one, whose checksum is not that in {RECORD}"
        raise RunError(f"{path}: expected the network that its run trained, got {got}. {_MOVE}")
    return model


def _unusable(model: Model) -> str:
    """What is wrong with the tensors of a file, in words; "" if nothing is."""
    delays, example = model["delays"], model["example"]
    tensors = {f"state.{name}": tensor for name, tensor in model["state"].items()}
    tensors |= {f"delays.{when}[{n}]": tensor for when, of in delays.items() for n, tensor in enumerate(of)}
    for name, tensor in {**tensors, **{f"example[{n}]": tensor for n, tensor in enumerate(example)}}.items():
        if not _is_plain(tensor):
            return f"{name} is {tensor.dtype} on {tensor.device}, {tensor.layout}"
    for name, tensor in model["state"].items():
        if bool(tensor.isnan().any()):
            return f"state.{name} is not a number everywhere"
    if delays.keys() != {"before", "after"}:
        return f"delays has {', '.join(delays) or 'nothing'}"
    pairs = zip(delays["before"], delays["after"], strict=False)
    same = len(delays["before"]) == len(delays["after"]) and all(b.shape == a.shape for b, a in pairs)
    if not same or any(not (t.numel() and t.is_floating_point()) or bool(t.isinf().any()) for t in delays["after"]):
        return "delays before and after training are not those of the same layers"
    if not example or not all(map(_are_events, example)):
        return "example is not (time, channel) of events"
    return ""


def _are_events(tensor: Tensor) -> bool:
    """Whether a tensor is (2, E) positions, which fit into a picture."""
    if tensor.dim() != 2 or len(tensor) != 2 or tensor.is_floating_point():
        return False
    return not tensor.numel() or (int(tensor.min()) >= 0 and int(tensor.max()) < 2**31)


def _is_plain(tensor: Tensor) -> bool:
    """Whether a tensor holds real numbers, each in its place: not one that is sparse, quantised, or without content."""
    if tensor.is_meta or tensor.is_quantized or tensor.layout != torch.strided:
        return False
    return tensor.dtype in _FLOATS + _INTEGERS


def load_trained(network: nn.Module, state: dict[str, Tensor], where: Path) -> None:
    """Load a state dict into the network of a run's configuration.

    Raises:
        RunError: it is that of another network; `where` names its source in the message.
    """
    shapes = {name: (tuple(value.shape), value.dtype) for name, value in network.state_dict().items()}
    there = {name: (tuple(value.shape), value.dtype) for name, value in state.items()}
    unlike = sorted(name for name in shapes.keys() | there.keys() if shapes.get(name) != there.get(name))
    if unlike:
        got = f"{unlike[0]} is {_described(there.get(unlike[0]))}, expected {_described(shapes.get(unlike[0]))}"
        raise RunError(f"{where}: expected the network of its record, got another one: {got}. {_MOVE}")
    network.load_state_dict(state)


def _described(kind: tuple[tuple[int, ...], object] | None) -> str:
    return "missing" if kind is None else f"{kind[1]} {kind[0]}"


def read_delays(folder: Path) -> list[tuple[Tensor, Tensor]]:
    """(before, after) training of each delay layer, in steps."""
    delays = read_model(folder)["delays"]
    return list(zip(delays["before"], delays["after"], strict=True))


def read_example(folder: Path) -> list[Tensor]:
    """(time, channel) of the events and of the hidden spikes of one test recording, (2, E) for each layer."""
    return read_model(folder)["example"]
