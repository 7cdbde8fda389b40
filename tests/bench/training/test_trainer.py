"""Training one network, and testing it."""

import dataclasses
from pathlib import Path

import pytest
import torch

from delayplug.bench.config import Readout, configure
from delayplug.bench.model.network import class_scores
from delayplug.bench.resources import Resources
from delayplug.bench.task import load_task
from delayplug.bench.training.trainer import build_network, train
from delayplug.bench.variants import Variant
from tests.bench.runs import TINY


@pytest.mark.trains
def test_same_seed_same_result() -> None:
    config = configure("quick", backend="snntorch", **TINY)
    task = load_task(config)
    first, second = (train(config, task, Resources("cpu")) for _ in range(2))
    for name, value in first.state.items():
        assert torch.equal(value, second.state[name]), name
    without = [{k: v for k, v in e.items() if k not in ("seconds", "waited")} for e in first.epochs]
    assert without == [{k: v for k, v in e.items() if k not in ("seconds", "waited")} for e in second.epochs]
    other = train(dataclasses.replace(config, seed=1), task, Resources("cpu"))
    assert not torch.equal(first.state["synapses.0.weights.weight"], other.state["synapses.0.weights.weight"])


@pytest.mark.trains
def test_accuracy_is_exact_and_does_not_depend_on_batches() -> None:
    config = configure("quick", backend="spikingjelly", **TINY)
    task = load_task(config)
    outcome = train(config, task, Resources("cpu"))
    network = build_network(config, task)
    network.load_state_dict(outcome.state)
    network.eval()
    with torch.no_grad():
        x, y = task.test.batch(torch.arange(len(task.test)))
        scores = torch.cat([class_scores(network(part)) for part in x.split(77, dim=1)])
    assert outcome.accuracy["last epoch"] == pytest.approx(float((scores.argmax(-1) == y).double().mean()), abs=1e-12)


@pytest.mark.trains
@pytest.mark.parametrize("readout", ["mean", "max"])
def test_what_is_learned_and_judged_by_is_the_readout(readout: Readout) -> None:
    config = configure("quick", backend="snntorch", readout=readout, **TINY)
    task = load_task(config)
    outcome = train(config, task, Resources("cpu"))
    plain = train(dataclasses.replace(config, readout="sum"), task, Resources("cpu"))
    assert outcome.epochs[0]["train_loss"] != plain.epochs[0]["train_loss"]
    network = build_network(config, task)
    network.load_state_dict(outcome.state)
    x, y = task.test.batch(torch.arange(len(task.test)))
    with torch.no_grad():
        hits = (class_scores(network.eval()(x), readout).argmax(-1) == y).double().mean()
    assert outcome.accuracy["last epoch"] == pytest.approx(float(hits), abs=1e-12)


@pytest.mark.trains
@pytest.mark.parametrize("delays", ["none", "learned"])
def test_recurrent_delays_are_trained(delays: Variant) -> None:
    """Their sigma shrinks, they move, and what is recorded has them behind those of the layers."""
    config = configure("quick", backend="norse", recurrent="axonal", delays=delays, **{**TINY, "epochs": 4})
    outcome = train(config, load_task(config), Resources("cpu"))
    assert [entry["sigma"] for entry in outcome.epochs] == pytest.approx([3.27, 1.1007, 0.5, 0.5], rel=1e-3)
    before, after = outcome.delays["before"], outcome.delays["after"]
    assert [each.shape for each in after] == [(8, 20, 1), (10, 8, 1), (8,)][0 if delays == "learned" else 2 :]
    assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert outcome.neurons == "recurrent loop, loop"
    names = {name for name in outcome.state if name.startswith("recurrent")}
    assert names == {"recurrent.0.delay.delays", "recurrent.0.delay.sigma", "recurrent.0.weights.weight"}


@pytest.mark.trains
def test_windows_and_masks_change_what_is_trained_on(tmp_path: Path) -> None:
    whole = load_task(configure("quick"))
    config = configure("quick", backend="spikingjelly", **{**TINY, "epochs": 1})
    plain = train(config, whole, Resources("cpu"))
    new = {"channel_shift": 2, "blend": 0.5, "thin": 0.2, "time_scale": 0.1}
    for change in ({"time_mask": 20}, {"cutmix": 1.0}, *({name: value} for name, value in new.items())):
        changed = train(dataclasses.replace(config, **change), whole, Resources("cpu"))
        assert changed.epochs[0]["train_loss"] != plain.epochs[0]["train_loss"]
        again = train(dataclasses.replace(config, **change), whole, Resources("cpu"))
        assert changed.epochs[-1]["train_loss"] == again.epochs[-1]["train_loss"]


@pytest.mark.trains
def test_what_a_recording_takes() -> None:
    """Compared with products of zeros and ones, counted one by one."""
    config = configure("quick", backend="spikingjelly", fan_in=5, **TINY)
    task = load_task(config)
    outcome = train(config, task, Resources("cpu"))
    assert outcome.inference is not None
    network = build_network(config, task)
    network.load_state_dict(outcome.state)
    x, _ = task.test.batch(torch.arange(len(task.test)))
    with torch.no_grad():
        hidden, membrane = network.eval().activity(x)
    assert outcome.inference["steps"] == [len(hidden), len(membrane)]
    for n, values in enumerate((x, hidden)):
        active, weights = (values != 0).double(), (network.layers[n].weights_now() != 0).double().sum(-1)
        number = len(task.test)
        assert outcome.inference["active"][n] == pytest.approx(float(active.sum()) / number)
        assert outcome.inference["operations"][n] == pytest.approx(float((active @ weights.T).sum()) / number)
    assert outcome.spikes == pytest.approx([float(hidden.sum()) / len(task.test) / 8])
