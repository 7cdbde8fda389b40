"""`kernels.bumps`: the construction of taps and its gradients, against the formula of `layers.taps` in float64."""

import itertools

import pytest
import torch
from torch import Tensor

from delayplug.layers.taps import INTERPOLATIONS, Interpolation, integer_taps, taps
from tests.ahead import A100, H100, Job, compile_ahead
from tests.layers.kernels import DEVICE, needs_triton, running
from tests.layers.test_taps import arguments

pytestmark = needs_triton

Parameters = list[Tensor | None]


def run(parameters: Parameters, max_delay: int, interpolation: Interpolation) -> list[Tensor]:
    """The taps, and the gradients for all parameters."""
    inputs = [a for a in parameters if a is not None]
    delays, weights, sigma = parameters
    assert delays is not None
    found = taps(delays, weights, sigma, max_delay=max_delay, interpolation=interpolation)
    upstream = torch.randn(found.shape, generator=torch.Generator().manual_seed(1)).to(found)
    return [found, *torch.autograd.grad(found, inputs, upstream)]


def copies(parameters: Parameters, *to: torch.dtype | torch.device) -> Parameters:
    moved = [None if a is None else a.detach().to(to[0]) for a in parameters]
    return [None if a is None else a.requires_grad_() for a in moved]


@pytest.mark.parametrize("per_synapse", [False, True], ids=["scalar", "per_synapse"])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_taps_and_gradients(interpolation: Interpolation, count: int, per_synapse: bool) -> None:
    for max_delay, width in itertools.product((0, 5, 24), (0.5, 3.0, 12.0)):
        there = arguments(max_delay, count, interpolation, width, per_synapse=per_synapse, dtype=torch.float32)
        with running():
            found = run(copies(there, DEVICE), max_delay, interpolation)
        expected = run(copies(there, torch.float64), max_delay, interpolation)
        for name, a, b in zip(("taps", "delays", "weights", "sigma"), found, expected, strict=False):
            # That of one width for all is a sum of numbers that cancel out.
            size = max(1.0, b.detach().abs().max().item())
            assert (a.cpu() - b.cpu()).abs().max() <= 1e-5 * size, (name, max_delay, width)


def test_without_weights() -> None:
    there: Parameters = [torch.rand(37, 1) * 6, None, torch.tensor(1.3)]
    with running():
        found = run(copies(there, DEVICE), 6, "gauss")
    for a, b in zip(found, run(copies(there, torch.float64), 6, "gauss"), strict=True):
        assert (a.cpu() - b).abs().max() <= 1e-5


def test_more_synapses_than_a_program_has() -> None:
    there: Parameters = [torch.rand(13, 29, 1) * 6, torch.randn(13, 29, 1), torch.tensor(1.3)]
    with running():
        found = run(copies(there, DEVICE), 6, "gauss")
    for a, b in zip(found, run(copies(there, torch.float64), 6, "gauss"), strict=True):
        assert (a.cpu() - b).abs().max() <= 1e-5 * max(1.0, b.detach().abs().max().item())


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_a_delay_that_is_nan_makes_taps_that_are(interpolation: Interpolation) -> None:
    delays = torch.tensor([[1.0], [torch.nan]], device=DEVICE)
    sigma = None if interpolation == "linear" else torch.tensor(1.5, device=DEVICE)
    with running():
        found = taps(delays, None, sigma, max_delay=4, interpolation=interpolation)
    assert found[:, 0].isfinite().all()
    assert found[:, 1].isnan().all()


@pytest.mark.parametrize("count", [1, 3])
def test_whole_delays(count: int) -> None:
    delays, weights = torch.rand(13, 11, count) * 6, torch.randint(-9, 10, (13, 11, count)).float()
    delays[0, :5, 0] = torch.tensor([0.0, 0.5, 1.5, 5.5, 6.0])
    for given in (weights, None):
        expected = integer_taps(delays, given, max_delay=6)
        with running():
            found = integer_taps(delays.to(DEVICE), None if given is None else given.to(DEVICE), max_delay=6)
        assert torch.equal(found.to(expected.device), expected)


def test_whole_delays_out_of_range_make_taps_nan() -> None:
    with running():
        found = integer_taps(torch.tensor([[7.0], [-1.0], [torch.nan], [2.0]], device=DEVICE), None, max_delay=6)
    assert found[:, :3].isnan().all()
    assert found[:, 3].tolist() == [0, 0, 1, 0, 0, 0, 0]


def test_whole_delays_pass_gradients_to_weights() -> None:
    delays, weights = torch.rand(3, 4, 2, device=DEVICE) * 6, torch.randn(3, 4, 2, device=DEVICE, requires_grad=True)
    with running():
        integer_taps(delays, weights, max_delay=6).sum().backward()
    assert weights.grad is not None
    assert torch.equal(weights.grad, torch.ones_like(weights))


def test_runs_are_equal_bit_by_bit() -> None:
    there: Parameters = [torch.rand(13, 29, 1) * 6, torch.randn(13, 29, 1), torch.tensor(1.3)]
    with running():
        first, second = (run(copies(there, DEVICE), 6, "gauss") for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def job(name: str, pointers: str, none: tuple[str, ...], count: int, gauss: bool, each: bool, capability: int) -> Job:
    signature = dict.fromkeys(pointers.split(), "*fp32") | {"S": "i32", "K": "i32", "epsilon": "fp32"}
    place = 1 << (count - 1).bit_length()
    constants = {"N": count, "GAUSS": gauss, "EACH": each, "TAPS": place, "BLOCK": 128 // place}
    constants |= dict.fromkeys(none)
    return Job(f"delayplug.layers.engines.kernels.bumps:{name}", signature, constants, {"num_warps": 4}, capability)


def whole_job(count: int, capability: int) -> Job:
    asked = job("whole_taps", "delays weights out", (), count, True, False, capability)
    signature = {name: kind for name, kind in asked.signature.items() if name != "epsilon"}
    constants = {name: value for name, value in asked.constants.items() if name not in ("GAUSS", "EACH")}
    return Job(asked.kernel, signature, constants, asked.options, capability)


def test_they_compile_without_spilling() -> None:
    outs = "by_delay by_weight by_sigma"
    jobs = [
        job("make_taps", "delays weights sigma out", (), 1, True, False, H100),
        job("make_taps", "delays sigma out", ("weights",), 3, True, True, A100),
        job("make_taps", "delays weights out", ("sigma",), 2, False, False, H100),
        whole_job(3, H100),
        job("taps_gradients", f"grad delays weights sigma {outs}", (), 1, True, False, H100),
        job("taps_gradients", f"grad delays weights sigma {outs}", (), 3, False, True, A100),
        job(
            "taps_gradients", "grad delays weights by_delay", ("sigma", "by_weight", "by_sigma"), 1, False, False, H100
        ),
    ]
    for asked, compiled in zip(jobs, compile_ahead(jobs), strict=True):
        assert compiled.spilled == 0, asked
        assert compiled.registers <= 64, asked  # so that a multiprocessor runs many programs
        assert "RED" not in compiled.instructions, asked  # what programs add up in memory depends on who comes first
        assert "ATOM" not in compiled.instructions, asked
