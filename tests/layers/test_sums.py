"""Steps that add up what inputs give: equal to the sequence, whatever comes, and one product for a constant input."""

import copy

import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from delayplug.layers.conv import ConvDelay
from delayplug.layers.linear import LearnableDelay
from delayplug.layers.sums import in_next_steps, one_step_later
from tests.devices import DEVICE

F64 = torch.float64
D = 4


@pytest.fixture(scope="module", autouse=True)
def _also_small():
    """What is worth it for large layers alone, for those of these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("delayplug.layers.linear.LEAST_WINDOW", 0)
        yield


def linear(inputs: int, outputs: int | None, **options):
    layer = LearnableDelay(inputs, outputs, max_delay=D, dtype=F64, **options)
    return layer, (2, inputs), None


def conv(module: nn.Module, shape: tuple[int, ...]):
    module = module.to(F64)
    return ConvDelay(module, max_delay=D, dtype=F64), (2, *shape), module.weight


KINDS = {
    "more outputs": lambda: linear(3, 5, bias=True),
    "fewer outputs": lambda: linear(5, 2, bias=True),
    "without bias": lambda: linear(5, 2),
    "two taps": lambda: linear(5, 2, taps=2, learn_sigma=True),
    "triangle": lambda: linear(3, 4, interpolation="triangle", sigma=1.5),
    "linear": lambda: linear(4, 4, interpolation="linear"),
    "not rounded": lambda: linear(4, 3, round_in_eval=False),
    "direct": lambda: linear(4, 3, engine="direct"),
    "channels": lambda: linear(3, None),
    "channels of an image": lambda: (LearnableDelay(3, max_delay=D, dtype=F64), (2, 3, 4, 4), None),
    "convolution": lambda: conv(nn.Conv2d(2, 3, 3, padding=1, stride=2), (2, 5, 5)),
    "groups, circular": lambda: conv(nn.Conv1d(4, 4, 3, groups=2, padding=1, padding_mode="circular"), (4, 6)),
    "transposed": lambda: conv(nn.ConvTranspose2d(2, 3, 2, stride=2), (2, 3, 3)),
}


def make(kind: str):
    torch.manual_seed(0)
    layer, shape, weight = KINDS[kind]()
    with torch.no_grad():
        layer.delays.uniform_(0, D)
    return layer, shape, {} if weight is None else {"weight": weight}


def stepped(layer, inputs: list[Tensor], more: dict) -> Tensor:
    outputs, state = [], None
    for x in inputs:
        y, state = layer.step(x, state, **more)
        outputs.append(y)
    return torch.stack(outputs)


def leaves(layer, more: dict) -> list[Tensor]:
    return [p for p in (*layer.parameters(), *more.values()) if p.requires_grad]


def gradients(y: Tensor, wanted: list[Tensor]) -> list[Tensor]:
    torch.manual_seed(1)
    return torch.autograd.grad((y * torch.randn(y.shape, dtype=y.dtype)).sum(), wanted, allow_unused=True)


PATTERNS = ["aaaaaaaaa", "abababab", "aaabbbbbbbba", "00aab0a", "abbbbbbbbbba", "aaaaaaab", "00000000"]


@pytest.mark.parametrize("learns_x", [False, True], ids=["data", "learned input"])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("kind", KINDS)
def test_steps_are_the_sequence(kind: str, training: bool, learns_x: bool) -> None:
    layer, shape, more = make(kind)
    layer.train(training)
    for pattern in PATTERNS:
        values = {
            "a": torch.rand(shape, dtype=F64).requires_grad_(learns_x),
            "b": torch.rand(shape, dtype=F64).requires_grad_(learns_x),
            "0": torch.zeros(shape, dtype=F64),
        }
        inputs = [values[name] for name in pattern]
        wanted = [*leaves(layer, more), *(v for n, v in values.items() if v.requires_grad and n in pattern)]
        y, expected = stepped(layer, inputs, more), layer(torch.stack(inputs), **more)
        torch.testing.assert_close(y, expected, rtol=1e-9, atol=1e-11)
        if not expected.requires_grad:
            continue
        for got, right in zip(gradients(y, wanted), gradients(expected, wanted), strict=True):
            zero = torch.zeros(())
            torch.testing.assert_close(
                zero if got is None else got, zero if right is None else right, rtol=1e-8, atol=1e-10, check_dtype=False
            )
        with torch.no_grad():
            torch.testing.assert_close(stepped(layer, inputs, more), expected.detach(), rtol=1e-9, atol=1e-11)


WAYS = st.sampled_from([
    *("same", "same", "same", "view", "written", "new", "detach", "copy", "no_grad", "tree"),
    *(["numpy"] if DEVICE == "cpu" else []),
])  # fmt: skip


@pytest.mark.parametrize("kind", ["more outputs", "fewer outputs", "channels", "convolution"])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@given(ways=st.lists(WAYS, min_size=2, max_size=14))
def test_whatever_happens_on_the_way(kind: str, training: bool, ways: list[str]) -> None:
    """Inputs that are written to, also in ways that torch does not count; states that are cut off or copied."""
    layer, shape, more = make(kind)
    layer.train(training)
    x, state, outputs, seen = torch.rand(shape, dtype=F64), None, [], []
    for way in ways:
        given_x = x
        if way == "view":
            given_x = x.view(-1).view(shape)
        elif way == "written":
            x.add_(1)
        elif way == "numpy":
            x.numpy()[...] *= 0.5
        elif way == "new":
            given_x = x = torch.rand(shape, dtype=F64)
        elif way == "detach" and state is not None:
            state = state.detach()
        elif way == "copy" and state is not None:
            state = copy.deepcopy(state.detach())
        elif way == "tree" and state is not None:
            state = type(state)(*(v.detach() if isinstance(v, Tensor) else v for v in state))
        with torch.set_grad_enabled(way != "no_grad"):
            y, state = layer.step(given_x, state, **more)
        outputs.append(y.detach().clone())
        y.detach().fill_(7)  # whoever gets an output may write to it
        seen.append(given_x.clone())
    expected = layer(torch.stack(seen), **more).detach()
    torch.testing.assert_close(torch.stack(outputs), expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("kind", ["more outputs", "fewer outputs"])
def test_weights_that_change_on_the_way(kind: str) -> None:
    layer, shape, more = make(kind)
    x, state = torch.rand(shape, dtype=F64), layer.initial_state(shape[0])
    for _ in range(7):
        expected, _ = layer.step(x, type(state)(state.history.clone()))
        y, state = layer.step(x, state, **more)
        torch.testing.assert_close(y, expected)
        with torch.no_grad():
            layer.weight.mul_(1.5)


def test_a_training_cut_off_at_each_step() -> None:
    """Truncated backpropagation: kernels learn from all inputs that are under way, as they do without sums."""
    layer, shape, _ = make("more outputs")
    x, state = torch.rand(shape, dtype=F64), None
    for step in range(1, 8):
        y, state = layer.step(x, state)
        grads = torch.autograd.grad(y.square().sum(), layer.weight)[0]
        expected = torch.autograd.grad(layer(x.expand(step, *shape))[-1].square().sum(), layer.weight)[0]
        torch.testing.assert_close(grads, expected)
        state = state.detach()


@pytest.mark.parametrize("kind", ["more outputs", "fewer outputs"])
def test_the_past_has_its_graph(kind: str) -> None:
    layer, shape, _ = make(kind)
    x = torch.rand(3, *shape, dtype=F64).requires_grad_()
    state = None
    for x_t in x:
        _, state = layer.step(x_t * 2, state)
    assert torch.equal(state.past()[-3:], 2 * x)
    for part in (state.past(), state.select(slice(0, 1)).history, state.extended(1).history):
        assert torch.autograd.grad(part.sum(), x, retain_graph=True)[0].any()
    assert not state.detach().past().requires_grad
    rest = torch.rand(4, *shape, dtype=F64)
    y, _ = layer.chunk(rest, state)
    expected = layer(torch.cat((2 * x, rest)))[3:]
    torch.testing.assert_close(y, expected)
    for got, right in zip(gradients(y, [x]), gradients(expected, [x]), strict=True):
        torch.testing.assert_close(got, right)


class Products(TorchDispatchMode):
    """Counts the multiplications of matrix products."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm):
            a, b = (args[0], args[1]) if func.overloadpacket is torch.ops.aten.mm else (args[1], args[2])
            self.count += a.shape[0] * a.shape[1] * b.shape[1]
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_a_constant_input_costs_one_product_per_step(training: bool) -> None:
    layer = LearnableDelay(6, 8, max_delay=D, engine="auto" if training else "direct").train(training)
    x = torch.rand(2, 6)
    with Products() as products:
        stepped(layer, [x] * 10, {})
    assert products.count == (D + 1) * 2 * 6 * 8


def test_what_an_input_gives_later() -> None:
    products = torch.rand(2, 5, 3)  # (B, K, O)
    later = products
    for count in range(2, 8):
        later = products + one_step_later(later)
        torch.testing.assert_close(in_next_steps(products, count), later)
    assert in_next_steps(products, 1) is products
