"""Layers next to something that delays already."""

import snntorch as snn
from torch import nn

from delayplug.surgery.beside import beside_delays, beside_in_order
from delayplug.surgery.inventory import Network
from delayplug.surgery.verdict import Request
from delayplug.toolkits import plugins
from delayplug.toolkits.vocabulary import Granularity
from tests.surgery.own_delays import F, H, O, SynapticDelay


def network() -> Network:
    first = nn.Sequential(nn.Linear(F, H), nn.Dropout(), SynapticDelay(4, 1.0, H), snn.Leaky(0.5))
    second = nn.Sequential(nn.Linear(H, H), snn.Leaky(0.5), SynapticDelay(4, 1.0, H))
    return Network(nn.Sequential(first, second, nn.Linear(H, O), snn.Leaky(0.5)), plugins.toolkit("snntorch"))


def test_the_order_of_containers_shows_them() -> None:
    net = network()
    found = beside_in_order(net, Request(net, None, Granularity.SYNAPTIC, False))
    assert {name: skipped.reason.split(", ")[0] for name, skipped in found.items()} == {
        "0.0": "its output goes through 0.2",
        "2": "its input comes through 1.2",
    }
    assert list(beside_in_order(net, Request(net, ["0.0"], Granularity.SYNAPTIC, False))) == ["2"]


def test_what_is_next_to_a_layer() -> None:
    net = network()
    assert beside_delays(net, "1.0", ["0.3"], ["1.1"]) is None
    assert beside_delays(net, "0.2", ["0.0"], ["0.2"]) is None  # it delays by itself
    both = beside_delays(net, "1.0", ["0.2"], ["1.2"])
    assert both is not None
    assert both.reason.startswith("its output goes through 1.2, which delays it already")
