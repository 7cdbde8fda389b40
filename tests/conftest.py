"""One thread: the tensors of tests are small, and two processes with two threads each hinder one another.

DELAYPLUG_TEST_DEVICE says on which device they run (`tests/devices.py`).

At the end of a run: how many networks of each toolkit kept each law.
"""

import gc
import os
import re
import signal
import tempfile
from typing import Any

import pytest
import torch
from hypothesis import settings

from tests import devices
from tests.profiles import PROFILE

settings.load_profile(PROFILE)

torch.set_num_threads(1)

# Kernels in Triton run on a CPU in its interpreter, which has to be asked for before Triton is imported.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

# A shell that runs the tests in the background lets all that they start ignore Ctrl-C, which some tests send.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Nothing that tests bin stays behind, in whatever process they do it.
_cache = tempfile.TemporaryDirectory(prefix="delayplug-cache-")
os.environ["DELAYPLUG_CACHE"] = _cache.name

_LAW = re.compile(r"test_laws\.py::Test(\w+)::test_(\w+)\[([\w-]+?)(?:-(?:synaptic|axonal|dendritic|train|eval))*\]")


def pytest_configure(config: pytest.Config) -> None:
    """Before modules of tests are imported, as they make tensors, too."""
    if devices.NAME == "cpu":
        return
    if reason := devices.missing():
        pytest.exit(f"DELAYPLUG_TEST_DEVICE={devices.NAME}: {reason}", returncode=0)
    config.add_cleanup(devices.follow())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """On a device, what is about the CPU is skipped."""
    if devices.NAME != "cpu":
        for item in items:
            if mark := item.get_closest_marker("cpu"):
                item.add_marker(pytest.mark.skip(reason=f"about the CPU: {mark.args[0]}"))


def pytest_collection_finish() -> None:
    """The collector of garbage need not look again and again at the million objects that all imports made."""
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """A table of laws and toolkits: networks for which every variant of the law held, of those it was tried on."""
    results: dict[str, dict[str, dict[str, bool]]] = {}
    for outcome in ("passed", "failed", "error"):
        for report in terminalreporter.stats.get(outcome, ()):
            match = _LAW.search(report.nodeid)
            if match:
                toolkit, law, network = match.groups()
                held = results.setdefault(law, {}).setdefault(toolkit, {})
                held[network] = held.get(network, True) and outcome == "passed"
    if not results:
        return
    toolkits = sorted({toolkit for by_toolkit in results.values() for toolkit in by_toolkit})
    terminalreporter.section("networks that keep each law")
    width = max(map(len, results))
    terminalreporter.write_line(" " * width + "".join(f"{toolkit:>14}" for toolkit in toolkits))
    for law, by_toolkit in results.items():
        cells = (by_toolkit.get(toolkit, {}) for toolkit in toolkits)
        counts = "".join(f"{f'{sum(held.values())} of {len(held)}':>14}" for held in cells)
        terminalreporter.write_line(f"{law.replace('_', ' '):<{width}}{counts}")
