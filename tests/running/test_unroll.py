"""Layer by layer over a whole sequence: equal to the user's own time loop, or refused with a reason."""

from collections.abc import Callable

import norse.torch as norse
import pytest
import snntorch
import torch
from norse.torch.module.snn import SNN, SNNCell
from spikingjelly.activation_based import base, functional, layer, neuron
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from delayplug import ArgumentError, UnrollError, WiringError, add_delays, fused_neurons, named_delays, unroll
from delayplug._triton import interpreted, is_installed
from delayplug.testing.laws import MAX_DELAY, Network
from tests.corpus import FAST_NETWORKS, norse_networks, snntorch_networks, spikingjelly_networks
from tests.networks import B, F, H, InitLeaky, O, sequence

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:snntorch")

CORPUS = {
    "snntorch": snntorch_networks.NETWORKS,
    "norse": norse_networks.NETWORKS,
    "spikingjelly": spikingjelly_networks.NETWORKS,
}
# Networks that cannot be unrolled, and what is said about it.
REFUSED = {
    "snntorch-one-step": "over x alone fails",  # the user keeps the states
    "snntorch-residual": "over x alone fails",
    "snntorch-module-list": "in the step before",
    "snntorch-recurrent-neurons": "feeds its spikes back",
    "snntorch-conv-lstm": "feeds its spikes back",
    "snntorch-hoisted-sequence-neurons": "take steps and others sequences",
    "snntorch-regression-batch-first": "time loop gives|another way than its neuron",
    "snntorch-folded-conv": "time loop gives|another way than its neuron",
    "norse-hoisted-batch-first": "over x alone fails|another way than its neuron",
    "norse-shared-cell": "in the step before",  # it is one neuron for several layers
    "norse-kinds-of-neurons": "over x alone fails",
    "norse-skip": "over x alone fails",
    "norse-recurrent-cells": "feeds its spikes back",
    "norse-lifted-blocks": "take steps and others sequences",
    "spikingjelly-container-multi-step": "take steps and others sequences",
    "spikingjelly-sequential-recurrent": "take steps and others sequences",
    "spikingjelly-readout-membrane": "one entry per step and sample",  # its readout is an attribute of a neuron
}
CASES = {f"{toolkit}-{n.name}": n for toolkit, networks in CORPUS.items() for n in networks}
# These take (T, B, ...) and give a list or something else than the test compares: nothing is unrolled there.
CASES = {name: n for name, n in CASES.items() if n.name not in ("readout-non-spiking", "gesture-batch-first")}
EQUAL = {name: n for name, n in CASES.items() if name not in REFUSED}
FAST = {f"{toolkit}-{name}" for toolkit, names in FAST_NETWORKS.items() for name in names}
ALL_EQUAL = [pytest.param(n, marks=[] if name in FAST else pytest.mark.slow, id=name) for name, n in EQUAL.items()]


def first(out: Tensor | tuple, like: Tensor) -> Tensor:
    """The output that the network's user looks at."""
    outputs = out if isinstance(out, tuple) else (out,)
    return next(y for y in outputs if isinstance(y, Tensor) and y.shape == like.shape and _close(y, like))


def _close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("granularity", [None, "synaptic", "axonal", "dendritic"])
@pytest.mark.parametrize("network", ALL_EQUAL)
def test_equal_to_the_users_loop(network: Network, granularity: str | None) -> None:
    net = network.build().eval()
    if granularity:
        add_delays(net, MAX_DELAY, example=network.example, granularity=granularity)
    x = network.sample()
    expected = network.run(net, x)
    for _ in range(2):
        first(unroll(net, x), like=expected)
    assert torch.equal(network.run(net, x), expected), "the model was not left in a fresh state"


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_a_reason(name: str) -> None:
    network = CASES[name]
    for delayed in (False, True):
        net = network.build().eval()
        if delayed:
            add_delays(net, MAX_DELAY, example=network.example)
        expected = network.run(net, network.sample())
        with pytest.raises(UnrollError, match=REFUSED[name]):
            unroll(net, network.sample())
        assert torch.equal(network.run(net, network.sample()), expected), "the model was changed"


@pytest.mark.parametrize("name", ["snntorch-reset-mem", "norse-sequential-nested", "spikingjelly-class-s"])
def test_training_is_the_same(name: str) -> None:
    """Gradients too, and the statistics of batch norm."""
    network = CASES[name]
    loop, layers = (add_delays(network.build(), MAX_DELAY, example=network.example).train() for _ in range(2))
    layers.load_state_dict(loop.state_dict())
    x = network.sample(steps=15)
    expected = network.run(loop, x)
    got = first(unroll(layers, x), like=expected)
    grad = torch.randn_like(expected)
    for y, net in ((expected, loop), (got, layers)):
        (y * grad).sum().backward()
        assert all(delay.delays.grad is not None for _, delay in named_delays(net))
    for (key, parameter), other in zip(loop.named_parameters(), layers.parameters(), strict=True):
        if parameter.grad is not None:
            torch.testing.assert_close(other.grad, parameter.grad, atol=1e-4, rtol=1e-3, msg=key)
    for (key, value), other in zip(loop.state_dict().items(), layers.state_dict().values(), strict=True):
        torch.testing.assert_close(other, value, msg=key)


def test_every_output_over_the_time() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(F, H), snntorch.Leaky(beta=0.8, init_hidden=True, output=True, threshold=0.2))
    spikes, membranes = unroll(net, sequence())
    assert spikes.shape == membranes.shape == (*sequence().shape[:2], H)
    looped = [net(x_t) for x_t in sequence()]
    assert torch.equal(spikes, torch.stack([s for s, _ in looped]))
    torch.testing.assert_close(membranes, torch.stack([m for _, m in looped]))


def test_a_memory_that_is_no_neuron() -> None:
    torch.manual_seed(0)
    filtered = layer.SynapseFilter(tau=2.0)
    net = nn.Sequential(layer.Linear(F, H), neuron.IFNode(), filtered, layer.Linear(H, O), neuron.IFNode())
    with torch.no_grad():
        net[0].weight.mul_(4)
        net[3].weight.mul_(9)
    expected = torch.stack([net(x_t) for x_t in sequence()])
    functional.reset_net(net)
    assert expected.any()
    torch.testing.assert_close(unroll(net, sequence()), expected)
    assert all(m.step_mode == "s" for m in net)


def test_a_loop_that_is_not_over_the_input() -> None:
    class Static(InitLeaky):
        def forward(self, x: Tensor) -> Tensor:
            mem = self.lif1.init_leaky()
            for _ in range(5):
                spikes, mem = self.lif1(self.fc1(x), mem)
            return spikes

    with pytest.raises(UnrollError, match="runs more than once"):
        unroll(Static(), sequence(), check=False)


def test_a_state_changed_between_steps() -> None:
    class Decayed(InitLeaky):
        def forward(self, x: Tensor) -> Tensor:
            mem, out = self.lif1.init_leaky(), []
            for x_t in x:
                _, mem = self.lif1(self.fc1(x_t), mem)
                mem = mem / 2
                out.append(mem)
            return torch.stack(out)

    with pytest.raises(UnrollError, match="a state is changed between steps"):
        unroll(Decayed(), sequence())


def test_a_state_to_begin_with() -> None:
    class Primed(InitLeaky):
        def forward(self, x: Tensor) -> Tensor:
            mem, out = torch.ones(x.shape[1], H), []
            for x_t in x:
                spikes, mem = self.lif1(self.fc1(x_t), mem)
                out.append(spikes)
            return torch.stack(out)

    with pytest.raises(UnrollError, match="starts from a state of its own"):
        unroll(Primed(), sequence())


def test_an_error_leaves_the_model_as_it_was() -> None:
    net = nn.Sequential(nn.Linear(F, H), snntorch.Leaky(beta=0.8, init_hidden=True), nn.Linear(H + 1, O))
    with pytest.raises(UnrollError, match="does not run on all steps at once"):
        unroll(net, sequence())
    assert not any("forward" in module.__dict__ for module in net.modules())


def test_arguments() -> None:
    with pytest.raises(ArgumentError, match=r"x: expected a sequence \(T, B, ...\), got \(3,\)"):
        unroll(InitLeaky(), torch.rand(3))
    with pytest.raises(ArgumentError, match="got list"):
        unroll(InitLeaky(), [1])
    with pytest.raises(WiringError, match="no neurons found"):
        unroll(nn.Linear(F, H), sequence())


def test_sequence_networks_are_run_as_they_are() -> None:
    net = norse.SequentialState(nn.Linear(F, H), norse.LIF())
    assert torch.equal(unroll(net, sequence()), net(sequence())[0])
    assert unroll(net, sequence()).shape == (*sequence().shape[:1], B, H)


# --------------------------------------------------------------------------------------------- on a device

kernels = pytest.mark.skipif(not is_installed() or torch.cuda.is_available(), reason="needs Triton and its interpreter")
FUSED: dict[str, Callable[[], nn.Module]] = {
    "a loop of its own": InitLeaky,
    "snntorch": lambda: nn.Sequential(nn.Linear(F, H), snntorch.Leaky(beta=0.8, init_hidden=True, threshold=0.2)),
    "norse cells": lambda: norse.SequentialState(nn.Linear(F, H), norse.LIFBoxCell(dt=0.01), norse.LICell(dt=0.01)),
    "norse layers": lambda: norse.SequentialState(nn.Linear(F, H), norse.LIF(dt=0.01), norse.LI(dt=0.01)),
    "spikingjelly": lambda: nn.Sequential(nn.Linear(F, H), neuron.LIFNode(), neuron.IFNode(v_reset=None)),
}


VIEWS = "view _unsafe_view select slice t unsqueeze squeeze expand detach unbind split alias as_strided transpose"
IDLE = {*VIEWS.split(), "empty", "empty_like", "new_empty"}
NEURONS = (snntorch.SpikingNeuron, SNNCell, SNN, base.MemoryModule)


class Operators(TorchDispatchMode):
    """Notes what launches something within the block: all but views and new memory."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        name = str(function)
        if name.split(".")[1] not in IDLE:
            self.names.append(name)
        return function(*args, **(kwargs or {}))


@kernels
@pytest.mark.parametrize("name", FUSED)
def test_the_number_of_operations_does_not_depend_on_the_steps(name: str) -> None:
    torch.manual_seed(0)
    net, counts = FUSED[name](), []
    with interpreted():
        for steps in (5, 5, 5, 12):
            with Operators() as operators:
                out = unroll(net, torch.rand(steps, B, F) * 3)
                out.sum().backward()
            net.zero_grad()
            counts.append(len(operators.names))
        fused = [operator for operator in operators.names if "neurons_" in operator]
        assert len(fused) == 2 * sum(isinstance(m, NEURONS) for m in net.modules())
    assert counts[-2] == counts[-1] < 32


@kernels
@pytest.mark.parametrize("name", FUSED)
def test_the_same_in_kernels(name: str) -> None:
    torch.manual_seed(0)
    net, x = FUSED[name](), torch.rand(9, B, F) * 3
    results = []
    for fused in (False, True):
        with interpreted(), fused_neurons(fused):
            out = unroll(net, x)
            results.append((out, *torch.autograd.grad((out * out).sum(), list(net.parameters()))))
    for expected, got in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(results[0][0], results[1][0])


@kernels
def test_sequence_neurons_that_hold_a_state_are_reset_first() -> None:
    torch.manual_seed(0)
    net, x = nn.Sequential(layer.Linear(F, H), neuron.LIFNode()), torch.rand(9, B, F) * 3
    functional.set_step_mode(net, "m")
    expected = net(x)  # and holds its last state from now on
    with interpreted(), Operators() as operators:
        assert torch.equal(unroll(net, x), expected)
    assert "delayplug.neurons_forward.default" in operators.names


@kernels
def test_a_state_that_a_layer_is_passed_keeps_its_loop() -> None:
    class Carries(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lif = norse.LIF(dt=0.01)

        def forward(self, x: Tensor) -> Tensor:
            first, state = self.lif(x[:2])
            return torch.cat([first, self.lif(x[2:], state)[0]])

    net, x = Carries(), torch.rand(6, B, F) * 20
    expected = norse.LIF(dt=0.01)(x)[0]
    with interpreted():
        assert torch.equal(unroll(net, x), expected)
    assert expected.any()


def test_a_model_is_compared_with_its_loop_once() -> None:
    class Counted(InitLeaky):
        switched = False

        def forward(self, x: Tensor) -> Tensor:
            CALLS.append(1)
            mem, out = self.lif1.init_leaky(), []
            for x_t in x:
                _, mem = self.lif1(self.fc1(x_t), mem)
                mem = mem / 2 if self.switched else mem
                out.append(mem)
            return torch.stack(out)

    CALLS: list[int] = []
    net = Counted()
    unroll(net, sequence())
    for batch in (B, 2, B):  # the neuron keeps a tensor of the shape of the last batch
        CALLS.clear()
        unroll(net, sequence()[:, :batch])
        assert len(CALLS) == 1
    CALLS.clear()
    unroll(net, sequence())
    with torch.no_grad():
        net.fc1.weight.mul_(2)
    unroll(net, sequence())
    assert len(CALLS) == 2
    net.switched = True
    with pytest.raises(UnrollError, match="a state is changed between steps"):
        unroll(net, sequence())
