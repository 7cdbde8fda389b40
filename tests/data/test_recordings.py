import dataclasses
import errno
import shutil

import h5py
import numpy as np
import pytest

from delayplug.data import bin_recordings, find_splits, read_recordings, stream_recordings
from delayplug.errors import ArgumentError, DataError
from tests.recordings import recorded_digits


def test_a_good_file_is_read_as_it_is(write):
    path = write()
    got = read_recordings(path)
    assert [got.times.dtype, got.units.dtype] == [np.float32, np.uint16]
    assert [got.offsets.dtype, got.labels.dtype, got.speakers.dtype] == [np.int64] * 3
    assert got.units.tolist() == [0, 699, 3, 4, 5]
    assert got.offsets.tolist() == [0, 4, 4, 5]
    assert got.labels.tolist() == [1, 0, 1]
    assert got.speakers.tolist() == [4, 2, 4]
    assert got.classes == ("zero", "one")
    assert (got.channels, got.source, len(got)) == (700, path, 3)


def test_float16_times_keep_their_value_and_are_float32_before_arithmetic(write):
    near = np.float16(1.0) + np.arange(4) * np.float16(2**-10)  # neighbours just above 1 s
    got = read_recordings(write(times=[near, [], [66.0]]))
    assert got.times[:4].tolist() == [1 + n / 1024 for n in range(4)]
    assert got.times[4] * 1000 == 66_000  # float16 overflows here


@pytest.mark.parametrize("name", ["a_train.h5", "a_train.h5.gz"])
def test_other_number_types_read_the_same(write, name):
    expected, other = read_recordings(write(name)), read_recordings(write(name, float_type="f8", unit_type="i4"))
    assert other.times.dtype == np.float32
    assert other.units.dtype == np.uint16
    np.testing.assert_allclose(other.times, expected.times, rtol=2**-11)
    np.testing.assert_array_equal(other.units, expected.units)


def test_packed_and_unpacked_are_equal(write):
    plain, packed = read_recordings(write("b.h5")), read_recordings(write("a.h5.gz"))
    for field in dataclasses.fields(plain):
        if field.name != "source":
            np.testing.assert_array_equal(getattr(packed, field.name), getattr(plain, field.name))


def test_speakers_and_class_names_may_be_missing(write):
    got = read_recordings(write(speaker=None, keys=None, labels=np.array([2, 0, 1])))
    assert got.speakers is None
    assert got.classes == ("0", "1", "2")


def test_class_names_may_be_variable_length_strings(write):
    assert read_recordings(write(keys=np.array(["null", "fünf"], h5py.string_dtype()))).classes == ("null", "fünf")


BAD_CONTENTS = {
    "no times": ({"times": None}, "expected a dataset spikes/times, got only extra, labels, spikes"),
    "no units": ({"units": None}, "expected a dataset spikes/units"),
    "no spikes": ({"units": None, "times": None}, "expected a dataset spikes/times, got only extra, labels"),
    "no labels": ({"labels": None}, "expected a dataset labels"),
    "nothing": (dict.fromkeys(["times", "units", "labels", "speaker", "keys"]), "got only an empty file"),
    "no recordings": (
        {"times": [], "units": [], "labels": np.zeros(0, np.uint16), "speaker": None},
        "expected recordings, got none",
    ),
    "fewer times": ({"times": [[0.1], [0.2]]}, "3 in labels, 2 in spikes/times, 3 in spikes/units"),
    "fewer units": ({"units": [[1]]}, "3 in labels, 3 in spikes/times, 1 in spikes/units"),
    "fewer labels": ({"labels": np.array([1])}, "1 in labels, 3 in spikes/times"),
    "fewer speakers": ({"speaker": np.array([1])}, "3 in labels, 1 in extra/speaker"),
    "lengths differ": ({"units": [[0, 1, 2, 3], [1], [5]]}, "got 0 times and 1 units in recording 1"),
    "negative": ({"times": [[0, 0, 0, 0], [], [-0.5]]}, "got -0.5 in recording 2, event 0"),
    "nan": ({"times": [[0, 0, np.nan, 0], [], [0.5]]}, "got nan in recording 0, event 2"),
    "inf": ({"times": [[0, 0, 0, np.inf], [], [0.5]]}, "got inf in recording 0, event 3"),
    "beyond float32": ({"times": [[0, 0, 0, 1e300], [], [0]], "float_type": "f8"}, "got inf in recording 0, event 3"),
    "descending": ({"times": [[0, 0.5, 0.25, 1], [], [0.5]]}, r"got 0.25 s after 0.5 s in recording 0, event 2"),
    "descending at the end": ({"times": [[0, 0, 0.5, 0.25], [], [0]]}, "0.25 s after 0.5 s in recording 0, event 3"),
    "unit too large": ({"units": [[0, 1, 2, 3], [], [700]]}, r"units in 0..699, got 700 in recording 2, event 0"),
    "unit beyond uint16": (
        {"units": [[0, 1, 65536, 3], [], [7]], "unit_type": "i4"},
        "got 65536 in recording 0, event 2",
    ),
    "unit negative": ({"units": [[0, -1, 2, 3], [], [7]], "unit_type": "i2"}, "got -1 in recording 0, event 1"),
    "label negative": ({"labels": np.array([0, -1, -2])}, "labels of 2 classes, 0..1, got label -1 in recording 1"),
    "label negative, no names": (
        {"labels": np.array([-1, -1, -1]), "keys": None},
        "labels of 1 class, 0..0, got label -1",
    ),
    "names of no classes": (
        {"keys": np.array([], h5py.string_dtype())},
        "the classes in extra/keys, got none",
    ),
    "label beyond the names": ({"labels": np.array([0, 1, 2])}, r"0..1, got label 2 in recording 2"),
    "label absurd, no names": ({"labels": np.array([0, 1, 10**12]), "keys": None}, "got label 1000000000000 in recor"),
    "labels not integers": ({"labels": np.array([0.5, 1, 1])}, "expected integers in labels, got float64"),
    "labels of two dimensions": ({"labels": np.zeros((3, 1), int)}, "expected a list of one dimension in labels"),
    "times not ragged": ({"times": np.zeros(3)}, "lists of variable length of floating-point seconds in spikes/times"),
    "times not floats": ({"float_type": "i4"}, "floating-point seconds in spikes/times, got int32"),
    "units not integers": ({"unit_type": "f4"}, "integer channels in spikes/units, got float32"),
    "times in the other byte order": ({"float_type": np.dtype("f2").newbyteorder()}, "byte order in spikes/times"),
    "units in the other byte order": ({"unit_type": np.dtype("u2").newbyteorder()}, "byte order in spikes/units"),
    "keys a number": ({"keys": 3}, "expected a list of one dimension in extra/keys"),
}


@pytest.mark.parametrize(("changes", "message"), BAD_CONTENTS.values(), ids=BAD_CONTENTS)
def test_impossible_contents(write, changes, message):
    path = write(**changes)
    with pytest.raises(DataError, match=message) as caught:
        read_recordings(path)
    assert str(caught.value).startswith(f"{path}: expected ")


def test_times_may_fall_from_one_recording_to_the_next(write):
    times = [[], [0.5], [], [0.25], [0.125], []]
    units = [[1] * len(row) for row in times]
    got = read_recordings(write(times=times, units=units, labels=np.zeros(6, int), speaker=np.zeros(6, int)))
    assert got.times.tolist() == [0.5, 0.25, 0.125]
    assert got.offsets.tolist() == [0, 0, 1, 1, 2, 3, 3]


def test_recordings_may_all_be_silent(write):
    got = read_recordings(write(times=[[], [], []], units=[[], [], []]))
    assert (len(got), len(got.times), got.times.dtype, got.units.dtype) == (3, 0, np.float32, np.uint16)


def _check_damage(path, message):
    with pytest.raises(DataError, match=message) as caught:
        read_recordings(path)
    assert str(path) in str(caught.value)


def test_missing_file_and_folder(tmp_path):
    _check_damage(tmp_path / "absent.h5", "nothing of that name. Check the path")
    _check_damage(tmp_path, "expected a file of recordings, got a folder")


@pytest.mark.parametrize("name", ["a.h5", "a.h5.gz"])
def test_empty_file(write, name):
    path = write(name)
    path.write_bytes(b"")
    _check_damage(path, "got an empty file")


@pytest.mark.parametrize("share", [0.01, 0.3, 0.9, 0.999])
def test_truncated(write, share):
    for name, message in (("a.h5", "expected an HDF5 file"), ("b.h5.gz", "expected a whole gzip file")):
        path = write(name)
        whole = path.read_bytes()
        path.write_bytes(whole[: int(share * len(whole))])
        _check_damage(path, f"{message}, got a truncated or damaged one")


def test_corrupt_gzip(write):
    path = write("a.h5.gz")
    whole = bytearray(path.read_bytes())
    for at in (0, len(whole) // 2, len(whole) - 6):  # magic number, stream, checksum
        damaged = whole.copy()
        damaged[at] ^= 0x55
        path.write_bytes(damaged)
        _check_damage(path, "expected a whole gzip file")


def test_damaged_inside(write):
    path = write()
    whole = path.read_bytes()
    path.write_bytes(whole[:8] + b"\xff" * 100 + whole[108:])
    _check_damage(path, "truncated or damaged")
    path.write_bytes(whole.replace(b"TREE", b"EERT"))
    _check_damage(path, "truncated or damaged|expected a dataset")


def test_not_hdf5(write):
    for name in ("a.h5", "a.h5.gz"):
        path = write(name)
        text = path.with_name("text.h5")
        text.write_bytes(b"PK\x03\x04 something else" * 100)
        _check_damage(text, "got something that is not HDF5. Unpack it")
    packed = write("a.h5.gz")
    packed.rename(packed.with_suffix(""))  # packed, but not called so
    _check_damage(packed.with_suffix(""), "not HDF5")


@pytest.mark.parametrize("channels", [0, -1, 65537, 7.5])
def test_channels(write, channels):
    with pytest.raises(ArgumentError, match="channels: expected an integer"):
        read_recordings(write(), channels=channels)


def test_fewer_channels_than_units(write):
    assert read_recordings(write(units=[[1, 1, 1, 1], [], [1]]), channels=2).channels == 2
    with pytest.raises(DataError, match=r"units in 0..1, got 2 in recording 2"):
        read_recordings(write(units=[[1, 1, 1, 1], [], [2]]), channels=2)


def _touch(folder, *names):
    for name in names:
        (folder / name).touch()


def test_splits_are_found(tmp_path):
    _touch(tmp_path, "a_test.h5", "a_test.h5.gz", "a_train.h5.gz", "README.md", "._a_train.h5", "a_train.h5.part")
    assert find_splits(tmp_path) == {"train": tmp_path / "a_train.h5.gz", "test": tmp_path / "a_test.h5"}
    _touch(tmp_path, "a_valid.h5")
    assert list(find_splits(str(tmp_path))) == ["train", "valid", "test"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], r"expected a file \*_train.h5 or \*_train.h5.gz, got an empty folder"),
        (["a_train.h5"], r"expected a file \*_test.h5 .* got a_train.h5\. Download"),
        (["a_test.h5.gz", "a_valid.h5"], r"expected a file \*_train.h5"),
        (["a_train.h5", "a_test.h5", "b_train.h5.gz"], "one train file, got a_train.h5, b_train.h5.gz"),
        (["a_train.h5", "a_test.h5", "b_valid.h5"], "splits of one data set, got a_train.h5, b_valid.h5, a_test.h5"),
    ],
)
def test_splits_are_not_found(tmp_path, names, message):
    _touch(tmp_path, *names)
    with pytest.raises(DataError, match=message) as caught:
        find_splits(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_splits_of_no_folder(tmp_path):
    with pytest.raises(DataError, match="got nothing of that name"):
        find_splits(tmp_path / "absent")
    _touch(tmp_path, "file")
    with pytest.raises(DataError, match="got a file"):
        find_splits(tmp_path / "file")


def test_real_recordings():
    files = find_splits(recorded_digits())
    train, test = (read_recordings(files[split]) for split in ("train", "test"))
    assert (len(train), len(test)) == (1800, 600)
    assert train.classes == test.classes
    assert train.classes[::9] == ("zero", "nine")
    assert len(np.unique(train.speakers)) == 4
    assert len(np.unique(test.speakers)) == 6
    assert np.bincount(train.labels).tolist() == [180] * 10
    assert np.bincount(test.labels).tolist() == [60] * 10
    assert abs(np.diff(train.offsets).mean() - 4003) < 1
    assert abs(np.diff(test.offsets).mean() - 3967) < 1
    frames = bin_recordings(train)
    assert frames.counts.shape == (100, 1800, 140)
    assert int(frames.counts.sum()) == len(train.times)
    events = bin_recordings(train, binning="events")
    assert int(events.counts.sum()) == len(train.times)
    assert bool((events.lengths <= frames.lengths).all())


SECONDS = [[0.0, 0.25, 0.25, 1.1], [], [0.5]]


@pytest.mark.parametrize(
    ("unit", "factor", "float_type"),
    [
        ("ms", 1e3, "f4"),
        ("ms", 1e3, np.float16),
        ("us", 1e6, "f8"),
        ("ms", 1e3, "u2"),
        ("us", 1e6, "i8"),
        ("us", 1e6, "u4"),
    ],
)
def test_other_units_of_time_are_converted(write, unit, factor, float_type):
    path = write(times=[[t * factor for t in row] for row in SECONDS], float_type=float_type)
    got = read_recordings(path, time_unit=unit)
    assert got.times.dtype == np.float32
    np.testing.assert_allclose(got.times, [0, 0.25, 0.25, 1.1, 0.5], rtol=1e-6)
    assert bin_recordings(got).steps == 111
    (streamed,) = stream_recordings(path, time_unit=unit)
    np.testing.assert_array_equal(streamed.times, got.times)


@pytest.mark.parametrize(
    ("factor", "unit", "words"),
    [(1e3, "ms", "last 800 s .median., which looks like milliseconds"), (1e6, "us", "microseconds")],
)
def test_times_that_can_hardly_be_seconds_are_refused(write, factor, unit, words):
    path = write(times=[[t * factor for t in row] for row in SECONDS], float_type="f4")
    with pytest.raises(
        DataError, match=f"expected times in seconds, got recordings that .*{words}.*time_unit='{unit}'"
    ):
        read_recordings(path)
    with pytest.raises(DataError, match=f"--time-unit {unit}"):
        next(stream_recordings(path, at_once=1))
    assert read_recordings(path, time_unit="s").times.max() == np.float32(1.1 * factor)  # if they say so


def test_some_long_recordings_are_no_reason_to_ask(write):
    for times in ([[0.5, 40], [], [70]], [[], [], []], [[0.0], [], [0.0]]):
        units = [[1] * len(row) for row in times]
        assert len(read_recordings(write(times=times, units=units, float_type="f4"))) == 3


def test_integers_need_a_unit(write):
    path = write(times=[[0, 250, 250, 1100], [], [500]], float_type="u4")
    with pytest.raises(DataError, match=r"floating-point seconds in spikes/times, got uint32.*time_unit='ms' or 'us'"):
        read_recordings(path)


def test_seconds_that_are_taken_for_something_smaller_are_noticed(write):
    with pytest.warns(UserWarning, match=r"time_unit='us' recordings last 8e-07 s \(median\): are their times seconds"):
        read_recordings(write(), time_unit="us")


def test_units_of_time_are_these(write):
    with pytest.raises(ArgumentError, match="time_unit: expected one of check, s, ms, us, got 'ns'"):
        read_recordings(write(), time_unit="ns")


@pytest.mark.parametrize("name", ["labels", "spikes/times", "spikes/units", "extra/speaker", "extra/keys"])
@pytest.mark.parametrize("number", [2**40, 3])
def test_entries_that_were_never_written(write, name, number):
    """HDF5 makes up what a file only claims, as much of it as it claims."""
    path = write()
    with h5py.File(path, "a") as file:
        kind = file[name].dtype
        del file[name]
        file.create_dataset(name, (number,), kind, chunks=(1024,), maxshape=(None,))
    with pytest.raises(DataError, match=rf"expected the entries of {name}, got {number:,} that were never written"):
        read_recordings(path)


def test_more_entries_than_any_data_set_has(write):
    path = write()
    with h5py.File(path, "a") as file:
        file["labels"].file["many"] = np.zeros(3, np.uint8)
        del file["labels"]
        labels = file.create_dataset("labels", (2**40,), np.uint8, chunks=(1024,))
        labels[:3] = 1
    with pytest.raises(DataError, match=r"expected at most 268,435,456 entries in labels, got 1,099,511,627,776"):
        read_recordings(path)


def test_integers_without_a_sign(write):
    """2^64 - 1 is not speaker -1."""
    for name in ("labels", "speaker"):
        path = write(**{name: np.full(3, 2**64 - 1, np.uint64)})
        with pytest.raises(DataError, match=r"integers of 64 bits with a sign in .*, got 18446744073709551615"):
            read_recordings(path)


def test_no_room_to_unpack(write, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(DataError, match=r"expected room in .* to unpack it, got .*No space left.* or set TMPDIR"):
        read_recordings(write("a_train.h5.gz"))


def test_more_than_fits_into_memory(write, monkeypatch):
    def too_much(*_: object) -> None:
        raise MemoryError("Unable to allocate 8.00 TiB")

    monkeypatch.setattr(np, "concatenate", too_much)
    with pytest.raises(DataError, match=r"expected recordings that fit into memory, got more .Unable to allocate"):
        read_recordings(write())
