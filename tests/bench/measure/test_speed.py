"""`delayplug speed`: what is reported is what was measured."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from rich.console import Console

from delayplug import ArgumentError
from delayplug.bench.measure import speed
from delayplug.bench.measure.activity import Activity

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def product(side: str, device: torch.device, small: str) -> speed.Run:
    x = torch.rand(*(2 * (200 if side == small else 800,)), device=device)
    return lambda: x @ x


def toy(is_cost: bool = False) -> speed.Comparison:
    make = partial(product, small="theirs" if is_cost else "ours")
    return speed.Comparison("toy", "small", "large", 2.0, make, is_cost=is_cost)


@pytest.mark.parametrize("is_cost", [False, True])
def test_ratios(is_cost: bool) -> None:
    result = speed.measure(toy(is_cost), CPU, rounds=5)
    assert result.ratio is not None
    assert result.ratio > 2
    assert result.spread[0] <= result.ratio <= result.spread[1]
    ours, theirs = result.seconds
    assert (ours < theirs) != is_cost
    assert result.activity == ()


def test_one_side_alone() -> None:
    alone = speed.Comparison("alone", "product", "", None, partial(product, small="ours"))
    result = speed.measure(alone, CPU, rounds=3)
    (seconds,) = result.seconds
    assert result.ratio is None
    assert result.spread[0] <= seconds <= result.spread[1]


def test_a_run_that_times_itself() -> None:
    alone = speed.Comparison("alone", "product", "", None, lambda side, device: lambda: 0.25, times_itself=True)
    assert speed.measure(alone, CPU, rounds=3).seconds == (0.25,)


def test_no_new_round_after_its_time() -> None:
    calls: list[str] = []
    work = speed.Comparison("slow", "a", "b", 1.0, lambda side, device: lambda: calls.append(side))
    speed.measure(work, CPU, rounds=50, seconds=0)
    assert calls == ["ours", "theirs"] * 4  # once to warm up, then three rounds at least


def test_what_is_chosen() -> None:
    works = [toy()]
    assert speed.choose(works, ["TO"]) == speed.choose(works, ()) == works
    with pytest.raises(ArgumentError, match="only: expected parts of toy"):
        speed.choose(works, ["warp"])


def test_a_device_that_is_not_there() -> None:
    for name in ("warp", "cuda:99"):
        with pytest.raises(ArgumentError, match="device"):
            speed.check_device(name)


def hold_memory(side: str, device: torch.device) -> speed.Run:
    return lambda: torch.ones(25_000_000 if side == "ours" else 50_000_000, device=device)


@pytest.mark.slow
def test_memory_is_measured_in_a_process_of_its_own() -> None:
    work = speed.Comparison("memory", "100 MB", "200 MB", None, hold_memory, memory=True)
    ours, theirs = speed.measure(work, CPU, rounds=3).memory
    assert 90 < ours < 150
    assert 190 < theirs < 250


def printed(*results: speed.Result, device: torch.device = CPU) -> str:
    console = Console(width=160, record=True)
    console.print(speed.table(results, device))
    return console.export_text()


def test_report(tmp_path: Path) -> None:
    result = speed.measure(toy(), CPU, rounds=3)
    text = printed(result)
    assert "toy" in text
    assert f"{result.ratio:.2f}" in text
    speed.write([result], CPU, tmp_path / "new" / "speed.json")
    record = json.loads((tmp_path / "new" / "speed.json").read_text())
    assert record["results"][0]["ratio"] == result.ratio
    assert "threads" in record["device"]
    assert record["precision"] == torch.get_float32_matmul_precision()


def test_limits_and_activity_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    precision = torch.get_float32_matmul_precision()
    work = speed.Comparison(
        *("step", "graph", "paper", 5.0),
        partial(product, small="ours"),
        limits_ms={precision: 2.6},
        memory_limit_mb=3000,
        memory_share=0.5,
    )
    activity = (Activity(100, 0.95), Activity(7700, 0.1))
    result = speed.Result(work, (0.002, 0.013), 6.5, (6.4, 6.6), (2000, 3000), activity)
    text = printed(result, device=CUDA)
    for part in ("a GPU", "6.50", "<= 2.6 ms", "<= 3000 MB", "<= 0.5 of MB", "100 / 7,700", "95 / 10", "2000 / 3000"):
        assert part in text, part
    assert result.to_json()["activity"] == [{"kernels": 100, "busy": 0.95}, {"kernels": 7700, "busy": 0.1}]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_is_timed_by_its_events() -> None:
    result = speed.measure(toy(), CUDA, rounds=3)
    assert all(0 < seconds < 0.1 for seconds in result.seconds)
    assert all(each.kernels >= 1 and 0 < each.busy <= 1 for each in result.activity)
