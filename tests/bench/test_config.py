"""Configurations of runs, and the presets."""

import dataclasses
import json

import pytest

from delayplug import ArgumentError, RunError
from delayplug.bench.config import PRESET_OF_DATA, PRESETS, RunConfig, configure
from delayplug.data.known_data import KNOWN_DATA


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"delays": "some"}, "delays"),
        ({"binning": "fine"}, "binning"),
        ({"protocol": "best"}, "protocol"),
        ({"epochs": 0}, "epochs"),
        ({"batch_size": 1}, "batch_size"),
        ({"colour": 1}, "colour"),
        ({"seed": -1}, "seed"),
        ({"dataset": ""}, "dataset"),
        ({"hidden": (8, 0)}, "hidden: expected integers >= 1"),
        ({"hidden": 8}, "hidden"),
        ({"epochs": "3"}, "epochs: expected an integer >= 1, got '3'"),
        ({"epochs": True}, "epochs"),
        ({"lr": float("nan")}, "lr: expected a number >= 0, got nan"),
        ({"dropout": 1}, "dropout: expected a number >= 0 and < 1"),
        ({"compile": 1}, "compile: expected true or false"),
        ({"taps": 2, "delays": "axonal"}, "taps"),
        ({"fold": 1}, "fold: expected no such setting with the protocol 'heldout', got 1. Take --protocol speakers"),
        ({"held_speakers": (0, 1)}, "held_speakers: expected no such setting with the protocol 'heldout'"),
        (
            {"held_speakers": (0, 1), "fold": 1, "protocol": "speakers"},
            "held_speakers: expected none together with fold 1",
        ),
        ({"held_speakers": (-1,), "protocol": "speakers"}, "held_speakers: expected integers >= 0"),
        ({"refit": True, "protocol": "official"}, "refit: expected no such setting with the protocol 'official'"),
        ({"refit": True, "protocol": "speakers"}, "refit: expected no such setting .* Take --protocol heldout"),
        ({"validate_every": 0}, "validate_every: expected an integer >= 1"),
        ({"recurrent": "dendritic"}, "recurrent: expected one of none, plain, axonal, synaptic"),
        ({"neuron": "adlif", "hidden": ()}, "neuron: expected 'lif' for a network without hidden layers"),
        ({"neuron": "adlif", "reset": "subtract"}, "reset: expected 'zero' with adaptive neurons, .* got 'subtract'"),
        ({"recurrent": "plain", "hidden": ()}, "recurrent: expected 'none' for a network without hidden layers"),
        ({"reset": "subtract", "neuron": "adlif"}, "reset: expected 'zero' with adaptive neurons"),
        ({"reset": "soft"}, "reset: expected one of zero, subtract"),
        ({"readout": "last"}, "readout: expected one of sum, mean, max"),
    ],
)
def test_bad_configuration(changes: dict[str, object], named: str) -> None:
    with pytest.raises(ArgumentError, match=named):
        configure("quick", **changes)


def test_presets_are_complete_configurations() -> None:
    assert {configure(name).preset for name in PRESETS} == {"quick", "planted", "shd", "ssc", "sc10"}
    small = configure("ssc", hidden=(128,), epochs=12, batch_size=64)
    assert configure("sc10") == dataclasses.replace(small, preset="sc10")
    assert set(PRESET_OF_DATA) <= {data.name for data in KNOWN_DATA}
    assert set(PRESET_OF_DATA.values()) <= set(PRESETS)


def test_unknown_presets() -> None:
    with pytest.raises(ArgumentError, match="preset"):
        configure("mnist")


def test_the_name_of_a_folder() -> None:
    config = configure("quick", backend="snntorch", delays="fixed", fan_in=3)
    assert config.name == "synthetic-quick-snntorch-fixed-sparse3-seed0"
    config = configure("quick", backend="norse", recurrent="axonal")
    assert config.name == "synthetic-quick-norse-learned-recurrent-axonal-seed0"
    assert configure("shd", dataset="data/shd/", backend="norse", seed=2).name == "shd-shd-norse-learned-seed2"
    adaptive = configure("shd", dataset="data/shd/", backend="norse", neuron="adlif")
    assert adaptive.name == "shd-shd-norse-learned-adlif-seed0"


def test_the_folder_of_a_fold() -> None:
    config = configure("shd", dataset="d", backend="norse", protocol="speakers", fold=2, seed=1)
    assert (config.name, config.held_out) == ("d-shd-norse-learned-fold2-seed1", "fold 2")
    named = configure("shd", dataset="d", backend="norse", protocol="speakers", held_speakers=[6, 8])
    assert (named.name, named.held_out) == ("d-shd-norse-learned-speakers6-8-seed0", "speakers 6-8")
    assert RunConfig(**json.loads(json.dumps(named.to_json()))) == named


def test_json_and_back() -> None:
    config = configure("shd", dataset="data/shd", backend="norse", hidden=[8, 4], lr=1)
    assert config.hidden == (8, 4)
    assert RunConfig(**json.loads(json.dumps(config.to_json()))) == config
    config.check_same(config.to_json(), "runs/a")
    with pytest.raises(RunError, match=r"runs/a has another configuration \(lr: 2 there, 1 here\)\. Choose another"):
        config.check_same({**config.to_json(), "lr": 2}, "runs/a")
    with pytest.raises(RunError, match=r"; and \d+ more\)"):
        config.check_same({}, "runs/a")
