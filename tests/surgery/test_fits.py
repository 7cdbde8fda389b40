"""Delays that do not fit into the sequence are warned of, with the numbers; those that fit are not."""

import copy
import warnings

import norse.torch as norse
import pytest
import snntorch
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn

from delayplug import add_delays, plan_delays, unroll
from delayplug.surgery.fits import longest_path, steps_needed
from tests.networks import F, H, InitLeaky, O, jelly
from tests.surgery.networks import HoistedLeaky, Shortcut, leaky

STEPS = 25


def warned(make, *args, **options) -> list[str]:
    """What is said of delays that are too long."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make(*args, **options)
    return [str(w.message) for w in caught if "never arrives" in str(w.message)]


def drive(net: nn.Module) -> None:
    for module in net.modules():
        if isinstance(module, snntorch.SpikingNeuron):
            module.reset_mem()
    for x_t in torch.rand(STEPS, 2, F):
        net(x_t)


def two_layers() -> nn.Module:
    return nn.Sequential(nn.Linear(F, H), leaky(), nn.Linear(H, O), leaky())


X = torch.rand(STEPS, 2, F)
NETWORKS = {
    "loop inside": (InitLeaky, X, ("fc1", "fc2")),
    "loop outside": (two_layers, drive, ("0", "2")),
    "sequences": (lambda: jelly("m", layer.Linear), X, ("0", "2.0")),
    "norse": (
        lambda: norse.SequentialState(nn.Linear(F, H), norse.LIF(), nn.Linear(H, O), norse.LIF()),
        X,
        ("0", "2"),
    ),
}


@pytest.mark.parametrize(("make", "example", "layers"), NETWORKS.values(), ids=NETWORKS)
def test_the_numbers_are_said(make, example, layers) -> None:
    assert plan_delays(make(), example).steps == STEPS
    assert plan_delays(make()).steps is None
    (text,) = warned(add_delays, make(), 24, example=example)
    row = " -> ".join(f"{name} 24" for name in layers)
    assert f"({row}) add up to 48 steps, and the sequence of the example has 25" in text
    assert "max_delay=12 fits" in text
    assert not warned(add_delays, make(), 12, example=example)
    assert warned(add_delays, make(), 13, example=example)


def test_one_layer_alone() -> None:
    assert not warned(add_delays, InitLeaky(), 24, example=X, filter_fn=["fc2"])
    (text,) = warned(add_delays, InitLeaky(), 25, example=X, filter_fn=["fc2"])
    assert "(fc2 25) are up to 25 steps long" in text
    assert "max_delay=24 fits" in text
    assert not warned(add_delays, InitLeaky(), {"fc1": 24, "fc2": 0}, example=X)


def test_a_short_sequence_has_no_room_for_many_layers() -> None:
    net = nn.Sequential(*[part for _ in range(5) for part in (nn.Linear(F, F), leaky())])

    def short(net: nn.Module) -> None:
        for x_t in X[:4]:
            net(x_t)

    (text,) = warned(add_delays, net, 1, example=short)
    assert "5 layers in a row have no room for delays" in text


def test_a_single_step_says_nothing_about_the_sequence() -> None:
    assert not warned(add_delays, two_layers(), 100, example=X[0])


def test_branches_do_not_add_up() -> None:
    net = Shortcut()
    everything = plan_delays(net, drive, filter_fn=["fc1", "fc2", "skip"])
    assert {c.layer: c.behind for c in everything.connections} == {"fc1": (), "fc2": ("fc1",), "skip": ()}
    assert longest_path(everything.connections, {"fc1": 3, "fc2": 4, "skip": 6}) == ["fc1", "fc2"]
    assert longest_path(everything.connections, {"fc1": 3, "fc2": 4, "skip": 9}) == ["skip"]
    assert steps_needed(everything.connections, {"fc1": 3, "fc2": 4, "skip": 6}) == 8
    assert steps_needed((), {}) == 1
    between = plan_delays(nn.Sequential(*two_layers(), nn.Linear(O, O), leaky()), drive, filter_fn=["0", "4"])
    assert {c.layer: c.behind for c in between.connections} == {"0": (), "4": ("0",)}


def test_layers_over_the_whole_sequence_and_feedback() -> None:
    assert {c.layer: c.behind for c in plan_delays(HoistedLeaky(), X).connections} == {"fc1": ()}
    net = nn.Sequential(
        layer.Linear(F, H),
        layer.LinearRecurrentContainer(neuron.IFNode(), H, H),
        layer.Linear(H, O),
        neuron.IFNode(),
    )
    functional.set_step_mode(net, "m")
    for example in (None, X):
        behind = {c.layer: c.behind for c in plan_delays(net, example, recurrent=True).connections}
        assert behind == {"0": (), "1.rc": ("0",), "2": ("1.rc",)}


@pytest.mark.filterwarnings("error:.*never arrives")
def test_unroll_says_it_once_if_no_example_did() -> None:
    net = add_delays(two_layers(), 24)
    assert len(warned(unroll, net, X)) == 1
    assert not warned(unroll, net, X)
    unroll(add_delays(two_layers(), 12), X)
    unroll(add_delays(two_layers(), 24), torch.rand(49, 2, F))
    copied = copy.deepcopy(add_delays(two_layers(), 24))
    (text,) = warned(unroll, copied, X)
    assert "and the sequence has 25" in text
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        told = add_delays(two_layers(), 24, example=drive)
    assert not warned(unroll, told, X)


def test_delays_that_come_in_two_parts_add_up() -> None:
    net = add_delays(InitLeaky(), 20, example=X, filter_fn=["fc1"])
    (text,) = warned(add_delays, net, 8, example=X, filter_fn=["fc2"])
    assert "(fc1 20 -> fc2 8) add up to 28 steps" in text


def test_a_model_that_calls_its_layers_in_a_circle() -> None:
    class Circle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(F, F), nn.Linear(F, F)
            self.lif1, self.lif2 = snntorch.Leaky(0.9), snntorch.Leaky(0.9)

        def forward(self, x: Tensor) -> Tensor:
            mem1, mem2, z2 = self.lif1.init_leaky(), self.lif2.init_leaky(), torch.zeros_like(x[0])
            for x_t in x:
                z1, mem1 = self.lif1(self.a(x_t + z2), mem1)
                z2, mem2 = self.lif2(self.b(z1), mem2)
            return z2

    plan = plan_delays(Circle(), X, recurrent=True)
    assert {c.layer: c.behind for c in plan.connections} == {"a": (), "b": ("a",)}


def constant(steps: int) -> nn.Module:
    class Tutorial(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.lif1 = nn.Linear(6, 5), snntorch.Leaky(beta=0.9)
            self.fc2, self.lif2 = nn.Linear(5, 4), snntorch.Leaky(beta=0.9)

        def forward(self, x: Tensor) -> Tensor:
            mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
            out = []
            for _ in range(steps):
                spikes, mem1 = self.lif1(self.fc1(x), mem1)
                spikes, mem2 = self.lif2(self.fc2(spikes), mem2)
                out.append(spikes)
            return torch.stack(out)

    return Tutorial()


def test_without_an_example_the_second_call_of_a_model_with_a_loop_warns() -> None:
    net = add_delays(constant(25), 24)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(4):
            net(torch.rand(2, 6))
    (warning,) = caught
    assert "add up to 48 steps, and the sequence has 25" in str(warning.message)
    assert "max_delay=12 fits" in str(warning.message)


def test_whole_sequences_that_are_short_warn_at_the_second_call() -> None:
    net = nn.Sequential(layer.Linear(6, 5), neuron.IFNode(), layer.Linear(5, 4), neuron.IFNode())
    functional.set_step_mode(net, "m")
    add_delays(net, 2)

    def run(net: nn.Module) -> None:
        for _ in range(3):
            net(torch.rand(4, 2, 6))
            functional.reset_net(net)

    (text,) = warned(run, net)
    assert "the sequence has 4" in text


def test_no_false_alarm() -> None:
    def parts(net: nn.Module) -> None:  # of one sequence
        for _ in range(5):
            net(torch.rand(4, 2, 6))

    net = nn.Sequential(layer.Linear(6, 5), neuron.IFNode())
    functional.set_step_mode(net, "m")
    assert not warned(parts, add_delays(net, 8))

    def steps(net: nn.Module) -> None:
        for _ in range(2):
            functional.reset_net(net)
            for _ in range(5):
                net(torch.rand(2, 6))

    functional.set_step_mode(net, "s")
    assert not warned(steps, net)
    long = add_delays(constant(49), 24)
    assert not warned(lambda net: [net(torch.rand(2, 6)) for _ in range(3)], long)

    def checked(net: nn.Module) -> None:  # which runs a part of the sequence more than once
        for _ in range(3):
            unroll(net, torch.rand(2, 6), steps=60)

    assert not warned(checked, add_delays(constant(60), 24))
