"""Delays that people come with: named by the plan, never delayed twice in silence, converted to the same numbers."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import snntorch as snn
import torch
from DCLS.construct.modules import Dcls1d
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn

import delayplug
from delayplug import LearnableDelay, TimeLastDelay, WiringError, add_delays, convert_delays, plan_delays
from tests.surgery.own_delays import (
    F,
    H,
    O,
    SnnDelays,
    Steps,
    SynapticDelay,
    fixed,
    hidden,
    run_fixed,
    run_hidden,
    spikes,
)

Run = Callable[[Any, Tensor], Tensor]
X = spikes()
NETWORKS: dict[str, tuple[Callable[[], nn.Module], Run]] = {
    "snntorch": (Steps, lambda model, x: model(x)),
    "gaussian": (lambda: Steps("gaussian"), lambda model, x: model(x)),
    "hidden": (hidden, run_hidden),
    "sequences": (fixed, run_fixed),
    "steps": (lambda: fixed("s"), run_fixed),
    "dcls": (SnnDelays, lambda model, x: model(x)),
    "dcls_max": (lambda: SnnDelays(version="max"), lambda model, x: model(x)),
    "dcls_v1": (lambda: SnnDelays(version="v1"), lambda model, x: model(x)),
}


def made(name: str) -> tuple[nn.Module, Run]:
    torch.manual_seed(3)
    make, run = NETWORKS[name]
    model = make().eval()
    if not name.startswith("dcls"):
        with torch.no_grad():
            for layer_ in model.modules():
                if isinstance(layer_, nn.Linear):
                    layer_.weight.uniform_(-0.5, 1.0)
    return model, run


def example_of(name: str) -> Any:
    _, run = NETWORKS[name]
    return lambda model: run(model, spikes(6, 2, seed=5))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_converted_network_computes_the_same_numbers(name: str, training: bool) -> None:
    model, run = made(name)
    if training:
        for module in model.modules():
            module.training = isinstance(module, Dcls1d | SynapticDelay)
    with torch.no_grad():
        wanted, shorter = run(model, X), run(model, X[:9])
        assert wanted.std() > 0.01
        assert convert_delays(model, example_of(name)) is model
        torch.testing.assert_close(run(model, X), wanted, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(run(model, X[:9]), shorter, atol=1e-5, rtol=1e-5)
    assert list(delayplug.named_delays(model))
    with pytest.raises(WiringError, match="nothing to convert"):
        convert_delays(model, example_of(name))


def test_rounded_as_the_papers_code_evaluates() -> None:
    model, run = made("dcls")
    with torch.no_grad():
        convert_delays(ours := copy.deepcopy(model), round_in_eval=True)
        fractional = run(model, X)
        model.round_positions()  # type: ignore[operator]
        wanted = run(model, X)
        torch.testing.assert_close(run(ours, X), wanted, atol=1e-5, rtol=1e-5)
        assert (wanted - fractional).abs().max() > 1e-3
        delayplug.freeze_delays(ours)
        torch.testing.assert_close(run(ours, X), wanted, atol=1e-5, rtol=1e-5)


def test_gradients_are_those_of_dcls() -> None:
    model, run = made("dcls")
    ours = convert_delays(copy.deepcopy(model))
    run(model, X).sum().backward()
    run(ours, X).sum().backward()
    for theirs, mine in zip(model.model, ours.model, strict=True):  # type: ignore[union-attr, arg-type]
        if isinstance(theirs, Dcls1d):
            torch.testing.assert_close(mine.delay.weight.grad, theirs.weight.grad, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(mine.delay.delays.grad, -theirs.P.grad[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "delays", "beside"),
    [
        ("snntorch", {"delay1": "SynapticDelay", "delay2": "SynapticDelay"}, {"fc1": "output", "fc2": "input"}),
        ("hidden", {"1": "SynapticDelay"}, {"0": "output"}),
        ("sequences", {"0": "Delay", "4": "Delay"}, {"1": "input", "3": "output"}),
        ("dcls", {"model.0": "Dcls1d", "model.4": "Dcls1d", "model.8": "Dcls1d"}, {}),
    ],
)
@pytest.mark.parametrize("granularity", ["synaptic", "axonal", "dendritic"])
@pytest.mark.parametrize("with_example", [True, False])
def test_the_plan_names_them_and_delays_nothing_twice(
    name: str, delays: dict[str, str], beside: dict[str, str], granularity: str, with_example: bool
) -> None:
    model, _ = made(name)
    if name == "snntorch" and not with_example:
        beside = {}  # its structure does not show how it runs
    plan = plan_delays(model, example_of(name) if with_example else None, granularity=granularity)
    reasons = {skipped.layer: skipped.reason for skipped in plan.skipped}
    for layer_, kind in delays.items():
        assert reasons[layer_] == (
            f"{kind} has delays of its own: delayplug.convert_delays(model) makes them delayplug's"
        )
    for layer_, way in beside.items():
        (delay,) = [d for d in delays if f"through {d}," in reasons[layer_]]
        assert reasons[layer_].startswith(f"its {way} ")
        assert reasons[layer_].endswith(
            f"through {delay}, which delays it already; name it in filter_fn=[...] to delay it"
        )
    assert not {c.layer for c in plan.connections} & {*delays, *beside}
    assert not plan.connections or name == "hidden"
    if name == "hidden":
        assert [c.layer for c in plan.connections] == ["3"]


def test_a_layer_beside_delays_is_delayed_when_it_is_named() -> None:
    axonal: dict[str, Any] = {"granularity": "axonal", "interpolation": "linear"}
    model, run = made("hidden")
    wanted = run(model, torch.cat([torch.zeros(2, 3, F), X[:-2]]))
    add_delays(model, 4, example=example_of("hidden"), filter_fn=["0"], init=2, **axonal)
    assert [name for name, _ in delayplug.named_delays(model)] == ["0"]
    assert torch.equal(run(model, X)[2:], wanted[2:])
    model, run = made("hidden")
    convert_delays(model)
    reasons = {skipped.layer: skipped.reason for skipped in plan_delays(model).skipped}
    assert reasons["0"].startswith("its output goes through 1, which delays it already")
    assert reasons["1"] == "it has delays already"
    add_delays(model, 4, example=example_of("hidden"), filter_fn=["0"], init=2, **axonal)
    assert torch.allclose(run(model, X)[2:], wanted[2:])


def test_what_was_fixed_stays_so_and_what_learned_learns() -> None:
    model, run = made("snntorch")
    convert_delays(model, example_of("snntorch"))
    delays = dict(delayplug.named_delays(model))
    assert {name: delay.delays.requires_grad for name, delay in delays.items()} == {"delay1": True, "delay2": False}
    assert delays["delay2"].delays.tolist() == [2.5] * H
    run(model, X).sum().backward()
    assert delays["delay1"].delays.grad.abs().sum() > 0  # type: ignore[union-attr]


def test_everything_works_with_them_afterwards(tmp_path: Any) -> None:
    model, run = made("hidden")
    wanted = run(model, X)
    convert_delays(model)
    stream = delayplug.stream(model)
    assert torch.equal(torch.stack([stream.push(x_t) for x_t in X]), wanted)
    with torch.no_grad():
        assert torch.equal(delayplug.unroll(model, X), wanted)
    assert torch.equal(run(copy.deepcopy(model), X), wanted)
    graph = delayplug.to_nir(model, example_of("hidden"), dt=1e-3)
    with torch.no_grad():
        assert torch.equal(delayplug.from_nir(graph, backend="snntorch")(X), wanted)
    delayplug.freeze_delays(model)
    assert torch.equal(run(model, X), wanted)
    delayplug.remove_delays(model)
    assert not torch.equal(run(model, X), wanted)
    assert [c.layer for c in plan_delays(model).connections] == ["0", "3"]


def test_exports_of_what_was_not_converted_say_to_convert_it() -> None:
    model, _ = made("hidden")
    with pytest.raises(
        delayplug.ExchangeError, match=r"1 \(SynapticDelay\): it has delays of its own: .*convert_delays"
    ):
        delayplug.to_nir(model, example_of("hidden"), dt=1e-3)


def test_a_reset_of_the_module_begins_a_sequence() -> None:
    model, _ = made("hidden")
    convert_delays(model)
    delay: Any = model[1]  # type: ignore[index]
    model(X[0])
    assert delayplug.delay_state(model)["1"] is not None
    delay.reset_delay()
    assert delayplug.delay_state(model)["1"] is None
    with pytest.raises(AttributeError):
        delay.reset_everything()


def test_channels_that_nothing_shows_are_asked_for() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.delay, self.fc, self.lif = layer.Delay(2), nn.Linear(F, O), neuron.LIFNode()

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.lif(self.fc(self.delay(x)))
            return y

    model = Net()
    with pytest.raises(WiringError, match=r"delay \(Delay\) does not show its channels: pass example="):
        convert_delays(model)
    assert isinstance(model.delay, layer.Delay)
    convert_delays(model, lambda m: (functional.reset_net(m), [m(x_t) for x_t in X]))
    assert [delay.delays.tolist() for _, delay in delayplug.named_delays(model)] == [[2.0] * F]


def test_a_model_that_cannot_be_converted_is_as_it_was() -> None:
    model = nn.Sequential(Dcls1d(F, H, 1, dilated_kernel_size=7), Dcls1d(H, O, 1, stride=2, dilated_kernel_size=7))
    before, x = [*map(type, model)], torch.rand(2, F, 30)
    wanted = model(x)
    with pytest.raises(WiringError, match=r"1 \(Dcls1d\) cannot be converted: module\.stride"):
        convert_delays(model)
    assert [*map(type, model)] == before
    assert torch.equal(model(x), wanted)
    idle = nn.Sequential(nn.Linear(F, H), SynapticDelay(2, 1.0, H), snn.Leaky(0.5), SynapticDelay(2, 1.0, H))
    before = [*map(type, idle)]
    with pytest.raises(
        WiringError, match=r"(?s)were not converted, and the model is as it was: .*no neuron follows it"
    ):
        convert_delays(idle)
    assert [*map(type, idle)] == before
    assert idle[1].delay.shape == (H,)
    assert not list(delayplug.named_delays(idle))
    several = nn.Sequential(SynapticDelay(2, torch.ones(3, F)), nn.Linear(F, H), snn.Leaky(0.5, init_hidden=True))
    with pytest.raises(WiringError, match=r"0 \(SynapticDelay\) cannot be converted: .*got shape \(3, 5\)"):
        convert_delays(several)
    with pytest.raises(WiringError, match=r"the model is itself such a layer: use LearnableDelay\.from_dcls"):
        convert_delays(Dcls1d(F, H, 1, dilated_kernel_size=7))
    with pytest.raises(WiringError, match="nothing to convert"):
        convert_delays(nn.Sequential(nn.Linear(F, H), snn.Leaky(0.5)))


def test_whoever_holds_a_layer_holds_what_runs() -> None:
    """The paper's code calls its layers, and trains its weights, through lists of its own."""

    class Blocks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = [Dcls1d(F, H, 1, dilated_kernel_size=7), Dcls1d(H, O, 1, dilated_kernel_size=3)]
            self.model = nn.Sequential(*self.blocks)
            self.weights = [block.weight for block in self.blocks]

        def forward(self, x: Tensor) -> Tensor:
            for block in self.blocks:
                x = block(x)
            return x

    model, seen = Blocks(), list[torch.Size]()
    model.blocks[0].register_forward_hook(lambda module, args, y: seen.append(y.shape))
    x = torch.rand(2, F, 20)
    with torch.no_grad():
        wanted = model(x)
        convert_delays(model)
        torch.testing.assert_close(model(x), wanted)
    assert len(seen) == 2
    assert all(isinstance(block, TimeLastDelay) for block in model.blocks)
    model(x).sum().backward()
    for weight, (_, delay) in zip(model.weights, delayplug.named_delays(model), strict=True):
        assert delay.weight is weight
        assert weight.grad is not None
        assert delay.delays.grad is not None


def test_one_layer_in_two_places_stays_one() -> None:
    shared = Dcls1d(F, F, 1, dilated_kernel_size=3)
    model = convert_delays(nn.Sequential(shared, nn.Sequential(shared)))
    assert isinstance(model[0], TimeLastDelay)  # type: ignore[index]
    assert model[0] is model[1][0]  # type: ignore[index]
    assert isinstance(model[0].delay, LearnableDelay)  # type: ignore[index]
