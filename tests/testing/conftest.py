"""Which of the laws belong to the fast tests: all that concern the wiring, and every law on a few networks.

Each test of the corpus is short, but there are nearly two thousand of them, which take minutes: those left out of the
fast tests are marked as slow.
"""

import pytest

# One or two networks of each toolkit for each owner of the state: the toolkit's module, the model, the caller.
FAST_NETWORKS = {
    "TestSnnTorch": {"reset-mem", "sequential"},
    "TestNorse": {"cells", "cells-carried"},
    "TestSpikingJelly": {"sequential-s", "sequential-m"},
}
FAST_LAWS = {
    "test_an_example_shows_the_wiring",
    "test_the_structure_shows_the_same_or_less",
    "test_what_the_user_holds_stays_valid",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the laws of the corpus that are not among the fast tests as slow."""
    for item in items:
        if not isinstance(item, pytest.Function) or item.path.name != "test_corpus.py" or item.cls is None:
            continue
        network = getattr(item, "callspec", None) and item.callspec.params.get("network")
        if network and item.originalname not in FAST_LAWS and network.name not in FAST_NETWORKS[item.cls.__name__]:
            item.add_marker(pytest.mark.slow)
