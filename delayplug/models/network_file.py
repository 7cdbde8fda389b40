"""The file of a trained network: safetensors, with its card as metadata.

Tensors with two or more dimensions are stored in half precision, all others unchanged. Delays are converted to half
precision by rounding towards zero, so that each still rounds to the same whole step as before: the limits between
steps, n + 1/2, are themselves numbers of half precision.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from ..bench.config import RunConfig
from ..bench.schema import UnreadableError, mismatch, parse_json
from ..bench.whole_files import make_folder, write_whole
from ..errors import ArgumentError, DataError, shortened
from .card import CARD_FORMAT, Card

SUFFIX = ".safetensors"
_KEY = "delayplug"
_AGAIN = "Download it or make it again"


def write_network(path: Path, state: Mapping[str, Tensor], card: Card) -> None:
    """Write the file of a network.

    Args:
        path: of the file.
        state: the tensors, as `stored` returns them.
        card: the description of the network.
    """
    from safetensors.torch import save

    content = save(dict(state), {_KEY: json.dumps(card)})  # one key only: the order of several is not deterministic
    make_folder(path.parent)
    write_whole(path, content)


def read_card(path: Path) -> Card:
    """Read the description in the file of a network.

    Raises:
        DataError: the file is missing, or is not the file of a delayplug network.
    """
    return _read(path, with_state=False)[0]


def read_network(path: Path) -> tuple[Card, dict[str, Tensor]]:
    """Read the file of a network: its description, and its tensors in float32 on the CPU.

    Raises:
        DataError: the file is missing, or is not the file of a delayplug network.
    """
    return _read(path, with_state=True)


def _read(path: Path, *, with_state: bool) -> tuple[Card, dict[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    state: dict[str, Tensor] = {}
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            card = parse_json((file.metadata() or {}).get(_KEY, "null"))
            if with_state:
                state = widened({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except (OSError, ValueError, TypeError, AttributeError, SafetensorError, UnreadableError) as error:
        got = _first_line(error)
        raise DataError(f"{path}: expected the file of a trained network, got {got}. {_AGAIN}") from error
    if not isinstance(card, dict) or card.get("format") != CARD_FORMAT:
        raise DataError(f"{path}: expected the file of a network of delayplug (format {CARD_FORMAT}), got another one")
    if wrong := mismatch(card, Card):
        raise DataError(f"{path}: expected the description of a network, got a damaged one: {wrong}. {_AGAIN}")
    try:
        RunConfig(**card["config"])
    except (TypeError, ArgumentError) as error:
        advice = "It may be from a newer version of delayplug"
        raise DataError(f"{path}: expected the configuration of a run, got another one: {error}. {advice}") from error
    if broken := [name for name, value in state.items() if value.is_floating_point() and bool(value.isnan().any())]:
        raise DataError(f"{path}: expected the tensors of a trained network, got NaN in {broken[0]}. {_AGAIN}")
    return cast(Card, card), state


def _first_line(error: Exception) -> str:
    return shortened(str(error).partition("\n")[0]).strip("'\"")


def stored(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert the state of a network for storage: most of it to half precision, with delays that round as before."""
    return {name: _narrowed(name, value.detach().cpu().contiguous()) for name, value in state.items()}


def _narrowed(name: str, value: Tensor) -> Tensor:
    if not value.is_floating_point() or value.dim() < 2:
        return value.clone()
    half = value.half()
    if name.endswith("delays"):
        half = torch.where(half.to(value.dtype) > value, torch.nextafter(half, torch.zeros_like(half)), half)
        if not torch.equal((half.to(value.dtype) + 0.5).floor(), (value + 0.5).floor()):
            return value.clone()  # half precision does not separate the steps of such long delays
    return half if bool(half.isfinite().all()) else value.clone()


def widened(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert tensors in half precision back to float32."""
    return {name: value.float() if value.dtype == torch.float16 else value for name, value in state.items()}
