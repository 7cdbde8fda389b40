"""Layers with delays compute what they should: convolutions, forwards of their own, cells with weights, recurrence."""

import copy
import functools

import norse.torch as norse
import pytest
import snntorch
import torch
from spikingjelly.activation_based import functional, layer, neuron, rnn, surrogate
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import parametrizations, prune

from delayplug import ArgumentError, add_delays, freeze_delays, named_delays, plan_delays, remove_delays
from tests.networks import MAX_DELAY, B, F, H, O, jelly, sequence
from tests.surgery.networks import Masked, Own, layers, leaky, reasons, stepped

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:snntorch")


@pytest.mark.parametrize("granularity", ["axonal", "dendritic"])
@pytest.mark.parametrize("kind", [Masked, Own])
def test_a_forward_of_its_own_is_called(kind, granularity):
    torch.manual_seed(0)
    net, x = nn.Sequential(kind(F, H), leaky()), sequence(steps=12)
    plain = stepped(net, x)
    add_delays(net, 4, example=x[0], granularity=granularity, init=0, interpolation="linear")
    torch.testing.assert_close(stepped(net, x), plain)
    (_, delay), *_ = named_delays(net)
    assert delay.delays.shape == (F if granularity == "axonal" else H,)
    with torch.no_grad():
        delay.delays.fill_(3)
    late = stepped(net, x)
    remove_delays(net)
    torch.testing.assert_close(late, stepped(net, torch.cat((torch.zeros(3, B, F), x[:-3]))))
    assert not torch.equal(late, plain)


def test_parametrizations_and_pruning_are_weights_like_any_other():
    torch.manual_seed(0)
    net = nn.Sequential(parametrizations.weight_norm(nn.Linear(F, H)), leaky(), nn.Linear(H, O), leaky())
    prune.random_unstructured(net[2], "weight", amount=0.3)
    x = sequence()
    plain = stepped(net, x)
    add_delays(net, 4, init=0, interpolation="linear")
    torch.testing.assert_close(stepped(net, x), plain)
    stepped(net, x).sum().backward()
    assert net[0].parametrizations.weight.original0.grad is not None
    assert net[2].weight_orig.grad is not None


@pytest.mark.parametrize(
    ("make", "x"),
    [
        (lambda: nn.Sequential(snntorch.SLSTM(F, F, init_hidden=True, threshold=0.1)), sequence()),
        (lambda: nn.Sequential(snntorch.LeakyParallel(F, H)), sequence()),
        (lambda: nn.Sequential(rnn.SpikingLSTM(F, H, 1)), sequence()),
    ],
    ids=["slstm", "leaky-parallel", "spiking-lstm"],
)
def test_a_cell_with_weights_has_its_input_delayed(make, x):
    torch.manual_seed(0)
    net = make()
    steps = isinstance(net[0], snntorch.SLSTM)

    def run(x: Tensor) -> Tensor:
        out = stepped(net, x) if steps else net(x)
        return out[0] if isinstance(out, tuple) else out

    assert "granularity='axonal'" in reasons(plan_delays(net))["0"]
    plain = run(x)
    earlier = run(torch.cat((torch.zeros(2, B, F), x[:-2])))
    for example in (None, x[0] if steps else x):
        add_delays(net, 4, example=example, granularity="axonal", init=0, interpolation="linear")
        for _ in range(2):
            torch.testing.assert_close(run(x), plain)
        with torch.no_grad():
            net[0].delay.delays.fill_(2)
        for _ in range(2):
            torch.testing.assert_close(run(x), earlier)
        remove_delays(net)


@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
@pytest.mark.parametrize("make", [snntorch.RLeaky, snntorch.RSynaptic])
def test_recurrent_weights_of_snntorch(make, reset):
    torch.manual_seed(0)
    alpha = {"alpha": 0.5} if make is snntorch.RSynaptic else {}
    options = {"linear_features": H, "init_hidden": True, "reset_mechanism": reset, "threshold": 0.2, **alpha}
    net, x = nn.Sequential(nn.Linear(F, H), make(beta=0.7, **options)), sequence()
    assert layers(plan_delays(net)) == layers(plan_delays(net, x[0])) == ["0"]
    assert "pass recurrent=True" in reasons(plan_delays(net))["1.recurrent"]
    plain = stepped(net, x)
    for example in (None, x[0]):
        add_delays(net, 4, example=example, recurrent=True, init=0, interpolation="linear")
        delays = dict(named_delays(net))
        assert list(delays) == ["0", "1.recurrent"]
        for _ in range(2):
            torch.testing.assert_close(stepped(net, x), plain)
        with torch.no_grad():
            delays["1.recurrent"].delays.fill_(2)
        late = stepped(net, x)
        assert not torch.equal(late, plain)
        remove_delays(net)
        recurrent, spikes = net[1].recurrent, []

        def shifted(x: Tensor, spikes: list = spikes, forward=recurrent.forward) -> Tensor:
            if not spikes or spikes[-1] is not x:  # a reset to zero asks twice
                spikes.append(x)
            return forward(spikes[-3] if len(spikes) > 2 else torch.zeros_like(x))

        recurrent.forward = shifted
        torch.testing.assert_close(stepped(net, x), late)
        del recurrent.forward


@pytest.mark.parametrize("mode", ["s", "m"])
@pytest.mark.parametrize("by_example", [True, False])
def test_the_recurrent_container_of_spikingjelly(mode, by_example):
    torch.manual_seed(0)
    node = neuron.LIFNode(v_threshold=0.2, step_mode="s")
    net = nn.Sequential(layer.Linear(F, H), neuron.LIFNode(v_threshold=0.2), layer.LinearRecurrentContainer(node, H, H))
    for module in (net[0], net[1], net[2]):
        module.step_mode = mode
    x = sequence()

    def run(net: nn.Module) -> Tensor:
        functional.reset_net(net)
        return net(x) if mode == "m" else torch.stack([net(x_t) for x_t in x])

    example = run if by_example else None
    plan = plan_delays(net, example)
    assert layers(plan) == ["0"]
    assert "pass recurrent=True" in reasons(plan)["2.rc"]
    plain = run(net)
    add_delays(net, 4, example=example, recurrent=True, init=0, interpolation="linear")
    assert [name for name, _ in named_delays(net)] == ["0", "2.rc"]
    for _ in range(2):
        assert torch.equal(run(net), plain)
    with torch.no_grad():
        net[2].rc.delay.delays.fill_(2)
    assert not torch.equal(run(net), plain)


@pytest.mark.parametrize("example", [None, sequence()])
def test_a_neuron_inside_of_lift_steps_where_its_layer_does_not(example):
    net = nn.Sequential(norse.Lift(nn.Linear(F, H)), norse.Lift(norse.LIFCell()))
    with torch.no_grad():
        net[0].lifted_module.weight.mul_(60)
    plain = net(sequence())[0]
    delay = dict(named_delays(add_delays(net, MAX_DELAY, example=example, init=2, interpolation="linear")))["0"]
    late = net(sequence())[0]
    earlier = torch.cat((torch.zeros(2, B, F), sequence()[:-2]))
    with torch.no_grad():
        delay.delays.zero_()
    torch.testing.assert_close(net(sequence())[0], plain)
    torch.testing.assert_close(net(earlier)[0], late)
    assert not torch.equal(late, plain)


def test_spikingjelly_follows_a_change_of_mode():
    net = add_delays(jelly("m"), MAX_DELAY, init=2, interpolation="linear").eval()
    x = sequence()
    whole = net(x)
    functional.reset_net(net)
    functional.set_step_mode(net, "s")
    assert torch.allclose(torch.stack([net(x_t) for x_t in x]), whole)


@pytest.mark.parametrize("granularity", ["synaptic", "axonal", "dendritic"])
def test_sequences_without_a_batch(granularity):
    torch.manual_seed(0)
    net = norse.SequentialState(
        norse.Lift(nn.Conv1d(1, 2, 3)), norse.LIF(), nn.Flatten(1), nn.Linear(6, 4), norse.LIF()
    )
    with torch.no_grad():
        net[0].lifted_module.weight.mul_(90)
        net[3].weight.mul_(90)
    x = sequence(steps=9)[:, :1]
    plain = net(x)[0]
    add_delays(net, 4, example=x, granularity=granularity, init=0, interpolation="linear")
    assert [name for name, _ in named_delays(net)] == ["0", "3"]
    torch.testing.assert_close(net(x)[0], plain)


def test_a_layer_that_is_called_by_name():
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.lif = nn.Linear(F, H), leaky()

        def forward(self, x: Tensor) -> Tensor:
            return self.lif(self.fc(input=x))

    torch.manual_seed(0)
    net = Named()
    plain = stepped(net, sequence())
    add_delays(net, 4, example=sequence()[0], init=0, interpolation="linear")
    torch.testing.assert_close(stepped(net, sequence()), plain)


def test_monitors_and_hooks_by_name_go_on() -> None:
    from spikingjelly.activation_based import monitor

    torch.manual_seed(0)
    net = nn.Sequential(layer.Linear(F, H), neuron.IFNode(), layer.Linear(H, O), neuron.IFNode())
    functional.set_step_mode(net, "m")
    before, seen = monitor.OutputMonitor(net, neuron.IFNode), []
    net.get_submodule("2").register_forward_hook(lambda module, args, output: seen.append(output))
    add_delays(net, 4, init=1, interpolation="linear")
    after = monitor.OutputMonitor(net, layer.Linear)
    y = net(sequence())
    assert torch.equal(before["3"][-1], y)
    assert torch.equal(after["2"][-1], seen[-1])
    assert seen[-1].shape == (*sequence().shape[:2], O)


# ------------------------------------------------------------------------------------------------ values of parameters


def smooth_jelly(mode):
    torch.manual_seed(1)
    make = functools.partial(neuron.LIFNode, surrogate_function=surrogate.Sigmoid(2.0))
    net = nn.Sequential(layer.Linear(F, H), make(), layer.Linear(H, O), make()).double()
    functional.set_step_mode(net, mode)
    for linear in (net[0], net[2]):
        linear.weight.data *= 4
    return net


@pytest.mark.parametrize("mode", ["m", "s"])
def test_meta_gradients_are_those_of_the_plain_network(mode):
    """MAML: the gradient of a loss after a step of training. Delays of zero, so that the networks are the same."""
    x, y = (torch.rand(10, 4, F) < 0.4).double(), torch.rand(4, O).double()

    def loss(net, parameters):
        functional.reset_net(net)
        steps = [x] if mode == "m" else x
        outputs = [functional_call(net, parameters, (part,)) for part in steps]
        return ((outputs[0] if mode == "m" else torch.stack(outputs)).mean(0) - y).square().mean()

    def meta_gradient(net):
        parameters = {name: p for name, p in net.named_parameters() if "delay" not in name}
        first = torch.autograd.grad(loss(net, parameters), [*parameters.values()], create_graph=True)
        after = {name: p - 2 * g for (name, p), g in zip(parameters.items(), first, strict=True)}
        loss(net, after).backward()
        return [p.grad for p in parameters.values()]

    delayed = add_delays(smooth_jelly(mode), 4, init=0, interpolation="linear")
    for found, expected in zip(meta_gradient(delayed), meta_gradient(smooth_jelly(mode)), strict=True):
        assert expected.any()
        assert torch.allclose(found, expected)


@pytest.mark.real("transforms of torch.func")
@pytest.mark.parametrize("mode", ["m", "s"])
def test_derivatives_by_transforms_are_those_of_autograd(mode):
    net = add_delays(smooth_jelly(mode), 4)
    x = (torch.rand(10, 4, F) < 0.4).double()

    def loss(parameters):
        functional.reset_net(net)
        steps = [x] if mode == "m" else x
        return sum(functional_call(net, parameters, (part,)).square().sum() for part in steps)

    parameters = {name: p.detach() for name, p in net.named_parameters()}
    found = torch.func.grad(loss)(parameters)
    loss(dict(net.named_parameters())).backward()
    for name, parameter in net.named_parameters():
        assert torch.allclose(found[name], parameter.grad)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("mode", ["m", "s"])
def test_a_target_network_follows_its_source(mode, frozen):
    """Averages of weights are written to `.data`, which autograd does not count."""
    source, x = add_delays(smooth_jelly(mode), 4), (torch.rand(14, 3, F) < 0.4).double()
    if frozen:
        freeze_delays(source)
    target = copy.deepcopy(source).eval()

    @torch.no_grad()
    def run(net):
        functional.reset_net(net)
        return net(x) if mode == "m" else torch.stack([net(x_t) for x_t in x])

    before = run(target)
    for t, s in zip(target.parameters(), source.parameters(), strict=True):
        t.data.mul_(0.1).add_(-0.9 * s.data if s.dim() == 2 else 0.9 * s.data)
    found = run(target)
    assert not torch.equal(found, before)
    assert torch.equal(found, run(copy.deepcopy(target)))


@pytest.mark.cpu("values are looked at there alone")
@pytest.mark.parametrize("training", [True, False])
def test_diverged_delays_are_named_by_their_layer(training):
    net = add_delays(nn.Sequential(nn.Sequential(nn.Linear(F, H), leaky())), 4).train(training)
    for _, delay in named_delays(net):
        delay.delays.data[0, 0] = torch.nan
    with pytest.raises(ArgumentError, match=r"delays of 0\.0 .*Training diverged"):
        stepped(net, sequence())
