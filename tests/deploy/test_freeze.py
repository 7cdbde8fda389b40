"""`freeze_delays`: its constraints, its report, and what stays as it was."""

import math

import norse.torch as norse
import pytest
import snntorch
import torch
from snntorch import utils
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import delayplug
from delayplug import ArgumentError, Frozen, LearnableDelay, WiringError, freeze_delays, named_delays
from delayplug.bench.config import RunConfig
from delayplug.bench.model.network import DelayNetwork
from delayplug.toolkits import plugins

SIZES = (12, 16, 6)


def leaky_net() -> nn.Module:
    first, second = snntorch.Leaky(beta=0.8, init_hidden=True), snntorch.Leaky(beta=0.8, init_hidden=True)
    return nn.Sequential(nn.Linear(12, 16), first, nn.Linear(16, 6), second)


def norse_net() -> nn.Module:
    return norse.SequentialState(nn.Linear(12, 16), norse.LIFCell(), nn.Linear(16, 6), norse.LIFCell())


def jelly_net() -> nn.Module:
    net = nn.Sequential(layer.Linear(12, 16), neuron.LIFNode(), layer.Linear(16, 6), neuron.LIFNode())
    functional.set_step_mode(net, "m")
    return net


NETS = {"snntorch": leaky_net, "norse": norse_net, "spikingjelly": jelly_net}


def delayed(toolkit: str, granularity: str = "synaptic", **options) -> nn.Module:
    net = NETS[toolkit]()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(8)
    options = {"max_delay": 9, **options}
    return delayplug.add_delays(net, granularity=granularity, **options).eval()


@torch.no_grad()
def run(net: nn.Module, x: Tensor) -> Tensor:
    if isinstance(net, norse.SequentialState):
        state, outputs = None, []
        for x_t in x:
            y, state = net(x_t, state)
            outputs.append(y)
        return torch.stack(outputs)
    if isinstance(net[1], neuron.LIFNode):
        functional.reset_net(net)
        return net(x)
    utils.reset(net)
    return torch.stack([net(x_t) for x_t in x])


def spikes(steps: int = 25, batch: int = 3) -> Tensor:
    return (torch.rand(steps, batch, SIZES[0]) < 0.3).float()


@pytest.mark.parametrize("toolkit", NETS)
def test_constrained_delays_compute_what_a_network_with_those_delays_does(toolkit):
    net, other, x = delayed(toolkit), delayed(toolkit), spikes()
    other.load_state_dict(net.state_dict())
    before = run(net, x)
    report = freeze_delays(net, max_delay=5, distinct=3, example=lambda net: run(net, x))
    with torch.no_grad():
        for (_, learned), (_, whole) in zip(named_delays(other), named_delays(net), strict=True):
            assert whole.max_delay == 5
            assert all(len(row.unique()) <= 3 for row in whole.delays.flatten(1))
            learned.delays.copy_(whole.delays)
    got, expected = run(net, x), run(other, x)
    assert got.any()
    assert torch.equal(got, expected)
    assert not torch.equal(got, before)
    whats = [change.what for change in report.changes]
    assert whats == ["rounded", "at most 5 steps", "3 distinct per neuron"] * 2
    assert report.before.operations == report.after.operations == 12 * 16 + 16 * 6
    assert 0 < report.after.events < report.after.operations


@pytest.mark.parametrize(("granularity", "number"), [("axonal", 12), ("dendritic", 16)])
@pytest.mark.parametrize("toolkit", NETS)
def test_the_budget_of_delays_per_channel(toolkit, granularity, number):
    net = delayed(toolkit, granularity)
    freeze_delays(net, distinct=2)
    first = next(iter(named_delays(net)))[1].delays
    assert len(first) == number
    # Of its inputs a neuron sees all delays, of its output only one.
    assert (len(first.unique()) == 2) == (granularity == "axonal")


def test_each_change_is_counted():
    layer = LearnableDelay(2, 2, max_delay=10)
    with torch.no_grad():
        layer.delays.copy_(torch.tensor([[0.0, 1.5], [6.25, 9.0]]).unsqueeze(-1))
    report = freeze_delays(layer, max_delay=4)
    rounded, clamped = report.changes
    assert (rounded.moved, rounded.number, rounded.mean, rounded.largest) == (2, 4, 0.75 / 4, 0.5)
    assert (clamped.moved, clamped.number, clamped.mean, clamped.largest) == (2, 4, 7 / 4, 5)
    assert layer.delays.flatten().tolist() == [0, 2, 4, 4]
    assert "at most 4 steps" in str(report)


@pytest.mark.parametrize(("step_ms", "delays", "limit"), [((10, 5), [0, 3, 20], 20), ((10, 25), [0, 1, 4], 4)])
def test_another_length_of_a_step(step_ms, delays, limit):
    layer = LearnableDelay(3, max_delay=10)
    with torch.no_grad():
        layer.delays.copy_(torch.tensor([0, 1.5, 10]))
    freeze_delays(layer, step_ms=step_ms)
    assert layer.delays.tolist() == delays
    assert layer.max_delay == limit


def test_six_bits_and_longer_integers():
    long = LearnableDelay(40, 30, max_delay=300)
    freeze_delays(long)
    assert long.delays.dtype == torch.int16
    layer = LearnableDelay(40, 30, max_delay=100)
    report = freeze_delays(layer, max_delay=62, dtype=torch.uint8)
    assert layer.delays.max() == 62
    assert report.packed_bytes == math.ceil(40 * 30 * 6 / 8)
    assert report.after.delay_bytes == 1200 < report.before.delay_bytes


@pytest.mark.parametrize("granularity", ["synaptic", "axonal", "dendritic"])
@pytest.mark.parametrize("toolkit", NETS)
def test_weights_in_eight_bits_stay_the_users_parameters(toolkit, granularity):
    net = delayed(toolkit, granularity)
    weights = {name: net.get_submodule(name).weight for name, _ in named_delays(net)}
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    report = freeze_delays(net, weight_bits=8)
    for name, weight in weights.items():
        assert net.get_submodule(name).weight is weight
        assert weight.requires_grad
        whole = weight.detach() / report.scales[name].view(-1, 1)
        torch.testing.assert_close(whole, whole.round(), atol=1e-3, rtol=0)
        assert whole.abs().max().round() == 127
        assert (weight - before[name]).abs().max() <= 0.501 * report.scales[name].max()
    assert run(net, spikes()).any()


def test_weights_that_are_made_from_others_are_refused_by_name():
    net = nn.Sequential(parametrizations.weight_norm(nn.Linear(12, 16)), snntorch.Leaky(beta=0.8, init_hidden=True))
    delayplug.add_delays(net, 5)
    with pytest.raises(ArgumentError, match=r"got 0, whose weight is made from others"):
        freeze_delays(net, weight_bits=8)
    assert not any(isinstance(delay, Frozen) for _, delay in named_delays(net))
    freeze_delays(net)


def test_scores_before_and_after():
    net, x, seen = delayed("snntorch"), spikes(), []

    def evaluate(model: nn.Module) -> float:
        seen.append([delay.delays.dtype for _, delay in named_delays(model)])
        return run(model, x).mean().item()

    report = freeze_delays(net, evaluate=evaluate)
    assert [kinds[0] for kinds in seen] == [torch.float32, torch.uint8]
    assert report.score[0] == report.score[1] > 0
    assert "score" in str(report)


def test_an_evaluation_that_fails_puts_everything_back():
    net, x = delayed("snntorch"), spikes()
    expected, state = run(net, x), {key: value.clone() for key, value in net.state_dict().items()}
    parameters = list(net.parameters())

    def evaluate(model: nn.Module) -> float:
        if any(isinstance(delay, Frozen) for _, delay in named_delays(model)):
            raise OSError("no data")
        return 0.0

    with pytest.raises(OSError, match="no data"):
        freeze_delays(net, max_delay=3, weight_bits=4, evaluate=evaluate)
    assert all(a is b for a, b in zip(net.parameters(), parameters, strict=True))
    assert state.keys() == net.state_dict().keys()
    assert all(torch.equal(value, net.state_dict()[key]) for key, value in state.items())
    assert torch.equal(run(net, x), expected)
    torch.optim.SGD(net.parameters(), lr=1.0)
    with torch.no_grad():
        net[0].delay.delays.fill_(99)
    assert run(net, x).shape == expected.shape  # still clamped: the range is that of the parameter


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_delay": -1}, "max_delay: expected an integer >= 0"),
        ({"max_delay": 2.5}, "max_delay: expected an integer"),
        ({"dtype": torch.float32}, "dtype: expected one of torch.uint8"),
        ({"dtype": torch.uint8}, "holds delays of .* up to 300"),
        ({"step_ms": 5}, "two lengths of a step"),
        ({"step_ms": (10, 0)}, "two lengths of a step"),
        ({"step_ms": (float("nan"), 5)}, "two lengths of a step"),
        ({"distinct": 0}, "distinct: expected an integer >= 1"),
        ({"weight_bits": 1}, "weight_bits"),
        ({"weight_bits": 32}, "2 to 16"),
    ],
)
def test_arguments_are_checked_before_anything_changes(options, message):
    layer = LearnableDelay(3, 2, max_delay=300)
    with pytest.raises(ArgumentError, match=message):
        freeze_delays(layer, **options)
    assert type(layer) is LearnableDelay
    assert isinstance(layer.delays, nn.Parameter)


def test_what_cannot_be_frozen_is_named():
    class Mine(LearnableDelay):
        pass

    good, mine = LearnableDelay(3, 2, max_delay=4), Mine(2, max_delay=4)
    with pytest.raises(WiringError, match="1 has delays of class Mine"):
        freeze_delays(nn.Sequential(good, mine))
    assert type(good) is LearnableDelay
    with pytest.raises(WiringError, match="nothing to freeze"):
        freeze_delays(nn.Linear(3, 2))
    with torch.no_grad():
        good.delays[1, 2] = float("nan")
    with pytest.raises(ArgumentError, match=r"0\.delays: expected delays between 0 and 4"):
        freeze_delays(nn.Sequential(good))


def test_twice_is_once_and_a_mixed_model_is_frozen_where_it_was_not():
    first, second = LearnableDelay(3, 2, max_delay=9), LearnableDelay(2, max_delay=9)
    freeze_delays(first)
    kept = first.delays.clone()
    with pytest.warns(UserWarning, match="frozen already"):
        report = freeze_delays(first, max_delay=1)
    assert not report.changes
    assert torch.equal(first.delays, kept)
    report = freeze_delays(nn.Sequential(first, second), max_delay=1)
    assert [change.layer for change in report.changes] == ["1", "1"]
    assert torch.equal(first.delays, kept)
    assert second.max_delay == 1


@pytest.mark.parametrize("toolkit", NETS)
def test_the_other_verbs_take_a_frozen_model(toolkit):
    net, x = delayed(toolkit), spikes()
    old = torch.optim.Adam(net.parameters(), lr=1.0)
    plain = NETS[toolkit]().eval()
    freeze_delays(net)
    assert [name for name, _ in named_delays(net)] == ["0", "2"]
    assert str(delayplug.describe_delays(net)).count("frozen") == 2
    groups = delayplug.parameter_groups(net, lr=0.1)
    assert {group["name"] for group in groups} == {"weights", "others"}
    with pytest.raises(ArgumentError, match="not frozen"):
        delayplug.SigmaSchedule(net, 10)
    expected = run(net, x)
    with torch.no_grad():
        torch.testing.assert_close(delayplug.unroll(net, x), expected)
    whole = [delay.delays.clone() for _, delay in named_delays(net)]
    net[0].weight.grad = torch.ones_like(net[0].weight)
    old.step()
    assert all(torch.equal(delay.delays, kept) for (_, delay), kept in zip(named_delays(net), whole, strict=True))
    delayplug.reset_delays(net)
    delayplug.detach_delays(net)
    with pytest.warns(UserWarning, match="delays already"):
        delayplug.add_delays(net, 5)
    delayplug.remove_delays(net)
    plain.load_state_dict(net.state_dict())
    assert torch.equal(run(net, x), run(plain, x))


def test_what_is_under_way_stays_while_the_largest_delay_does():
    net, x = delayed("snntorch"), spikes()
    expected = run(net, x)
    utils.reset(net)
    with torch.no_grad():
        outputs = [net(x_t) for x_t in x[:10]]
        freeze_delays(net)
        outputs += [net(x_t) for x_t in x[10:]]
    torch.testing.assert_close(torch.stack(outputs), expected)
    clamped = delayed("snntorch")
    with torch.no_grad():
        for x_t in x[:10]:
            clamped(x_t)
        freeze_delays(clamped, max_delay=3)
        clamped(x[10])  # starts from a fresh state, with other delays


def test_an_unrounded_layer_is_rounded_from_then_on():
    layer, x = LearnableDelay(5, 4, max_delay=6, round_in_eval=False).eval(), torch.rand(9, 2, 5)
    before = layer(x)
    rounded = LearnableDelay(5, 4, max_delay=6).eval()
    rounded.load_state_dict(layer.state_dict())
    freeze_delays(layer)
    assert torch.equal(layer(x), rounded(x))
    assert not torch.equal(layer(x), before)


@pytest.mark.parametrize("toolkit", NETS)
def test_the_benchmarks_network(toolkit):
    net = DelayNetwork((10, 12, 12, 5), plugins.toolkit(toolkit), RunConfig(max_delay=9, taps=2)).eval()
    x = (torch.rand(20, 3, 10) < 0.4).float()
    with torch.no_grad():
        expected = net(x)
        report = freeze_delays(net)
        assert torch.equal(net(x), expected)
        assert expected.std() > 0
    assert [change.layer for change in report.changes] == [f"synapses.{n}.weights" for n in range(3)]
    short = DelayNetwork((10, 12, 5), plugins.toolkit(toolkit), RunConfig(max_delay=9)).eval()
    freeze_delays(short, max_delay=3, distinct=2, weight_bits=8, example=x)  # less than the 4 steps that it appends
    assert short(x).shape == (20 + 2 * 3, 3, 5)
