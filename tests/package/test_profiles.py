"""Every hypothesis test draws what the profile says."""

import re
from pathlib import Path

from hypothesis import settings

from tests.profiles import PROFILE, examples


def test_settings_of_a_test_take_the_rest_from_the_profile() -> None:
    own = settings(max_examples=examples(3))
    assert (own.derandomize, own.deadline) == (PROFILE == "ci", None)


def test_no_test_draws_on_its_own() -> None:
    for path in Path(__file__).parents[1].rglob("test_*.py"):
        for line in re.findall(r"^ *@settings\((.*)\)$", path.read_text(), re.M):
            assert re.match(r"max_examples=examples\(\d+\)", line), (path.name, line)
            assert "derandomize" not in line, path.name
            assert "deadline" not in line, path.name
