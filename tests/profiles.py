"""How hypothesis draws: the same examples every time (a change's run), or new and more ones (a nightly run).

The environment variable DELAYPLUG_HYPOTHESIS names the profile, "ci" or "nightly". `tests/conftest.py` loads it before
any test module is imported: `@settings` of a test takes from it what it does not say itself.
"""

import os

from hypothesis import settings

PROFILE = os.environ.get("DELAYPLUG_HYPOTHESIS", "ci")
_TIMES = {"ci": 1, "nightly": 20}

settings.register_profile("ci", derandomize=True, deadline=None, database=None)
settings.register_profile("nightly", max_examples=100 * _TIMES["nightly"], deadline=None, print_blob=True)


def examples(count: int) -> int:
    """For `@settings(max_examples=examples(60))`: so many in "ci", and more in "nightly"."""
    return count * _TIMES[PROFILE]
