"""Whether the numbers of a record agree with each other: one that was changed by hand does not."""

from typing import Any

import pytest

from delayplug.bench.leaderboard.consistency import unlike_accuracies, unlike_costs, unlike_recordings
from tests.bench.leaderboard.records import SHDR, record

PROTOCOLS: dict[str, dict[str, Any]] = {
    "paper": {},
    "heldout": {"protocol": "heldout"},
    "refit": {"protocol": "heldout", "refit": True},
    "speakers": {"protocol": "speakers", "hits": 1300, "tested": 1600},
}


def said(made: Any) -> str:
    """All doubts."""
    return "; ".join((unlike_recordings(made, SHDR), unlike_accuracies(made), unlike_costs(made))).strip("; ")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_records_of_each_protocol_agree(protocol: str) -> None:
    made: Any = record(**PROTOCOLS[protocol])
    assert said(made) == ""
    del made["inference"]  # as in the records of early versions
    assert said(made) == ""


@pytest.mark.parametrize(
    ("protocol", "place", "value", "reason"),
    [
        ("paper", ("data", "checksums"), {"train": "0"}, "no checksum of the recordings test, which the protocol"),
        ("paper", ("data", "train"), 6556, "it says that 6556 were trained on and 2264 validated on"),
        ("heldout", ("data", "valid"), 1500, "it says that 6556 were trained on and 1500 validated on"),
        ("refit", ("data", "train"), 6556, "it says that 6556 were trained on"),
        ("speakers", ("data", "train"), 8156, "it says that 8156 were trained on and 1600 validated on"),
        ("speakers", ("data", "tested_on"), "the test set", "tested on the test set, its protocol is 'speakers'"),
        ("heldout", ("data", "tested_on"), "speakers 0", "tested on speakers 0, its protocol is 'heldout'"),
        ("paper", ("accuracy", "last epoch"), 2150 / 2264, "on the same recordings in its last epoch"),
        ("speakers", ("accuracy", "last epoch"), 1400 / 1600, "its accuracy 0.875 is 0.8125 on the same recordings"),
        ("paper", ("accuracy", "best on test"), 2000 / 2264, "and another epoch has more"),
        ("heldout", ("accuracy", "best on test"), 0.5, "those of its protocol last epoch and best on validation"),
        ("refit", ("accuracy", "best on validation"), 0.5, "those of its protocol last epoch"),
        ("heldout", ("epochs", 0, "valid_accuracy"), 0.7512, "after epoch 150 cannot come from 1600 validation"),
        ("refit", ("held_out", "accuracy"), 0.85, "its accuracy 0.85 is 0.75 on the same recordings"),
        ("refit", ("held_out", "accuracy"), 0.7503, "its accuracy 0.7503 before the refit cannot come from 1600"),
        ("refit", ("config", "refit"), False, "those of its protocol last epoch and best on validation"),
        ("paper", ("spikes_per_neuron", 1), 2.0, "it has 1280 spikes in layer 2, and 2 for each of 256 neurons"),
        ("paper", ("spikes_per_neuron",), [1.0], "it has the spikes of 1 hidden layers, its configuration has 2"),
        ("paper", ("inference", "active", 1), 100.0, "it has 100 spikes in layer 1, and 10 for each of 256 neurons"),
        ("paper", ("inference", "operations", 0), 2e6, "it has 2e+06 operations in layer 1, more than 5000 active"),
        ("paper", ("inference", "operations"), [1.0], "it has operations of 1 layers, its configuration has 3"),
        ("paper", ("inference", "steps", 0), 137, "its layers ran for [137, 161, 173] steps"),
    ],
)
def test_a_number_that_was_changed_is_noticed(
    protocol: str, place: tuple[str | int, ...], value: object, reason: str
) -> None:
    made: Any = record(**PROTOCOLS[protocol])
    *parents, last = place
    inner = made
    for name in parents:
        inner = inner[name]
    inner[last] = value
    assert reason in said(made)


def test_a_few_recordings_may_come_out_otherwise() -> None:
    made: Any = record()
    made["epochs"][0]["valid_accuracy"] = 2130 / 2264
    assert said(made) == ""


def test_a_refit_without_its_first_training_is_noticed() -> None:
    made: Any = record(**PROTOCOLS["refit"])
    del made["held_out"]
    assert "disagree on whether there was a training before a refit" in said(made)
