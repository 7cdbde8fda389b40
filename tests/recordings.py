"""Where the recorded digits of the tests are: sfsd, the Spiking Free Spoken Digits, in the layout of SHD."""

import os
from pathlib import Path

import pytest

VARIABLE = "DELAYPLUG_SFSD"


def recorded_digits() -> Path:
    """The folder with sfsd_train.h5.gz and the other splits; skips the test where it is missing.

    The environment variable DELAYPLUG_SFSD names it.

    Raises:
        FileNotFoundError: the variable names a folder that does not exist.
    """
    named = os.environ.get(VARIABLE)
    if named:
        if not Path(named).is_dir():
            raise FileNotFoundError(f"{VARIABLE}: expected a folder, got {named!r}")
        return Path(named)
    pytest.skip(f"no recorded digits: the environment variable {VARIABLE} names the folder they are in")
