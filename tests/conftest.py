"""One thread: the tensors of tests are small, and two processes with two threads each hinder one another.

DELAYPLUG_TEST_DEVICE says on which device they run (`tests/devices.py`).

At the end of a run: how many networks of each toolkit kept each law.
"""

import gc
import importlib.util
import os
import re
import signal
import tempfile
from collections.abc import Generator
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

EXTRAS = frozenset({
    *("snntorch", "norse", "spikingjelly", "nir", "onnx", "onnxruntime", "optuna", "ray"),
    *("h5py", "jinja2", "lightning", "matplotlib", "pooch", "requests", "DCLS"),
    *("furo", "myst_nb", "sphinx", "sphinx_copybutton", "yaml"),
})  # fmt: skip

# Folders and files of tests that say nothing about a device.
ABOUT_THE_CPU = {
    "bench/comparison/": "runs on a device are in tests/bench/model/test_on_device.py",
    "bench/leaderboard/": "numbers of finished runs",
    "bench/measure/": "the clock of a CPU; networks of measurements are in other tests",
    "bench/report/": "numbers of finished runs",
    "bench/test_": "configurations, processes and files",
    "bench/training/": "Lightning brings the network to a device: tests/bench/model/test_on_device.py",
    "cli/": "commands and their texts",
    "data/": "recordings are read and binned there",
    "models/": "files, and networks where they are loaded",
    "package/": "the package as it is installed, and its documentation",
    **dict.fromkeys(("test_colours", "test_errors", "test_main", "test_moved", "test_tables"), "no tensors"),
    "toolkits/test_plugins": "how plugins are found",
}

# Laws that ship with the package, which has no marks for tests of ours.
NOT_PRETENDED = {"test_carried_deep_copies_in_the_middle_go_on": "memory that is copied with what is noted on it"}

_LAW = re.compile(r"test_laws\.py::Test(\w+)::test_(\w+)\[([\w-]+?)(?:-(?:synaptic|axonal|dendritic|train|eval))*\]")


def pytest_configure(config: pytest.Config) -> None:
    """Before modules of tests are imported, as they make tensors, too."""
    if devices.NAME == "cpu":
        return
    if reason := devices.missing():
        pytest.exit(f"DELAYPLUG_TEST_DEVICE={devices.NAME}: {reason}", returncode=0)
    config.add_cleanup(devices.follow())


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A module of tests that imports a package of an extra that is not installed is skipped."""
    error: BaseException | None
    try:
        report = yield
        error = report.call.excinfo.value if report.outcome == "failed" else None  # type: ignore[attr-defined]
    except SystemExit as caught:  # of the command line
        report, error = pytest.CollectReport(collector.nodeid, "failed", str(caught), []), caught
    if reason := _not_installed(error):
        report.outcome, report.longrepr = "skipped", (str(collector.path), 1, f"Skipped: {reason}")
    elif isinstance(error, SystemExit):
        raise error
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """So is a test that needs one."""
    report = yield
    if report.outcome == "failed" and call.excinfo is not None and (reason := _not_installed(call.excinfo.value)):
        report.outcome = "skipped"
        report.longrepr = (str(item.path), (item.location[1] or 0) + 1, f"Skipped: {reason}")
    return report


def _not_installed(error: BaseException | None) -> str:
    """Which package of an extra an error says is missing; "" if it says something else."""
    while error is not None:
        if isinstance(error, ImportError):  # Python's own, or delayplug's, which names the package in its message
            named = EXTRAS & {(error.name or "").partition(".")[0], *re.findall(r"\w+", str(error))}
            if missing := sorted(package for package in named if not importlib.util.find_spec(package)):
                return f"{', '.join(missing)} is not installed"
        error = error.__cause__ or getattr(error, "cause", None)  # the latter of a conftest.py
    return ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """On a device, what is about the CPU is skipped."""
    if devices.NAME != "cpu":
        for item in items:
            room = item.path.relative_to(devices.ROOT / "tests").as_posix()
            for folder, reason in ABOUT_THE_CPU.items():
                if room.startswith(folder):
                    item.add_marker(pytest.mark.cpu(reason))
            if mark := item.get_closest_marker("cpu"):
                item.add_marker(pytest.mark.skip(reason=f"about the CPU: {mark.args[0]}"))
            elif devices.NAME == "pretended":
                mark = item.get_closest_marker("real")
                reason = mark.args[0] if mark else NOT_PRETENDED.get(getattr(item, "originalname", ""), "")
                if reason:
                    item.add_marker(pytest.mark.skip(reason=f"not pretended: {reason}"))


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
