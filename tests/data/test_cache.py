"""Frames on disk: equal to those in memory, made once, whole or not at all."""

import gc
import hashlib
import json
import multiprocessing
import os
import resource
import time
import weakref
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from delayplug import DataError
from delayplug.data import (
    bin_recordings,
    cache,
    cached_frames,
    known_data,
    read_recordings,
    recordings,
    stream_recordings,
)
from delayplug.data.cache import CACHE, cache_folder, cached_md5
from tests.damage import broken_bytes, is_one_line


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("binning", ["grid", "events"])
def test_equal_to_binning_in_memory(write, tmp_path, binning):
    path = write()
    expected = bin_recordings(read_recordings(path), binning=binning)
    frames = cached_frames(path, binning=binning, cache=tmp_path / "cache")
    for name in ("counts", "labels", "lengths", "speakers"):
        assert torch.equal(getattr(frames, name), getattr(expected, name)), name
    assert (frames.steps, frames.classes) == (expected.steps, expected.classes)


def test_some_recordings_at_a_time(write, monkeypatch):
    """Parts give what the whole file gives, and say the same about what is wrong in it."""
    path = write()
    whole = read_recordings(path)
    parts = list(recordings.stream_recordings(path, at_once=1))
    assert [len(part) for part in parts] == [1, 1, 1]
    assert np.concatenate([part.times for part in parts]).tolist() == whole.times.tolist()
    assert [part.labels[0] for part in parts] == whole.labels.tolist()
    monkeypatch.setattr(recordings, "_AT_ONCE", 1)
    joined = read_recordings(path)
    for name in ("times", "units", "offsets", "labels", "speakers"):
        assert getattr(joined, name).tolist() == getattr(whole, name).tolist(), name
    with pytest.raises(DataError, match=r"units in 0\.\.699, got 700 in recording 2, event 0"):
        read_recordings(write(units=[[0, 699, 3, 4], [], [700]]))
    with pytest.raises(DataError, match="1 times and 2 units in recording 2"):
        read_recordings(write(units=[[0, 699, 3, 4], [], [1, 2]]))


def test_made_once(write, tmp_path, monkeypatch):
    path, folder = write(), tmp_path / "cache"
    done = []
    cached_frames(path, cache=folder, progress=done.append)
    assert done == [3]
    monkeypatch.setattr(cache, "stream_recordings", lambda *_, **__: pytest.fail("read again"))
    cached_frames(path, cache=folder)
    assert len(entries(folder)) == 1
    assert json.loads((next(folder.iterdir()) / "about.json").read_text())["file"] == str(path)


def test_other_ways_and_other_files_are_other_entries(write, tmp_path):
    path, folder = write(), tmp_path / "cache"
    for how in ({}, {"step_ms": 5.0}, {"pool": 7}, {"binning": "events"}):
        cached_frames(path, cache=folder, **how)
    assert len(entries(folder)) == 4
    path = write(times=[[0.0, 0.25, 0.25, 1.3], [], [0.5]])
    os.utime(path, ns=(0, 1))  # on a fast disk two files can have the same time
    assert cached_frames(path, cache=folder).steps == 130  # 1.3 s as float16 is a little less
    assert len(entries(folder)) == 5


def test_a_file_of_the_same_size_and_time_is_another_entry(write, tmp_path):
    path, folder = write(), tmp_path / "cache"
    before, stat = cached_frames(path, cache=folder), path.stat()
    time.sleep(0.02)  # longer than a tick of the file system's clock
    path = write(times=[[0.0, 0.25, 0.25, 1.3], [], [0.5]])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    assert cached_frames(path, cache=folder).steps != before.steps


def test_the_cache_of_the_environment(write, tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE, str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    cached_frames(write())
    assert len(entries(tmp_path / "mine")) == 1


def test_broken_off_in_the_middle(write, tmp_path, monkeypatch):
    path, folder = write(), tmp_path / "cache"
    with pytest.raises(ZeroDivisionError):
        cached_frames(path, cache=folder, progress=lambda n: 1 / 0)
    assert entries(folder) == []
    assert len(cached_frames(path, cache=folder)) == 3


def test_nothing_of_a_reader_reaches_the_file(write, tmp_path):
    frames = cached_frames(write(), cache=tmp_path / "cache")
    frames.rows.fill_(9)
    assert not (cached_frames(tmp_path / "a_train.h5", cache=tmp_path / "cache").rows == 9).any()


def test_silent_files(write, tmp_path):
    path = write(times=[[], [], []], units=[[], [], []])
    frames = cached_frames(path, cache=tmp_path / "cache")
    assert frames.lengths.tolist() == [0, 0, 0]
    assert not frames.batch([0, 1, 2])[0].any()


def test_a_cache_that_cannot_be_written(write, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(DataError, match=f"expected a cache that can be written, got .* Set {CACHE}"):
        cached_frames(write(), cache=tmp_path / "file")
    with pytest.raises(DataError, match="expected a file of recordings"):
        cached_frames(tmp_path / "nothing.h5", cache=tmp_path)


def test_a_damaged_entry(write, tmp_path):
    path, folder = write(), tmp_path / "cache"
    cached_frames(path, cache=folder)
    (next(folder.iterdir()) / "rows.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(DataError, match=r"a damaged entry .* Delete it"):
        cached_frames(path, cache=folder)


@pytest.mark.parametrize("name", ["rows.npy", "about.npz"])
def test_every_kind_of_damaged_entry(write, tmp_path, name):
    path, folder = write(), tmp_path / "cache"
    expected = cached_frames(path, cache=folder).counts
    file = next(folder.iterdir()) / name
    for damage, content in broken_bytes(file.read_bytes()):
        file.write_bytes(content)
        try:
            frames = cached_frames(path, cache=folder)
        except DataError as error:
            assert is_one_line(error, str(file.parent)), damage  # noqa: PT017
            assert "Delete it" in str(error), damage  # noqa: PT017
        else:
            assert damage.startswith("byte") or torch.equal(frames.counts, expected), damage


@pytest.mark.parametrize(
    "rows",
    [np.zeros((5, 140)), np.zeros(5, np.uint8), np.zeros((4, 140), np.uint8), np.array("x"), np.zeros((0, 140), "u1")],
    ids=lambda rows: f"{rows.dtype} {rows.shape}",
)
def test_rows_of_something_else(write, tmp_path, rows):
    path, folder = write(), tmp_path / "cache"
    cached_frames(path, cache=folder)
    np.save(next(folder.iterdir()) / "rows.npy", rows)
    with pytest.raises(DataError, match=r"a damaged entry .* Delete it"):
        cached_frames(path, cache=folder)


def test_checksums_of_files(write, tmp_path, monkeypatch):
    """Computed once; a changed file is another one, and an entry of a cache that is damaged counts as none."""
    path, folder, computed = write(), tmp_path / "cache", []
    monkeypatch.setattr(cache, "md5", lambda path: computed.append(path) or known_data.md5(path))
    expected = hashlib.md5(path.read_bytes()).hexdigest()
    assert [cached_md5(path, cache=folder) for _ in range(3)] == [expected] * 3
    assert computed == [path]
    (entry,) = folder.iterdir()
    entry.write_text("half")
    assert cached_md5(path, cache=folder) == expected == entry.read_text()
    cached_frames(path, cache=folder)
    time.sleep(0.02)
    path = write(times=[[0.0, 0.25, 0.25, 1.3], [], [0.5]])
    assert cached_md5(path, cache=folder) == hashlib.md5(path.read_bytes()).hexdigest() != expected
    assert len(computed) == 3
    (tmp_path / "file").write_text("no folder")
    assert cached_md5(path, cache=tmp_path / "file") == cached_md5(path, cache=folder)
    with pytest.raises(DataError, match="expected a file of recordings"):
        cached_md5(tmp_path / "nothing.h5", cache=folder)


def _ask(path: Path, folder: Path, start: object, results: object) -> None:
    start.wait()  # type: ignore[attr-defined]
    results.put(int(cached_frames(path, cache=folder).counts.sum()))  # type: ignore[attr-defined]


@pytest.mark.slow
def test_several_processes_at_once(write, tmp_path):
    context = multiprocessing.get_context("spawn")
    start, results = context.Event(), context.Queue()
    path, folder = write(), tmp_path / "cache"
    workers = [context.Process(target=_ask, args=(path, folder, start, results)) for _ in range(3)]
    for worker in workers:
        worker.start()
    start.set()
    assert [results.get(timeout=120) for _ in workers] == [5, 5, 5]
    for worker in workers:
        worker.join()
    assert len(entries(folder)) == 1  # and nothing half made beside it


def _bin_large(path: Path, folder: Path, results: object) -> None:
    list(recordings.stream_recordings(path, at_once=1))[:1]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    frames = cached_frames(path, cache=folder)
    x, _ = frames.batch(range(0, len(frames), len(frames) // 16))
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    results.put((used / 1024, len(frames), float(x.sum())))  # type: ignore[attr-defined]


def test_events_are_let_go_part_by_part(write, tmp_path, monkeypatch):
    """Of what was read, nothing is kept but labels: views of an array would keep all of it."""
    alive: list[int] = []
    read: list[weakref.ref] = []

    def watched(path, **options):
        for part in stream_recordings(path, **options, at_once=1):
            gc.collect()
            alive.append(sum(reference() is not None for reference in read))
            times = part.times.copy()
            read.append(weakref.ref(times))
            yield replace(part, times=times)
            del part, times

    monkeypatch.setattr("delayplug.data.cache.stream_recordings", watched)
    frames = cached_frames(write(), cache=tmp_path / "cache")
    assert len(frames) == 3
    assert max(alive) <= 1  # the one before, which a loop still names


@pytest.mark.slow
def test_memory_does_not_follow_the_size_of_the_file(tmp_path, monkeypatch):
    """12 million events in 6000 recordings: 72 MB as arrays, more as h5py reads them; a third of them at a time."""
    path = tmp_path / "large_train.h5"
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        times = file.create_dataset("spikes/times", (6000,), h5py.vlen_dtype(np.float16))
        units = file.create_dataset("spikes/units", (6000,), h5py.vlen_dtype(np.uint16))
        for n in range(6000):
            times[n] = np.sort(rng.random(2000)).astype(np.float16)
            units[n] = rng.integers(0, 700, 2000).astype(np.uint16)
        file["labels"] = np.zeros(6000, np.uint16)
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    worker = context.Process(target=_bin_large, args=(path, tmp_path / "cache", results))
    worker.start()
    used, number, total = results.get(timeout=200)
    worker.join()
    assert number == 6000
    assert total > 16 * 1900
    print(f"{used:.0f} MB")
    assert used < 200


def test_the_unit_of_time_makes_another_entry(write, tmp_path):
    path = write(times=[[0.0, 250.0, 250.0, 1100.0], [], [500.0]], float_type="f4")
    with pytest.raises(DataError, match="time_unit='ms'"):
        cached_frames(path, cache=tmp_path / "cache")
    for _ in range(2):
        assert cached_frames(path, cache=tmp_path / "cache", time_unit="ms").steps == 111
        assert cached_frames(path, cache=tmp_path / "cache", time_unit="s").steps == 110_001
    with pytest.raises(DataError, match="time_unit='ms'"):  # also with frames of both at hand
        cached_frames(path, cache=tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 2
