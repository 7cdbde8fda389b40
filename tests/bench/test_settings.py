"""Fields of a dataclass that carry their help text, their bounds and their option."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest

from delayplug import ArgumentError
from delayplug.bench.settings import Setting, check_settings, settings


@dataclass(frozen=True)
class Walk:
    """Settings of a walk."""

    steps: Annotated[int, Setting("How many.", at_least=1, at_most=9)] = 3
    slope: Annotated[float, Setting("How steep.", above=0, below=1)] = 0.5
    height: Annotated[float, Setting("How high.", at_least=0)] = 0.0
    shoes: Annotated[Literal["boots", "none"], Setting("On the feet.")] = "boots"
    path: Annotated[str, Setting("Which way.", choices=("up", "down"), plural="paths")] = "up"
    stops: Annotated[tuple[int, ...], Setting("Where to rest.", at_least=0)] = ()
    singing: Annotated[bool, Setting("Aloud.")] = False
    way: Annotated[str, Setting("Its name.")] = "Höhenweg 3"


def test_what_a_field_says_of_itself() -> None:
    known = settings(Walk)
    assert list(known) == ["steps", "slope", "height", "shoes", "path", "stops", "singing", "way"]
    assert [setting.type for setting in known.values()] == [int, float, float, str, str, int, bool, str]
    assert [setting.default for setting in known.values()] == [3, 0.5, 0.0, "boots", "up", (), False, "Höhenweg 3"]
    assert [setting.key for setting in known.values()] == [
        "steps",
        "slope",
        "height",
        "shoes",
        "paths",
        "stops",
        "singing",
        "way",
    ]
    assert known["path"].flag == "--paths"
    assert known["shoes"].choices == ("boots", "none")
    assert [name for name, setting in known.items() if setting.is_list] == ["stops"]


@pytest.mark.parametrize(
    "changes", [{"steps": 9}, {"slope": 0.99}, {"slope": 0.01}, {"path": "down"}, {"stops": [0, 4]}, {"singing": True}]
)
def test_allowed(changes: dict[str, Any]) -> None:
    check_settings(Walk(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps: expected an integer >= 1 and <= 9, got 0"),
        ({"steps": 10}, "steps: expected an integer >= 1 and <= 9, got 10"),
        ({"steps": 2.0}, "steps: expected an integer"),
        ({"steps": True}, "steps: expected an integer"),
        ({"slope": 0}, "slope: expected a number > 0 and < 1, got 0"),
        ({"slope": 1.0}, "slope: expected a number > 0 and < 1, got 1.0"),
        ({"height": float("inf")}, "height: expected a number >= 0, got inf"),
        ({"shoes": "socks"}, "shoes: expected one of boots, none, got 'socks'"),
        ({"path": "left"}, "path: expected one of up, down, got 'left'"),
        ({"stops": (1, -1)}, r"stops: expected integers >= 0, got \(1, -1\)"),
        ({"height": float("nan")}, "height: expected a number >= 0, got nan. Take at most 1e[+]30"),
        ({"height": 10**400}, "height: expected a number >= 0, got 1000.*[.]{3}. Take at most 1e[+]30"),
        ({"height": 10**5000}, "height: expected a number >= 0, got a int that is too long to show"),
        ({"stops": [2**31]}, r"stops: expected integers >= 0, got \[2147483648\]. Take at most 2.14748e[+]09"),
        ({"way": "a\0b"}, "way: expected text, got 'a.x00b'. Names have no control characters, and are in UTF-8"),
        ({"way": "\udcff"}, "way: expected text, got '.udcff'. Names have no control characters, and are in UTF-8"),
        ({"way": 3}, "way: expected text, got 3$"),
        ({"stops": 4}, "stops: expected integers >= 0, got 4"),
        ({"singing": "yes"}, "singing: expected true or false, got 'yes'"),
    ],
)
def test_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        check_settings(Walk(**changes))
