"""What is read back from files."""

from pathlib import Path
from typing import Annotated, Any, NotRequired

import pytest
from pydantic import Field
from typing_extensions import TypedDict

from delayplug.bench.schema import Amount, Count, Share, UnreadableError, mismatch, parse_json, read_json


class Leaf(TypedDict):
    """A leaf."""

    size: Amount
    colour: NotRequired[str | None]


class Tree(TypedDict):
    """A tree."""

    leaves: list[Leaf]
    rings: dict[str, Count]
    green: Share
    note: Any
    roots: NotRequired[Annotated[list[str], Field(min_length=1)]]


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({}, ""),
        ({"leaves": []}, ""),
        ({"note": None, "more": 1}, ""),
        ({"leaves": [{"size": 1, "colour": None}]}, ""),
        ({"leaves": {}}, "leaves should be a valid list, got {}"),
        ({"leaves": [{"size": 1}, {}]}, "leaves[1] lacks size"),
        ({"leaves": [{"size": True}]}, "leaves[0].size should be a valid number, got True"),
        ({"leaves": [{"size": "1"}]}, "leaves[0].size should be a valid number, got '1'"),
        ({"leaves": [{"size": -1}]}, "leaves[0].size should be greater than or equal to 0, got -1"),
        ({"leaves": [{"size": 1, "colour": 2}]}, "leaves[0].colour should be a valid string, got 2"),
        ({"rings": {"a": 1.0}}, "rings.a should be a valid integer, got 1.0"),
        ({"rings": []}, "rings should be a valid dictionary, got []"),
        ({"green": 1.1}, "green should be less than or equal to 1, got 1.1"),
        ({"green": float("nan")}, "green should be a finite number, got nan"),
        ({"roots": []}, "roots List should have at least 1 item after validation, not 0, got []"),
    ],
)
def test_the_first_mismatch_is_named(changes: dict[str, object], wrong: str) -> None:
    tree = {"leaves": [{"size": 0.5, "colour": "green"}], "rings": {"a": 1}, "green": 0.5, "note": [1]}
    assert mismatch({**tree, **changes}, Tree) == wrong


def test_not_even_an_object() -> None:
    assert mismatch([], Tree) == "it should be a valid dictionary, got []"
    assert mismatch({}, Tree) == "it lacks leaves"


@pytest.mark.parametrize("name", ["leaves", "rings", "green", "note"])
def test_numbers_too_large_for_their_kind(name: str) -> None:
    """They are named, or do not matter; nothing raises."""
    tree: dict[str, object] = {"leaves": [], "rings": {}, "green": 0.5, "note": [1]}
    values = {"leaves": [{"size": 10**400}], "rings": {"a": 10**400}, "green": 10**400, "note": 10**400}
    assert mismatch({**tree, name: values[name]}, Tree).startswith("" if name == "note" else name)
    assert bool(mismatch({**tree, name: values[name]}, Tree)) == (name != "note")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[" * 100_000, "values nested too deeply"),
        ("1" + "0" * 5000, "Exceeds the limit"),
        ("", "Expecting value"),
        ('{"a": ', "Expecting value"),
    ],
    ids=["deep", "long number", "empty", "cut"],
)
def test_text_that_is_not_json(text: str, why: str) -> None:
    with pytest.raises(UnreadableError, match=why):
        parse_json(text)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "none.json")
    with pytest.raises(UnreadableError, match="directory"):
        read_json(tmp_path)
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UnreadableError, match="utf-8"):
        read_json(tmp_path / "binary.json")
    (tmp_path / "fine.json").write_text('{"a": [1]}')
    assert read_json(tmp_path / "fine.json") == {"a": [1]}
