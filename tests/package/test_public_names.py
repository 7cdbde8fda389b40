"""The public names: what 0.1 had is there, and what came since is listed here.

A name goes only after a minor version in which it warned, with a line in the CHANGELOG (see CONTRIBUTING.md).
"""

import importlib
from importlib import metadata

import pytest
import typer

import delayplug
from delayplug import cli

IN_0_1 = """
ArgumentError Backend BackendBrokenError BackendError BackendMissingError Cell Change Connection ConvDelay Costs
DataError DelayHistory DelayLayer DelayPruning DelayRestarts DelayState DelayplugError Description ExchangeError
ExtraMissingError Freezing Frozen FrozenConvDelay FrozenDelay Granularity LearnableDelay Mode Plan Pruned RunError
SequenceError SigmaSchedule Skipped Stream TimeInside Toolkit UnknownBackendError UnrollError WiringError add_delays
costs delay_penalty describe_delays detach_delays freeze_delays from_nir hookimpl named_delays nir_branches over_steps
parameter_groups plan_delays remove_delays reset_delays restart_delays stream tensors_in to_nir to_onnx unroll
"""

SINCE = """
Adaptation AdaptiveConstants AdaptiveParameters Benchmarks CapturedStep ChargeRule Containers CurrentRule Dynamics
Exchanges FusedNeurons NeuronActivity OwnWeights Pretrained Reset ResetAfter ResetBefore Streams Surrogate SurrogateForm
adaptive_step clear_caches delay_state fused_neurons new_sequence pretrained pretrained_names run_fused select_delays
set_delay_state
"""

ROOMS = {
    "delayplug.data": "BINNINGS Augmented Binning Frames HoldOut Recordings bin_recordings cached_frames find_splits "
    "hold_out read_recordings stream_recordings TimeUnit",
    "delayplug.plot": "histogram histograms kernel matrix realigned trajectory",
    "delayplug.testing": "EXACT GRANULARITIES MAX_DELAY Advance Laws Network Sees can_pickle copies draw_whole_delays "
    "reference_neuron shift_cell shift_inputs snapshot states",
}

COMMANDS = {
    "backends": "",
    "bench run": "ablation accelerator backend batch-size binning compile config dataset delays devices epochs fan-in "
    "graph hidden launcher nodes out preset protocol seeds taps threads time-unit validation workers",
    "bench report": "",
    "bench deploy": "",
    "bench publish": "dataset files pages",
    "bench collect": "out",
    "bench leaderboard": "out",
    "data download": "packing root url",
    "data info": "channels plot time-unit",
    "data speed": "batch-size pool step-ms time-unit",
    "speed": "backend device only out rounds seconds threads",
}


def test_names_of_the_package() -> None:
    assert set(delayplug.__all__) == {*IN_0_1.split(), *SINCE.split()}
    for name in delayplug.__all__:
        assert getattr(delayplug, name) is not None


@pytest.mark.parametrize("room", ROOMS)
def test_names_of_rooms_that_are_imported_by_themselves(room: str) -> None:
    module = importlib.import_module(room)
    assert set(module.__all__) == set(ROOMS[room].split())
    for name in module.__all__:
        assert getattr(module, name) is not None


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_and_their_options(command: str) -> None:
    there = typer.main.get_command(cli.app)
    for word in command.split():
        there = there.commands[word]
    options = {name.removeprefix("--") for parameter in there.params for name in parameter.opts if name[:2] == "--"}
    assert options >= set(COMMANDS[command].split())


def test_entry_points() -> None:
    (command,) = metadata.entry_points(group="console_scripts", name="delayplug")
    assert command.load() is cli.main
    plugins = {entry.name for entry in metadata.entry_points(group="delayplug")}
    assert plugins >= {"norse", "snntorch", "spikingjelly"}
