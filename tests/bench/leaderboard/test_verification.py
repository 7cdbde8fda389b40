"""Whether a record can be what it says."""

from collections.abc import Callable
from typing import Any

import pytest

from delayplug.bench.leaderboard.verification import doubts, size_of
from delayplug.toolkits import plugins
from tests.bench.leaderboard.records import record


@pytest.mark.parametrize("backend", ["snntorch", "norse", "spikingjelly"])
@pytest.mark.parametrize("delays", ["none", "fixed", "learned"])
def test_a_record_that_can_be_is_taken(backend: str, delays: str) -> None:
    assert doubts(record(backend=backend, delays=delays)) == []


def test_a_record_of_held_out_speakers_is_taken() -> None:
    """It read the training file alone, and has a test set of its own."""
    made = record(1300, tested=1600, protocol="speakers", fold=3)
    assert doubts(made) == []
    made["data"]["test"] = 1601
    assert "it says that 6556 were trained on and 1600 validated on" in doubts(made)[0]
    assert "cannot come from 1601 recordings" in doubts(made)[1]
    assert doubts(record(protocol="heldout", refit=True)) == []
    assert "parameters" in doubts(record(neuron="adlif", recurrent="axonal"))[0]
    assert "there is no column for it" in doubts(record(protocol="validation"))[0]


def change(path: str, value: object) -> Callable[[Any], None]:
    """What sets an entry of a record, such as "data.test"; None takes it out."""

    def apply(made: Any) -> None:
        *parents, last = path.split(".")
        for name in parents:
            made = made[int(name) if isinstance(made, list) else name]
        if value is None:
            del made[last]
        else:
            made[last] = value

    return apply


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("data.checksums.test", "0" * 64, "are those of no data set that is known: SHD-R, SC10"),
        ("data.checksums", None, "it has no checksums of its data"),
        ("config.step_ms", 4.0, "are those of no data set"),
        ("versions.torch", None, "it does not say the version of torch"),
        ("versions.spikingjelly", None, "it does not say the version of spikingjelly"),
        ("config.seed", None, "its configuration lacks seed"),
        ("config.protocol", None, "its configuration lacks protocol"),
        ("epochs.0.epoch", 100, "its last epoch is 100, its configuration asks for 150"),
        ("best_epoch", 151, "its best epoch is 151, of 150"),
        ("config.hidden", [2**31 - 1], "its configuration: expected a network and batches that fit into memory"),
        ("data.test", 2000, "it has 2000 test recordings, SHD-R has 2264"),
        ("data.classes", ["a", "b"], "it has 2 classes, SHD-R has 20"),
        ("accuracy.last epoch", 0.9501, r"its accuracy 0.9501 (last epoch) cannot come from 2264 recordings"),
        ("accuracy.best on test", 1.2, "its accuracy 1.2 (best on test)"),
        ("parameters", 200_000, "it says 200,000 parameters, the network of its configuration has 214,016"),
        ("config.hidden", [128], "it says 214,016 parameters, the network of its configuration has 41,216"),
    ],
)
def test_one_that_cannot_is_refused_with_the_reason(path: str, value: object, reason: str) -> None:
    made = record()
    change(path, value)(made)
    assert reason in "; ".join(doubts(made))


def test_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    learned, none = size_of(record(delays="learned")), size_of(record(delays="none"))
    assert (learned.parameters, none.parameters) == (214_016, 107_520)
    weights, norms = 106_496, 4 * 512
    assert learned.footprint == pytest.approx(5 * weights + 4 * norms, abs=200)  # delays take a byte each
    assert none.footprint == pytest.approx(4 * weights + 4 * norms, abs=200)
    monkeypatch.setattr(plugins, "ready", lambda: ["norse"])
    assert size_of(record(backend="snntorch", max_delay=25)).parameters == 214_016  # where snnTorch is not installed
