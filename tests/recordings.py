"""Where recorded data for tests is, in the layout of SHD: real speech, which does not come with delayplug."""

import os
from pathlib import Path

import pytest

# Environment variables that name the folders, by the name of the data set.
VARIABLES = {"SFSD": "DELAYPLUG_SFSD", "SHD-R": "DELAYPLUG_SHDR", "SC10": "DELAYPLUG_SC10"}


def recorded_digits() -> Path:
    """The folder with sfsd_train.h5.gz and the other splits, the Spiking Free Spoken Digits; see `recorded`."""
    return recorded("SFSD")


def recorded(name: str) -> Path:
    """The folder of a data set; skips the test where its environment variable is not set.

    Raises:
        FileNotFoundError: the variable names a folder that does not exist.
    """
    variable = VARIABLES[name]
    named = os.environ.get(variable)
    if named:
        if not Path(named).is_dir():
            raise FileNotFoundError(f"{variable}: expected a folder, got {named!r}")
        return Path(named)
    pytest.skip(f"no recordings of {name}: the environment variable {variable} names the folder they are in")
