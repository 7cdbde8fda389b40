"""One tree of exceptions, each with what was expected, what came and what to do."""

import re

import pytest

from delayplug import ArgumentError, DelayplugError, ExtraMissingError, errors

OWN = [value for value in vars(errors).values() if getattr(value, "__module__", "") == errors.__name__]
CLASSES = [value for value in OWN if isinstance(value, type) and issubclass(value, Exception)]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_is_one_of_the_tree_and_drawn_in_it(kind: type) -> None:
    assert issubclass(kind, DelayplugError)
    assert errors.__doc__ is not None
    line = next(line for line in errors.__doc__.splitlines() if re.search(rf"\b{kind.__name__}\b", line))
    builtin = re.search(r"\((\w+)\)", line)
    if builtin:
        assert builtin.group(1) in {base.__name__ for base in kind.__mro__}


def test_an_argument_error_says_what_was_expected_what_came_and_what_to_do() -> None:
    error = ArgumentError("max_delay", "an integer >= 0", -1, "Count in steps")
    assert str(error) == "max_delay: expected an integer >= 0, got -1. Count in steps"
    assert error.name == "max_delay"
    assert isinstance(error, ValueError)


def test_a_missing_extra_says_what_to_install() -> None:
    error = ExtraMissingError("delayplug.plot", "matplotlib", "bench")
    assert str(error) == "delayplug.plot needs matplotlib. Run: pip install 'delayplug[bench]'"
    assert isinstance(error, ImportError)
    assert error.name == "matplotlib"
