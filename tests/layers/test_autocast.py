"""Autocast, half precision and loss scaling in a user's own loop: delays and taps stay in float32."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from delayplug import ConvDelay, DelayLayer, LearnableDelay

HALVES = [
    ("cpu", torch.bfloat16),
    *(
        pytest.param("cuda", dtype, marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))
        for dtype in (torch.bfloat16, torch.float16)
    ),
]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]

LAYERS: dict[str, Callable[[], DelayLayer]] = {
    "auto": lambda: LearnableDelay(6, 6, max_delay=5),
    "fft": lambda: LearnableDelay(6, 6, max_delay=20, engine="fft", taps=2, bias=True),
    "direct": lambda: LearnableDelay(6, 6, max_delay=5, engine="direct"),
    "linear": lambda: LearnableDelay(6, 6, max_delay=5, interpolation="linear"),
    "learned width": lambda: LearnableDelay(6, 6, max_delay=5, learn_sigma=True),
    "per channel": lambda: LearnableDelay(6, max_delay=5),
    "convolution": lambda: ConvDelay(nn.Conv2d(6, 6, 3, padding=1), max_delay=3),
}


def spikes(layer: DelayLayer, device: str) -> Tensor:
    shape = (30, 4, 6, 5, 5) if isinstance(layer, ConvDelay) else (30, 4, 6)
    return (torch.rand(shape, generator=torch.Generator().manual_seed(1)) < 0.3).float().to(device)


def weights(layer: DelayLayer) -> Tensor | None:
    """Those that a call brings, of a layer that holds none."""
    shape = layer.delays.shape
    holds = not isinstance(layer, ConvDelay)
    return None if holds else torch.linspace(-1, 1, shape.numel(), device=layer.delays.device).view(shape)


def gradients(layer: DelayLayer, y: Tensor) -> list[Tensor]:
    """Those of a loss in float32 that weighs all outputs; they are taken away from the layer."""
    factors = torch.linspace(-1, 1, y.numel(), device=y.device).view_as(y)
    (y.float() * factors).sum().backward()
    taken = [p.grad for p in layer.parameters() if p.grad is not None]
    layer.zero_grad()
    return taken


def relative(a: Tensor, b: Tensor) -> float:
    return float((a.float() - b).norm() / b.norm())


@pytest.mark.parametrize(("device", "half"), HALVES)
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("inside", [True, False], ids=["backward inside", "backward outside"])
def test_autocast(name: str, device: str, half: torch.dtype, inside: bool) -> None:
    """Outputs and gradients of float32, up to the digits of half precision, for spikes in either precision."""
    torch.manual_seed(0)
    layer = LAYERS[name]().to(device)
    x, weight = spikes(layer, device), weights(layer)
    expected = layer(x, weight=weight)
    y_expected, expected_gradients = expected.detach(), gradients(layer, expected)
    for given in (x, x.to(half), x.bool()):
        with torch.autocast(device, half):
            y = layer(given, weight=weight)
            found = gradients(layer, y) if inside else None
        found = gradients(layer, y) if found is None else found
        assert y.isfinite().all()
        assert relative(y.detach(), y_expected) < 0.01
        for ours, theirs in zip(found, expected_gradients, strict=True):
            assert ours.dtype == torch.float32
            assert relative(ours, theirs) < 0.02


@pytest.mark.parametrize(("device", "half"), HALVES)
@pytest.mark.parametrize("name", LAYERS)
def test_taps_are_made_in_float32(name: str, device: str, half: torch.dtype) -> None:
    layer = LAYERS[name]().to(device)
    expected = layer.kernel(weights(layer))
    with torch.autocast(device, half):
        assert torch.equal(layer.kernel(weights(layer)), expected)
    layer.to(half)
    assert layer.delays.dtype == torch.float32
    assert layer.kernel(weights(layer)).dtype == torch.float32


def network(device: str) -> nn.Sequential:
    torch.manual_seed(0)
    first, last = LearnableDelay(6, 8, max_delay=5), LearnableDelay(8, 3, max_delay=5, learn_sigma=True)
    return nn.Sequential(first, nn.Linear(8, 8), nn.ReLU(), last).to(device)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("fused", [False, True])
def test_loss_scaling(device: str, fused: bool) -> None:
    """Unscaled gradients are those without a scale; the step clamps delays; a step of infinite gradients is none."""
    half = torch.float16 if device == "cuda" else torch.bfloat16
    made = network(device)
    optimizer = torch.optim.Adam(made.parameters(), lr=3.0, fused=fused)
    scaler = torch.amp.GradScaler(device, init_scale=1024.0)
    x = spikes(made[0], device)

    def loss() -> Tensor:
        with torch.autocast(device, half):
            return made(x).float().square().mean()

    loss().backward()
    expected = [p.grad.clone() for p in made.parameters()]
    optimizer.zero_grad()
    scaler.scale(loss()).backward()
    scaler.unscale_(optimizer)
    for parameter, gradient in zip(made.parameters(), expected, strict=True):
        assert gradient.norm() > 0
        assert relative(parameter.grad, gradient) < 0.01
    before = made[0].delays.detach().clone()
    scaler.step(optimizer)
    scaler.update()
    assert not torch.equal(made[0].delays, before)
    assert float(made[0].delays.detach().min()) == 0
    assert float(made[0].delays.detach().max()) == 5
    assert float(made[3].sigma.detach().min()) >= 0.27 - 1e-6

    after = [p.detach().clone() for p in made.parameters()]
    optimizer.zero_grad()
    scaler.scale(loss() * float("inf")).backward()
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 512
    assert all(map(torch.equal, made.parameters(), after))


@pytest.mark.parametrize(("device", "half"), HALVES)
def test_training_under_autocast_learns(device: str, half: torch.dtype) -> None:
    made = network(device)
    optimizer = torch.optim.Adam(made.parameters(), lr=0.02)
    x = spikes(made[0], device)
    target = torch.roll(x[..., :3], 3, dims=0)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        with torch.autocast(device, half):
            loss = nn.functional.mse_loss(made(x).float(), target)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]
