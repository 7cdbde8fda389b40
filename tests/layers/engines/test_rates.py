"""`rates`: which engine costs least on which device."""

import pytest
import torch

from delayplug.layers.engines.fourier import Shape
from delayplug.layers.engines.rates import Kind, cheapest, cost, kind_of

PAPER = Shape(100, 100, 25, 256, 256, 256)


def best(shape: Shape, kind: Kind, *, exact: bool = True, setting: str = "highest") -> str:
    return cheapest(("fft", "direct", "products"), shape, kind, exact, setting)


def test_on_a_cpu_fft_takes_the_papers_shape_and_direct_short_kernels() -> None:
    assert best(PAPER, "cpu") == "fft"
    assert best(PAPER._replace(taps=2), "cpu") == "direct"
    assert best(Shape(1, 1, 25, 256, 256, 256), "cpu") == "direct"


@pytest.mark.parametrize("kind", ["h100", "a100"])
def test_tensor_cores_take_short_kernels_and_transforms_long_ones(kind: Kind) -> None:
    taps = 25 if kind == "h100" else 12
    assert best(PAPER._replace(taps=taps), kind) == "products"
    assert best(Shape(100, 100, taps, 256, 140, 256), kind) == "products"
    assert best(Shape(100, 100, taps, 256, 256, 20), kind) == "products"
    assert best(Shape(1000, 1000, 250, 32, 256, 256), kind) == "fft"
    assert best(Shape(1127, 1127, 513, 256, 700, 256), kind) == "fft"


def test_fewer_products_cost_less() -> None:
    exact, inexact = (cost("products", PAPER, "h100", exact=exact) for exact in (True, False))
    assert cost("products", PAPER, "h100", setting="medium") < exact < inexact
    assert cost("products", PAPER, "h100", setting="high") == inexact


def test_tf32_counts_where_it_is_allowed() -> None:
    assert cost("direct", PAPER, "h100", setting="high") < cost("direct", PAPER, "h100")


def test_a_measured_shape_costs_what_it_took() -> None:
    """On an H100: 1 ms of products, more than 0.1 ms of it beyond the sequence, which is left out now."""
    assert 0.8e3 < cost("products", PAPER, "h100", exact=True) < 1.2e3


def test_transforms_cost_less_where_factors_have_one_part_and_more_on_slower_devices() -> None:
    assert cost("fft", PAPER, "h100", setting="medium") < cost("fft", PAPER, "h100") < cost("fft", PAPER, "a100")


def test_what_silence_would_give_costs_nothing_on_a_gpu() -> None:
    long = Shape(100, 10000, 100, 256, 256, 256)  # all 100 x 100 meetings of a step and a tap
    less = cost("products", long._replace(steps_out=100), "h100") / cost("products", long, "h100")
    assert less == pytest.approx(0.505, abs=0.01)  # the rest is launches
    assert cost("direct", long._replace(steps_out=100), "cpu") == cost("direct", long, "cpu")


def test_a_device_is_of_a_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kind_of(torch.device("cpu")) == "cpu"
    known = {
        (8, 0): "a100",
        (8, 6): "consumer",
        (8, 9): "consumer",
        (9, 0): "h100",
        (10, 0): "h100",
        (12, 0): "consumer",
    }
    for index, (capability, kind) in enumerate(known.items()):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, capability=capability: capability)
        assert kind_of(torch.device("cuda", 90 + index)) == kind
