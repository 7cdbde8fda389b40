"""What a trained run loses and saves on a device."""

from pathlib import Path

import pytest
from rich.console import Console

from delayplug import ArgumentError, RunError
from delayplug.bench.comparison.compare import compare
from delayplug.bench.config import configure
from delayplug.bench.measure.deployment import CONSTRAINTS, deploy, table
from delayplug.bench.report.figures import delays_figure
from delayplug.bench.report.tables import title_of
from delayplug.bench.resources import Resources


@pytest.mark.slow
@pytest.mark.trains
def test_a_run_under_every_constraint(tmp_path: Path) -> None:
    config = configure("quick", backend="spikingjelly", epochs=3, hidden=(16,), max_delay=24)
    (record,) = compare([config], tmp_path, resources=Resources("cpu"))
    found = deploy(tmp_path / config.name, target="spinnaker2")
    assert list(found) == [*CONSTRAINTS, "on spinnaker2"]
    whole, trained = found["whole steps"], found["as trained, not rounded"]
    # To the bit what `eval()` gave while the run was tested.
    assert whole.accuracy == record["accuracy"]["last epoch"]
    assert found["6 bits (at most 62 steps)"] == whole  # no delay is as long as that
    synapses = 20 * 16 + 16 * 10
    # float32 to uint8; sigma of two layers
    assert trained.costs.state_bytes - whole.costs.state_bytes == synapses * 3 + 2 * 4
    # Each layer appends 12 steps, half of the longest delay, to the 50 of a recording.
    assert whole.costs.operations == pytest.approx(20 * 16 * 62 / 50 + 16 * 10 * 74 / 62)
    assert trained.costs.operations == pytest.approx(25 * whole.costs.operations)
    assert 0 < whole.costs.events < whole.costs.operations
    assert whole.packed_bytes == synapses * 5 / 8  # 24 steps: five bits
    short = found["16 distinct, weights in 8 bits"]
    assert short.packed_bytes == synapses * 13 / 8 + 4 * 26  # and a scale for each neuron
    # 7 steps in three bits, weights in five, and a scale for each neuron.
    assert found["on spinnaker2"].packed_bytes == synapses * 8 / 8 + 4 * 26
    with pytest.raises(ArgumentError, match="one of loihi2"):
        deploy(tmp_path / config.name, target="nothing")
    assert all(0 <= row.accuracy <= 1 for row in found.values())
    console = Console(width=100)
    with console.capture() as text:
        console.print(table("a run", found, 1000))
    assert "4 distinct per neuron" in text.get()
    assert " 0 " not in text.get()  # small networks have less than a kilobyte, and not none


@pytest.mark.slow
@pytest.mark.trains
def test_a_run_with_recurrent_delays_alone(tmp_path: Path) -> None:
    """They are rounded and counted, and drawn in a picture and a table."""
    changes = {"epochs": 1, "hidden": (16,), "delays": "none", "recurrent": "axonal"}
    config = configure("quick", backend="snntorch", **changes)
    (record,) = compare([config], tmp_path, resources=Resources("cpu"))
    found = deploy(tmp_path / config.name)
    whole, trained = found["whole steps"], found["as trained, not rounded"]
    assert whole.accuracy == record["accuracy"]["last epoch"]
    assert whole.packed_bytes == 16 * 5 / 8
    assert whole.costs.operations == 20 * 16 + 16 + 16 * 16 + 16 * 10
    assert trained.costs.operations == whole.costs.operations + 24 * 16
    (axes,) = delays_figure(record, tmp_path / config.name).axes
    assert axes.get_title() == "recurrent 1: 16 delays"
    assert axes.get_ylabel() == "channels"
    assert "recurrent axonal," in title_of([record])


@pytest.mark.trains
def test_runs_without_delays(tmp_path: Path) -> None:
    config = configure("quick", backend="spikingjelly", epochs=1, delays="none")
    compare([config], tmp_path, resources=Resources("cpu"))
    with pytest.raises(RunError, match="expected a run with delays, got one without"):
        deploy(tmp_path / config.name)
    with pytest.raises(RunError, match="expected the record of a run"):
        deploy(tmp_path / "nowhere")
