"""What may happen between two steps of one sequence."""

import pytest
import snntorch
import torch
from snntorch import utils
from torch import nn

import delayplug
from delayplug import LearnableDelay


@pytest.mark.parametrize("change", ["weight", "delays", "sigma", "load", "eval"])
@pytest.mark.parametrize("grad", [True, False])
def test_a_step_uses_the_parameters_of_now(change: str, grad: bool) -> None:
    torch.manual_seed(0)
    layer = LearnableDelay(3, 2, max_delay=4, sigma=1.0)
    state = layer.initial_state(5)
    x = torch.randn(4, 5, 3)
    with torch.set_grad_enabled(grad):
        for x_t in x[:3]:
            _, state = layer.step(x_t, state)
        with torch.no_grad():
            if change == "weight":
                layer.weight.mul_(2)
            elif change == "delays":
                layer.delays.mul_(0.5)
            elif change == "sigma":
                layer.sigma.fill_(2.0)
            elif change == "load":
                layer.load_state_dict(LearnableDelay(3, 2, max_delay=4).state_dict())
            else:
                layer.eval()
        y, _ = layer.step(x[3], state)
        expected = layer(x)[3]
    torch.testing.assert_close(y, expected)


def test_a_sequence_builds_its_kernel_once() -> None:
    layer = LearnableDelay(3, 2, max_delay=4)
    state = layer.initial_state(5)
    _, first = layer.step(torch.ones(5, 3), state)
    _, second = layer.step(torch.ones(5, 3), first)
    assert second.kernel is first.kernel


def delayed_sequential() -> tuple[nn.Sequential, snntorch.Leaky]:
    torch.manual_seed(0)
    neuron = snntorch.Leaky(beta=0.9, init_hidden=True)
    net = nn.Sequential(nn.Linear(4, 6), neuron)
    delayplug.add_delays(net, 5, init=3, interpolation="linear")
    return net, neuron


def test_a_state_zeroed_in_place_is_a_new_sequence() -> None:
    net, neuron = delayed_sequential()
    x = torch.rand(8, 2, 4) * 4
    with torch.no_grad():
        utils.reset(net)
        first = torch.stack([net(x_t) for x_t in x])
        neuron.mem.zero_()
        second = torch.stack([net(x_t) for x_t in x])
    assert torch.equal(first, second)


def test_a_state_edited_in_place_goes_on() -> None:
    net, neuron = delayed_sequential()
    with torch.no_grad():
        utils.reset(net)
        for x_t in torch.rand(4, 2, 4) * 4:
            net(x_t)
        neuron.mem.add_(0.5)
        assert net[0].delay_memory.read(torch.Size((2, 4))) is not None


class OneStep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 6)
        self.lif = snntorch.Leaky(beta=0.9)

    def forward(self, x: torch.Tensor, mem: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        spikes, mem = self.lif(self.fc(x), mem)
        return spikes, mem


def test_a_copied_state_is_told_about() -> None:
    net = OneStep()
    delayplug.add_delays(net, 5)
    _, mem = net(torch.rand(2, 4) * 4, torch.zeros(2, 6))
    with pytest.warns(UserWarning, match="a state that it did not return"):
        net(torch.rand(2, 4), mem.clone())


def test_a_detached_state_is_carried() -> None:
    net = OneStep()
    delayplug.add_delays(net, 5)
    _, mem = net(torch.rand(2, 4) * 4, torch.zeros(2, 6))
    mem.sum().backward()
    _, mem = net(torch.rand(2, 4) * 4, mem.detach())
    assert net.fc.delay_memory.state.history[-2].any()  # the first input is still under way
    mem.sum().backward()


def test_a_lazy_layer_is_left_out_with_a_reason() -> None:
    net = nn.Sequential(nn.LazyLinear(6), snntorch.Leaky(beta=0.9, init_hidden=True))
    with pytest.raises(delayplug.WiringError, match="run the model once first"):
        delayplug.add_delays(net, 5)
