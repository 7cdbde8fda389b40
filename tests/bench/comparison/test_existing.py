"""What a folder has of a run: of this configuration and this data, or it is refused and left alone."""

import dataclasses
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from delayplug import RunError
from delayplug.bench.comparison import compare as comparing
from delayplug.bench.comparison.compare import compare
from delayplug.bench.comparison.existing import DataChecksums, existing, left_to_do, resuming
from delayplug.bench.comparison.records import Record
from delayplug.bench.config import RunConfig
from delayplug.bench.measure.deployment import deploy
from delayplug.bench.resources import Resources
from delayplug.bench.task import data_checksums, load_task
from delayplug.bench.training.checkpoints import Kept
from tests.bench.runs import CHECKSUMS, CONFIG, put_checkpoint, put_record, write_recordings


def same(config: RunConfig) -> dict[str, str]:
    return CHECKSUMS


def unread(config: RunConfig) -> dict[str, str]:
    raise AssertionError("the data was read, with nothing to compare it with")


@pytest.mark.parametrize("put", [put_record, put_checkpoint])
def test_this_run_is_recognised(put: Callable[..., None], tmp_path: Path) -> None:
    assert existing(tmp_path / "none", CONFIG, unread) == existing(tmp_path, CONFIG, unread)
    put(tmp_path)
    (tmp_path / "model.pt").touch()
    there = existing(tmp_path, CONFIG, same)
    assert (there.record is not None, there.kept is not None) == (put is put_record, put is put_checkpoint)


@pytest.mark.parametrize("put", [put_record, put_checkpoint])
@pytest.mark.parametrize("complete", [True, False])
def test_other_runs_are_refused(put: Callable[..., None], complete: bool, tmp_path: Path) -> None:
    """Also beside a record whose network is missing: a new one would lie beside the configuration of another run."""
    if complete:
        (tmp_path / "model.pt").touch()
    for checksums, words in (
        ({**CHECKSUMS, "test": "3" * 64}, "test: 333333333333 there, 222222222222 here"),
        ({"train": "1" * 64}, "test: none there, 222222222222 here"),
        (None, "of a version that noted no checksum of its data: `delayplug bench report` shows it still"),
    ):
        put(tmp_path, checksums=checksums)
        with pytest.raises(RunError, match=words) as caught:
            existing(tmp_path, CONFIG, same)
        assert "Choose another --out, or move it away" in str(caught.value)
    put(tmp_path, dataclasses.replace(CONFIG, epochs=2))
    with pytest.raises(RunError, match="epochs: 2 there, 3 here"):
        existing(tmp_path, CONFIG, unread)


def test_a_record_without_its_network_is_made_again(tmp_path: Path) -> None:
    put_record(tmp_path)
    put_checkpoint(tmp_path)
    there = existing(tmp_path, CONFIG, same)
    assert there.record is None
    assert there.kept is not None
    assert there.kept.epochs == 1


def test_how_to_go_on(tmp_path: Path) -> None:
    configs = [dataclasses.replace(CONFIG, seed=seed) for seed in range(3)]
    begin = f"run again to go on from epoch 1 of 3 ({tmp_path / configs[0].name}); 0 of 3 runs are finished"
    assert left_to_do(configs, tmp_path) == begin
    put_record(tmp_path / configs[0].name)
    (tmp_path / configs[0].name / "model.pt").touch()
    put_checkpoint(tmp_path / configs[2].name)
    middle = f"run again to go on from epoch 2 of 3 ({tmp_path / configs[2].name}); 1 of 3 runs is finished"
    assert left_to_do(configs, tmp_path) == middle
    assert left_to_do(configs[:1], tmp_path) == "run again to see the results; 1 of 1 run is finished"
    kept = Kept(CONFIG.to_json(), CHECKSUMS, 2, datetime(2026, 1, 2, 3, 4, 5))
    assert resuming(CONFIG, kept) == (
        "d-shd-spikingjelly-learned-seed0 goes on from epoch 3 of 3: 2 of 3 epochs are trained and skipped "
        "(checkpoint of 2026-01-02 03:04:05)"
    )


def put_data(folder: Path, train: int, test: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_recordings(folder / "x_train.h5", train)
    write_recordings(folder / "x_test.h5", test)


def test_checksums_tell_data_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, sizes in {"a": (12, 4), "b": (12, 6), "c": (12, 4)}.items():
        put_data(tmp_path / name / "d", *sizes)
    found = {}
    for name in "abc":
        monkeypatch.chdir(tmp_path / name)
        found[name] = data_checksums(CONFIG)
    assert found["a"] == found["c"]
    assert found["a"]["train"] == found["b"]["train"]
    assert found["a"]["test"] != found["b"]["test"]
    assert load_task(CONFIG).checksums == found["c"]
    # Cut or split in another way it is the same data; that other binning is other data, the configuration tells too.
    assert data_checksums(dataclasses.replace(CONFIG, window_ms=50, seed=3)) == found["c"]
    assert data_checksums(dataclasses.replace(CONFIG, step_ms=5)) != found["c"]
    once = DataChecksums()
    first = once(CONFIG)
    put_data(tmp_path / "c" / "d", 12, 8)
    assert once(dataclasses.replace(CONFIG, seed=1)) is first
    assert DataChecksums()(CONFIG) != first


@pytest.mark.trains
def test_the_same_words_for_other_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path from another folder, and files that were replaced: the old record is not given out."""
    put_data(tmp_path / "a" / "d", 40, 12)
    put_data(tmp_path / "b" / "d", 40, 16)
    out = tmp_path / "out"
    config = dataclasses.replace(CONFIG, epochs=1, batch_size=16, delays="fixed")
    said: list[str] = []

    def make() -> list[Record]:
        return compare([config], out, resources=Resources("cpu"), say=said.append)

    monkeypatch.chdir(tmp_path / "a")
    (record,) = make()
    assert (make(), said) == ([record], ["1 of 1 run is finished already and skipped"])
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    monkeypatch.chdir(tmp_path / "b")
    monkeypatch.setattr(comparing, "make_run", lambda *_, **__: pytest.fail("it was made"))
    with pytest.raises(RunError, match=rf"is of other data than {tmp_path / 'b' / 'd'} has now \(checksums of test: "):
        make()
    with pytest.raises(RunError, match="is of other data than"):
        deploy(out / config.name)
    monkeypatch.chdir(tmp_path / "a")
    put_data(tmp_path / "a" / "d", 44, 12)
    with pytest.raises(RunError, match="checksums of train: "):
        make()
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
