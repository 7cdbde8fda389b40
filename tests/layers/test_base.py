import copy
import math
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from delayplug import ArgumentError, ConvDelay, DelayState, LearnableDelay, freeze_delays
from delayplug.layers.base import DelayLayer
from delayplug.layers.options import KernelOptions
from tests.devices import DEVICE
from tests.layers.running import F64, equal, from_history, make, run_chunks, run_steps

SYNAPSE, CHANNEL = LearnableDelay(4, 3, max_delay=5), LearnableDelay(4, max_delay=5)


BASE = {"max_delay": 3, "weight": True, "bias": 0, "options": KernelOptions("linear")}
BASE |= {"device": None, "dtype": None}


def test_the_base_of_all_layers_cannot_be_made():
    with pytest.raises(TypeError, match="abstract"):
        DelayLayer((2, 2), **BASE)


@pytest.mark.parametrize("missing", ["_convolve", "_step_kernel", "_convolve_step", "_weigh", "_check_input"])
def test_a_layer_that_does_not_say_how_taps_are_applied_cannot_be_made(missing):
    parts = ("_convolve", "_step_kernel", "_convolve_step", "_weigh", "_check_input")
    whole = {name: getattr(LearnableDelay, name) for name in parts}
    type("Whole", (DelayLayer,), whole)((2, 2), **BASE)
    forgetful = type("Forgetful", (DelayLayer,), {name: part for name, part in whole.items() if name != missing})
    with pytest.raises(TypeError, match=missing):
        forgetful((2, 2), **BASE)


@pytest.mark.parametrize("dtype", [torch.int64, torch.complex64])
def test_dtype_must_be_floating(dtype):
    with pytest.raises(ArgumentError, match=f"dtype: expected a floating point type, got {dtype}"):
        LearnableDelay(4, 3, max_delay=5, dtype=dtype)


@pytest.mark.parametrize("tail", [-1, 6, 1.5, math.nan])
def test_tail_errors(tail):
    with pytest.raises(ArgumentError, match="tail: expected a number of steps between 0 and max_delay=5, got "):
        SYNAPSE(torch.zeros(9, 2, 4), tail=tail)


@pytest.mark.parametrize("layer", [SYNAPSE, CHANNEL])
def test_state_of_another_batch(layer):
    message = r"state: expected a history of shape \(5, 2, 4\), got \(5, 3, 4\). Start a new sequence"
    with pytest.raises(ArgumentError, match=message):
        layer.step(torch.zeros(2, 4), layer.initial_state(3))
    with pytest.raises(ArgumentError, match=message):
        layer.chunk(torch.zeros(9, 2, 4), layer.initial_state(3))
    with pytest.raises(ArgumentError, match=r"state: .* got \(7, 2, 4\)"):
        layer.step(torch.zeros(2, 4), DelayState(torch.zeros(7, 2, 4)))


# ----------------------------------------------------------------------------------------------------------- evaluation


@pytest.mark.parametrize("sizes", [(4, 3), (4,)], ids=["synapse", "channel"])
def test_eval_rounds_and_leaves_the_parameters(sizes):
    layer = make(*sizes, learn_sigma=True)
    before = copy.deepcopy(layer.state_dict())
    x = torch.randn(9, 2, 4, dtype=F64)
    trained = layer(x)
    rounded = copy.deepcopy(layer)
    with torch.no_grad():
        rounded.delays.copy_((layer.delays + 0.5).floor())
    evaluated = layer.eval()(x)
    assert not equal(evaluated, trained, 1e-3)
    assert torch.equal(evaluated, rounded.eval()(x))
    kernel = layer.kernel()
    assert (kernel != 0).sum() == layer.delays.numel()
    for name, value in layer.state_dict().items():
        assert torch.equal(value, before[name])
    assert torch.equal(layer.train()(x), trained)


def test_eval_without_rounding():
    layer = make(4, 3, round_in_eval=False)
    x = torch.randn(9, 2, 4, dtype=F64)
    assert torch.equal(layer.eval()(x), layer.train()(x))


def test_weights_train_in_eval_but_delays_get_no_gradient():
    layer = make(4, 3).eval()
    layer(torch.randn(9, 2, 4, dtype=F64)).sum().backward()
    assert layer.weight.grad.any()
    assert layer.delays.grad is None


def test_a_layer_says_whether_it_rounds():
    layer = make(4, 3)
    assert [layer.train(mode).rounds for mode in (True, False)] == [False, True]
    layer.round_in_eval = False
    assert [layer.train(mode).rounds for mode in (True, False)] == [False, False]


# ------------------------------------------------------------------------------------------------------------ precision


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int8, torch.int64])
@pytest.mark.parametrize("sizes", [(4, 3), (4,)], ids=["synapse", "channel"])
def test_spikes_of_any_type(sizes, dtype):
    layer = make(*sizes, dtype=torch.float32)
    spikes = torch.rand(9, 2, 4) < 0.3
    expected = layer(spikes.float())
    assert expected.dtype == torch.float32
    assert torch.equal(layer(spikes.to(dtype)), expected)
    assert equal(run_steps(layer, spikes.to(dtype))[0], expected, 1e-5)
    assert equal(run_chunks(layer, spikes.to(dtype), [4, 5])[0], expected, 1e-5)


@pytest.mark.real("another dtype")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("out_features", [5, None])
@pytest.mark.parametrize("train", [True, False])
def test_half_precision_leaves_delays_precise(dtype: torch.dtype, out_features: int | None, train: bool) -> None:
    """Recipe, trap 11: in bfloat16 a delay of 23.55 would be one of 23.5."""
    layer = LearnableDelay(4, out_features, max_delay=24, init=23.55, sigma=1.0).train(train)
    x = (torch.rand(40, 3, 4) < 0.3).float()
    expected = layer(x)
    expected.requires_grad and layer(x).sum().backward()  # a gradient has to be moved along
    layer.to(dtype)
    assert layer.delays.dtype == layer.sigma.dtype == torch.float32
    assert torch.all(layer.delays == 23.55)
    if layer.weight is not None:
        assert layer.weight.dtype == dtype
    y = layer(x.to(dtype))
    assert y.dtype == dtype
    torch.testing.assert_close(y.float(), expected, rtol=2e-2, atol=2e-2)
    state = None
    for t, x_t in enumerate(x.to(dtype)):
        y_t, state = layer.step(x_t, state)
        assert y_t.dtype == dtype
        torch.testing.assert_close(y_t, y[t], rtol=2e-2, atol=2e-2)
    assert y.requires_grad == expected.requires_grad
    y.requires_grad and y.float().sum().backward()


# ----------------------------------------------------------------------------------------------- when a kernel is built


def count_kernels(layer):
    built = []
    original = layer.kernel
    layer.kernel = lambda weight=None: built.append(1) or original(weight)
    return built


@pytest.mark.parametrize("sizes", [(4, 3), (4,)], ids=["synapse", "channel"])
def test_one_kernel_per_sequence(sizes):
    layer = make(*sizes)
    built = count_kernels(layer)
    _, state = run_steps(layer, torch.randn(9, 2, 4, dtype=F64))
    assert len(built) == 1
    x = torch.randn(2, 4, dtype=F64)
    assert state.kernel.requires_grad
    _, state = layer.step(x, state.detach())
    assert len(built) == 2
    with torch.no_grad():
        y, state = layer.step(x, state)
        assert len(built) == 3
        assert not state.kernel.requires_grad
        _, state = layer.step(x, state)
        assert len(built) == 3
    y, state = layer.step(x, state)
    assert len(built) == 4
    assert y.requires_grad


@pytest.mark.cpu("steps are event-driven there")
def test_one_kernel_for_frozen_passed_and_rounded_weights():
    layer = LearnableDelay(4, 3, max_delay=6, weight=False, dtype=F64)
    x = torch.randn(9, 2, 4, dtype=F64)
    built = count_kernels(layer)
    run_steps(layer, x, weight=torch.ones(3, 4, dtype=F64))
    run_steps(layer, x, weight=torch.ones(3, 4, dtype=F64, requires_grad=True))
    layer.eval()
    run_steps(layer, x, weight=torch.ones(3, 4, dtype=F64))
    run_steps(layer, x, weight=torch.ones(3, 4, dtype=F64, requires_grad=True))
    layer.train().delays.requires_grad_(False)
    run_steps(layer, x, weight=torch.ones(3, 4, dtype=F64))
    assert len(built) == 4  # the third goes spike by spike, without a kernel


def test_truncated_backpropagation():
    layer = make(4, 3)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1e-3)
    state = layer.initial_state(2)
    for _ in range(3):
        optimizer.zero_grad()
        total = 0.0
        for _ in range(4):
            y, state = layer.step(torch.randn(2, 4, dtype=F64), state)
            total = total + y.square().sum()
        total.backward()
        optimizer.step()
        state = state.detach()
        assert state.kernel is None
        assert layer.delays.grad.any()


@pytest.mark.parametrize("grad", [True, False], ids=["grad", "no_grad"])
@pytest.mark.parametrize("mode", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("engine", ["auto", "direct"])
def test_weights_made_for_each_step_are_used(engine, mode, grad):
    """A weight that is gone leaves its id to the next one."""
    layer = LearnableDelay(4, 3, max_delay=2, weight=False, engine=engine).train(mode)
    x, base, state = torch.randn(8, 2, 4), torch.randn(3, 4), layer.initial_state(2)
    with torch.set_grad_enabled(grad):
        for t in range(8):
            expected = from_history(layer, x[t], state, weight=base * (t + 1))
            y, state = layer.step(x[t], state, weight=base * (t + 1))
            assert torch.allclose(y, expected, atol=1e-5)


@pytest.mark.parametrize("sizes", [(3,), (3, 3)], ids=["channel", "synapse"])
def test_the_state_of_a_layer_that_is_gone_is_used_as_a_history(sizes):
    x = torch.ones(2, 3)
    for _ in range(50):
        _, state = LearnableDelay(*sizes, max_delay=4).eval().step(x, None)
        layer = LearnableDelay(*sizes, max_delay=4, init=0.0).eval()
        expected = from_history(layer, x, state)
        y, _ = layer.step(x, state)
        assert torch.allclose(y, expected, atol=1e-6)


@pytest.mark.parametrize(("sizes", "engine"), [((4,), "auto"), ((4, 3), "auto"), ((4, 3), "direct")])
def test_round_in_eval_switched_within_a_sequence(sizes, engine):
    layer, x, state = LearnableDelay(*sizes, max_delay=5, engine=engine).eval(), torch.rand(12, 2, 4), None
    with torch.no_grad():
        for t in range(12):
            layer.round_in_eval = t % 4 < 2
            expected = layer(x[: t + 1])[t]
            y, state = layer.step(x[t], state)
            assert torch.allclose(y, expected, atol=1e-5)


@pytest.mark.parametrize("engine", ["auto", "direct"])
def test_a_state_is_used_as_it_is_while_nothing_changes(engine, monkeypatch):
    layer, x = LearnableDelay(4, 3, max_delay=5, engine=engine).eval(), torch.rand(12, 2, 4)
    with torch.no_grad():
        _, state = layer.step(x[0], None)
        built = []
        for name in ("kernel", "_pending", "_launch"):
            monkeypatch.setattr(layer, name, lambda *_, name=name: built.append(name))
        for x_t in x[1:]:
            before, (_, state) = state, layer.step(x_t, state)
            assert state.made_from is before.made_from
    assert not built


@pytest.mark.real("compilers")
def test_compiled_steps_use_the_weights_that_they_get():
    layer, x, base = (
        LearnableDelay(4, 3, max_delay=2, weight=False, engine="direct"),
        torch.randn(6, 2, 4),
        torch.randn(3, 4),
    )
    step = torch.compile(lambda x, state, weight: layer.step(x, state, weight=weight), backend="eager")
    state = layer.initial_state(2)
    with torch.no_grad():
        for t in range(6):
            expected = from_history(layer, x[t], state, weight=base * (t + 1))
            y, state = step(x[t], state, base * (t + 1))
            assert torch.allclose(y, expected, atol=1e-5)


# --------------------------------------------------------------------------------------- what was written to parameters

KINDS = {
    "synapse": lambda: (LearnableDelay(4, 3, max_delay=5, bias=True), (12, 2, 4), None),
    "direct": lambda: (LearnableDelay(4, 3, max_delay=5, engine="direct"), (12, 2, 4), None),
    "channel": lambda: (LearnableDelay(4, max_delay=5), (12, 2, 4), None),
    "conv": lambda: (ConvDelay(CONV, max_delay=5), (12, 2, 4, 6), CONV.weight.detach().clone()),
}
CONV = nn.Conv1d(4, 3, 2)


def polyak(target, source):
    target.data.mul_(0.1)
    target.data.add_(0.9 * source.data)


WRITES = {
    "polyak": polyak,
    "replaced": lambda target, source: setattr(target, "data", source.data.clone()),
    "through a view": lambda target, source: target.data.view(-1).copy_(source.data.view(-1)),
    "counted": lambda target, source: target.detach().copy_(source.detach()),
}
if DEVICE.type == "cpu":  # whose memory numpy shares
    WRITES["through numpy"] = lambda target, source: np.copyto(target.detach().numpy(), source.detach().numpy())


def over_sequence(layer, x, weight, how):
    if how == "forward":
        return layer(x, weight=weight)
    state, outputs = None, []
    for part in x.split(5) if how == "chunk" else x:
        y, state = getattr(layer, how)(part, state, weight)
        outputs.append(y)
    return torch.cat(outputs) if how == "chunk" else torch.stack(outputs)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("how", ["forward", "chunk", "step"])
@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("build", KINDS.values(), ids=KINDS)
def test_what_was_written_counts_from_the_next_sequence_on(build, write, how, training, frozen):
    """Target networks, averages of weights and evolution strategies write where autograd does not count."""
    (layer, shape, weight), (source, _, other) = build(), build()
    if frozen:
        freeze_delays(layer)
        freeze_delays(source)
    layer.train(training)
    x = (torch.rand(shape) < 0.5).float()
    other = None if other is None else torch.randn_like(other)
    changed = False
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            before = over_sequence(layer, x, weight, how)
            for name, value in source.state_dict().items():
                target = getattr(layer, name)
                if target.is_floating_point():
                    write(target, value)
                else:
                    target.data.copy_(value)
            if weight is not None:
                write(weight, other)
            found = over_sequence(layer, x, weight, how)
            assert torch.equal(found, over_sequence(copy.deepcopy(layer), x, weight, how))
            changed |= not torch.allclose(found, before)
    assert changed


@pytest.mark.parametrize("engine", ["auto", "direct"])
def test_parts_of_a_sequence_share_a_kernel(engine):
    layer, x = LearnableDelay(4, 3, max_delay=5, engine=engine).eval(), torch.rand(12, 2, 4)
    with torch.no_grad():
        whole = layer(x)
        y, state = run_chunks(layer, x, 3)
        assert equal(y, whole, 1e-5)
        assert layer.chunk(x, state)[1].kernel is state.kernel
        layer.weight.data.mul_(3)  # not counted: from the next sequence on
        assert layer.chunk(x, state)[1].kernel is state.kernel
        assert layer.chunk(x, None)[1].kernel is not state.kernel
        layer.weight.mul_(2)  # counted: noticed within the sequence
        y, state = layer.chunk(x, state)
        assert equal(y, layer(torch.cat((x, x)))[12:], 1e-5)
        y, state = layer.step(x[0], state)  # a kernel of another form
        assert equal(y, from_history(layer, x[0], state._replace(history=run_chunks(layer, x, 3)[1].history)), 1e-5)


def test_parts_that_learn_have_a_graph_each():
    layer, x = LearnableDelay(4, 3, max_delay=5), torch.rand(12, 2, 4)
    y, state = layer.chunk(x, None)
    y.sum().backward()
    layer.chunk(x, DelayState(state.history.detach(), state.kernel, state.made_from))[0].sum().backward()
    assert state.kernel is None


@pytest.mark.parametrize(("sizes", "grad"), [((4, 3), False), ((4, 3), True), ((4,), True)])
def test_outputs_and_kernels_are_not_changed_by_the_next_call(sizes, grad):
    layer, x = LearnableDelay(*sizes, max_delay=5).eval(), torch.rand(9, 2, 4, requires_grad=True)
    layer.requires_grad_(False)
    with torch.set_grad_enabled(grad):
        y, kernel = layer(x), layer.kernel()
        kept = y.detach().clone(), kernel.clone()
        layer.delays.data.copy_(layer.delays.data.flip(0))
        layer(x.detach())
        layer(x)
        assert torch.equal(y, kept[0])
        assert torch.equal(kernel, kept[1])
        expected = layer(x)
        layer.kernel().zero_()
        assert torch.equal(layer(x), expected)
    if grad:
        expected = torch.autograd.grad(layer._convolve(x, kept[1], 9).sum(), x)[0]
        assert torch.allclose(torch.autograd.grad(y.sum(), x)[0], expected)


def test_a_kernel_is_the_last_one_only_where_that_is_the_same():
    layer, x = LearnableDelay(4, 3, max_delay=5).eval(), torch.rand(9, 2, 4)
    with torch.inference_mode():
        expected = layer(x)
    with torch.no_grad():
        assert torch.equal(layer(x), expected)
        assert torch.equal(copy.deepcopy(layer)(x), expected)
        assert torch.equal(copy.copy(layer)(x), expected)
    assert len(pickle.dumps(layer)) == len(pickle.dumps(LearnableDelay(4, 3, max_delay=5).eval()))
    assert torch.equal(layer(x), expected)
    assert torch.allclose(layer.double()(x.double()).float(), expected, rtol=1e-4, atol=1e-5)


def test_threads_do_not_share_kernels():
    torch.manual_seed(1)
    layer = LearnableDelay(40, 30, max_delay=9, weight=False, engine="direct").eval()
    x, weights = torch.rand(20, 2, 40), [torch.randn(30, 40) for _ in range(8)]
    with torch.no_grad():
        expected = [layer(x, weight=weight) for weight in weights]

    def work(weight):
        with torch.no_grad():
            return [layer(x, weight=weight) for _ in range(30)]

    with ThreadPoolExecutor(8) as pool:
        for found, right in zip(pool.map(work, weights), expected, strict=True):
            assert all(torch.equal(y, right) for y in found)
