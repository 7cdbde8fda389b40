"""Recordings of spikes in the HDF5 layout of the Spiking Heidelberg Digits (SHD).

    spikes/times    variable-length floats, seconds (or see          labels         integers
                    `time_unit`), ascending
    spikes/units    variable-length integers, the channel            extra/speaker  integers (optional)
                                                                     extra/keys     class names (optional)

Shapes: N recordings, E events of all recordings together.
"""

import gzip
import os
import shutil
import tempfile
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .._extras import extra
from .._tables import counted
from ..errors import ArgumentError, DataError, choice_error, did_you_mean
from .choices import TIME_UNITS, TimeUnit

_AGAIN = "Download or copy the file again."
_LAYOUT = "The file must have the layout of the Spiking Heidelberg Digits."
_AT_ONCE = 2000  # recordings of one part
_SECONDS = {"check": 1.0, "s": 1.0, "ms": 1e-3, "us": 1e-6}
# Seconds. Recordings of SHD last about one; one of 60 ms, which is short, comes to as many if it is in milliseconds.
_LONG = 60.0
_SHORT = 1e-3  # less than a thousandth of SHD's
_MOST = 1 << 28  # recordings of one file: a hundred times as many as any data set has
_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


_File = Mapping[str, object]  # of h5py, which has no types


class _Dataset(Protocol):
    """A list in an HDF5 file, an `h5py.Dataset` of one dimension."""

    @property
    def name(self) -> str: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, some: slice, /) -> NDArray[Any]: ...


@dataclass(frozen=True, eq=False)
class Recordings:
    """Spikes of N recordings, one recording after another.

    Attributes:
        times: float32 (E,), seconds, ascending within each recording.
        units: uint16 (E,), the channel of each event, below `channels`.
        offsets: int64 (N + 1,); recording n holds the events offsets[n] .. offsets[n + 1] - 1, possibly none.
        labels: int64 (N,), positions in `classes`.
        speakers: int64 (N,), or None where the file does not name them.
        classes: the class names.
        channels: number of channels.
        source: the file.
    """

    times: NDArray[np.float32]
    units: NDArray[np.uint16]
    offsets: NDArray[np.int64]
    labels: NDArray[np.int64]
    speakers: NDArray[np.int64] | None
    classes: tuple[str, ...]
    channels: int
    source: Path

    def __len__(self) -> int:
        return len(self.labels)


def find_splits(folder: str | os.PathLike[str]) -> dict[str, Path]:
    """The files of one data set in a folder: "train", "test" and, if there, "valid".

    They are named `<data set>_train.h5`, `_valid.h5`, `_test.h5`, or the same with `.h5.gz`; where both are there, the
    unpacked one is taken.

    Raises:
        DataError: no such folder, train or test missing, or files of several data sets.
    """
    folder = Path(folder)
    if not folder.is_dir():
        got = "a file" if folder.exists() else "nothing of that name"
        advice = _sibling(folder) or "Check the path."
        raise _bad(folder, "a folder with *_train.h5 and *_test.h5 (or .h5.gz)", got, advice)
    files: dict[str, Path] = {}
    names: dict[str, str] = {}
    for split in ("train", "valid", "test"):
        candidates: dict[str, Path] = {}
        for ending in (f"_{split}.h5.gz", f"_{split}.h5"):  # in this order, so that .h5 replaces its own .h5.gz
            for path in folder.glob(f"*{ending}"):
                if path.is_file() and not path.name.startswith("."):
                    candidates[path.name.removesuffix(ending)] = path
        if len(candidates) > 1:
            got = ", ".join(sorted(path.name for path in candidates.values()))
            raise _bad(folder, f"one data set, hence one {split} file", got, "Give each data set its own folder.")
        if candidates:
            names[split], files[split] = next(iter(candidates.items()))
        elif split != "valid":
            got = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "an empty folder"
            raise _bad(folder, f"a file *_{split}.h5 or *_{split}.h5.gz", got, "Download it, or name another folder.")
    if len(set(names.values())) > 1:
        got = ", ".join(path.name for path in files.values())
        raise _bad(folder, "the splits of one data set", got, "Give each data set its own folder.")
    return files


def _sibling(folder: Path) -> str:
    """The suggestion of a folder beside one that does not exist, of almost the same name; "" if there is none."""
    try:
        names = [path.name for path in folder.parent.iterdir() if path.is_dir()]
    except OSError:
        return ""
    return did_you_mean(folder.name, names)


def read_recordings(path: str | os.PathLike[str], *, channels: int = 700, time_unit: TimeUnit = "check") -> Recordings:
    """Read one `.h5` or `.h5.gz` file in SHD's layout, and check all of it.

    Times become float32 before anything is computed with them: the float16 of SHD overflows at 65 504, which 66 s in
    milliseconds or 0.07 s in microseconds already exceed. Without `extra/keys` the classes are called "0", "1", ...
    A `.gz` is unpacked into a temporary file.

    Args:
        path: the file.
        channels: number of channels, at most 65 536.
        time_unit: of the times in the file: "s", "ms" or "us", converted to seconds. With "check" they are seconds, as
            in SHD, and refused if half of the recordings last more than a minute, which is what milliseconds and
            microseconds look like; "s" reads long recordings, too. Integers are read with a unit only.

    Raises:
        ArgumentError: channels is not a number of channels, or time_unit is no unit.
        DataError: the file is missing, empty, truncated, corrupt or not in the layout, its contents are impossible, or
            its times can hardly be seconds.

    Warns:
        UserWarning: with this unit half of the recordings last less than a millisecond.
    """
    parts = list(stream_recordings(path, channels=channels, time_unit=time_unit))
    if len(parts) == 1:
        return parts[0]
    ends = np.cumsum([len(part.times) for part in parts])
    offsets = [part.offsets[1:] + end - len(part.times) for part, end in zip(parts, ends, strict=True)]
    first = parts[0]
    return replace(
        first,
        times=np.concatenate([part.times for part in parts]),
        units=np.concatenate([part.units for part in parts]),
        offsets=np.concatenate([[0], *offsets]),
        labels=np.concatenate([part.labels for part in parts]),
        speakers=None if first.speakers is None else np.concatenate([part.speakers for part in parts]),
    )


def stream_recordings(
    path: str | os.PathLike[str],
    *,
    channels: int = 700,
    at_once: int | None = None,
    time_unit: TimeUnit = "check",
) -> Iterator[Recordings]:
    """Read a file as `read_recordings` does, `at_once` recordings at a time: for files that do not fit in memory.

    Layout, labels and speakers are checked before the first part is read, events with their part.
    """
    if not isinstance(channels, Integral) or not 1 <= channels <= 1 << 16:
        raise ArgumentError("channels", "an integer in 1..65536", channels)
    if time_unit not in TIME_UNITS:
        raise choice_error("time_unit", TIME_UNITS, time_unit)
    path, number = Path(path), at_once or _AT_ONCE
    with _opened(path) as file:
        # The whole layout first, since it takes no time, and reading the events does.
        times_set, units_set = _dataset(file, "spikes/times", path), _dataset(file, "spikes/units", path)
        labels = _integers(file, "labels", path)
        _check_numbers(path, {"labels": len(labels), "spikes/times": len(times_set), "spikes/units": len(units_set)})
        speakers = _integers(file, "extra/speaker", path) if "extra/speaker" in file else None
        if speakers is not None:
            _check_numbers(path, {"labels": len(labels), "extra/speaker": len(speakers)})
        classes = _classes(file, labels, path)
        for start in range(0, len(labels), number):
            some = slice(start, start + number)
            times, units, offsets = _events(times_set, units_set, some, channels, time_unit, path)
            of_these = None if speakers is None else speakers[some]
            yield Recordings(times, units, offsets, labels[some], of_these, classes, int(channels), path)


def _classes(file: _File, labels: NDArray[np.int64], path: Path) -> tuple[str, ...]:
    names = _dataset(file, "extra/keys", path)[:] if "extra/keys" in file else None
    if names is None:  # at most as many as SHD's uint16 labels can tell apart; a damaged label may be anything
        classes = tuple(map(str, range(min(max(int(labels.max()), 0), 65535) + 1)))
    else:
        classes = tuple(k.decode(errors="backslashreplace") if isinstance(k, bytes) else str(k) for k in names)
        if not classes:
            raise _bad(path, "the names of the classes in extra/keys", "none", _LAYOUT)
    _check_labels(labels, classes, path)
    return classes


def _events(
    times_set: _Dataset, units_set: _Dataset, some: slice, channels: int, time_unit: TimeUnit, path: Path
) -> tuple[NDArray[np.float32], NDArray[np.uint16], NDArray[np.int64]]:
    """Times, units and offsets of some recordings."""
    kinds, what = ("f", "floating-point seconds") if time_unit == "check" else ("fiu", "numbers")
    advice = f"{_LAYOUT} Integers are read with time_unit='ms' or 'us'." if time_unit == "check" else _LAYOUT
    raw_times, lengths = _ragged(times_set, some, kinds, what, path, advice)
    raw_units, unit_lengths = _ragged(units_set, some, "iu", "integer channels", path)
    differs = lengths != unit_lengths
    if differs.any():
        n = int(differs.argmax())
        got = f"{lengths[n]} times and {unit_lengths[n]} units in recording {n + some.start}"
        raise _bad(path, "as many times as units in each recording", got, _AGAIN)
    offsets = np.concatenate([[0], lengths.cumsum()])
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes inf, which the check then names
        # float16 and integers cannot be scaled as they are
        scaled = raw_times if _SECONDS[time_unit] == 1 else raw_times.astype(np.float64) * _SECONDS[time_unit]
        times = scaled.astype(np.float32, copy=False)
    _check_times(times, offsets, some.start, path)
    _check_unit(times, offsets, time_unit, path)
    _check_units(raw_units, offsets, some.start, channels, path)
    return times, raw_units.astype(np.uint16, copy=False), offsets


def _bad(path: Path, expected: str, got: str, advice: str) -> DataError:
    return DataError(f"{path}: expected {expected}, got {got}. {advice}")


@contextmanager
def _opened(path: Path) -> Iterator[_File]:
    """The open h5py file; errors of HDF5 while it is open become DataErrors."""
    with extra("bench", "reading recordings"):  # here, so that frames and synthetic data do not need it
        import h5py

    if not path.is_file():
        got = "a folder" if path.is_dir() else "nothing of that name"
        raise _bad(path, "a file of recordings", got, "Check the path, or download the file.")
    with ExitStack() as stack:
        stream: IO[bytes] = stack.enter_context(path.open("rb"))
        if path.suffix == ".gz":
            stream = stack.enter_context(_unpacked(stream, path))
        if stream.seek(0, os.SEEK_END) == 0:
            raise _bad(path, "recordings in HDF5", "an empty file", _AGAIN)
        stream.seek(0)
        is_hdf5 = stream.read(len(_HDF5_SIGNATURE)) == _HDF5_SIGNATURE
        try:
            yield stack.enter_context(h5py.File(stream, "r"))
        except DataError:
            raise
        except MemoryError as error:
            raise _bad(path, "recordings that fit into memory", f"more ({error})", _AGAIN) from error
        except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:  # h5py's, by the place of the damage
            got = f"a truncated or damaged one ({error})" if is_hdf5 else "something that is not HDF5"
            advice = _AGAIN if is_hdf5 else "Unpack it if it is an archive, or download it again."
            raise _bad(path, "an HDF5 file", got, advice) from error


@contextmanager
def _unpacked(packed: IO[bytes], path: Path) -> Iterator[IO[bytes]]:
    # A temporary file and not memory: the archives unpack to gigabytes, and HDF5 reads each byte about once.
    with tempfile.TemporaryFile() as unpacked:
        try:
            with gzip.GzipFile(fileobj=packed) as stream:
                shutil.copyfileobj(stream, unpacked, 1 << 20)
            unpacked.flush()
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise _bad(path, "a whole gzip file", f"a truncated or damaged one ({error})", _AGAIN) from error
        except OSError as error:
            advice = "Make room, unpack the file yourself, or set TMPDIR to another folder."
            raise _bad(path, f"room in {tempfile.gettempdir()} to unpack it", str(error), advice) from error
        yield unpacked


def _dataset(file: _File, name: str, path: Path) -> _Dataset:
    import h5py

    if name not in file:
        raise _bad(path, f"a dataset {name}", f"only {', '.join(map(str, file)) or 'an empty file'}", _LAYOUT)
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset) or len(dataset.shape or ()) != 1:
        raise _bad(path, f"a list of one dimension in {name}", str(dataset), _LAYOUT)
    if len(dataset) and dataset.id.get_storage_size() == 0:  # HDF5 makes up the entries that were never written
        raise _bad(path, f"the entries of {name}", f"{len(dataset):,} that were never written", _AGAIN)
    if len(dataset) > _MOST:
        raise _bad(path, f"at most {_MOST:,} entries in {name}", f"{len(dataset):,}", _AGAIN)
    result: _Dataset = dataset
    return result


def _integers(file: _File, name: str, path: Path) -> NDArray[np.int64]:
    dataset = _dataset(file, name, path)
    if dataset.dtype.kind not in "iu":
        raise _bad(path, f"integers in {name}", str(dataset.dtype), _LAYOUT)
    values: NDArray[np.integer[Any]] = dataset[:]
    if values.max(initial=0) > np.iinfo(np.int64).max:
        raise _bad(path, f"integers of 64 bits with a sign in {name}", str(values.max()), _AGAIN)
    return values.astype(np.int64)


def _ragged(
    dataset: _Dataset, some: slice, kinds: str, what: str, path: Path, advice: str = _LAYOUT
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Some entries of a variable-length dataset one after another, and the length of each."""
    import h5py

    element = h5py.check_vlen_dtype(dataset.dtype)
    if element is None or np.dtype(element).kind not in kinds:
        got = str(dataset.dtype if element is None else element)
        raise _bad(path, f"lists of variable length of {what} in {dataset.name[1:]}", got, advice)
    if not np.dtype(element).isnative:  # h5py 3.16 returns lists of these numbers with their bytes in the wrong order
        raise _bad(
            path, f"numbers in this machine's byte order in {dataset.name[1:]}", str(element), "Convert the file."
        )
    rows = dataset[some]
    return np.concatenate(rows), np.fromiter(map(len, rows), np.int64, len(rows))


def _check_numbers(path: Path, numbers: dict[str, int]) -> None:
    if len(set(numbers.values())) > 1:
        got = ", ".join(f"{number} in {name}" for name, number in numbers.items())
        raise _bad(path, "one entry per recording in each dataset", got, _AGAIN)
    if 0 in numbers.values():
        raise _bad(path, "recordings", "none", _AGAIN)


def _where(event: int, offsets: NDArray[np.int64], first: int) -> str:
    recording = int(offsets.searchsorted(event, side="right")) - 1
    return f"recording {recording + first}, event {event - offsets[recording]}"


def _check_times(times: NDArray[np.float32], offsets: NDArray[np.int64], first: int, path: Path) -> None:
    bad = ~((times >= 0) & np.isfinite(times))
    if bad.any():
        event = int(bad.argmax())
        got = f"{times[event]} in {_where(event, offsets, first)}"
        raise _bad(path, "finite times in seconds, >= 0", got, "Times are seconds since the start of the recording.")
    falls = times[1:] < times[:-1]
    starts = offsets[1:-1]
    falls[starts[(starts > 0) & (starts < len(times))] - 1] = False  # from one recording to the next, times may fall
    if falls.any():
        event = int(falls.argmax()) + 1
        got = f"{times[event]} s after {times[event - 1]} s in {_where(event, offsets, first)}"
        raise _bad(path, "ascending times in each recording", got, "Sort the events of each recording by time.")


def _check_unit(times: NDArray[np.float32], offsets: NDArray[np.int64], time_unit: TimeUnit, path: Path) -> None:
    ends = times[offsets[1:][np.diff(offsets) > 0] - 1]
    typical = float(np.median(ends)) if len(ends) else 1.0
    if time_unit == "check" and typical > _LONG:
        likely = "ms" if typical < 1000 * _LONG else "us"
        names = {"ms": "milliseconds", "us": "microseconds"}
        raise _bad(
            path,
            "times in seconds",
            f"recordings that last {typical:.4g} s (median), which looks like {names[likely]}",
            f"Pass time_unit={likely!r} (--time-unit {likely}) to convert them, or 's' if they are seconds.",
        )
    if time_unit in ("ms", "us") and 0 < typical < _SHORT:
        warnings.warn(
            f"{path}: with time_unit={time_unit!r} recordings last {typical:.3g} s (median): are their times seconds?",
            stacklevel=2,
        )


def _check_units(units: NDArray[Any], offsets: NDArray[np.int64], first: int, channels: int, path: Path) -> None:
    bad = (units < 0) | (units >= channels)
    if bad.any():
        event = int(bad.argmax())
        got = f"{units[event]} in {_where(event, offsets, first)}"
        raise _bad(path, f"units in 0..{channels - 1}", got, "Pass the number of channels of this data set.")


def _check_labels(labels: NDArray[np.int64], classes: tuple[str, ...], path: Path) -> None:
    bad = (labels < 0) | (labels >= len(classes))
    if bad.any():
        n = int(bad.argmax())
        got = f"label {labels[n]} in recording {n}"
        advice = f"{_AGAIN} If its labels are right, extra/keys must name all classes."
        raise _bad(path, f"labels of {counted(len(classes), 'class')}, 0..{len(classes) - 1}", got, advice)
