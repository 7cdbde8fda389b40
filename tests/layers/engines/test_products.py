"""The engine "products": on a GPU, or in Triton's interpreter, for which shapes are tiny."""

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from delayplug import ArgumentError, LearnableDelay
from delayplug.layers.engines import products as engine
from delayplug.layers.engines.convolve import convolve
from delayplug.layers.engines.products import can_run, products
from delayplug.layers.exact import mark_exact
from tests.layers import oracle
from tests.layers.engines.cases import LENGTHS
from tests.layers.kernels import DEVICE, matmul_precision, needs_triton, running
from tests.layers.launches import launches
from tests.profiles import examples

pytestmark = needs_triton


def tensors(T: int, K: int, batch: int = 3, inputs: int = 20, outputs: int = 18) -> tuple[Tensor, Tensor]:
    x = torch.randn(T, batch, inputs, device=DEVICE, requires_grad=True)
    return x, torch.randn(K, outputs, inputs, device=DEVICE, requires_grad=True)


def errors(x: Tensor, taps: Tensor, steps: int, apply: Callable[..., Tensor] = products) -> list[float]:
    """Of the output and of the gradients for those that want one, against float64: norms over norms."""
    exact = [a.detach().double().requires_grad_(a.requires_grad) for a in (x, taps)]
    with running():
        y = apply(x, taps, steps=steps)
        upstream = torch.randn(y.shape, device=DEVICE)
        found = [y, *torch.autograd.grad(y, [a for a in (x, taps) if a.requires_grad], upstream)]
    expected = [oracle.convolve(*exact, steps)]
    expected += torch.autograd.grad(expected[0], [a for a in exact if a.requires_grad], upstream.double())
    assert all(a.shape == b.shape for a, b in zip(found, expected, strict=True))
    return [float((a - b).detach().norm() / b.detach().norm()) for a, b in zip(found, expected, strict=True)]


@pytest.mark.parametrize(("T", "K", "steps"), LENGTHS)
def test_it_equals_the_loop(T: int, K: int, steps: int) -> None:
    assert max(errors(*tensors(T, K), steps)) < 1e-5


@settings(max_examples=examples(10))
@given(st.data())
def test_any_shape(data: st.DataObject) -> None:
    T, K, batch = (data.draw(st.integers(1, most)) for most in (9, 9, 5))
    # Some only: on a GPU each compiles kernels of its own.
    inputs, outputs = data.draw(st.sampled_from([1, 17, 40])), data.draw(st.sampled_from([1, 18, 70]))
    x, taps = tensors(T, K, batch, inputs, outputs)
    # That of one product of two numbers at its worst; in sums errors cancel out.
    assert max(errors(x, taps, data.draw(st.integers(1, T + K - 1)))) < 2**-16


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.bfloat16, torch.float16])
def test_spikes_of_any_dtype(dtype: torch.dtype) -> None:
    x, taps = tensors(9, 4)
    spikes = (x.detach() > 0).to(dtype)
    assert max(errors(spikes, taps, 11)) < 5e-6
    if dtype.is_floating_point:
        with running():
            y = products(spikes.requires_grad_(), taps, 9)
            grad = torch.autograd.grad(y, spikes, torch.ones_like(y))[0]
        assert grad.dtype == dtype


def test_inputs_that_do_not_lie_time_first() -> None:
    x = torch.randn(3, 20, 9, device=DEVICE).permute(2, 0, 1).requires_grad_()
    taps = torch.randn(20, 18, 4, device=DEVICE).permute(2, 1, 0).requires_grad_()
    assert max(errors(x, taps, 9)) < 1e-5


def count_products(monkeypatch: pytest.MonkeyPatch, x: Tensor, taps: Tensor) -> list[int]:
    """Products of parts in the output, the gradient of the taps and that of the input."""
    counts = []

    def counted(launch: Callable[..., None]) -> Callable[..., None]:
        def run(
            a1: Tensor, a2: Tensor | None, b1: Tensor, b2: Tensor | None, rest: Tensor | None, wanted: bool, *more: int
        ) -> None:
            if rest is None or bool(rest) == wanted:
                counts.append(1 + (a2 is not None) + (b2 is not None))
            launch(a1, a2, b1, b2, rest, wanted, *more)

        return run

    with monkeypatch.context() as patch, running():
        for name in ("shifted_product", "taps_product"):
            patch.setattr(engine, name, counted(getattr(engine, name)))
        products(x, taps, 5).sum().backward()
    return counts


def test_spikes_need_fewer_products(monkeypatch: pytest.MonkeyPatch) -> None:
    x, taps = tensors(5, 3)
    spikes = (x.detach() > 0).float()
    assert count_products(monkeypatch, x, taps) == [3, 3, 3]
    assert count_products(monkeypatch, spikes.clone().requires_grad_(), taps) == [2, 2, 3]  # as the device sees
    assert count_products(monkeypatch, mark_exact(spikes.clone()).requires_grad_(), taps) == [2, 2, 3]
    assert count_products(monkeypatch, spikes.bool(), taps) == [2, 2]
    with matmul_precision("medium"):
        assert count_products(monkeypatch, x, taps) == [1, 1, 1]


def test_marked_spikes_are_right() -> None:
    x, taps = tensors(9, 4)
    spikes = mark_exact((x.detach() > 0).float()).requires_grad_()
    assert max(errors(spikes, taps, 12)) < 1e-5


def test_spikes_that_are_there_in_bf16_are_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "half", lambda _: torch.bfloat16)
    x = torch.ones(4, 3, 32, device=DEVICE)
    half = x.bfloat16()
    first, second = engine.in_parts(mark_exact(x, half).view(4, 3, 32), 2, exact=True)
    assert second is None
    assert first.data_ptr() == half.data_ptr()


@pytest.mark.parametrize(
    ("setting", "least", "most"), [("highest", 0, 1e-5), ("high", 0, 1e-5), ("medium", 1e-4, 1e-2)]
)
def test_errors_at_each_precision(setting: str, least: float, most: float) -> None:
    with matmul_precision(setting):
        found = errors(*tensors(12, 5), 12)
    assert least <= min(found)
    assert max(found) <= most


def test_runs_are_equal_bit_by_bit() -> None:
    x, taps = tensors(40, 6, 16)
    upstream = torch.randn(40, 16, 18, device=DEVICE)

    def run() -> list[Tensor]:
        with running():
            y = products(x, taps, 40)
            return [y, *torch.autograd.grad(y, (x, taps), upstream)]

    assert all(torch.equal(a, b) for a, b in zip(run(), run(), strict=True))


@pytest.mark.parametrize("wanted", [0, 1])
def test_gradient_of_one_argument(wanted: int) -> None:
    inputs = [a.detach().requires_grad_(n == wanted) for n, a in enumerate(tensors(9, 4))]
    assert max(errors(inputs[0], inputs[1], 9)) < 1e-5


def test_second_derivatives_and_transforms() -> None:
    x, taps = tensors(5, 3, 2, 4, 3)
    with running():
        y = products(x, taps, 6)
        first = torch.autograd.grad(y.square().sum(), (x, taps), create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), (x, taps))
        batched = torch.func.vmap(lambda x: products(x, taps, 6))(x.unsqueeze(0))[0]
    a, b = (v.detach().double().requires_grad_() for v in (x, taps))
    expected = torch.autograd.grad(oracle.convolve(a, b, 6).square().sum(), (a, b), create_graph=True)
    expected_second = torch.autograd.grad(sum(g.square().sum() for g in expected), (a, b))
    torch.testing.assert_close(batched, y, rtol=1e-4, atol=1e-4)
    for found, by in zip((*first, *second), (*expected, *expected_second), strict=True):
        assert (found - by).norm() <= 1e-4 * by.norm()


def test_it_takes_float32_and_no_empty_tensors() -> None:
    x, taps = tensors(9, 4)
    assert not can_run(x.cpu(), taps.detach().cpu())
    with running():
        assert can_run(x, taps)
        assert can_run(x.bool(), taps)
        assert not can_run(x.double(), taps.double())
        assert not can_run(x[:, :0], taps)
        y = convolve(x.double(), taps.double(), engine="products")  # by another engine
        assert y.dtype == torch.float64
        assert convolve(x[:, :0], taps, engine="products").shape == (9, 0, 18)


def test_a_layer() -> None:
    layer = LearnableDelay(20, 18, max_delay=4, bias=True, engine="products").to(DEVICE)
    same = LearnableDelay(20, 18, max_delay=4, bias=True, engine="direct").double()
    same.load_state_dict(copy.deepcopy(layer.state_dict()))
    same = same.to(DEVICE)
    x = (torch.rand(9, 2, 3, 20, device=DEVICE) > 0.5).bfloat16()
    with running():
        y = layer(x.bool(), tail=3)
        y.square().sum().backward()
        in_bf16 = layer(x)
        copied = pickle.loads(pickle.dumps(layer))(x)
    same(x.bool(), tail=3).square().sum().backward()
    torch.testing.assert_close(layer.delays.grad.double(), same.delays.grad, rtol=1e-3, atol=1e-3)
    assert torch.equal(in_bf16, y[:9].bfloat16())
    assert torch.equal(in_bf16, copied)


def test_a_layer_forward_and_backward_is_few_launches() -> None:
    layer = LearnableDelay(20, 18, max_delay=4, engine="products").to(DEVICE)
    x = mark_exact((torch.rand(9, 3, 20, device=DEVICE) > 0.5).float()).requires_grad_()
    grad = torch.ones(9, 3, 18, device=DEVICE)
    with running(), launches() as names:
        layer(x).backward(grad)
    assert names == [
        *("aten.nan_to_num_", "aten.clamp_", "delayplug.make_taps"),
        *("delayplug.cut", "delayplug.cut", "delayplug.shifted_product"),
        *("delayplug.cut", "delayplug.taps_product", "delayplug.shifted_product"),
        "delayplug.taps_gradients",
    ]
    layer.eval()
    with running(), torch.no_grad(), launches() as names:
        layer(x)
    assert names == [
        *("aten.nan_to_num_", "aten.clamp_", "delayplug.whole_taps"),
        *("delayplug.cut", "delayplug.cut", "delayplug.shifted_product"),
    ]


def test_a_layer_where_it_does_not_run() -> None:
    layer = LearnableDelay(20, 18, max_delay=4, engine="products", device="cpu")
    with pytest.raises(ArgumentError, match=r"engine: expected 'products' on an NVIDIA GPU .*engine='auto'"):
        layer(torch.zeros(9, 3, 20, device="cpu"))


def test_it_compiles_as_a_whole() -> None:
    x, taps = tensors(9, 4)

    def run(x: Tensor, taps: Tensor) -> Tensor:
        return products(x, taps, 9)

    with running():
        y = torch.compile(run, backend="aot_eager", fullgraph=DEVICE.type == "cpu")(x, taps)
        found = torch.autograd.grad(y.sum(), (x, taps))
        expected = torch.autograd.grad(products(x, taps, 9).sum(), (x, taps))
        assert torch.equal(y, products(x, taps, 9))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_it_compiles_for_another_batch_size() -> None:
    run = torch.compile(lambda x, taps: products(x, taps, 9), backend="aot_eager")
    with running():
        for batch in (3, 4, 5):  # the first one as a constant, then as a variable
            x, taps = tensors(9, 4, batch)
            assert torch.equal(run(x, taps), products(x, taps, 9))
