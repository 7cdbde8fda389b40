"""`precision`: what torch's setting means for the engines."""

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch

from delayplug import ConvDelay, LearnableDelay
from delayplug.layers.precision import allows_tf32, full_precision, parts, setting

CUDA = torch.device("cuda")


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize(("name", "count", "tf32"), [("highest", 2, False), ("high", 2, True), ("medium", 1, True)])
def test_the_setting_of_torch_decides(name: str, count: int, tf32: bool) -> None:
    torch.set_float32_matmul_precision(name)
    assert (parts(), allows_tf32()) == (count, tf32)


def test_what_torch_keeps_apart_from_its_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once `torch.backends.cuda.matmul.fp32_precision` was set, asking for the setting of all products is an error."""

    def refuse() -> str:
        raise RuntimeError("mix of the legacy and new APIs")

    monkeypatch.setattr(torch, "get_float32_matmul_precision", refuse)
    for precision, name in (("tf32", "high"), ("ieee", "highest"), ("none", "highest")):
        monkeypatch.setattr(torch.backends.cuda, "matmul", SimpleNamespace(fp32_precision=precision))
        assert setting() == name


@pytest.mark.parametrize(("name", "inside"), [("highest", "ieee"), ("high", "tf32"), ("medium", "tf32")])
def test_cudnn_uses_tf32_where_it_is_allowed(monkeypatch: pytest.MonkeyPatch, name: str, inside: str) -> None:
    """In the settings of torch 2.9 and later."""
    conv = SimpleNamespace(fp32_precision="tf32")
    monkeypatch.setattr(torch.backends.cudnn, "conv", conv, raising=False)
    torch.set_float32_matmul_precision(name)
    with full_precision(CUDA):
        assert conv.fp32_precision == inside
    assert conv.fp32_precision == "tf32"
    with full_precision(torch.device("cpu")):
        assert conv.fp32_precision == "tf32"


def test_cudnn_uses_no_tf32_in_older_versions_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    cudnn = SimpleNamespace(allow_tf32=True)
    monkeypatch.setattr(torch.backends, "cudnn", cudnn)
    with full_precision(CUDA):
        assert cudnn.allow_tf32 is False
    assert cudnn.allow_tf32 is True


@pytest.mark.skipif(not hasattr(torch.backends.cudnn, "conv"), reason="settings of torch 2.9 and later")
def test_the_settings_of_torch_itself_come_back() -> None:
    conv = torch.backends.cudnn.conv
    for before in ("tf32", "ieee"):
        conv.fp32_precision = before
        with full_precision(CUDA):
            assert conv.fp32_precision == "ieee"
        assert conv.fp32_precision == before
    conv.fp32_precision = "tf32"


def test_the_setting_comes_back_when_the_last_thread_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    conv = SimpleNamespace(fp32_precision="tf32")
    monkeypatch.setattr(torch.backends, "cudnn", SimpleNamespace(conv=conv))
    first, second = full_precision(CUDA), full_precision(CUDA)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert conv.fp32_precision == "ieee"
    second.__exit__(None, None, None)
    assert conv.fp32_precision == "tf32"


def test_autocast_is_off_within() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        ones = torch.ones(2, 2, device="cpu")
        with full_precision(torch.device("cpu")):
            assert (ones @ ones).dtype == torch.float32
        assert (ones @ ones).dtype == torch.bfloat16


@pytest.mark.real("autocast")
@pytest.mark.parametrize("half", [False, True])
def test_layers_compute_in_float32_under_autocast(half: bool) -> None:
    """Taps, sequences and single steps, forward and backward, equal what they are without."""
    conv = torch.nn.Conv1d(4, 6, 3)
    layer, over_space = LearnableDelay(20, 18, max_delay=4, bias=True), ConvDelay(conv, max_delay=3)
    x, image = torch.randn(9, 3, 20), torch.randn(5, 2, 4, 6)
    x, image = (x.bfloat16(), image.bfloat16()) if half else (x, image)
    state = over_space.initial_state(2, 6)

    def run() -> list[torch.Tensor]:
        return [
            layer.kernel(),
            layer(x),
            layer.step(x[0], layer.initial_state(3))[0],
            over_space(image, weight=conv.weight),
            over_space.step(image[0], state, weight=conv.weight)[0],
        ]

    def gradients(results: list[torch.Tensor]) -> list[torch.Tensor]:
        total = sum(result.float().square().sum() for result in results)
        assert isinstance(total, torch.Tensor)
        return list(torch.autograd.grad(total, [*layer.parameters(), *over_space.parameters(), conv.weight]))

    expected = run()
    with torch.autocast(layer.delays.device.type, torch.bfloat16):
        found = run()
    for a, b in zip((*found, *gradients(found)), (*expected, *gradients(expected)), strict=True):
        torch.testing.assert_close(a, b)
