from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from delayplug.data import Frames, Recordings, bin_recordings
from delayplug.errors import ArgumentError
from tests.profiles import examples

CHANNELS = 60


def recordings_of(rows, channels=CHANNELS, speakers=True):
    """Recordings from lists of (time in s, unit)."""
    rows = [sorted(row) for row in rows]
    number = len(rows)
    return Recordings(
        times=np.array([t for row in rows for t, _ in row], np.float32),
        units=np.array([u for row in rows for _, u in row], np.uint16),
        offsets=np.cumsum([0, *map(len, rows)], dtype=np.int64),
        labels=np.arange(number, dtype=np.int64) % 3,
        speakers=np.arange(number, dtype=np.int64) if speakers else None,
        classes=("a", "b", "c"),
        channels=channels,
        source=Path("made up"),
    )


# Times as SHD has them: float16, and often exactly on a border of 1, 2 or 5 / 1024 s.
TIMES = st.one_of(st.floats(0, 0.25, width=16), st.integers(0, 250).map(lambda n: n / 1024))
ROWS = st.lists(st.lists(st.tuples(TIMES, st.integers(0, CHANNELS - 1)), max_size=25), min_size=1, max_size=4)
STEPS_MS = st.sampled_from([1.0, 10.0, 1000 / 1024, 5000 / 1024, 3.0])
BINNINGS = st.sampled_from(["grid", "events"])


def slow_steps(times, step_ms, binning):
    """The definition, event by event, in exact arithmetic."""
    exact = [Fraction(float(t)) * 1000 for t in times]
    step = Fraction(step_ms)
    if binning == "grid":
        return [(t - exact[0]) // step for t in exact]
    frames, opened = [], None
    for t in exact:
        if opened is None:
            opened, frame = t, 0
        elif t - opened > step:
            opened, frame = t, frame + 1
        frames.append(frame)
    return frames


def slow_counts(recordings, step_ms, pool, binning):
    """Counts (T, N, C) as nested loops, and lengths."""
    bounds = list(zip(recordings.offsets[:-1], recordings.offsets[1:], strict=True))
    steps = [slow_steps(recordings.times[a:b], step_ms, binning) for a, b in bounds]
    lengths = [max(s, default=-1) + 1 for s in steps]
    counts = np.zeros((max(1, *lengths), len(bounds), recordings.channels // pool), int)
    for n, (a, b) in enumerate(bounds):
        for step, unit in zip(steps[n], recordings.units[a:b], strict=True):
            counts[step, n, unit // pool] += 1
    return counts, lengths


@settings(max_examples=examples(150))
@given(ROWS, STEPS_MS, st.sampled_from([1, 5, 60]), BINNINGS)
def test_binning_is_its_definition(rows, step_ms, pool, binning):
    recordings = recordings_of(rows)
    frames = bin_recordings(recordings, step_ms=step_ms, pool=pool, binning=binning)
    counts, lengths = slow_counts(recordings, step_ms, pool, binning)
    assert frames.counts.dtype == torch.uint8
    np.testing.assert_array_equal(frames.counts.numpy(), counts)
    assert frames.lengths.tolist() == lengths
    assert int(frames.counts.sum()) == len(recordings.times)


@settings(max_examples=examples(50))
@given(ROWS, BINNINGS, st.integers(1, 40))
def test_a_fixed_length_pads_or_cuts_at_the_end(rows, binning, steps):
    recordings = recordings_of(rows)
    own = bin_recordings(recordings, binning=binning)
    fixed = bin_recordings(recordings, binning=binning, steps=steps)
    assert fixed.counts.shape[0] == steps
    shared = min(steps, own.counts.shape[0])
    assert torch.equal(fixed.counts[:shared], own.counts[:shared])
    assert not fixed.counts[shared:].any()
    assert torch.equal(fixed.lengths, own.lengths.clamp(max=steps))


@settings(max_examples=examples(50))
@given(ROWS, BINNINGS, st.sampled_from([2, 5, 12, 60]))
def test_pooling_sums_neighbours(rows, binning, pool):
    recordings = recordings_of(rows)
    fine = bin_recordings(recordings, pool=1, binning=binning).counts
    coarse = bin_recordings(recordings, pool=pool, binning=binning).counts
    assert torch.equal(coarse, fine.unflatten(2, (-1, pool)).sum(3))


@settings(max_examples=examples(50))
@given(ROWS, st.data())
def test_select_and_batch_agree(rows, data):
    frames = bin_recordings(recordings_of(rows), pool=3)
    indices = data.draw(st.lists(st.integers(0, len(frames) - 1), max_size=6))
    for form in (indices, np.array(indices, np.int64), torch.tensor(indices, dtype=torch.int32)):
        part = frames.select(form)
        x_TBC, y_B = frames.batch(form)
        assert len(part) == len(indices)
        assert (x_TBC.dtype, y_B.dtype) == (torch.float32, torch.int64)
        assert torch.equal(x_TBC, part.counts.float())
        assert torch.equal(y_B, part.labels)
        assert part.speakers.tolist() == indices  # speaker n made recording n
        for b, n in enumerate(indices):
            assert torch.equal(part.counts[:, b], frames.counts[:, n])
            assert part.labels[b] == frames.labels[n]
            assert part.lengths[b] == frames.lengths[n]


def test_borders_and_gaps():
    # first event at 7 / 1024 s; then exactly one step, just over one step, and a gap of many steps later
    times = [7, 12, 13, 90]
    recordings = recordings_of([[(t / 1024, 0) for t in times]])
    step_ms = 5000 / 1024
    assert bin_recordings(recordings, step_ms=step_ms).counts[:, 0, 0].nonzero().flatten().tolist() == [0, 1, 16]
    # an event on the border still belongs to the frame; the gap vanishes
    events = bin_recordings(recordings, step_ms=step_ms, binning="events")
    assert events.counts[:, 0, 0].tolist() == [2, 1, 1]


def test_times_near_one_second_are_told_apart():
    times = np.float16(1.0) + np.arange(-4, 5) * np.float16(2**-10)
    counts = bin_recordings(recordings_of([[(float(t), 0) for t in [0.0, *times]]]), step_ms=1000 / 1024).counts
    assert counts[:, 0, 0].nonzero().flatten().tolist() == [0, *range(1020, 1029)]


def test_a_decimal_border_is_taken_as_stored():
    # 0.02 s as float32 is 0.0199999996 s
    assert bin_recordings(recordings_of([[(0.0, 0), (0.02, 0)]])).lengths.tolist() == [2]
    assert bin_recordings(recordings_of([[(0.0, 0), (0.03125, 0)]]), step_ms=31.25).lengths.tolist() == [2]


@pytest.mark.parametrize(
    ("number", "dtype"), [(255, torch.uint8), (256, torch.int16), (32767, torch.int16), (32768, torch.int32)]
)
def test_counts_never_saturate(number, dtype):
    rows = [[(0.0, 0)], [(0.5, 3)] * number, [(0.0, 1)] * 2]
    frames = bin_recordings(recordings_of(rows), pool=1)
    assert frames.counts.dtype == dtype
    assert frames.counts[0, :, :4].tolist() == [[1, 0, 0, 0], [0, 0, 0, number], [0, 2, 0, 0]]


def test_silent_recordings():
    frames = bin_recordings(recordings_of([[], [(0.0, 1), (0.03125, 1)], []]))
    assert frames.lengths.tolist() == [0, 4, 0]
    assert not frames.counts[:, [0, 2]].any()
    assert bin_recordings(recordings_of([[], []])).counts.shape == (1, 2, 12)


def test_frames_hold_no_memory_of_the_recordings():
    recordings = recordings_of([[(0.0, 1)], [(0.1, 2)]])
    frames = bin_recordings(recordings, pool=1)
    frames.labels.fill_(2)
    frames.speakers.fill_(9)
    assert recordings.labels.tolist() == [0, 1]
    assert recordings.speakers.tolist() == [0, 1]


def test_unknown_speakers_stay_unknown():
    frames = bin_recordings(recordings_of([[(0.0, 1)]], speakers=False), pool=1)
    assert frames.speakers is None
    assert frames.select([0]).speakers is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"step_ms": 0}, "step_ms: expected a finite number of milliseconds > 0, got 0"),
        ({"step_ms": -1.0}, "step_ms"),
        ({"step_ms": float("nan")}, "step_ms"),
        ({"step_ms": float("inf")}, "step_ms"),
        ({"step_ms": 1e-7}, r"step_ms: expected at most 1000000 steps .* for the 0.25 s of recording 1"),
        ({"pool": 0}, "pool: expected an integer >= 1 that divides the 60 channels, got 0"),
        ({"pool": 7}, "pool"),
        ({"pool": 2.0}, "pool"),
        ({"binning": "even"}, "binning: expected one of grid, events, got 'even'"),
        ({"steps": 0}, "steps: expected an integer >= 1"),
        ({"steps": 2.5}, "steps"),
    ],
)
def test_impossible_arguments(arguments, message):
    recordings = recordings_of([[(0.0, 1)], [(0.25, 1), (0.5, 1)]])
    with pytest.raises(ArgumentError, match=message):
        bin_recordings(recordings, **({"pool": 1} | arguments))


@pytest.mark.parametrize("indices", [[2], [-1], [0.5], [True, False], [[0, 1]], 1])
def test_impossible_indices(indices):
    frames = bin_recordings(recordings_of([[(0.0, 1)], [(0.1, 2)]]), pool=1)
    for call in (frames.select, frames.batch):
        with pytest.raises(ArgumentError, match="indices: expected"):
            call(indices)


def made(**changes):
    parts = {
        "rows": torch.ones(4, 3, dtype=torch.uint8),
        "starts": torch.tensor([0, 4]),
        "steps": 4,
        "labels": torch.tensor([0, 1]),
        "lengths": torch.tensor([4, 0]),
        "classes": ("a", "b"),
    }
    return Frames(**(parts | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": torch.ones(4, 2, 3, dtype=torch.uint8)}, r"rows: expected integers \(E, C\), got uint8 \(4, 2, 3\)"),
        ({"rows": torch.ones(4, 3)}, r"rows: .* got float32 \(4, 3\)"),
        ({"rows": torch.ones(3, 3, dtype=torch.uint8)}, r"starts: expected values in 0..3, got 0..4"),
        ({"lengths": torch.tensor([4, 1])}, r"rows: expected those of all recordings, 5, got 4"),
        ({"starts": torch.tensor([0.0, 4.0])}, r"starts: expected int64 \(2,\), one per recording, got float32 \(2,\)"),
        ({"labels": torch.tensor([0])}, r"labels: expected int64 \(2,\)"),
        ({"labels": torch.tensor([0, 2])}, r"labels: expected values in 0..1, got 0..2"),
        ({"labels": torch.tensor([-1, 1])}, "labels"),
        ({"lengths": torch.tensor([4, 5])}, r"lengths: expected values in 0..4, got 4..5"),
        ({"lengths": torch.tensor([4.0, 4.0])}, "lengths"),
        ({"speakers": torch.tensor([1, 2, 3])}, "speakers"),
    ],
)
def test_frames_are_consistent(changes, message):
    assert len(made()) == 2
    with pytest.raises(ArgumentError, match=message):
        made(**changes)


def test_dense_counts():
    counts = torch.randint(0, 9, (4, 5, 3), dtype=torch.uint8)
    frames = Frames.dense(counts, torch.zeros(5, dtype=torch.int64), ("a",))
    assert torch.equal(frames.counts, counts)
    assert torch.equal(frames.padded(7).counts[:4], counts)
    assert not frames.padded(7).counts[4:].any()
    with pytest.raises(ArgumentError, match=r"counts: expected integers \(T, N, C\), got uint8 \(4, 5\)"):
        Frames.dense(counts[..., 0], torch.zeros(5, dtype=torch.int64), ("a",))


def test_frames_are_a_dataset():
    frames = bin_recordings(recordings_of([[(0.0, 1)], [(0.1, 2), (0.2, 2)]]), pool=1)
    loader = torch.utils.data.DataLoader(frames, batch_size=2)
    x, y = next(iter(loader))
    assert torch.equal(x.transpose(0, 1), frames.batch([0, 1])[0])
    assert y.tolist() == [0, 1]
    assert frames[-1][1] == 1
    with pytest.raises(IndexError, match="recording 2 of 2"):
        frames[2]
