"""Each piece of advice that a plan prints is followed: it works, or the next reason is another one."""

import norse.torch as norse
import pytest
import snntorch
import torch
from spikingjelly.activation_based import layer, neuron
from torch import Tensor, nn

from delayplug import Plan, WiringError, add_delays, plan_delays, remove_delays
from delayplug.surgery.verdict import ASK, BY_NAME
from tests.corpus import norse_networks, snntorch_networks, spikingjelly_networks
from tests.networks import B, F, H, O, sequence
from tests.surgery.networks import Masked, Shortcut, leaky, reasons

pytestmark = pytest.mark.filterwarnings("ignore")


class FeedBack(nn.Module):
    """After SpikingJelly's FeedBackNet for sequential FashionMNIST."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Sequential(
            layer.Linear(F, H, step_mode="m"),
            layer.LinearRecurrentContainer(neuron.IFNode(), H, H, step_mode="m"),
            layer.Linear(H, O, step_mode="m"),
            neuron.IFNode(step_mode="m"),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x).mean(0)


class OwnFeedback(nn.Module):
    """Recurrent weights as a layer of their own, as users write them."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.rec, self.lif1 = nn.Linear(F, H), nn.Linear(H, H), snntorch.Leaky(beta=0.9)
        self.fc2, self.lif2 = nn.Linear(H, O), snntorch.Leaky(beta=0.9)

    def forward(self, x: Tensor) -> Tensor:
        mem1, mem2, spk = self.lif1.init_leaky(), self.lif2.init_leaky(), torch.zeros(x.shape[1], H)
        for x_t in x:
            spk, mem1 = self.lif1(self.fc1(x_t) + self.rec(spk), mem1)
            out, mem2 = self.lif2(self.fc2(spk), mem2)
        return out


class Cells(nn.Module):
    """Norse's recurrent cells, in the style of its examples."""

    def __init__(self) -> None:
        super().__init__()
        self.l1, self.fc, self.out = norse.LIFRecurrentCell(F, H), nn.Linear(H, O), norse.LICell()

    def forward(self, x: Tensor) -> Tensor:
        s1 = so = None
        for x_t in x:
            z, s1 = self.l1(x_t, s1)
            v, so = self.out(self.fc(z), so)
        return v


class Mixed(nn.Module):
    """A binarised layer, two layers in a row, a layer that nothing uses."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.lif1 = Masked(F, H), snntorch.Leaky(beta=0.9)
        self.a, self.b, self.lif2 = nn.Linear(H, H), nn.Linear(H, O), snntorch.Leaky(beta=0.9)
        self.spare = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        for x_t in x:
            spk, mem1 = self.lif1(self.fc1(x_t), mem1)
            out, mem2 = self.lif2(self.b(self.a(spk)), mem2)
        return out


MADE = {
    "feedback": (FeedBack, sequence()),
    "own feedback": (OwnFeedback, sequence()),
    "norse cells": (Cells, sequence()),
    "mixed": (Mixed, sequence()),
    "shortcut": (Shortcut, sequence()[0]),
    "rleaky": (
        lambda: nn.Sequential(nn.Linear(F, H), snntorch.RLeaky(0.9, linear_features=H, init_hidden=True)),
        torch.ones(B, F),
    ),
    "two in a row": (
        lambda: nn.Sequential(nn.Linear(F, F), nn.Linear(F, F), nn.Linear(F, H), leaky()),
        torch.ones(B, F),
    ),
    "in front of a cell": (
        lambda: norse.SequentialState(nn.Linear(F, H), norse.LIFRecurrentCell(H, H)),
        torch.ones(B, F),
    ),
    "recurrent sequential": (
        lambda: norse.SequentialState(nn.Linear(F, H), norse.RecurrentSequential(nn.Linear(H, H), norse.LIFCell())),
        torch.ones(B, F),
    ),
    "readout with weights": (
        lambda: norse.SequentialState(nn.Linear(F, H), norse.LIFCell(), norse.LILinearCell(H, O)),
        torch.ones(B, F),
    ),
}
CORPUS = {
    f"{kind}-{network}": network
    for kind, module in (
        ("snntorch", snntorch_networks),
        ("norse", norse_networks),
        ("spikingjelly", spikingjelly_networks),
    )
    for network in module.NETWORKS
}


# Layers of the corpus that can have no delays, and the reason where the advice ends.
ENDS = {"head": "no neuron follows it", "context": "no time in front"}


def advised(reason: str, name: str) -> dict[str, object] | None:
    """The options of `plan_delays` that a reason advises; None if it advises something else, or nothing."""
    if BY_NAME in reason:
        return {"filter_fn": [name]}
    if "recurrent=True" in reason:
        return {"recurrent": True}
    for granularity in ("axonal", "dendritic"):
        if f"granularity='{granularity}'" in reason:
            return {"granularity": granularity}
    return {"example": ...} if ASK in reason else None


def follow(make, example, name: str, reason: str, options: dict[str, object]) -> Plan | str:
    """The plan with which the layer gets delays by doing what each reason says, or the last reason, without advice."""
    for _ in range(4):
        more = advised(reason, name)
        if more is None:
            return reason
        if "example" in more:
            more = {"example": example}
        assert not more.items() <= options.items(), f"{name}: {reason}: that is what was done"
        options = options | more
        try:
            plan = plan_delays(make(), **options)
        except WiringError as error:
            reason = str(error)
            assert f"{name}: " in reason
            continue
        left_out = reasons(plan)
        if name not in left_out:
            assert name in [c.layer for c in plan.connections]
            net = add_delays(make(), 2, **options)
            remove_delays(net)
            return plan
        assert options.get("filter_fn") is None, "a layer that is named is left out"
        reason = left_out[name]
    raise AssertionError(f"{name}: no end of advice")


@pytest.mark.parametrize("by_example", [False, True])
@pytest.mark.parametrize("name", MADE)
def test_advice_works(name: str, by_example: bool) -> None:
    make, example = MADE[name]
    for granularity in ("synaptic", "axonal"):
        options = {"granularity": granularity, **({"example": example} if by_example else {})}
        for left_out, reason in reasons(plan_delays(make(), **options)).items():
            result = follow(make, example, left_out, reason, options)
            last = {"spare": "not called", "l1": "cannot be delayed", "2": "cannot be delayed"}.get(left_out, "")
            assert isinstance(result, Plan) or (last and last in result), result


@pytest.mark.parametrize("by_example", [False, True])
@pytest.mark.parametrize("network", CORPUS.values(), ids=CORPUS)
def test_advice_works_on_many_networks(network, by_example: bool) -> None:
    options = {"example": network.example} if by_example else {}
    for left_out, reason in reasons(plan_delays(network.build(), **options)).items():
        result = follow(network.build, network.example, left_out, reason, options)
        assert isinstance(result, Plan) or ENDS.get(left_out, "nothing") in result, result
