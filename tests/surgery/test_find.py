"""The delays of a model: their names, layers, weights, inputs and past inputs."""

import pytest
import torch
from torch import nn

from delayplug import (
    ArgumentError,
    ConvDelay,
    LearnableDelay,
    add_delays,
    detach_delays,
    freeze_delays,
    named_delays,
    reset_delays,
)
from delayplug.surgery.find import (
    all_delays,
    buffer_cells,
    delayed_layers,
    inputs,
    learned_delays,
    strengths,
    the_delay,
    weights,
)
from tests.networks import H, O, sequence
from tests.surgery.networks import leaky

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:snntorch")


def network(**options) -> nn.Sequential:
    """A convolution, a linear layer, and a delay that stands alone."""
    net = nn.Sequential(nn.Conv1d(4, H, 3, groups=2), leaky(), nn.Flatten(), nn.Linear(H * 3, O), leaky())
    add_delays(net, 5, **options)
    net.append(LearnableDelay(O, max_delay=7))
    return net


def test_names_are_those_of_the_layers() -> None:
    net = network()
    delays = dict(named_delays(net))
    assert list(delays) == ["0", "3", "5"]
    assert delays["0"] is net[0].delay
    assert delays["5"] is net[5]
    assert all_delays(net) == list(delays.items())
    assert [name for name, _ in delayed_layers(net)] == ["0", "3"]
    assert list(named_delays(net[0])) == [("", net[0].delay)]


def test_models_without_delays_and_frozen_ones_are_refused() -> None:
    with pytest.raises(ArgumentError, match="model: expected a model with delays, got Linear"):
        all_delays(nn.Linear(2, 2))
    net = network()
    assert learned_delays(net) == all_delays(net)
    freeze_delays(net[3])
    with pytest.raises(ArgumentError, match="expected learned delays, got frozen ones in 3"):
        learned_delays(net)


def test_the_delay_of_a_layer() -> None:
    net = network()
    assert the_delay(net[3]) == ("", net[3].delay)
    assert the_delay(net[5]) == ("", net[5])
    with pytest.raises(ArgumentError, match="those of 0, 3, 5"):
        the_delay(net)


def test_weights_per_synapse_are_those_of_the_layer() -> None:
    net = network()
    got = weights(net)
    assert torch.equal(got["0"], net[0].weight.unsqueeze(-1))
    assert torch.equal(got["3"], net[3].weight.unsqueeze(-1))
    assert torch.equal(got["5"], torch.ones(O))
    assert not any(weight.requires_grad for weight in got.values())
    assert torch.equal(strengths(net)["3"], net[3].weight.abs().unsqueeze(-1))


@pytest.mark.parametrize("granularity", ["axonal", "dendritic"])
@pytest.mark.parametrize("kind", [nn.Conv1d, nn.ConvTranspose1d])
def test_weights_per_channel_are_norms_over_what_the_channel_reaches(kind: type[nn.Module], granularity: str) -> None:
    conv = kind(4, 6, 3, groups=2, bias=False)
    # The whole map from inputs (4, 1) to outputs; each weight is in it once for each place of the kernel.
    x = (
        torch.eye(4).unsqueeze(-1)
        if kind is nn.ConvTranspose1d
        else nn.functional.pad(torch.eye(4).unsqueeze(-1), (2, 2))
    )
    matrix = conv(x).detach()  # (input channel, output channel, place)
    expected = matrix.norm(dim=(1, 2)) if granularity == "axonal" else matrix.norm(dim=(0, 2))
    net = nn.Sequential(conv, leaky())
    add_delays(net, 5, granularity=granularity)
    torch.testing.assert_close(weights(net)["0"], expected)


def test_inputs_of_each_delay() -> None:
    assert inputs(LearnableDelay(3, 2, max_delay=4, taps=2)).tolist() == [[[0, 0], [1, 1], [2, 2]]] * 2
    assert inputs(LearnableDelay(3, max_delay=4)).tolist() == [0, 1, 2]
    grouped = inputs(ConvDelay(nn.Conv1d(4, 6, 3, groups=2), max_delay=4))
    assert grouped[:, :, 0, 0].tolist() == [[0, 1]] * 3 + [[2, 3]] * 3
    transposed = inputs(ConvDelay(nn.ConvTranspose1d(4, 6, 3, groups=2), max_delay=4))
    assert transposed[:, :, 0, 0].tolist() == [[c] * 3 for c in range(4)]
    assert all((index == index[..., :1, :]).all() for index in (grouped, transposed))


def test_past_inputs_to_be_stored_are_the_longest_delay_of_each_channel() -> None:
    delay = LearnableDelay(3, 2, max_delay=9)
    with torch.no_grad():
        delay.delays.copy_(torch.tensor([[1.0, 5.4, 0.0], [3.5, 2.0, 0.4]]).unsqueeze(-1))
    assert buffer_cells(delay) == 4 + 5 + 0


def test_reset_and_detach_reach_every_layer() -> None:
    net = nn.Sequential(nn.Linear(5, H), leaky(), nn.Linear(H, O), leaky())
    add_delays(net, 5)
    memories = [layer.delay_memory for _, layer in delayed_layers(net)]
    for x_t in sequence()[:3]:
        net(x_t * 9)
    assert all(memory.state is not None for memory in memories)
    assert memories[1].state.history.requires_grad
    detach_delays(net)
    assert not any(memory.state.history.requires_grad for memory in memories)
    reset_delays(net)
    assert all(memory.state is None for memory in memories)
