"""Trained networks by name."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from delayplug import ArgumentError, DataError, UnknownBackendError, freeze_delays
from delayplug.bench.config import RunConfig
from delayplug.bench.model.network import DelayNetwork
from delayplug.data import Recordings
from delayplug.data.synthetic import TimingTask
from delayplug.models import pretrained as module
from delayplug.models.network_file import read_card, read_network, write_network
from delayplug.models.pretrained import Pretrained, load_stored, portable, pretrained, pretrained_names
from delayplug.toolkits import plugins

BACKENDS = ("snntorch", "norse", "spikingjelly")
FILES = Path(module.__file__).parent / "trained"


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", pretrained_names())
def test_networks_are_loaded_into_each_toolkit(name: str, backend: str) -> None:
    network = pretrained(name, backend=backend)
    assert not network.training
    assert network.trainable() == network.card["parameters"]
    assert type(network.neurons[0]).__module__.startswith((backend, f"delayplug_{backend}"))
    x = torch.zeros(network.steps, 2, network.card["data"]["channels"])
    assert network.scores(x).shape == (2, len(network.classes))


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_accuracy_is_that_of_the_card(backend: str) -> None:
    network = pretrained("synthetic-learned", backend=backend)
    x, y = TimingTask(jitter=0.3, distractors=2).sample(1000, seed=3).batch(range(1000))
    with torch.no_grad():
        accuracy = float((network.scores(x).argmax(-1) == y).double().mean())
    assert accuracy == pytest.approx(network.card["stored_accuracy"], abs=0.002)
    assert accuracy == pytest.approx(network.card["accuracy"]["last epoch"], abs=0.005)


def test_short_recordings_are_filled_up_and_long_ones_refused() -> None:
    network = pretrained("synthetic-learned")
    x = TimingTask().sample(20, seed=9).batch(range(20))[0][:30]
    filled = torch.cat((x, torch.zeros(network.steps - 30, *x.shape[1:])))
    with torch.no_grad():
        assert torch.equal(network.scores(x), network.scores(filled))
    with pytest.raises(ArgumentError, match=r"x: expected at most 50 steps, got 51"):
        network.scores(torch.zeros(51, 1, 20))
    with pytest.raises(ArgumentError, match=r"x: expected shape \(T, B, 20\), got \(50, 20\)"):
        network.scores(torch.zeros(50, 20))


def test_delays_are_between_steps_until_they_are_frozen() -> None:
    network = pretrained("synthetic-learned")
    (delays, *_) = network.delays_now()
    assert not torch.equal(delays, delays.round())
    x = TimingTask().sample(20, seed=9).batch(range(20))[0]
    with torch.no_grad():
        before = network.scores(x)
        freeze_delays(network)
        assert torch.equal(network.scores(x), before)


def test_training_goes_on() -> None:
    network = pretrained("synthetic-learned", backend="spikingjelly").train()
    x, y = TimingTask(jitter=0.3, distractors=2).sample(64, seed=11).batch(range(64))
    torch.nn.functional.cross_entropy(network.scores(x), y).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_a_network_without_a_toolkit_takes_the_one_it_was_trained_with(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "spikingjelly" in type(pretrained("synthetic-learned").neurons[0]).__module__
    monkeypatch.setattr(plugins, "ready", lambda: ["norse"])
    assert "norse" in type(pretrained("synthetic-learned").neurons[0]).__module__


def test_names(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"name: expected one of .*synthetic-learned.*, got 'shd'"):
        pretrained("shd")
    with pytest.raises(UnknownBackendError):
        pretrained("synthetic-learned", backend="snntorc")
    with pytest.raises(DataError, match="got none"):
        pretrained(str(tmp_path / "mine.safetensors"))
    shutil.copy(FILES / "synthetic-learned.safetensors", tmp_path / "mine.safetensors")
    assert pretrained(str(tmp_path / "mine.safetensors")).card["name"] == "synthetic-learned"


def test_numbers_of_another_network_are_refused(tmp_path: Path) -> None:
    card, state = read_network(FILES / "synthetic-learned.safetensors")
    del state["norms.0.bias"]
    write_network(tmp_path / "mine.safetensors", state, card)
    with pytest.raises(DataError, match=r"norms.0.bias has shape none, expected \(64,\)"):
        pretrained(str(tmp_path / "mine.safetensors"))


@pytest.mark.parametrize(
    "options",
    [
        {"delays": "axonal"},
        {"fan_in": 5, "taps": 2},
        {"delays": "none", "readout": "max"},
        {"neuron": "adlif"},
        {"recurrent": "synaptic", "reset": "subtract"},
        {"neuron": "adlif", "recurrent": "axonal"},
    ],
)
def test_every_variant_goes_from_one_toolkit_to_another(options: dict[str, object]) -> None:
    config = RunConfig(hidden=(6, 5), max_delay=4, **options)  # type: ignore[arg-type]
    x = (torch.rand(12, 3, 7) < 0.4).float()
    outputs = []
    state: dict[str, torch.Tensor] = {}
    for backend in BACKENDS:
        network = DelayNetwork((7, 6, 5, 3), plugins.toolkit(backend), config)
        if not state:
            network(x)  # batch norm sees something
            own = network.state_dict()
            state = {name: own[key] for name, key in portable(network).items()}
        load_stored(network, state, "here")
        with torch.no_grad():
            outputs.append(network.eval()(x))
    for other in outputs[1:]:
        torch.testing.assert_close(other, outputs[0])


def test_recordings_are_binned_as_they_were_for_the_training() -> None:
    card = read_card(FILES / "synthetic-learned.safetensors")
    binned = {**card["config"], "step_ms": 5.0, "pool": 2}
    network = Pretrained({**card, "config": binned}, "norse")
    times, units = np.float32([0.1, 0.112, 5.0]), np.uint16([0, 39, 1])
    about = {"labels": np.zeros(1, np.int64), "speakers": None, "classes": ("a",), "source": Path()}
    frames = network.frames(Recordings(times, units, np.int64([0, 3]), channels=40, **about))
    x, _ = frames.batch([0])
    assert x.shape == (network.steps, 1, 20)
    assert x.nonzero().tolist() == [[0, 0, 0], [2, 0, 19]]  # the last event is behind the last step


def test_all_files_together_are_small() -> None:
    sizes = {path.name: path.stat().st_size for path in FILES.glob("*.safetensors")}
    assert sum(sizes.values()) < 2_000_000, sizes


def test_loading_needs_a_toolkit_and_safetensors_alone() -> None:
    heavy = "h5py lightning matplotlib typer jinja2 pooch requests nir onnx"
    code = (
        "import sys, delayplug; delayplug.pretrained('synthetic-learned', backend='snntorch'); "
        f"print(*set({heavy.split()}) & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
