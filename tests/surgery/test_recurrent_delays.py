"""`add_delays(recurrent=True)` in each toolkit: it is the layer of `run_recurrent`, which the benchmark has, too.

A spike arrives 1 + d steps later: the loop takes a step, and the delay adds d. Recurrent weights inside of Norse's own
cells act within one step and cannot be delayed; its container for recurrent networks feeds spikes back to a layer.
"""

from collections.abc import Callable
from dataclasses import dataclass

import norse.torch as norse
import pytest
import snntorch
import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import Tensor, nn

from delayplug import ChargeRule, Dynamics, ResetBefore, Surrogate, SurrogateForm, add_delays, named_delays
from delayplug.layers.base import DelayLayer
from delayplug.neurons import recurrence
from delayplug.neurons.feedback import Feedback, run_recurrent
from delayplug.toolkits import plugins
from delayplug.toolkits.vocabulary import Granularity

T, B, H, D = 10, 2, 5, 3
ARCTAN = Surrogate(SurrogateForm.ARCTAN, 2.0)
Spike = Callable[[Tensor], Tensor] | None


@dataclass
class Network:
    """One recurrent layer of neurons.

    Attributes:
        model: as its user has it.
        name: of the layer with the recurrent weights (H, H), or (H, 2 H), which weigh the input, too.
        run: the model over a sequence (T, B, H), to its spikes.
        dynamics: of the neurons.
        weighs_input: whether what comes from outside goes through the layer.
    """

    model: nn.Module
    name: str
    run: Callable[[nn.Module, Tensor], Tensor]
    dynamics: Dynamics | None
    weighs_input: bool

    @property
    def layer(self) -> nn.Module:
        return self.model.get_submodule(self.name)

    @property
    def delay(self) -> DelayLayer:
        return dict(named_delays(self.model))[self.name]


def _arctan(z: Tensor) -> Tensor:
    """snnTorch's own gives float32."""
    return recurrence.Spike.apply(z, ARCTAN, False)


def smooth(z: Tensor) -> Tensor:
    return torch.sigmoid(4 * z)


def of_snntorch(spike: Spike = None) -> Network:
    node = snntorch.RLeaky(
        beta=0.5,
        linear_features=H,
        threshold=0.75,
        spike_grad=_arctan if spike is None else spike,
        reset_mechanism="subtract" if spike is None else "none",  # its reset has no gradient
    )
    nn.init.zeros_(node.recurrent.bias)

    def run(net: nn.Module, x: Tensor) -> Tensor:
        state, spikes = (torch.zeros_like(x[0]), torch.zeros_like(x[0])), []
        for x_t in x.unbind(0):
            state = net(x_t, *state)
            spikes.append(state[0])
        return torch.stack(spikes)

    dynamics = Dynamics(ChargeRule.DECAY, leak=0.5, threshold=0.75, before=ResetBefore.SUBTRACT, surrogate=ARCTAN)
    return Network(node, "recurrent", run, dynamics, False)


def of_spikingjelly(spike: Spike = None) -> Network:
    form = surrogate.ATan(alpha=2.0) if spike is None else spike
    node = neuron.LIFNode(tau=2.0, decay_input=False, v_threshold=0.75, surrogate_function=form, step_mode="s")

    def run(net: nn.Module, x: Tensor) -> Tensor:
        functional.reset_net(net)
        return torch.stack([net(x_t) for x_t in x.unbind(0)])

    dynamics = plugins.toolkit("spikingjelly").dynamics(node)
    return Network(layer.LinearRecurrentContainer(node, H, H, bias=False), "rc", run, dynamics, True)


def of_norse(spike: Spike = None) -> Network:
    parameters = norse.LIFBoxParameters(tau_mem_inv=torch.tensor(0.5), v_th=torch.tensor(0.4), method="super")
    cell = norse.LIFBoxCell(parameters, dt=1.0)

    def run(net: nn.Module, x: Tensor) -> Tensor:
        state, spikes = None, []
        for x_t in x.unbind(0):
            out, state = net(x_t, state)
            spikes.append(out)
        return torch.stack(spikes)

    dynamics = plugins.toolkit("norse").dynamics(cell)
    return Network(norse.RecurrentSequential(nn.Linear(H, H, bias=False), cell), "module.0", run, dynamics, True)


NETWORKS = {"RLeaky": of_snntorch, "LinearRecurrentContainer": of_spikingjelly, "RecurrentSequential": of_norse}


def delayed(name: str, granularity: str, spike: Spike = None, **options: object) -> Network:
    torch.manual_seed(4)
    network = NETWORKS[name](spike)
    network.model.double()
    with torch.no_grad():
        network.layer.weight.copy_(torch.randn_like(network.layer.weight))
    settings = {"granularity": granularity, "recurrent": True, **options}
    add_delays(network.model, D, **settings)
    return network


def inputs() -> Tensor:
    torch.manual_seed(3)
    return torch.rand(T, B, H, dtype=torch.float64) * 1.2


def through(network: Network, outside: Tensor | None, before: Tensor | None) -> Tensor:
    """What the layer gives over a sequence of input from outside, or of the spikes of the step before each."""
    delay, weight = network.delay, network.layer.weight
    x = outside if before is None else before
    if weight.shape[1] == 2 * H:
        x = torch.cat((x, torch.zeros_like(x)) if before is None else (torch.zeros_like(x), x), -1)
    if network.layer.delay_place.granularity is Granularity.SYNAPTIC:
        return delay(x, weight=weight)
    return nn.functional.linear(delay(x), weight)


def by_loop(network: Network, x: Tensor) -> Tensor:
    """The same network by `run_recurrent`."""
    delay, weight = network.delay, network.layer.weight.detach()
    own = slice(weight.shape[1] - H, None)
    if network.layer.delay_place.granularity is Granularity.SYNAPTIC:
        feedback = Feedback(None, delay.kernel(network.layer.weight).detach()[:, :, own])
    else:
        feedback = Feedback(weight[:, own], delay.kernel().detach()[:, own])
    current = through(network, x, None) if network.weighs_input else x
    return run_recurrent(network.dynamics, current, feedback, lambda before: through(network, None, before))


@pytest.mark.parametrize("granularity", ["synaptic", "axonal"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_of_steps_is_the_loop_over_the_sequence(name: str, granularity: str) -> None:
    """With wide kernels: spikes, and the gradients of delays, weights and input."""
    network, x = delayed(name, granularity), inputs().requires_grad_()
    assert float(network.delay.sigma) > 1
    expected, found = network.run(network.model, x), by_loop(network, x)
    assert torch.equal(found.round(), expected.round())
    assert 0.1 < float(expected.detach().mean()) < 0.9
    weight, learned = torch.randn_like(x), [x, network.delay.delays, network.layer.weight]
    wanted = torch.autograd.grad((expected * weight).sum(), learned)
    assert all(float(each.abs().max()) > 0 for each in wanted)
    for ours, theirs in zip(torch.autograd.grad((found * weight).sum(), learned), wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("granularity", ["synaptic", "axonal"])
@pytest.mark.parametrize("name", NETWORKS)
def test_whole_delays_shift_what_is_fed_back(name: str, granularity: str) -> None:
    """By sums over single neurons in Python, in front of the toolkit's own neuron without weights."""
    network, x = delayed(name, granularity, interpolation="linear"), inputs()
    weight = network.layer.weight.detach()
    with torch.no_grad():
        network.delay.delays.copy_(torch.randint(0, D + 1, network.delay.delays.shape))
    delays = torch.zeros_like(weight) + network.delay.delays.detach().squeeze(-1)
    spikes: list[Tensor] = []
    drives: list[Tensor] = []
    for t in range(T):
        drive = torch.zeros(B, H, dtype=torch.float64) if network.weighs_input else x[t].clone()
        for o in range(H):
            for i in range(weight.shape[1]):
                d = int(delays[o, i])
                is_outside = network.weighs_input and i < weight.shape[1] - H
                if network.weighs_input and (is_outside or weight.shape[1] == H) and t >= d:
                    drive[:, o] += weight[o, i] * x[t - d][:, i]
                if not is_outside and t >= d + 1:
                    drive[:, o] += weight[o, i] * spikes[t - 1 - d][:, i % H]
        drives.append(drive)
        silent = Feedback(torch.zeros(H, H, dtype=torch.float64))
        spikes.append(run_recurrent(network.dynamics, torch.stack(drives), silent, torch.zeros_like)[-1])
    found = network.run(network.model, x)
    assert torch.equal(found, torch.stack(spikes))
    with torch.no_grad():
        network.delay.delays.zero_()
    assert not torch.equal(network.run(network.model, x), found)


@pytest.mark.parametrize("granularity", ["synaptic", "axonal"])
@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_by_finite_differences(name: str, granularity: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of delays, weights and input, with spikes that are a smooth function of the membrane."""
    monkeypatch.setattr("norse.torch.functional.lif_box.threshold", lambda z, method, alpha: smooth(z))
    network, x = delayed(name, granularity, smooth, sigma=1.2), inputs()[:6].requires_grad_()
    names = {id(p): n for n, p in network.model.named_parameters()}
    learned = [network.delay.delays, network.layer.weight]
    with torch.no_grad():
        network.delay.delays.clamp_(0.1, D - 0.1)  # not at an end of the range

    def run(x: Tensor, *values: Tensor) -> Tensor:
        given = {names[id(p)]: value for p, value in zip(learned, values, strict=True)}
        return torch.func.functional_call(_Runs(network), {f"model.{n}": v for n, v in given.items()}, (x,))

    assert torch.autograd.gradcheck(run, (x, *(p.detach().clone().requires_grad_() for p in learned)))


class _Runs(nn.Module):
    """A network as a module whose forward takes the sequence."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.model, self.run = network.model, network.run

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self.model, x)
