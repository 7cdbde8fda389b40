"""An outsider's plugin, really installed: found, ready, lawful; and the laws notice when it is not."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.installs, pytest.mark.slow]

EXAMPLE = Path(__file__).parents[2] / "examples" / "third_party_plugin"

WRONG = """
import pytest
from delayplug_pulse._backend import Pulse
import test_conformance

class Mistaken(test_conformance.TestPulse):
    @pytest.fixture(autouse=True)
    def mistaken(self, monkeypatch):
        monkeypatch.setattr(Pulse, "held_state", lambda toolkit, neuron: self.held_state(neuron))

class TestSeesNoReset(Mistaken):
    def held_state(self, neuron):
        return ()

class TestSeesTheChargeOnly(Mistaken):
    def held_state(self, neuron):
        return (neuron.charge,)

class TestShowsCopies(Mistaken):
    def held_state(self, neuron):
        return () if neuron.fresh else (neuron.charge.clone(),)
"""

# Which law notices it.
MISTAKES = {
    "TestSeesNoReset": "test_each_sequence_starts_fresh",
    "TestSeesTheChargeOnly": "test_each_sequence_starts_fresh",
    "TestShowsCopies": "test_carried_streams_in_turns_are_each_by_itself",
}

AGREE = """
import torch
from delayplug.toolkits import plugins

torch.manual_seed(0)
x = (1.5 * torch.rand(60, 8, 32)).requires_grad_()
weight = torch.randn(60, 8, 32)
results = []
for name in ("pulse", "snntorch"):
    toolkit = plugins.toolkit(name)
    neuron, readout = toolkit.spiking_neuron(tau=1.5), toolkit.readout_neuron(tau=3.0)
    for _ in range(2):  # the second run starts afresh
        spikes, membranes = toolkit.run(neuron, x), toolkit.run(readout, x)
    (grad,) = torch.autograd.grad((spikes * weight).sum(), x)
    results.append((spikes, membranes, grad))
(spikes, membranes, grad), (their_spikes, their_membranes, their_grad) = results
assert 0.05 < spikes.mean() < 0.95
assert torch.equal(spikes, their_spikes)
torch.testing.assert_close(membranes, their_membranes)
torch.testing.assert_close(grad, their_grad, rtol=1e-4, atol=1e-4)
"""

TRAIN = """
import json, sys
from pathlib import Path
import torch
from delayplug.bench.comparison.compare import compare, configurations
from delayplug.bench.measure.comparisons import comparisons
from delayplug.bench.report.page import write_page
from delayplug.bench.report.record_sources import read_records
from delayplug.bench.resources import Resources

out = Path(sys.argv[1])
options = {"backends": ["norse", "pulse"], "delays": ["none"], "epochs": 1, "hidden": (4,), "max_delay": 6}
records = compare(configurations("quick", **options), out, resources=Resources("cpu"))
write_page(read_records(out), [out], out / "report.html")
names = [each.name for each in comparisons(["pulse"], torch.device("cpu"))]
print(json.dumps({"records": {r["config"]["backend"]: r["versions"] for r in records}, "works": names}))
"""


class Outsider:
    """A folder with a copy of the example, and what pip installed from it."""

    def __init__(self, folder: Path) -> None:
        self.source, self.site = folder / "source", folder / "site"
        ignored = shutil.ignore_patterns("build", "*.egg-info", "__pycache__", ".*")
        shutil.copytree(EXAMPLE, self.source, ignore=ignored)  # building writes into its folder
        # The setuptools that is here builds it, so that nothing is downloaded.
        options = ("--no-deps", "--no-build-isolation", "--quiet", "--disable-pip-version-check")
        self.python("-m", "pip", "install", *options, "--target", str(self.site), str(self.source))

    def python(self, *args: str, fails: bool = False) -> str:
        """What a Python that sees the plugin prints."""
        path = os.pathsep.join(filter(None, (str(self.site), os.environ.get("PYTHONPATH"))))
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "140"}
        command = [sys.executable, *args]
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=self.source, env=environment, timeout=300, check=False
        )
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done.stdout

    def pytest(self, *args: str, fails: bool = False) -> tuple[dict[str, int], str]:
        """Its tests: how many passed, failed, were skipped and so on, and all that was printed."""
        printed = self.python("-m", "pytest", "-q", "-ra", "-p", "no:cacheprovider", *args, fails=fails)
        counts = re.findall(r"(\d+) ([a-z]+)", printed.strip().splitlines()[-1].partition(" in ")[0])
        return {outcome: int(count) for count, outcome in counts}, printed


@pytest.fixture(scope="module")
def outsider(tmp_path_factory: pytest.TempPathFactory) -> Outsider:
    return Outsider(tmp_path_factory.mktemp("outsider"))


def test_it_is_listed_as_ready(outsider: Outsider) -> None:
    printed = outsider.python("-c", "from delayplug.cli import main; main()", "backends")
    (line,) = [line for line in printed.splitlines() if "pulse" in line]
    assert "ready" in line
    assert "delayplug-pulse 0.1.0" in line
    assert printed.count("ready") == 4


def test_finding_it_does_not_import_its_toolkit(outsider: Outsider) -> None:
    code = "import sys; from delayplug.toolkits import plugins; plugins.plugins(); print('pulse' in sys.modules)"
    assert outsider.python("-c", code).strip() == "False"


def test_it_passes_the_laws(outsider: Outsider) -> None:
    counts, printed = outsider.pytest()
    assert counts["passed"] >= 140, printed
    assert counts.keys() <= {"passed", "skipped", "warning", "warnings"}, printed
    reasons = set(re.findall(r"^SKIPPED .*: (the backend .*)$", printed, flags=re.MULTILINE))
    optional = {"has no Exchanges", "has no adaptive neurons", "has no neuron with a soft reset"}
    assert reasons == {f"the backend pulse {reason}" for reason in optional}, printed


def test_its_adapter_is_short() -> None:
    lines = sum(path.read_text().count("\n") for path in EXAMPLE.glob("src/delayplug_pulse/*.py"))
    assert lines < 100


def test_the_laws_notice_a_mistake(outsider: Outsider) -> None:
    path = outsider.source / "tests" / "test_wrong.py"
    path.write_text(WRONG)
    try:
        counts, printed = outsider.pytest(*(f"{path}::{name}::{law}" for name, law in MISTAKES.items()), fails=True)
    finally:
        path.unlink()
    assert "error" not in counts, printed
    for name, law in MISTAKES.items():
        assert len(re.findall(rf"^FAILED .*::{name}::{law}\[", printed, flags=re.MULTILINE)) >= 2, printed


def test_its_neurons_are_the_benchmarks(outsider: Outsider) -> None:
    outsider.python("-W", "ignore", "-c", AGREE)


def test_it_imports_public_names_only() -> None:
    import delayplug

    for path in (*EXAMPLE.glob("src/delayplug_pulse/*.py"), *EXAMPLE.glob("tests/*.py")):
        imports = re.findall(r"^(?:from|import) (delayplug\.\S+)", path.read_text(), flags=re.MULTILINE)
        assert set(imports) <= {"delayplug.testing"}, path
        names = re.findall(r"^from delayplug import (.*)$", path.read_text(), flags=re.MULTILINE)
        assert {name for line in names for name in line.split(", ")} <= set(delayplug.__all__)


def test_the_benchmark_records_its_version(outsider: Outsider, tmp_path: Path) -> None:
    printed = json.loads(outsider.python("-W", "ignore", "-c", TRAIN, str(tmp_path)).splitlines()[-1])
    versions = printed["records"]
    assert versions["pulse"]["pulse"] == "0.1.0"
    assert versions["norse"]["norse"]
    for backend, recorded in versions.items():  # each its own, and what all need
        others = {"pulse", "norse", "snntorch", "spikingjelly"} - {backend}
        assert {"python", "delayplug", "torch", "lightning", "dcls", "numpy"} <= recorded.keys()
        assert not others & recorded.keys()
    page = (tmp_path / "report.html").read_text()
    assert "pulse 0.1.0" in page
    assert f"norse {versions['norse']['norse']}" in page
    assert "training step by unroll, pulse" in printed["works"]
