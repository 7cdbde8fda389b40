"""A model sorted into layers with weights and neurons."""

import norse.torch as norse
import pytest
import snntorch
import torch
from spikingjelly.activation_based import layer, neuron
from torch import nn
from torch.nn.utils import parametrizations

from delayplug import LearnableDelay, add_delays
from delayplug.surgery.inventory import Network, channels_of, is_lazy
from delayplug.toolkits import plugins
from tests.surgery.networks import Masked, Own, leaky

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:snntorch")


def sorted_network(model: nn.Module) -> Network:
    return Network(model, plugins.toolkit_of(model.modules())[1])


def test_layers_and_neurons_by_name() -> None:
    model = nn.Sequential(nn.Linear(3, 4), leaky(), nn.Sequential(nn.Dropout(), Own(4, 5)), nn.LayerNorm(5), leaky())
    network = sorted_network(model)
    assert list(network.layers) == ["0", "2.1"]
    assert list(network.neurons) == ["1", "4"]
    assert [name for name, _ in network.ancestors("2.1")] == ["", "2"]
    assert network.holds("2") is None
    assert network.holds("") == "1"


def test_what_is_inside_of_a_neuron_belongs_to_it_but_for_its_recurrent_layer() -> None:
    model = nn.Sequential(nn.Linear(3, 4), snntorch.RLeaky(beta=0.5, linear_features=4, init_hidden=True))
    network = sorted_network(model)
    assert list(network.layers) == ["0", "1.recurrent"]
    assert network.recurrent == {"1.recurrent": "1"}
    assert list(network.neurons) == ["1"]


def test_the_weights_of_a_wrapper_are_in_its_child() -> None:
    model = norse.SequentialState(norse.Lift(nn.Conv1d(2, 3, 4)), norse.LIF(), nn.Linear(5, 6), norse.LIF())
    network = sorted_network(model)
    assert list(network.layers) == ["0", "2"]
    lifted, linear = network.layers.values()
    assert network.weights_of(lifted) is lifted.lifted_module
    assert network.weights_of(linear) is linear
    assert (network.space_of(lifted), network.space_of(linear)) == (1, 0)
    assert network.matrix_of(lifted) == (3, 2, 4)


def test_layers_inside_of_delays_are_no_layers() -> None:
    model = add_delays(nn.Sequential(nn.Linear(3, 4), leaky()), 5).append(LearnableDelay(4, 2, max_delay=3))
    assert list(sorted_network(model).layers) == ["0"]


@pytest.mark.parametrize(
    ("module", "is_torch"),
    [
        (nn.Linear(3, 4), True),
        (layer.Linear(3, 4), True),
        (parametrizations.weight_norm(nn.Conv2d(1, 2, 3)), True),
        (Masked(3, 4), False),
        (Own(3, 4), False),
    ],
)
def test_whether_a_layer_computes_what_one_of_torch_does(module: nn.Module, is_torch: bool) -> None:
    network = sorted_network(nn.Sequential(module, neuron.IFNode()))
    assert network.is_torch(module) is is_torch


@pytest.mark.parametrize(
    ("module", "passive"),
    [
        (nn.Dropout(), True),
        (nn.BatchNorm1d(3), True),
        (nn.LayerNorm((3, 4)), True),
        (nn.AvgPool2d(2), True),
        (nn.Linear(3, 4), False),
        (nn.GRU(3, 4), False),
        (nn.Sequential(nn.Dropout()), False),
        (Own(3, 4), False),
    ],
)
def test_what_lets_a_connection_pass(module: nn.Module, passive: bool) -> None:
    assert sorted_network(nn.Sequential(module, leaky())).is_passive(module) is passive


def test_channels_as_far_as_a_class_tells() -> None:
    assert channels_of(nn.Linear(3, 4)) == (3, 4)
    assert channels_of(nn.ConvTranspose2d(3, 4, 5)) == (3, 4)
    assert channels_of(Own(3, 4)) == (None, None)


@pytest.mark.real("lazy parameters")
def test_sizes_that_are_not_known_yet() -> None:
    lazy = nn.LazyLinear(4)
    assert is_lazy(lazy)
    lazy(torch.zeros(2, 3))
    assert not is_lazy(lazy)
