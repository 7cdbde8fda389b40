"""What the commands share."""

import pytest

from delayplug.cli.console import spread


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--a", "1", "2", "3"], ["--a", "1", "--a", "2", "--a", "3"]),
        (["--a", "1", "--b", "2", "3"], ["--a", "1", "--b", "2", "3"]),
        (["--a", "1", "--a", "2"], ["--a", "1", "--a", "2"]),
        (["--a=1", "2", "--b", "3"], ["--a=1", "--a", "2", "--b", "3"]),
        (["--b", "x", "--a", "1", "2", "--b", "y"], ["--b", "x", "--a", "1", "--a", "2", "--b", "y"]),
        ([], []),
    ],
)
def test_several_values_after_one_option(args: list[str], expected: list[str]) -> None:
    assert spread(args, {"--a"}) == expected
