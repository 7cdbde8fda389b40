"""Which of the laws belong to the fast tests: all that concern the wiring, and every law on a few networks.

Each test of the corpus is short, but there are nearly two thousand of them, which take minutes: those left out of the
fast tests are marked as slow.
"""

import pytest

from tests.corpus import FAST_NETWORKS

FAST_LAWS = {
    "test_an_example_shows_the_wiring",
    "test_the_structure_shows_the_same_or_less",
    "test_what_the_user_holds_stays_valid",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the laws of the corpus that are not among the fast tests as slow."""
    for item in items:
        if not isinstance(item, pytest.Function) or item.path.name != "test_laws.py" or item.cls is None:
            continue
        network = item.callspec.params.get("network") if hasattr(item, "callspec") else None
        if network and item.originalname not in FAST_LAWS and network.name not in FAST_NETWORKS[item.cls.backend]:
            item.add_marker(pytest.mark.slow)
