"""`comparisons`: both sides of each do the same work."""

import pickle

import pytest
import torch

from delayplug import LearnableDelay
from delayplug.bench.measure import comparisons as made
from delayplug.bench.measure.comparisons import comparisons
from delayplug.bench.measure.paper import dcls_forward, dcls_layer

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
BACKENDS = ["snntorch", "norse", "spikingjelly"]


@pytest.mark.parametrize("device", [CPU, CUDA], ids=str)
def test_names_are_unique_and_processes_can_be_sent_them(device: torch.device) -> None:
    works = comparisons(BACKENDS, device, ["sparx"])
    names = [work.name for work in works]
    assert len(set(names)) == len(names)
    assert sum("sparx" in name for name in names) == len(BACKENDS)
    assert [work.name for work in pickle.loads(pickle.dumps(works))] == names


def test_loops_are_compiled_and_unrolled_where_there_are_some() -> None:
    names = [work.name for work in comparisons(BACKENDS, CPU)]
    # SpikingJelly's neuron of the benchmark takes whole sequences: nothing to unroll, no loop to compile.
    for backend, steps in (("snntorch", True), ("norse", True), ("spikingjelly", False)):
        for name in (
            "training step, {}, compiled",
            "training step by unroll, {}",
            "training step by unroll, {}, compiled",
        ):
            assert (name.format(backend) in names) == steps


def test_the_targets_of_a_gpu_are_in_the_list() -> None:
    works = {work.name: work for work in comparisons(["spikingjelly"], CUDA)}
    assert works["training step, spikingjelly, as a CUDA graph"].limits_ms == {"highest": 2.6, "medium": 1.6}
    assert works["layer 256 -> 256, 25 taps"].limits_ms == {"highest": 1.1, "medium": 0.45}
    assert works["1127 steps, 512 delay steps, spikingjelly"].memory_limit_mb == 3000
    assert {"auto, 256 -> 256, 25 taps, against products", "depthwise, 256 channels, 25 taps"} <= works.keys()


def test_the_layers_compared_are_equal() -> None:
    torch.manual_seed(0)
    dcls = dcls_layer(6, 5, 25)
    layer = LearnableDelay.from_dcls(dcls)
    x = torch.rand(40, 3, 6)
    torch.testing.assert_close(layer(x, tail=12), dcls_forward(dcls, x, 12), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("backend", ["snntorch", "norse"])
@pytest.mark.slow
def test_the_loop_and_unroll_compared_are_equal(backend: str) -> None:
    steps = {}
    for side in ("ours", "theirs"):
        torch.manual_seed(0)
        steps[side] = made._unrolled(side, CPU, backend)
        steps[side]()
    networks = {
        side: next(c.cell_contents for c in step.__closure__ if isinstance(c.cell_contents, torch.optim.Optimizer))
        for side, step in steps.items()
    }
    grads = {side: [p.grad for group in o.param_groups for p in group["params"]] for side, o in networks.items()}
    for ours, theirs in zip(grads["ours"], grads["theirs"], strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)


@pytest.mark.slow
def test_the_depthwise_layers_compared_are_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = {}
    for side in ("ours", "theirs"):
        torch.manual_seed(0)
        monkeypatch.setattr(made, "_backward", lambda layer, run, x: run)
        outputs[side] = made._depthwise(side, CPU)()
    torch.testing.assert_close(outputs["ours"], outputs["theirs"], atol=1e-5, rtol=1e-5)


@pytest.mark.trains
def test_an_epoch_times_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made, "_RECORDINGS", (64, 32))
    for whole in (False, True):
        seconds = made._epoch("ours", CPU, "spikingjelly", whole)()
        assert isinstance(seconds, float)
        assert 0 < seconds < 60
