"""Data sets that are known by the checksums of their frames."""

import pytest

from delayplug.bench.config import configure
from delayplug.bench.known_frames import KNOWN_FRAMES, known_frames
from delayplug.bench.task import data_checksums

SHDR = next(known for known in KNOWN_FRAMES if known.name == "SHD-R")
CONFIG = configure("shd", dataset="/somewhere/else").to_json()


def test_the_embedded_task_is_the_one_that_is_known() -> None:
    config = configure("quick")
    known = known_frames(config.to_json(), data_checksums(config))
    assert known is not None
    assert (known.name, known.dataset) == ("embedded task", "synthetic")


def test_a_data_set_is_known_wherever_it_is() -> None:
    sums = dict(SHDR.frames[10.0, 5, "grid"])
    assert known_frames(CONFIG, sums) is SHDR
    assert SHDR.dataset == "data/shdr"
    assert known_frames(CONFIG, {"train": sums["train"]}) is SHDR  # where the test file was not read
    assert known_frames(CONFIG, {"test": sums["test"]}) is None
    assert known_frames({**CONFIG, "binning": "events"}, sums) is None  # other frames
    assert known_frames(CONFIG, {**sums, "test": sums["train"]}) is None
    assert known_frames(CONFIG, {**sums, "valid": sums["train"]}) is None
    assert known_frames(CONFIG, {}) is known_frames(CONFIG, None) is None


@pytest.mark.parametrize("known", KNOWN_FRAMES, ids=lambda known: known.name)
def test_entries_are_complete(known: object) -> None:
    for frames in known.frames.values():  # type: ignore[attr-defined]
        assert frames.keys() == known.recordings.keys()  # type: ignore[attr-defined]
        assert all(len(checksum) == 64 for checksum in frames.values())
