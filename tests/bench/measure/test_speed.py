"""`delayplug speed`: both sides of each comparison do the same work, and what is reported is what was measured."""

import json
from pathlib import Path

import pytest
import torch

from delayplug import ArgumentError, LearnableDelay
from delayplug.bench.measure import speed
from delayplug.bench.measure.paper import dcls_forward, dcls_layer

CPU = torch.device("cpu")


def toy(is_cost: bool = False) -> speed.Comparison:
    def make(side: str, device: torch.device) -> speed.Run:
        size = 200 if (side == "ours") != is_cost else 800
        x = torch.rand(size, size, device=device)
        return lambda: x @ x

    return speed.Comparison("toy", "small", "large", 2.0, make, is_cost=is_cost)


@pytest.mark.parametrize("is_cost", [False, True])
def test_ratios(is_cost: bool) -> None:
    result = speed.measure(toy(is_cost), CPU, rounds=5)
    assert result.ratio > 2
    assert result.spread[0] <= result.ratio <= result.spread[1]
    ours, theirs = result.seconds
    assert (ours < theirs) != is_cost


def test_no_new_round_after_its_time() -> None:
    calls = []
    work = speed.Comparison("slow", "a", "b", 1.0, lambda side, device: lambda: calls.append(side))
    speed.measure(work, CPU, rounds=50, seconds=0)
    assert calls == ["ours", "theirs"] * 4  # once to warm up, then three rounds at least


def test_names_and_choice() -> None:
    works = speed.comparisons(["snntorch", "norse", "spikingjelly"])
    names = [work.name for work in works]
    assert len(set(names)) == len(names)
    assert [w.name for w in speed.choose(works, ["Kernel of"])] == ["kernel of 256 x 256, 25 taps"]
    assert speed.choose(works, ()) == works
    # SpikingJelly's neuron of the benchmark takes whole sequences: nothing to unroll, no loop to compile.
    for backend, steps in (("snntorch", True), ("norse", True), ("spikingjelly", False)):
        for name in (
            "training step, {}, compiled",
            "training step by unroll, {}",
            "training step by unroll, {}, compiled",
        ):
            assert (name.format(backend) in names) == steps
    with pytest.raises(ArgumentError, match="only: expected parts of layer"):
        speed.choose(works, ["warp"])


def test_a_device_that_is_not_there() -> None:
    for name in ("warp", "cuda:99"):
        with pytest.raises(ArgumentError, match="device"):
            speed.check_device(name)


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
        steps[side] = speed._unrolled(side, CPU, backend, compile=False)
        steps[side]()
    networks = {
        side: next(c.cell_contents for c in step.__closure__ if isinstance(c.cell_contents, torch.optim.Optimizer))
        for side, step in steps.items()
    }
    grads = {side: [p.grad for group in o.param_groups for p in group["params"]] for side, o in networks.items()}
    for ours, theirs in zip(grads["ours"], grads["theirs"], strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)


@pytest.mark.slow
def test_memory_is_measured_in_a_process_of_its_own() -> None:
    work = next(work for work in speed.comparisons(["spikingjelly"]) if work.name.startswith("layer 256 -> 20"))
    ours, theirs = speed._memory(work, CPU)
    assert 10 < ours < 1000
    assert 10 < theirs < 1000


def test_report(tmp_path: Path) -> None:
    from rich.console import Console

    result = speed.measure(toy(), CPU, rounds=3)
    console = Console(width=140, record=True)
    console.print(speed.table([result], CPU))
    text = console.export_text()
    assert "toy" in text
    assert f"{result.ratio:.2f}" in text
    speed.write([result], CPU, tmp_path / "new" / "speed.json")
    record = json.loads((tmp_path / "new" / "speed.json").read_text())
    assert record["results"][0]["ratio"] == result.ratio
    assert "threads" in record["device"]
