"""What a file says about the network in it."""

import dataclasses

from delayplug.bench.config import RunConfig
from delayplug.bench.schema import mismatch
from delayplug.models.card import Card
from delayplug.models.pretrained import pretrained


def test_a_card_makes_the_configuration_again() -> None:
    card = pretrained("synthetic-learned").card
    assert mismatch(card, Card) == ""
    config = RunConfig(**card["config"])
    assert config.to_json() == config.to_json() | card["config"]  # which may be older, and have fewer settings
    assert dataclasses.replace(config, seed=1) != config
    assert mismatch({**card, "accuracy": "high"}, Card) == "accuracy should be a valid dictionary, got 'high'"
