"""The laws are not in this folder: pytest must be told to show the values in their assertions."""

import pytest

pytest.register_assert_rewrite("delayplug.testing")
