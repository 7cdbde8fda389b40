"""`kernels.spectra`: windows, spectra, factors of products; their numbers are tested in `test_windows`, too."""

from dataclasses import replace

import pytest
import torch

from delayplug.layers.engines.columns import correlate, filter_pairs
from delayplug.layers.engines.spectral import pair_spectra, split_spectra
from delayplug.layers.engines.windows import as_integers
from tests.ahead import A100, H100, Job, compile_ahead
from tests.layers.kernels import DEVICE, needs_triton, running

pytestmark = needs_triton

KERNELS = "delayplug.layers.engines.kernels.spectra:"


def numbers(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.complex64, device=DEVICE)


@pytest.mark.parametrize("conjugate", [False, True])
@pytest.mark.parametrize("parts", [1, 2])
def test_a_spectrum_is_cut_into_parts(parts: int, conjugate: bool) -> None:
    z = numbers(3, 5, 4)
    planes = torch.full((2 * parts, 4, 6, 16), torch.nan, device=DEVICE)
    with running():
        split_spectra(as_integers(z), planes, 2, conjugate)
    assert planes[:, :, :2].isnan().all()  # rows of others
    assert planes[:, :, 5:].isnan().all()
    assert not planes[:, :, 2:5, 5:].any()
    assert torch.equal(planes[:, :, 2:5], planes[:, :, 2:5].bfloat16().float())
    real, imaginary = planes[:, :, 2:5, :5].unflatten(0, (parts, 2)).double().sum(0)
    expected = (z.conj() if conjugate else z).movedim(2, 0)
    error = (torch.complex(real, imaginary) - expected).abs().max() / expected.abs().max()
    assert error <= (2.0**-17 if parts == 2 else 2.0**-8)


@pytest.mark.parametrize("n", [6, 7])
def test_two_real_sequences_are_one_complex(n: int) -> None:
    x = torch.randn(3, 4, n, device=DEVICE)  # rows, columns
    z = torch.fft.rfft(x).movedim(2, 0)
    planes = torch.stack((z.real, z.imag)).contiguous()
    out = numbers(2, 1, 2, n)
    with running():
        pair_spectra(planes.view(torch.int64), as_integers(out), 1)
    assert torch.allclose(torch.view_as_real(torch.fft.ifft(out))[:, 0].mT.flatten(1, 2), x[1:], atol=1e-5)


@pytest.mark.parametrize("conjugate", [False, True])
@pytest.mark.parametrize("columns", [3, 4])
def test_filtering_gives_pairs(columns: int, conjugate: bool) -> None:
    x, taps = torch.randn(2, columns, 6, device=DEVICE), torch.randn(columns, 6, device=DEVICE)
    a, w = torch.fft.rfft(x), torch.fft.rfft(taps)
    out = numbers(2, 1, 2, 6)
    with running():
        filter_pairs(as_integers(a.unsqueeze(1)), as_integers(w), as_integers(out), conjugate)
    found = torch.view_as_real(torch.fft.ifft(out))[:, 0].mT.flatten(1, 2)
    assert torch.allclose(found[:, :columns], torch.fft.irfft(a * (w.conj() if conjugate else w), n=6), atol=1e-5)
    assert not found[:, columns:].abs().gt(1e-6).any()


def test_correlations_are_sums_over_rows() -> None:
    x, grad, out = numbers(5, 1, 3, 4), numbers(5, 1, 3, 4), numbers(3, 3, 4)
    with running():
        correlate(as_integers(x), as_integers(grad), as_integers(out), 2)
    products = (x.conj() * grad)[:, 0]
    assert torch.allclose(out, torch.stack([products[i : i + 2].sum(0) for i in (0, 2, 4)]), atol=1e-5)


def job(name: str, pointers: dict[str, str], sizes: str, **constants: object) -> Job:
    signature = pointers | dict.fromkeys(sizes.split(), "i32") | ({"scale": "fp32"} if name == "overlap" else {})
    return Job(KERNELS + name, signature, constants, {"num_warps": 4})


JOBS = [
    job(
        "windows", {"x": "*fp32", "out": "*fp32"}, "steps count stride length columns size stride_t stride_r",
        stride_c=1, BT=64, BC=64,
    ),
    job(
        "split", {"spectrum": "*i64", "out": "*bf16"}, "columns frequencies first stride_row stride_f stride_plane",
        CONJUGATE=True, PARTS=2, BC=64, BF=32,
    ),
    job(
        "pair", {"planes": "*i64", "out": "*i64"}, "pairs frequencies size first stride_row stride_f stride_plane",
        BP=32, BF=32,
    ),
    job(
        "overlap", {"z": "*i64", "out": "*fp32"}, "steps count stride length columns pairs size stride_t stride_r",
        BT=64, BP=32,
    ),
    job(
        "filter_pair", {"x": "*i64", "taps": "*i64", "out": "*i64"}, "columns pairs frequencies size",
        CONJUGATE=True, BP=4, BF=256,
    ),
    job("correlation", {"x": "*i64", "grad": "*i64", "out": "*i64"}, "rows share numbers", BLOCK=512),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("capability", [H100, A100])
def test_they_compile_without_spilling(capability: int) -> None:
    jobs = [replace(job, capability=capability) for job in JOBS]
    assert [compiled.spilled for compiled in compile_ahead(jobs)] == [0] * len(jobs)
