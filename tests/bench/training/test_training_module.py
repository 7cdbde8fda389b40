"""Schedules and optimisers of the training, and its steps as CUDA graphs."""

import dataclasses
import math

import pytest
import torch

from delayplug.bench.config import configure
from delayplug.bench.resources import Resources
from delayplug.bench.task import load_task
from delayplug.bench.training.accelerators import make_trainer
from delayplug.bench.training.trainer import batches_of, build_network, train
from delayplug.bench.training.training_module import TrainingModule
from delayplug.errors import RunError
from tests.bench.runs import TINY
from tests.replay import capturing


@pytest.mark.trains
def test_sigma_follows_the_paper() -> None:
    """Exponential over the first quarter of the epochs, from 12 + 0.27 to 0.23 + 0.27, then constant."""
    seen: list[dict] = []
    config = configure("shd", backend="spikingjelly", hidden=(8,), epochs=8, batch_size=256)
    train(config, load_task(configure("quick")), Resources("cpu"), on_epoch=seen.append)
    middle = 0.27 + 12 * (0.23 / 12) ** 0.5
    assert [entry["sigma"] for entry in seen[:4]] == pytest.approx([12.27, middle, 0.5, 0.5], abs=1e-4)


def test_rates_follow_the_paper() -> None:
    """Adam with OneCycle per epoch for weights, Adam with cosine for delays; decay on weights alone."""
    config = configure("shd", backend="spikingjelly")
    task = load_task(configure("quick"))
    module = TrainingModule(build_network(config, task), config, {}, None)
    (weights, delays), (one_cycle, cosine) = module.configure_optimizers()
    assert {type(weights), type(delays)} == {torch.optim.Adam}
    decay = {group["name"]: group["weight_decay"] for group in (*weights.param_groups, *delays.param_groups)}
    assert decay == {"weights": 1e-5, "others": 0.0, "delays": 0.0}
    rates, betas, delay_rates = [], [], []
    for _ in range(config.epochs):
        rates.append(weights.param_groups[0]["lr"])
        betas.append(weights.param_groups[0]["betas"][0])
        delay_rates.append(delays.param_groups[0]["lr"])
        weights.step(), delays.step()
        one_cycle.step() if len(rates) < config.epochs else None
        cosine.step()
    assert (rates[0], max(rates), rates[-1]) == pytest.approx((2e-4, 5e-3, 2e-8), rel=1e-3)
    assert (betas[0], min(betas), betas[-1]) == pytest.approx((0.95, 0.85, 0.95), rel=1e-3)
    assert delay_rates[0] == 0.1
    assert delays.param_groups[0]["lr"] == pytest.approx(0, abs=1e-9)


def test_constants_of_adaptive_neurons_have_rates_of_their_own() -> None:
    """No decay, and the schedule of the weights up to another maximum; a step keeps them within 0..1."""
    config = configure("shd", backend="spikingjelly", neuron="adlif", neuron_lr=0.5, hidden=(6,), epochs=9)
    task = load_task(configure("quick"))
    network = build_network(config, task)
    module = TrainingModule(network, config, {}, None)
    (weights, _), (one_cycle, _) = module.configure_optimizers()
    groups = {group["name"]: group for group in weights.param_groups}
    assert groups.keys() == {"weights", "others", "neurons"}
    constants = [p for layer in network.adaptive for p in layer.parameters()]
    assert len(constants) == 4
    assert [id(p) for p in groups["neurons"]["params"]] == [id(p) for p in constants]
    assert not {id(p) for p in groups["others"]["params"]} & {id(p) for p in constants}
    assert groups["neurons"]["weight_decay"] == 0
    rates = []
    for _ in range(config.epochs):
        rates.append([groups[name]["lr"] for name in ("weights", "neurons")])
        weights.step()
        one_cycle.step() if len(rates) < config.epochs else None
    assert [ours / theirs for theirs, ours in rates] == pytest.approx([0.5 / config.lr] * config.epochs)


@pytest.mark.trains
def test_validation_every_few_epochs() -> None:
    """The last epoch is always validated; what is learned is the same, and so is the time that training took."""
    config = configure("quick", backend="spikingjelly", **{**TINY, "epochs": 5})
    task = load_task(config)
    often = train(config, task, Resources("cpu"))
    seldom = train(dataclasses.replace(config, validate_every=3), task, Resources("cpu"))
    assert [entry["valid_accuracy"] is None for entry in seldom.epochs] == [True, True, False, True, False]
    for ours, theirs in zip(seldom.epochs, often.epochs, strict=True):
        same = ("epoch", "sigma", "train_loss", "train_accuracy")
        assert [ours[key] for key in same] == [theirs[key] for key in same]
        assert ours["valid_accuracy"] in (None, theirs["valid_accuracy"])
        assert ours["seconds"] > 0
    assert seldom.best_epoch in (3, 5)
    assert seldom.accuracy["last epoch"] == often.accuracy["last epoch"]


@pytest.mark.trains
def test_nothing_to_validate_on_and_nothing_to_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a refit: graphs are recorded for the steps of training alone."""
    config = configure("quick", backend="spikingjelly", **TINY)
    task = load_task(config)
    recorder = capturing(monkeypatch)
    outcome = train(config, dataclasses.replace(task, valid=None, rule="last epoch"), Resources("cpu"))
    assert (outcome.graph, len(recorder.recordings)) == ("yes", 2)  # of full batches, and of the last one
    assert [entry["valid_accuracy"] for entry in outcome.epochs] == [None, None]
    assert (outcome.best_epoch, outcome.accuracy.keys()) == (2, {"last epoch"})
    judged = train(config, task, Resources("cpu"))
    assert outcome.accuracy["last epoch"] == judged.accuracy["last epoch"]


@pytest.mark.trains
def test_constants_of_adaptive_neurons_are_learned_within_bounds() -> None:
    config = configure("quick", backend="spikingjelly", neuron="adlif", neuron_lr=0.5, **TINY)
    task = load_task(config)
    torch.manual_seed(config.seed)
    trained = train(config, task, Resources("cpu"))
    constants = [value for name, value in trained.state.items() if ".adaptive." in name]
    assert len(constants) == 4
    assert all(float(value.min()) >= 0 and float(value.max()) <= 1 for value in constants)
    assert any(bool((value == 0).any() or (value == 1).any()) for value in constants)  # they went to the bounds


@pytest.mark.trains
@pytest.mark.parametrize(
    ("backend", "neuron"),
    [("snntorch", "lif"), ("norse", "lif"), ("spikingjelly", "lif"), ("snntorch", "adlif"), ("norse", "adlif")],
)
def test_numbers_with_graphs_are_those_without(backend: str, neuron: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of full and of the last, smaller batches, and validation: recorded once, and replayed in all epochs."""
    changes = {**TINY, "epochs": 3, "batch_size": 32}
    config = configure("quick", backend=backend, time_mask=3, neuron=neuron, **changes)
    task = load_task(config)
    task = dataclasses.replace(task, train=task.train.select(range(80)), valid=task.valid.select(range(260)))
    recorder = capturing(monkeypatch)
    plain = train(config, task, Resources("cpu", graph=False))
    assert (plain.graph, recorder.replays) == ("no", 0)
    graphed = train(config, task, Resources("cpu"))
    assert graphed.graph == "yes"
    # 32 + 32 + 16 recordings of training, 256 + 4 of validation, in each of three epochs.
    assert (len(recorder.recordings), recorder.replays) == (4, 3 * (3 + 2))
    for ours, theirs in zip(graphed.epochs, plain.epochs, strict=True):
        assert {**ours, "seconds": 0, "waited": 0} == {**theirs, "seconds": 0, "waited": 0}
    assert graphed.accuracy == plain.accuracy
    assert all(torch.equal(graphed.state[name], plain.state[name]) for name in plain.state)
    assert graphed.epochs[0]["sigma"] != graphed.epochs[1]["sigma"]


@pytest.mark.trains
def test_what_cannot_be_captured_trains_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run says why, and ends with the same numbers."""
    config = configure("quick", backend="spikingjelly", **TINY)
    task = load_task(config)
    recorder = capturing(monkeypatch)
    plain = train(config, task, Resources("cpu", graph=False))
    monkeypatch.setattr(recorder, "record", lambda run: (_ for _ in ()).throw(RuntimeError("not here\nbut there")))
    with pytest.warns(UserWarning, match=r"spikingjelly.*did not run as CUDA graphs \(no: RuntimeError: not here\)"):
        found = train(config, task, Resources("cpu"))
    assert found.graph == "no: RuntimeError: not here"
    assert all(torch.equal(found.state[name], plain.state[name]) for name in plain.state)


@pytest.mark.trains
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("neuron", ["lif", "adlif"])
@pytest.mark.parametrize("backend", ["snntorch", "norse", "spikingjelly"])
def test_graphs_on_a_gpu(backend: str, neuron: str) -> None:
    config = configure("quick", backend=backend, cutmix=0.5, channel_mask=2, neuron=neuron, **TINY)
    task = load_task(config)
    graphed, plain = (train(config, task, Resources("gpu", graph=graph)) for graph in (True, False))
    assert (graphed.graph, plain.graph) == ("yes", "no")
    for ours, theirs in zip(graphed.epochs, plain.epochs, strict=True):
        assert ours["train_loss"] == pytest.approx(theirs["train_loss"], rel=1e-3)


@pytest.mark.trains
def test_training_that_diverges_says_so() -> None:
    config = configure("quick", backend="spikingjelly", delays="none", **TINY)
    task = load_task(config)

    def spoil(entry: dict) -> None:
        module.network.layers[0].weights.weight.data.fill_(math.nan)

    module = TrainingModule(build_network(config, task), config, {}, spoil)
    training, valid, _ = batches_of(task, config, torch.device("cpu"))
    with pytest.raises(RunError, match=r"diverged in epoch 2: loss or weights are not finite\. Take a smaller --lr"):
        make_trainer(Resources("cpu"), epochs=2, callbacks=[]).fit(module, training, valid)
