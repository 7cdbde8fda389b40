"""The variants of the paper's network: which delays there are, and which synapses."""

from typing import Any

import pytest
import torch
from torch import nn

from delayplug import LearnableDelay, freeze_delays, parameter_groups
from delayplug.bench.config import RunConfig, configure
from delayplug.bench.model.network import DelayNetwork
from delayplug.bench.model.synapses import Synapses, without_masks
from delayplug.bench.resources import Resources
from delayplug.bench.task import load_task
from delayplug.bench.training.trainer import train
from delayplug.bench.variants import VARIANTS, Variant
from delayplug.toolkits.plugins import toolkit

SIZES = (140, 256, 256, 20)
WEIGHTS = 140 * 256 + 256 * 256 + 256 * 20


def network(sizes: tuple[int, ...] = (6, 8, 3), **options: Any) -> DelayNetwork:
    return DelayNetwork(sizes, toolkit("spikingjelly"), RunConfig(dropout=0.4, **options))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # The paper's own numbers, appendix: 0.2 M, half of them delays.
        ({"delays": "learned"}, 214_016),
        ({"delays": "constant"}, 214_016),
        ({"delays": "fixed"}, 107_520),
        ({"delays": "none"}, WEIGHTS + 1024),
        ({"delays": "axonal"}, WEIGHTS + 1024 + 140 + 256 + 256),
        ({"delays": "dendritic"}, WEIGHTS + 1024 + 256 + 256 + 20),
        ({"delays": "learned", "fan_in": 10}, 2 * 10 * (256 + 256 + 20) + 1024),
        ({"delays": "fixed", "fan_in": 10}, 10 * (256 + 256 + 20) + 1024),
        ({"delays": "none", "fan_in": 10}, 10 * (256 + 256 + 20) + 1024),
        ({"delays": "learned", "taps": 2, "fan_in": 10}, 4 * 10 * (256 + 256 + 20) + 1024),
        ({"delays": "learned", "taps": 2}, 4 * WEIGHTS + 1024),
        ({"delays": "axonal", "fan_in": 200}, 140 * 256 + 200 * (256 + 20) + 1024 + 140 + 256 + 256),
    ],
)
def test_what_is_learned(options: dict[str, Any], expected: int) -> None:
    made = network(SIZES, **options)
    assert made.trainable() == expected
    if not options.get("fan_in"):
        assert sum(p.numel() for p in made.parameters() if p.requires_grad) == expected


@pytest.mark.parametrize("hidden", [(5,), (5, 4), (5, 4, 3)])
@pytest.mark.parametrize("delays", VARIANTS)
def test_layers(delays: Variant, hidden: tuple[int, ...]) -> None:
    made = network((6, *hidden, 2), delays=delays, max_delay=4)
    tail = 0 if delays == "none" else 2
    assert made(torch.rand(7, 3, 6)).shape == (7 + tail * (len(hidden) + 1), 3, 2)
    assert len(made.norms) == len(made.neurons) == len(hidden)


def test_sigma_of_the_variants() -> None:
    sigma = {kind: network(delays=kind, max_delay=24).layers[0].delays for kind in VARIANTS}
    assert sigma["none"] is None
    assert sigma["fixed"].sigma is None
    assert float(sigma["constant"].sigma) == pytest.approx(0.5)
    assert all(float(sigma[kind].sigma) == pytest.approx(12.27) for kind in ("learned", "axonal", "dendritic"))


@pytest.mark.trains
def test_constant_sigma_stays() -> None:
    config = configure("quick", backend="spikingjelly", delays="constant", epochs=2, hidden=(8,), max_delay=6)
    outcome = train(config, load_task(config), Resources("cpu"))
    assert [entry["sigma"] for entry in outcome.epochs] == [None, None]
    before, after = (outcome.delays[when][0] for when in ("before", "after"))
    assert not torch.equal(before, after)
    assert float(outcome.state["synapses.0.weights.sigma"]) == pytest.approx(0.5)


@pytest.mark.parametrize(("delays", "per_channel"), [("axonal", 6), ("dendritic", 5)])
def test_delays_per_channel_shift(delays: Variant, per_channel: int) -> None:
    layer = Synapses(6, 5, RunConfig(delays=delays, max_delay=4)).eval()
    assert isinstance(layer.weights, nn.Linear)
    assert layer.delays is not None
    assert layer.delays.delays.shape == (per_channel,)
    x = torch.rand(9, 2, 6)
    y = layer(x, tail=2)
    shifts = (layer.delays.delays + 0.5).floor().long().tolist()

    def shifted(values: torch.Tensor) -> torch.Tensor:
        found = values.new_zeros(11, *values.shape[1:])
        for channel, shift in enumerate(shifts):
            for t in range(9):
                if t + shift < 11:
                    found[t + shift, :, channel] = values[t, :, channel]
        return found

    expected = layer.weights(shifted(x)) if delays == "axonal" else shifted(layer.weights(x))
    torch.testing.assert_close(y, expected)


@pytest.mark.parametrize("delays", VARIANTS)
def test_absent_synapses_stay_absent(delays: Variant) -> None:
    """Under Adam with decay, too; and each neuron has its own."""
    torch.manual_seed(0)
    layer = Synapses(20, 12, RunConfig(delays=delays, max_delay=4, fan_in=5))
    present = layer.present
    assert present is not None
    assert torch.equal(present.sum(1), torch.full((12,), 5))
    assert len({tuple(row.tolist()) for row in present}) > 6
    optimizer = torch.optim.Adam(parameter_groups(layer, lr=0.1, delay_lr=0.1, weight_decay=0.1))
    before = layer.delays_now()
    for _ in range(3):
        optimizer.zero_grad()
        layer(torch.rand(8, 4, 20)).square().sum().backward()
        optimizer.step()
    weights, present = layer.weights_now(), present.cpu()
    assert torch.equal(weights.reshape(12, 20, -1).ne(0).any(-1), present)
    after = layer.delays_now()
    if delays in ("fixed", "constant", "learned"):
        assert torch.equal(after[..., 0].isnan(), ~present)
        assert torch.equal(after[present], before[present]) == (delays == "fixed")


def test_sparse_weights_are_spread_for_their_number() -> None:
    """Kaiming's bound for five inputs of forty, two taps each."""
    layer = Synapses(40, 500, RunConfig(delays="learned", max_delay=4, taps=2, fan_in=5))
    weights = layer.weights_now()[layer.present.cpu()]
    bound = (6 / 10) ** 0.5
    assert float(weights.abs().max()) == pytest.approx(bound, rel=0.01)
    assert float(weights.std()) == pytest.approx(bound / 3**0.5, rel=0.05)


def test_all_synapses_need_no_mask() -> None:
    assert Synapses(4, 3, RunConfig(delays="learned", max_delay=2, fan_in=4)).present is None
    assert Synapses(4, 3, RunConfig(delays="learned", max_delay=2, fan_in=9)).present is None


def test_sparse_networks_load_what_they_saved() -> None:
    """In eval() and without a change of mode: nothing of the old weights is kept."""
    torch.manual_seed(0)
    first, second = (network(fan_in=2, max_delay=3).eval() for _ in range(2))
    x = torch.rand(6, 2, 6).round()
    with torch.no_grad():
        expected = first.layers[0](x)
        assert not torch.allclose(second.layers[0](x), expected)
        second.load_state_dict(first.state_dict())
        torch.testing.assert_close(second.layers[0](x), expected, rtol=0, atol=0)


def test_weights_computed_anew_are_never_stale() -> None:
    """A weight that a parametrization computes is another tensor at each call, perhaps where an old one was."""

    class Scaled(nn.Module):
        factor = 1.0

        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            return weight * self.factor

    layer = LearnableDelay(4, 3, max_delay=2).eval()
    scale = Scaled()
    nn.utils.parametrize.register_parametrization(layer, "weight", scale)
    x = torch.rand(5, 2, 4)
    with torch.no_grad():
        plain = layer(x)
        for factor in (2.0, 3.0, 4.0):
            scale.factor = factor
            torch.testing.assert_close(layer(x), factor * plain, rtol=1e-4, atol=1e-4)


def test_sparse_networks_can_be_frozen_without_their_masks() -> None:
    torch.manual_seed(0)
    config = RunConfig(delays="learned", fan_in=3, max_delay=5)
    network, x = (
        DelayNetwork((9, 8, 3), toolkit("spikingjelly"), config).eval(),
        torch.randint(0, 3, (12, 4, 9)).float(),
    )
    expected = network(x)
    assert without_masks(network) is network
    freeze_delays(network)
    torch.testing.assert_close(network(x), expected)
