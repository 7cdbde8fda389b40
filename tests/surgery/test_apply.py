"""Every error says what was expected and what came, and leaves the model exactly as it was."""

import pytest
import snntorch
import torch
from spikingjelly.activation_based import layer, neuron
from torch import nn

import delayplug
from delayplug import ArgumentError, UnknownBackendError, WiringError, add_delays, named_delays, remove_delays
from tests.networks import MAX_DELAY, B, CellNet, F, H, InitLeaky, O, sequence


def look(net: nn.Module) -> list:
    """What must not change: types, attributes, hooks, Parameters."""
    return [
        (name, type(m), set(m.__dict__), list(m._modules), dict(m._forward_hooks), dict(m._forward_pre_hooks))
        for name, m in net.named_modules()
    ] + [(name, id(p), p.detach().tolist()) for name, p in net.named_parameters()]


ARGUMENTS = {
    "granularity": ({"granularity": "dendrite"}, ArgumentError, "granularity: expected one of synaptic, axonal"),
    "interpolation": ({"interpolation": "cubic"}, ArgumentError, "interpolation: expected one of gauss"),
    "engine": ({"engine": "warp"}, ArgumentError, "engine"),
    "dcls per channel": ({"engine": "dcls", "granularity": "axonal"}, ArgumentError, "dcls"),
    "negative": ({"max_delay": -1}, ArgumentError, "max_delay: expected an integer >= 0, got -1"),
    "fraction": ({"max_delay": 2.5}, ArgumentError, "max_delay: expected an integer >= 0, got 2.5"),
    "sigma": ({"sigma": 0.1}, ArgumentError, "sigma"),
    "sigma of linear": ({"sigma": 1.0, "interpolation": "linear"}, ArgumentError, "sigma: expected None"),
    "init word": ({"init": "normal"}, ArgumentError, "init: expected 'uniform'"),
    "init above": ({"init": MAX_DELAY + 1}, ArgumentError, f"max_delay={MAX_DELAY}"),
    "init below": ({"init": -1}, ArgumentError, "init"),
    "init nan": ({"init": float("nan")}, ArgumentError, "init"),
    "init name": ({"init": {"fc1": 1, "fc9": 1}}, ArgumentError, "names among fc1, fc2, got fc9"),
    "init shape": (
        {"init": {"fc2": torch.zeros(H, O)}},
        ArgumentError,
        r"init\['fc2'\]: expected a number or shape \(4, 6\)",
    ),
    "init range": ({"init": {"fc2": torch.full((O, H, 1), 9.0)}}, ArgumentError, r"init\['fc2'\].*from 9 to 9"),
    "init nan tensor": ({"init": {"fc1": torch.full((H, F, 1), torch.nan)}}, ArgumentError, r"init\['fc1'\]"),
    "init mapped number": ({"init": {"fc1": 99}}, ArgumentError, "init"),
    "backend": ({"backend": "snntorhc"}, UnknownBackendError, "Did you mean 'snntorch'"),
    "backend of others": ({"backend": "norse"}, WiringError, "no neurons of norse, but of snntorch"),
    "filter": ({"filter_fn": lambda module, name: False}, WiringError, "fc1: filter_fn leaves it out"),
    "example": ({"example": "x"}, ArgumentError, "example"),
}


@pytest.mark.parametrize(("options", "error", "match"), ARGUMENTS.values(), ids=ARGUMENTS)
def test_arguments(options, error, match):
    net = InitLeaky()
    before = look(net)
    with pytest.raises(error, match=match):
        add_delays(net, **{"max_delay": MAX_DELAY, **options})
    assert look(net) == before


def test_init_accepts_what_it_says():
    tensor = torch.rand(O, H, 1) * MAX_DELAY
    net = add_delays(InitLeaky(), MAX_DELAY, init={"fc1": 3, "fc2": tensor})
    delays = dict(named_delays(net))
    assert delays["fc1"].delays.eq(3).all()
    assert torch.equal(delays["fc2"].delays, tensor)
    torch.manual_seed(0)
    spread = dict(named_delays(add_delays(InitLeaky(), MAX_DELAY, init={"fc1": 3})))["fc2"].delays
    assert spread.min() < 1 < 3 < spread.max()


@pytest.mark.parametrize(
    "call",
    [
        lambda m: add_delays(m, 4),
        delayplug.plan_delays,
        delayplug.remove_delays,
        delayplug.reset_delays,
        delayplug.detach_delays,
        lambda m: list(named_delays(m)),
    ],
)
def test_not_a_module(call):
    with pytest.raises(ArgumentError, match="model"):
        call([nn.Linear(1, 1)])


def compiled_whole():
    return torch.compile(InitLeaky())


def compiled_in_place():
    net = InitLeaky()
    net.compile()
    return net


def compiled_part():
    net = InitLeaky()
    net.fc1 = torch.compile(net.fc1)
    return net


@pytest.mark.parametrize("make", [compiled_whole, compiled_in_place, compiled_part])
def test_a_compiled_model(make):
    net = make()
    before = look(net)
    with pytest.raises(WiringError, match="compiled"):
        add_delays(net, MAX_DELAY)
    assert look(net) == before


def test_a_delayed_model_that_was_compiled_later_can_be_reset():
    net = add_delays(InitLeaky(), MAX_DELAY)
    net(sequence())
    memory = net.fc1.delay_memory
    assert memory.state is not None
    compiled = torch.compile(net)
    delayplug.detach_delays(compiled)
    assert memory.state is not None
    delayplug.reset_delays(compiled)
    assert memory.state is None


def test_two_toolkits():
    net = nn.Sequential(InitLeaky(), CellNet())
    before = look(net)
    with pytest.raises(WiringError, match="norse and snntorch: name one with backend="):
        add_delays(net, MAX_DELAY)
    assert look(net) == before
    add_delays(net, MAX_DELAY, backend="norse")
    assert [name for name, _ in named_delays(net)] == ["1.fc1", "1.fc2"]


def test_nothing_to_delay_tells_not_found_from_excluded():
    with pytest.raises(WiringError, match="no neurons found in the model"):
        add_delays(nn.Sequential(nn.Linear(F, H), nn.ReLU()), MAX_DELAY)
    with pytest.raises(WiringError, match="no layer with weights feeds them"):
        add_delays(nn.Sequential(snntorch.Leaky(beta=0.5)), MAX_DELAY)


def test_an_example_that_does_not_run():
    net = InitLeaky()
    before = look(net)
    with pytest.raises(WiringError, match="the model does not run on the example"):
        add_delays(net, MAX_DELAY, example=torch.zeros(2, B, F + 1))
    assert look(net) == before


def test_a_delayed_model_that_does_not_run_is_put_back():
    class Picky(InitLeaky):
        def forward(self, x):
            assert type(self.fc1) is nn.Linear, "picky"
            return super().forward(x)

    net = Picky()
    before = look(net)
    with pytest.raises(WiringError, match="put back: picky") as caught:
        add_delays(net, MAX_DELAY, example=sequence())
    assert isinstance(caught.value.__cause__, AssertionError)
    assert look(net) == before


def test_layers_can_be_added_one_by_one():
    net = InitLeaky()
    add_delays(net, 2, filter_fn=lambda module, name: name == "fc1")
    assert [name for name, _ in named_delays(net)] == ["fc1"]
    first = dict(named_delays(net))["fc1"]
    add_delays(net, MAX_DELAY)
    assert [name for name, _ in named_delays(net)] == ["fc1", "fc2"]
    assert dict(named_delays(net))["fc1"] is first
    assert first.max_delay == 2
    assert len(net._forward_pre_hooks) == 1


def test_delays_added_to_parts_can_be_removed_from_the_whole():
    net = nn.ModuleDict({"a": CellNet(), "b": CellNet()})
    before = {name: type(module) for name, module in net.named_modules()}
    for part in net.values():
        add_delays(part, MAX_DELAY)
    wrapper = nn.Sequential(net)
    remove_delays(wrapper)
    assert {name: type(module) for name, module in net.named_modules()} == before
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in wrapper.modules())


def test_an_attribute_named_delay_is_not_overwritten():
    net = InitLeaky()
    net.fc2.delay = 3
    with pytest.raises(WiringError, match="'delay' of its own"):
        add_delays(net, MAX_DELAY)
    assert not list(named_delays(net))
    assert net.fc2.delay == 3


def _dcgan(module: nn.Module) -> None:
    name = type(module).__name__
    if name.find("Conv") != -1:
        nn.init.normal_(module.weight.data, 0.0, 0.02)
    elif name.find("BatchNorm") != -1:
        nn.init.normal_(module.weight.data, 1.0, 0.02)
        nn.init.constant_(module.bias.data, 0)


def _by_attribute_and_name(module: nn.Module) -> None:
    name = module.__class__.__name__
    if hasattr(module, "weight") and ("Conv" in name or "Linear" in name or "Norm" in name):
        nn.init.normal_(module.weight.data, 0.0, 0.1)
        if getattr(module, "bias", None) is not None:
            nn.init.constant_(module.bias.data, 0.1)


def _by_exact_name(module: nn.Module) -> None:
    if module.__class__.__name__ in ("Linear", "Conv1d"):
        nn.init.orthogonal_(module.weight)


def _by_class(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
    elif isinstance(module, nn.Conv1d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out")
    elif isinstance(module, nn.BatchNorm1d):
        nn.init.ones_(module.weight)


def _redrawn(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Conv1d):
        module.reset_parameters()


@pytest.mark.parametrize("initialise", [_dcgan, _by_attribute_and_name, _by_exact_name, _by_class, _redrawn])
@pytest.mark.parametrize("frozen", [False, True])
def test_initialisation_of_weights_does_what_it_does_to_the_plain_network(initialise, frozen):
    def network() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(
            *(layer.Conv1d(2, 4, 3), layer.BatchNorm1d(4), neuron.LIFNode()),
            *(nn.Conv1d(4, 4, 3), neuron.LIFNode(), layer.Flatten(), layer.Linear(4, 5), neuron.LIFNode()),
        )

    plain, net = network(), add_delays(network(), 4, init=2)
    kinds = [type(m).__name__ for m in plain.modules()]
    if frozen:
        delayplug.freeze_delays(net)
    delays = {name: delay.delays.clone() for name, delay in named_delays(net)}
    assert len(delays) == 3
    for model in (plain, net):
        torch.manual_seed(1)
        model.apply(initialise)
    weights = net.state_dict()
    for name, value in plain.state_dict().items():
        assert torch.equal(weights[name], value), name
    for name, delay in named_delays(net):
        assert torch.equal(delay.delays, delays[name])
    # Summaries and groups of parameters by class see the same layers, and the delays as others.
    assert [type(m).__name__ for m in net.modules() if not isinstance(m, delayplug.DelayLayer)] == kinds
    for kind in (nn.Linear, nn.Conv1d, nn.BatchNorm1d):
        counts = [
            [sum(p.numel() for p in m.parameters(recurse=False)) for m in model.modules() if isinstance(m, kind)]
            for model in (plain, net)
        ]
        assert counts[0] == counts[1]
