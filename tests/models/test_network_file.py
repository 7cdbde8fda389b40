"""The file of a trained network."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, strategies
from safetensors.torch import save_file

from delayplug import DataError
from delayplug.models.card import Card
from delayplug.models.model_page import model_page
from delayplug.models.network_file import read_card, read_network, stored, widened, write_network
from delayplug.models.pretrained import pretrained
from tests.damage import broken_bytes, edited, is_one_line


@pytest.fixture(scope="module")
def card() -> Card:
    return pretrained("synthetic-learned").card


@given(strategies.lists(strategies.floats(0, 500, width=32), min_size=1, max_size=30))
def test_stored_delays_round_to_the_same_steps(values: list[float]) -> None:
    halves = [step + 0.5 - 2**-18 for step in range(len(values))]  # just below the border
    delays = torch.tensor([values, halves]).unsqueeze(-1)
    (back,) = stored({"synapses.0.weights.delays": delays}).values()
    assert back.dtype == torch.float16
    assert torch.equal((back.float() + 0.5).floor(), (delays + 0.5).floor())
    assert float((delays - back.float()).abs().max()) <= 0.25


def test_what_half_precision_does_not_hold_stays_as_it_is() -> None:
    state = {
        "a.weight": torch.full((2, 2), 1e6),
        "a.delays": torch.full((2, 2, 1), 5003.3),
        "b.weight": torch.tensor([[0.1, 0.2]]),
        "norms.0.weight": torch.tensor([0.1, 0.2]),
        "mask": torch.ones(2, 2, dtype=torch.bool),
    }
    dtypes = {name: value.dtype for name, value in stored(state).items()}
    half, whole = torch.float16, torch.float32
    assert list(dtypes.values()) == [whole, whole, half, whole, torch.bool]
    assert widened(stored(state))["b.weight"].dtype == whole


def test_files_are_read_as_they_were_written(card: Card, tmp_path: Path) -> None:
    path = tmp_path / "folder" / "net.safetensors"
    state = stored({"weight": torch.rand(3, 4), "count": torch.tensor(3)})
    write_network(path, state, card)
    found, numbers = read_network(path)
    assert found == card == read_card(path)
    assert torch.equal(numbers["weight"], state["weight"].float())
    assert numbers["count"] == 3
    first = path.read_bytes()
    write_network(path, state, card)
    assert path.read_bytes() == first  # so that its checksum says what it is


def test_other_files_are_refused(card: Card, tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    with pytest.raises(DataError, match="expected the file of a trained network"):
        read_card(path)
    path.write_bytes(b"text")
    with pytest.raises(DataError, match="expected the file of a trained network"):
        read_network(path)
    save_file({"weight": torch.ones(2)}, path)
    with pytest.raises(DataError, match="expected the file of a network of delayplug"):
        read_network(path)
    damaged = {key: value for key, value in card.items() if key != "parameters"}
    save_file({"weight": torch.ones(2)}, path, {"delayplug": json.dumps(damaged)})
    with pytest.raises(DataError, match="a damaged one: it lacks parameters"):
        read_card(path)
    newer = {**card, "config": {**card["config"], "wormholes": 3}}
    save_file({"weight": torch.ones(2)}, path, {"delayplug": json.dumps(newer)})
    with pytest.raises(DataError, match="newer version of delayplug"):
        read_card(path)


def test_every_part_of_a_description_damaged(card: Card, tmp_path: Path) -> None:
    """Left out, or replaced by each kind of value: one line that names the file, or a page can be made of it."""
    path, state, errors = tmp_path / "net.safetensors", {"weight": torch.ones(2)}, dict[str, DataError]()
    for name, damaged in edited(card):
        save_file(state, path, {"delayplug": json.dumps(damaged)})
        if (error := _refusal(path)) is not None:
            errors[name] = error
    assert len(errors) > 400
    assert [(name, error) for name, error in errors.items() if not is_one_line(error, str(path))] == []


def _refusal(path: Path) -> DataError | None:
    try:
        card = read_card(path)
    except DataError as error:
        return error
    assert card["name"] in model_page(card, b"")
    return None


def test_every_kind_of_damaged_file(card: Card, tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    write_network(path, {"weight": torch.rand(30, 40)}, card)
    for name, content in broken_bytes(path.read_bytes()):
        path.write_bytes(content)
        try:
            read_network(path)
        except DataError as error:
            assert is_one_line(error, str(path)), name  # noqa: PT017
        else:
            assert name.startswith("byte"), name  # of a weight, or of a name in the description
    write_network(path, {"weight": torch.full((2, 2), torch.nan)}, card)
    with pytest.raises(DataError, match="got NaN in weight"):
        read_network(path)
