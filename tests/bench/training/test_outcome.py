"""The results of training one network."""

import pytest

from delayplug.bench.training.outcome import Epoch, Outcome
from tests.bench.runs import Comparison


@pytest.mark.trains
def test_epochs_have_all_keys(comparison: Comparison) -> None:
    for record in comparison.records:
        for entry in record["epochs"]:
            assert entry.keys() == Epoch.__annotations__.keys()


def test_outcomes_share_nothing() -> None:
    first, second = Outcome(), Outcome()
    first.accuracy["last epoch"] = 1.0
    first.epochs.append(
        Epoch(epoch=1, sigma=None, train_loss=0, train_accuracy=0, valid_accuracy=0, seconds=0, waited=0)
    )
    assert second == Outcome()
