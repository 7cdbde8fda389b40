import itertools

import pytest
import torch

from delayplug._triton import interpreted
from delayplug.errors import ArgumentError
from delayplug.layers.engines import convolve as convolution
from delayplug.layers.engines.convolve import convolve
from tests.layers import oracle
from tests.layers.engines.cases import LENGTHS, agree, tensors


@pytest.mark.parametrize("engine", ["fft", "direct", "auto", "dcls"])
@pytest.mark.parametrize(("T", "K", "steps"), LENGTHS)
def test_engines_equal_the_loop(T, K, steps, engine):
    x, taps = tensors(T, K)
    agree(convolve(x, taps, steps=steps, engine=engine), oracle.convolve(x, taps, steps), (x, taps))


@pytest.mark.parametrize("engine", ["fft", "direct"])
def test_length_is_that_of_the_input_by_default(engine):
    x, taps = tensors(9, 4)
    agree(convolve(x, taps, engine=engine), oracle.convolve(x, taps, 9), (x, taps))


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64])
@pytest.mark.parametrize("engine", ["fft", "direct"])
def test_spikes_of_any_type(engine, dtype):
    x, taps = tensors(20, 5)
    spikes = x.detach() > 1
    agree(convolve(spikes.to(dtype), taps, engine=engine), convolve(spikes.double(), taps, engine=engine), (taps,))


@pytest.mark.parametrize("engine", ["fft", "direct"])
def test_batch_of_one_and_single_features(engine):
    for batch, inputs, outputs in itertools.product((1, 2), repeat=3):
        x, taps = tensors(7, 3, batch, inputs, outputs)
        agree(convolve(x, taps, engine=engine), oracle.convolve(x, taps, 7), (x, taps))


@pytest.mark.parametrize("engine", ["fft", "direct", "auto"])
def test_empty_batch(engine):
    x, taps = tensors(7, 3, batch=0)
    y = convolve(x, taps, engine=engine)
    y.sum().backward()
    assert y.shape == (7, 0, 5)
    assert not taps.grad.any()


@pytest.mark.parametrize("engine", ["fft", "direct"])
def test_non_contiguous_input(engine):
    x = torch.randn(4, 3, 9, dtype=torch.float64, requires_grad=True)
    taps = torch.randn(4, 5, 6, dtype=torch.float64, requires_grad=True)
    x_TBI, taps_KOI = x.permute(2, 1, 0), taps.permute(2, 1, 0)[:, ::2, :]
    taps_KOI = torch.cat((taps_KOI, taps_KOI[:3]))[:, :, :4]
    found = convolve(x_TBI, taps_KOI, engine=engine)
    agree(found, oracle.convolve(x_TBI, taps_KOI, 9), (x, taps))
    assert found.shape == (9, 3, 3)


@pytest.mark.parametrize("engine", ["fft", "direct"])
@pytest.mark.parametrize("wanted", [0, 1])
def test_gradient_of_one_argument(engine, wanted):
    x, taps = tensors(9, 4)
    (expected,) = torch.autograd.grad(oracle.convolve(x, taps, 9).square().sum(), (x, taps)[wanted])
    inputs = [a.detach().requires_grad_(n == wanted) for n, a in enumerate((x, taps))]
    convolve(*inputs, engine=engine).square().sum().backward()
    assert torch.allclose(inputs[wanted].grad, expected)
    assert inputs[1 - wanted].grad is None


def test_gradcheck():
    x, taps = tensors(5, 3, 2, 2, 2)
    assert torch.autograd.gradcheck(lambda *a: convolve(*a, steps=6, engine="fft"), (x, taps))


@pytest.mark.parametrize("engine", ["fft", "direct"])
@pytest.mark.parametrize(("T", "K", "steps"), LENGTHS)
def test_second_derivatives_and_transforms(T, K, steps, engine):
    x, taps = tensors(T, K, 2, 2, 2)
    assert torch.autograd.gradgradcheck(lambda *a: convolve(*a, steps=steps, engine=engine), (x, taps), fast_mode=True)
    found = torch.func.vmap(lambda x: convolve(x, taps, steps=steps, engine=engine))(x.unsqueeze(0))[0]
    agree(found, convolve(x, taps, steps=steps, engine=engine), (x, taps))


def test_auto_is_what_it_chose(monkeypatch):
    x, taps = tensors(9, 4)
    for choice in ("fft", "direct"):
        monkeypatch.setattr(convolution, "_cheapest", lambda *_, choice=choice: choice)
        assert torch.equal(convolve(x, taps, engine="auto"), convolve(x, taps, engine=choice))


def test_auto_takes_tensor_cores_where_they_cost_least(monkeypatch):
    if torch.cuda.is_available():
        pytest.skip("about the interpreter")
    x, taps = torch.ones(9, 3, 20), torch.randn(4, 18, 20)
    monkeypatch.setattr(convolution, "kind_of", lambda device: "h100")
    assert convolution._cheapest(x, taps, 9) != "products"  # nothing runs there
    with interpreted():
        assert convolution._cheapest(x, taps, 9) == "products"
        assert convolution._cheapest(x.double(), taps.double(), 9) != "products"
        assert convolution._cheapest(x[:, :0], taps, 9) != "products"


def test_products_asked_for_where_they_do_not_run():
    if torch.cuda.is_available():
        pytest.skip("about CPUs")
    with pytest.raises(ArgumentError, match=r"compute capability 8\.0 or more.*on cpu.*engine='auto'"):
        convolve(*tensors(9, 4), engine="products")


@pytest.mark.parametrize("engine", ["fft", "direct"])
def test_autocast_changes_nothing(engine):
    x, taps = (a.detach().float().requires_grad_() for a in tensors(9, 4))
    y = convolve(x, taps, engine=engine)
    with torch.autocast("cpu", torch.bfloat16):
        found = convolve(x, taps, engine=engine)
    assert found.dtype == torch.float32
    agree(found, y, (x, taps), tolerance=0)


@pytest.mark.parametrize("engine", ["fft", "direct"])
def test_half_precision_is_computed_in_that_of_the_taps(engine):
    x, taps = (a.detach().float() for a in tensors(9, 4))
    half, taps = x.bfloat16().requires_grad_(), taps.requires_grad_()
    found = convolve(half, taps, engine=engine)
    assert found.dtype == torch.float32
    agree(found, convolve(half.float(), taps, engine=engine), (half, taps), tolerance=0)


@pytest.mark.parametrize("engine", ["fft", "direct"])
def test_float32_error_at_the_papers_shape(engine):
    x = (torch.rand(100, 16, 64) < 0.2).double().requires_grad_()
    taps = torch.randn(25, 64, 64, dtype=torch.float64, requires_grad=True)
    single = x.detach().float().requires_grad_(), taps.detach().float().requires_grad_()
    exact, found = convolve(x, taps, engine="direct"), convolve(*single, engine=engine)
    upstream = torch.randn(exact.shape, dtype=torch.float64)
    expected = [exact, *torch.autograd.grad(exact, (x, taps), upstream)]
    for a, b in zip([found, *torch.autograd.grad(found, single, upstream.float())], expected, strict=True):
        assert a.dtype == torch.float32
        assert (a - b).abs().max() <= 1e-5 * b.abs().max()
