"""JSON of the shape of a TypedDict."""

from typing import Any, NotRequired, TypedDict

import pytest

from delayplug.bench.typed_json import mismatch


class Leaf(TypedDict):
    """A leaf."""

    size: float
    colour: NotRequired[str | None]


class Tree(TypedDict):
    """A tree."""

    leaves: list[Leaf]
    rings: dict[str, int]
    note: Any


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({}, ""),
        ({"leaves": []}, ""),
        ({"note": None, "more": 1}, ""),
        ({"leaves": [{"size": 1, "colour": None}]}, ""),
        ({"leaves": {}}, "leaves is dict, expected a list"),
        ({"leaves": [{"size": 1}, {}]}, "leaves[1] lacks size"),
        ({"leaves": [{"size": True}]}, "leaves[0].size is bool, expected float"),
        ({"leaves": [{"size": 1, "colour": 2}]}, "leaves[0].colour is int, expected str | None"),
        ({"rings": {"a": 1.5}}, "rings.a is float, expected int"),
        ({"rings": []}, "rings is list, expected an object"),
    ],
)
def test_the_first_mismatch_is_named(changes: dict[str, object], wrong: str) -> None:
    tree = {"leaves": [{"size": 0.5, "colour": "green"}], "rings": {"a": 1}, "note": [1]}
    assert mismatch({**tree, **changes}, Tree) == wrong


def test_not_even_an_object() -> None:
    assert mismatch([], Tree) == "it is list, expected an object"
    assert mismatch({}, Tree) == "it lacks leaves, note, rings"
