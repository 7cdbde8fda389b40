"""Learned delays against those that the synthetic task was made with."""

import pytest
import torch

from delayplug.bench.comparison.planted import planted_correlation
from delayplug.bench.comparison.records import make_record
from delayplug.bench.config import RunConfig, configure
from delayplug.bench.model.network import DelayNetwork, class_scores
from delayplug.bench.resources import Resources
from delayplug.bench.task import load_task
from delayplug.bench.training.trainer import train
from delayplug.data.synthetic import TimingTask
from delayplug.toolkits.plugins import toolkit


@pytest.mark.trains
def test_learned_delays_find_the_planted_ones() -> None:
    """With the readout alone, the delays from channels to classes must become the planted ones."""
    task = TimingTask(jitter=0.3, distractors=0, classes=4, channels=12, steps=30)
    frames = task.sample(512, seed=1)
    torch.manual_seed(0)
    network = DelayNetwork((12, 4), toolkit("spikingjelly"), RunConfig(max_delay=12, dropout=0.0))
    synapse = network.layers[0].weights
    with torch.no_grad():
        synapse.weight.fill_(0.1)
    untrained = planted_correlation([synapse.delays.detach()], [synapse.weight.detach()], task.planted_delays())
    weights = torch.optim.Adam([synapse.weight], lr=5e-3)
    delays = torch.optim.Adam([synapse.delays], lr=0.5)
    epochs = 20
    for epoch in range(epochs):
        synapse.sigma.fill_(0.27 + 6 * (0.23 / 6) ** (epoch / (epochs - 1)))
        for indices in torch.randperm(512).split(64):
            x, y = frames.batch(indices)
            loss = torch.nn.functional.cross_entropy(class_scores(network(x)), y)
            weights.zero_grad(), delays.zero_grad()
            loss.backward()
            weights.step(), delays.step()
    trained = planted_correlation([synapse.delays.detach()], [synapse.weight.detach()], task.planted_delays())
    assert abs(untrained) < 0.3
    assert trained > 0.6


def test_planted_correlation_of_a_perfect_network() -> None:
    planted = TimingTask(classes=3, channels=8).planted_delays()
    direct = planted.float().unsqueeze(-1) + 2
    assert planted_correlation([direct], [torch.ones(3, 8, 1)], planted) == pytest.approx(1.0)
    hidden = [planted.float().unsqueeze(-1), torch.zeros(3, 3, 1)]
    assert planted_correlation(hidden, [torch.ones(3, 8, 1), torch.eye(3).unsqueeze(-1)], planted) == pytest.approx(1.0)
    assert planted_correlation([direct] * 3, [direct] * 3, planted) is None


@pytest.mark.trains
def test_planted_delays_are_found() -> None:
    """Without hidden neurons the delays themselves must align the patterns."""
    config = configure("planted", backend="spikingjelly", epochs=6)
    task = load_task(config)
    outcome = train(config, task, Resources("cpu"))
    found = make_record(config, task, outcome, "cpu")["planted_correlation"]
    assert abs(found["before training"]) < 0.1
    assert found["after training"] > 0.2
