"""The laws of the capabilities notice what they are for: each is broken on purpose."""

import dataclasses
import functools
import unittest
from collections.abc import Callable
from typing import Any

import pytest
import torch
from spikingjelly.activation_based import neuron
from torch import Tensor, nn

from delayplug import Benchmarks, Cell, Dynamics, Surrogate, SurrogateForm
from delayplug.testing import Laws, Network
from delayplug.toolkits import plugins
from tests.corpus import norse_networks, snntorch_networks, spikingjelly_networks


class Spiking(Laws):
    backend = "spikingjelly"
    networks = spikingjelly_networks.NETWORKS


class Norse(Laws):
    backend = "norse"
    networks = norse_networks.NETWORKS


class SnnTorch(Laws):
    backend = "snntorch"
    networks = snntorch_networks.NETWORKS


def carried(laws: Laws) -> Network:
    """The first of their networks whose state is carried from chunk to chunk."""
    return next(network for network in laws.networks if network.cut is not None)


def test_a_state_that_is_not_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    toolkit, laws = plugins.toolkit("spikingjelly"), Spiking()
    laws.test_carried_state_is_taken_out_and_put_back(carried(laws))
    monkeypatch.setattr(toolkit, "put_state", lambda module, state: None)
    with pytest.raises(AssertionError):
        laws.test_carried_state_is_taken_out_and_put_back(carried(laws))


def test_a_flag_that_stays_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    toolkit, laws = plugins.toolkit("norse"), Norse()
    network = next(n for n in laws.networks if any(map(toolkit.threads_state, n.build().modules())))
    laws.test_containers_say_what_they_do_with_time_and_state(network)
    monkeypatch.setattr(toolkit, "set_stateful", lambda container, child, stateful: None)
    with pytest.raises(AssertionError):
        laws.test_containers_say_what_they_do_with_time_and_state(network)


def test_a_neuron_that_is_built_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    toolkit, laws = plugins.toolkit("spikingjelly"), Spiking()

    def sluggish(cell: Cell) -> nn.Module:
        made: nn.Module = neuron.LIFNode(tau=9.0)
        return made

    laws.test_neurons_in_numbers_are_rebuilt(laws.networks[0])
    described = [toolkit.describe(m) for m in laws.networks[0].build().modules() if type(m) is neuron.LIFNode]
    assert described
    monkeypatch.setattr(toolkit, "build", sluggish)
    with pytest.raises(AssertionError):
        laws.test_neurons_in_numbers_are_rebuilt(laws.networks[0])


@pytest.mark.parametrize("tau", [1.5, 2.0])
def test_a_benchmark_neuron_with_another_time_constant(tau: float, monkeypatch: pytest.MonkeyPatch) -> None:
    toolkit, laws = plugins.toolkit("spikingjelly"), Spiking()
    laws.test_the_benchmarks_neuron_is_the_papers(tau)
    made = toolkit.spiking_neuron
    monkeypatch.setattr(toolkit, "spiking_neuron", lambda *, tau: made(tau=tau + 1))
    with pytest.raises(AssertionError):
        laws.test_the_benchmarks_neuron_is_the_papers(tau)


def test_an_adaptive_neuron_with_another_time_constant(monkeypatch: pytest.MonkeyPatch) -> None:
    toolkit, laws = plugins.toolkit("spikingjelly"), Spiking()
    laws.test_the_benchmarks_adaptive_neuron_is_the_papers()
    run = toolkit.run

    def hurried(node: nn.Module, x: Tensor) -> Tensor:
        with torch.no_grad():
            node.adaptive.tau_w.mul_(0.5)
        return run(node, x)

    monkeypatch.setattr(toolkit, "run", hurried)
    with pytest.raises(AssertionError):
        laws.test_the_benchmarks_adaptive_neuron_is_the_papers()


def test_a_toolkit_may_have_no_adaptive_neuron(monkeypatch: pytest.MonkeyPatch) -> None:
    toolkit, laws = plugins.toolkit("spikingjelly"), Spiking()
    monkeypatch.setattr(toolkit, "adaptive_neuron", functools.partial(Benchmarks.adaptive_neuron, toolkit))
    with pytest.raises(unittest.SkipTest, match="no adaptive neurons"):
        laws.test_the_benchmarks_adaptive_neuron_is_the_papers()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda d: {"leak": d.leak * 1.01}, "values are not equal"),
        (lambda d: {"fires_at": False}, "values are not equal"),
        (lambda d: {"is_detached": not d.is_detached}, "a gradient is wrong"),
        (lambda d: {"surrogate": Surrogate(SurrogateForm.ARCTAN, 2.5)}, "a gradient is wrong"),
    ],
)
def test_dynamics_that_are_not_the_neurons(
    wrong: Callable[[Dynamics], dict[str, Any]], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    toolkit, laws = plugins.toolkit("spikingjelly"), Spiking()
    described = toolkit.dynamics
    network = next(n for n in laws.networks if any(type(m) is neuron.LIFNode for m in n.build().modules()))
    laws.test_neurons_compute_their_dynamics(network)

    def mistaken(node: nn.Module) -> Any:
        dynamics = described(node)
        return dataclasses.replace(dynamics, **wrong(dynamics)) if type(node) is neuron.LIFNode else dynamics

    monkeypatch.setattr(toolkit, "dynamics", mistaken)
    with pytest.raises(AssertionError, match=message):
        laws.test_neurons_compute_their_dynamics(network)


def test_a_state_that_dynamics_leave_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    toolkit, laws = plugins.toolkit("snntorch"), SnnTorch()
    laws.test_neurons_compute_their_dynamics(laws.networks[0])
    monkeypatch.setattr(toolkit, "fused_output", lambda neuron, activity: activity.output)
    with pytest.raises(AssertionError):
        laws.test_neurons_compute_their_dynamics(laws.networks[0])


def test_a_toolkit_without_a_capability_skips_its_laws() -> None:
    laws = SnnTorch()
    with pytest.raises(unittest.SkipTest, match="the backend snntorch has no Containers"):
        laws.test_containers_say_what_they_do_with_time_and_state(laws.networks[0])


def test_outputs_within_the_tolerance_are_equal() -> None:
    laws: Any = Spiking()
    laws.assert_equal(torch.ones(3), torch.ones(3) + 1e-5)
    with pytest.raises(AssertionError):
        laws.assert_equal(torch.ones(3), torch.ones(3) + 1e-2)
