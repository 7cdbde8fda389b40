"""What delays must and must not change in anybody's network: laws over the whole corpus."""

import copy
import io
import pickle

import pytest
import snntorch
import torch
from networks import CASES, MAX_DELAY, Case, sequence, weights_of
from torch import Tensor, nn

import delayplug
from delayplug import WiringError, add_delays, named_delays, plan_delays, remove_delays

GRANULARITIES = ("synaptic", "axonal", "dendritic")
# Plain networks that cannot be pickled: snnTorch's surrogates are closures, Norse's parameters are made at run time.
UNPICKLABLE = {c.name for c in CASES if c.toolkit != "spikingjelly"} - {"snntorch-one-step"}
EXACT = {"init": 0, "interpolation": "linear"}

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:snntorch"),
    pytest.mark.filterwarnings("ignore:The .grad"),
]


@pytest.fixture(autouse=True)
def few_instances() -> None:
    """snnTorch's utils.reset looks at every neuron ever made, and never forgets one."""
    snntorch.SpikingNeuron.instances.clear()


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture(params=[c for c in CASES if c.cut is not None], ids=lambda case: case.name)
def carrying(request: pytest.FixtureRequest) -> Case:
    return request.param


def delayed(case: Case, seed: int = 0, **options) -> nn.Module:
    net = case.build(seed)
    options = {"interpolation": "linear", "max_delay": MAX_DELAY, **options}
    return add_delays(net, example=None if case.ordered else case.example, **options)


def whole_delays(net: nn.Module, seed: int = 5) -> dict[str, Tensor]:
    """Draw integer delays, all different from their neighbours, and put them into the network."""
    generator = torch.Generator().manual_seed(seed)
    drawn = {}
    for name, delay in named_delays(net):
        drawn[name] = torch.randint(0, MAX_DELAY + 1, delay.delays.shape, generator=generator).float()
        with torch.no_grad():
            delay.delays.copy_(drawn[name])
    return drawn


def per_synapse(delays: Tensor, granularity: str, linear: nn.Linear) -> Tensor:
    """(O, I) whatever the granularity."""
    shape = linear.weight.shape
    if granularity == "synaptic":
        return delays.squeeze(-1)
    return delays.expand(shape) if granularity == "axonal" else delays.unsqueeze(-1).expand(shape)


def shift_inputs(linear: nn.Linear, delays_OI: Tensor) -> None:
    """The oracle: replace what a plain Linear computes by what it would, were input i of output o that much older."""
    past: list[Tensor] = []

    def run_step(x_BI: Tensor) -> Tensor:
        past.append(x_BI)
        y_BO = torch.zeros(*x_BI.shape[:-1], linear.out_features)
        for o in range(linear.out_features):
            for i in range(linear.in_features):
                t = len(past) - 1 - int(delays_OI[o, i])
                if t >= 0:
                    y_BO[..., o] = y_BO[..., o] + linear.weight[o, i] * past[t][..., i]
        return y_BO if linear.bias is None else y_BO + linear.bias

    def hook(module: nn.Module, args: tuple[Tensor], output: Tensor) -> Tensor:
        x = args[0]
        return run_step(x) if x.dim() == 2 else torch.stack([run_step(x_BI) for x_BI in x])

    linear.register_forward_hook(hook)


def snapshot(net: nn.Module) -> dict:
    """Everything that a user could notice about a module."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_forward_hooks_with_kwargs", "_forward_pre_hooks_with_kwargs")
    return {
        "types": {name: type(module) for name, module in net.named_modules()},
        "keys": list(net.state_dict()),
        "attributes": {name: set(module.__dict__) for name, module in net.named_modules()},
        "hooks": {(name, h): dict(getattr(module, h)) for name, module in net.named_modules() for h in hooks},
        "parameters": {name: id(parameter) for name, parameter in net.named_parameters()},
        "stateful": {name: list(getattr(module, "stateful_layers", ())) for name, module in net.named_modules()},
        "values": {key: value.clone() for key, value in net.state_dict().items()},
    }


def assert_same(before: dict, after: dict) -> None:
    for key in before.keys() - {"values"}:
        assert after[key] == before[key], key
    for name, value in before["values"].items():
        assert torch.equal(after["values"][name], value), name


# ------------------------------------------------------------------------------------------- what is computed


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("training", [True, False])
def test_without_delay_nothing_changes(case, granularity, training):
    plain, net = case.build().train(training), delayed(case, granularity=granularity, **EXACT).train(training)
    assert [name for name, _ in named_delays(net)] == list(case.layers)
    x, other = sequence(), sequence(batch=5, seed=3)
    expected = case.run(plain, x)
    assert expected.any()
    for _ in range(2):
        torch.testing.assert_close(case.run(net, x), case.run(plain, x), atol=1e-5, rtol=1e-5)
        case.run(net, other), case.run(plain, other)
    torch.testing.assert_close(case.run(net, x), case.run(plain, x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("training", [True, False])
def test_a_whole_delay_is_a_shift_of_the_input(case, granularity, training):
    net = delayed(case, granularity=granularity).train(training)
    plain = case.build().train(training)
    undelayed = case.run(case.build().train(training), sequence())
    for name, delays in whole_delays(net).items():
        linear = weights_of(plain, name)
        shift_inputs(linear, per_synapse(delays, granularity, linear))
    x = sequence()
    got = case.run(net, x)
    torch.testing.assert_close(got, case.run(plain, x), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(got, undelayed, atol=1e-3), "the delays of this test make no difference"


def test_each_sequence_starts_afresh(case):
    net = delayed(case).eval()
    whole_delays(net)
    x, louder = sequence(), torch.ones_like(sequence())
    first = case.run(net, x)
    case.run(net, louder)
    assert torch.equal(case.run(net, x), first)
    case.run(net, torch.ones_like(sequence(steps=2, batch=5)))
    assert torch.equal(case.run(net, x), first)
    with torch.no_grad():
        case.run(net, louder[:1])
        assert torch.equal(case.run(net, x), first)


def test_eval_rounds_and_does_not_touch_the_parameters(case):
    net = delayed(case).eval()
    with torch.no_grad():
        for _, delay in named_delays(net):
            delay.delays.uniform_(0, MAX_DELAY)
    fractional = {name: delay.delays.detach().clone() for name, delay in named_delays(net)}
    y = case.run(net, sequence())
    for name, delay in named_delays(net):
        assert torch.equal(delay.delays, fractional[name])
        with torch.no_grad():
            delay.delays.copy_((delay.delays + 0.5).floor())
    assert torch.equal(case.run(net, sequence()), y)


# -------------------------------------------------------------------------------------------------- training


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_gradients_reach_every_delay(case, granularity):
    net = delayed(case, granularity=granularity, init=1.5)
    y = case.run(net, sequence(steps=20, batch=8))
    (y * torch.randn_like(y)).sum().backward()
    for name, delay in named_delays(net):
        assert delay.delays.grad is not None, name
        assert delay.delays.grad.ne(0).float().mean() > 0.5, name
    assert all(p.grad is not None for p in net.parameters() if p.requires_grad)


def test_training_steps_in_a_row(case):
    net = delayed(case, interpolation="gauss")
    optimizer = torch.optim.SGD(delayplug.parameter_groups(net, lr=1e-3, delay_lr=1e-1))
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    for seed in (1, 2, 3):
        y = case.run(net, sequence(seed=seed))
        optimizer.zero_grad()
        (y * torch.randn_like(y)).sum().backward()
        optimizer.step()
    changed = {name for name, p in net.named_parameters() if not torch.equal(p, before[name])}
    assert {f"{name}.delay.delays" for name in case.layers} <= changed


def test_an_optimizer_made_before_still_trains_the_weights(case):
    net = case.build()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    add_delays(net, MAX_DELAY, example=None if case.ordered else case.example)
    before = {name: weights_of(net, name).weight.detach().clone() for name in case.layers}
    y = case.run(net, sequence())
    (y * torch.randn_like(y)).sum().backward()
    optimizer.step()
    for name in case.layers:
        assert not torch.equal(weights_of(net, name).weight, before[name])


# ------------------------------------------------------------------------------------------- state across calls


def test_chunks_with_carried_state_equal_one_run(carrying):
    net = delayed(carrying).eval()
    whole_delays(net)
    x = sequence(steps=11)
    expected = carrying.run(net, x)
    for cut in (False, True):
        state, parts = carrying.start(net), []
        for part in x.split([3, 1, 2, 5]):
            y, state = carrying.advance(net, part, state)
            state = carrying.cut(net, state) if cut else state
            parts.append(y)
        torch.testing.assert_close(torch.cat(parts), expected, atol=1e-5, rtol=1e-5)
    assert not torch.equal(carrying.run(net, x[3:]), expected[3:])  # so the state mattered


def test_truncated_backpropagation(carrying):
    net = delayed(carrying, interpolation="gauss", init=2)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    for _ in range(2):
        state = carrying.start(net)
        for part in sequence(steps=12, batch=6).split(4):
            y, state = carrying.advance(net, part, state)
            optimizer.zero_grad()
            (y * torch.randn_like(y)).sum().backward()
            assert all(delay.delays.grad.any() for _, delay in named_delays(net))
            optimizer.step()
            state = carrying.cut(net, state)


def test_reset_delays_and_detach_delays(carrying):
    net = delayed(carrying)
    whole_delays(net)
    x = sequence()
    memories = [m.delay_memory for m in net.modules() if hasattr(m, "delay_memory")]
    y, _ = carrying.advance(net, x, carrying.start(net))
    y.sum().backward()
    delayplug.detach_delays(net)
    assert not any(m.state is not None and m.state.history.requires_grad for m in memories)
    delayplug.reset_delays(net)
    assert all(m.state is None for m in memories)


# ----------------------------------------------------------------------------------------------- what stays


def test_what_the_user_holds_stays_valid(case):
    net = case.build()
    before, lengths = snapshot(net), {n: len(m) for n, m in net.named_modules() if hasattr(m, "__len__")}
    kinds = {name: (module, type(module)) for name, module in net.named_modules()}
    assert add_delays(net, MAX_DELAY, example=None if case.ordered else case.example) is net
    for name, (module, kind) in kinds.items():
        assert net.get_submodule(name) is module
        assert isinstance(module, kind)
    after = snapshot(net)
    assert before["parameters"].items() <= after["parameters"].items()
    assert set(before["keys"]) <= set(after["keys"])
    new = set(after["keys"]) - set(before["keys"])
    assert new == {f"{name}.delay.{key}" for name in case.layers for key in ("delays", "sigma")}
    assert {n: len(m) for n, m in net.named_modules() if hasattr(m, "__len__")} == lengths


def test_adding_twice_warns_and_changes_nothing(case):
    net = delayed(case)
    before = snapshot(net)
    for example in (None, case.example) if case.ordered else (case.example,):
        with pytest.warns(UserWarning, match="delays already"):
            assert add_delays(net, MAX_DELAY + 1, example=example) is net
    assert_same(before, snapshot(net))


@pytest.mark.parametrize("ran", [False, True])
def test_removing_gives_everything_back(case, ran):
    net = case.build()
    expected = case.run(case.build().eval(), sequence())
    before = snapshot(net)
    add_delays(net, MAX_DELAY, example=None if case.ordered else case.example)
    if ran:
        net.eval()
        case.run(net, sequence())
        net.train()
    assert remove_delays(net) is net
    after = snapshot(net)
    if ran:  # the neurons may have made attributes of their own
        after["attributes"] = before["attributes"]
    assert_same(before, after)
    assert torch.equal(case.run(net.eval(), sequence()), expected)
    assert not list(named_delays(net))
    add_delays(net, MAX_DELAY, example=None if case.ordered else case.example)
    assert [name for name, _ in named_delays(net)] == list(case.layers)


def test_checkpoints(case):
    plain = case.build(seed=1)
    net = delayed(case, seed=2)
    fractional = {name: delay.delays.detach().clone() for name, delay in named_delays(net)}
    checkpoint = plain.state_dict()
    keys = list(checkpoint)
    assert not any(net.load_state_dict(checkpoint))
    assert list(checkpoint) == keys  # and the checkpoint is still the plain one
    for name in case.layers:
        assert torch.equal(weights_of(net, name).weight, weights_of(plain, name).weight)
    for name, delay in named_delays(net):
        assert torch.equal(delay.delays, fractional[name])
    other = delayed(case, seed=3)
    other.load_state_dict(net.state_dict())
    assert torch.equal(case.run(other.eval(), sequence()), case.run(net.eval(), sequence()))


def test_a_copy_is_independent_and_equal(case):
    net = delayed(case).eval()
    whole_delays(net)
    with torch.no_grad():
        y = case.run(net, sequence())
    assert torch.equal(check_clone(case, net, copy.deepcopy(net)), y)


def test_pickle_and_torch_save(case):
    if case.name in UNPICKLABLE:
        with pytest.raises((AttributeError, pickle.PicklingError)):
            pickle.dumps(case.build())
        return
    pickle.dumps(case.build())
    net = delayed(case).eval()
    whole_delays(net)
    with torch.no_grad():
        y = case.run(net, sequence())
    assert torch.equal(check_clone(case, net, pickle.loads(pickle.dumps(net))), y)
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    assert torch.equal(check_clone(case, net, torch.load(file, weights_only=False)), y)


def check_clone(case: Case, net: nn.Module, clone: nn.Module) -> Tensor:
    """Run the clone in any order with the original; remove the clone's delays; train it. Returns its output."""
    # snnTorch's utils.reset does not know of copies: they never went through a constructor.
    snntorch.SpikingNeuron.instances.extend(m for m in clone.modules() if isinstance(m, snntorch.SpikingNeuron))
    assert {n: type(m) for n, m in clone.named_modules()} == {n: type(m) for n, m in net.named_modules()}
    originals = {id(m) for m in net.modules()}
    for module in clone.modules():
        if hasattr(module, "delay_memory"):
            assert id(module.delay_memory.neuron) not in originals
    with torch.no_grad():
        case.run(net, torch.ones_like(sequence()))
        y = case.run(clone, sequence())
        assert torch.equal(case.run(clone, sequence()), y)
    optimizer = torch.optim.SGD(clone.parameters(), lr=1e3)
    (case.run(clone.train(), sequence()) * torch.randn_like(y)).sum().backward()
    optimizer.step()
    for _, delay in named_delays(clone):  # the ranges of the delays came along
        assert delay.delays.min() >= 0
        assert delay.delays.max() <= MAX_DELAY
    remove_delays(clone)
    assert {n: type(m) for n, m in clone.named_modules()} == {n: type(m) for n, m in case.build().named_modules()}
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in clone.modules())
    assert [name for name, _ in named_delays(net)] == list(case.layers)
    return y


# ----------------------------------------------------------------------------------------------- the example


def test_an_example_gives_the_plan_of_the_structure(case):
    net = case.build()
    traced = plan_delays(net, case.example)
    assert [c.layer for c in traced.connections] == list(case.layers)
    if case.ordered:
        assert plan_delays(net) == traced
    else:
        with pytest.raises(WiringError, match="pass example="):
            add_delays(net, MAX_DELAY)


def test_an_example_leaves_no_trace(case):
    net = case.build()
    torch.manual_seed(3)
    case.run(net, sequence())  # states and batch norm statistics worth keeping
    before, held, random = snapshot(net), states(net), torch.get_rng_state()

    def example(model: nn.Module) -> None:
        torch.rand(3)
        case.example(model)

    plan_delays(net, example)
    assert_same(before, snapshot(net))
    assert_states(net, held)
    assert torch.equal(torch.get_rng_state(), random)
    add_delays(net, MAX_DELAY, example=example, init=1)
    assert_states(net, held)
    for module in net.modules():
        if hasattr(module, "delay_memory"):
            assert module.delay_memory.state is None
    remove_delays(net)
    assert_same(before, snapshot(net))


def states(net: nn.Module) -> dict[str, object]:
    kept = {f"{name}.{key}": value for name, m in net.named_modules() for key, value in m._buffers.items()}
    kept |= {f"{n}.{k}": v for n, m in net.named_modules() for k, v in getattr(m, "_memories", {}).items()}
    return {k: (v, v.detach().clone() if isinstance(v, Tensor) else v) for k, v in kept.items()}


def assert_states(net: nn.Module, held: dict) -> None:
    now = {key: value for key, (value, _) in states(net).items()}
    for key, (value, content) in held.items():
        assert now[key] is value, key
        assert torch.equal(value, content) if isinstance(value, Tensor) else value == content, key


def test_the_corpus_is_large_enough():
    kinds = [case.toolkit for case in CASES]
    assert all(kinds.count(toolkit) >= 4 for toolkit in ("snntorch", "norse", "spikingjelly"))
