"""Frames on disk: a file of recordings is binned once, and memory-mapped from then on.

CACHE/shd_train-0123456789abcdef/
    rows.npy        (E, C) counts, to be memory-mapped
    about.npz       lengths, labels, speakers, classes
    about.json      the source file, and how it was binned

CACHE/shd_train-0123456789abcdef.md5     the MD5 of a source file
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._extras import extra
from .._files import replace_file
from ..errors import DataError, shortened
from .choices import Binning, TimeUnit
from .frames import Frames, packed
from .known_data import md5
from .recordings import Recordings, stream_recordings

CACHE = "DELAYPLUG_CACHE"  # environment variable

_FORMAT = 2

# Called with the number of recordings that are binned.
Progress = Callable[[int], None]

# The rows and lengths of each part of a file.
_Binned = Callable[[Iterable[Recordings]], Iterator[tuple[NDArray[np.integer[Any]], NDArray[np.int64]]]]


def cache_folder() -> Path:
    """DELAYPLUG_CACHE, or the user's cache folder."""
    with extra("bench", "the cache of recordings"):
        import pooch

    return Path(os.environ.get(CACHE) or pooch.os_cache("delayplug"))


def cached_frames(
    path: str | os.PathLike[str],
    *,
    step_ms: float = 10.0,
    pool: int = 5,
    binning: Binning = "grid",
    channels: int = 700,
    time_unit: TimeUnit = "check",
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Frames:
    """The frames of a file in SHD's layout, binned at the first call and memory-mapped from then on.

    Another file, a changed one, or other options make another entry of the cache. Several processes may call this at
    the same time: each bins the file, and the entry of the first one to finish is used. Only the parts being read are
    in memory; the operating system decides how much of the mapped file stays there.

    Args:
        path: the `.h5` or `.h5.gz` file.
        step_ms, pool, binning: as for `bin_recordings`.
        channels: of the recordings.
        time_unit: of the times in the file, as for `read_recordings`.
        cache: folder; DELAYPLUG_CACHE or the user's cache folder by default.
        progress: called with the number of recordings that are binned, while the file is being binned.

    Raises:
        DataError: the file is not usable, or the cache cannot be written.
    """
    path, step_ms, pool, channels = Path(path), float(step_ms), int(pool), int(channels)
    about = {  # all that identifies the entry
        "step_ms": step_ms,
        "pool": pool,
        "binning": binning,
        "channels": channels,
        "time_unit": time_unit,
        **_version(path),
        "format": _FORMAT,
    }
    entry = (cache or cache_folder()) / _entry_name(path, about)
    if not entry.exists():
        try:
            recordings = stream_recordings(path, channels=channels, time_unit=time_unit)
            binned = partial(packed, step_ms=step_ms, pool=pool, binning=binning)
            _make(entry, about, partial(_write, recordings, binned, progress or (lambda _: None)))
        except OSError as error:
            advice = f"Set {CACHE} to a folder with room that can be written to"
            raise DataError(f"{entry.parent}: expected a cache that can be written, got {error}. {advice}") from error
    return _read(entry)


def cached_md5(path: str | os.PathLike[str], *, cache: Path | None = None) -> str:
    """The MD5 of a file. It is computed at the first call and cached; a changed file is hashed again.

    Args:
        path: the file.
        cache: folder; DELAYPLUG_CACHE or the user's cache folder by default. If it is not writable, nothing is cached.

    Raises:
        DataError: the file cannot be read.
    """
    path = Path(path)
    entry = (cache or cache_folder()) / f"{_entry_name(path, _version(path))}.md5"
    with suppress(OSError, UnicodeDecodeError):
        if re.fullmatch("[0-9a-f]{32}", known := entry.read_text(encoding="utf-8")):
            return known
    try:
        checksum = md5(path)
    except OSError as error:
        raise DataError(f"{path}: expected a file of recordings, got {error}. Check the path.") from error
    with suppress(OSError):
        entry.parent.mkdir(parents=True, exist_ok=True)
        replace_file(entry, checksum)
    return checksum


def _version(path: Path) -> dict[str, object]:
    """What distinguishes a file from other files, and from its earlier versions."""
    try:
        stat = path.stat()
    except OSError as error:
        raise DataError(f"{path}: expected a file of recordings, got {error}. Check the path.") from error
    # Unlike the modification time, ctime cannot be set: it shows that a file of the same size took its place.
    return {
        "file": str(path.resolve()),
        "bytes": stat.st_size,
        "changed": [stat.st_mtime_ns, stat.st_ctime_ns],
    }


def _entry_name(path: Path, about: Mapping[str, object]) -> str:
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
    return f"{path.name.partition('.')[0]}-{key}"


def _make(entry: Path, about: Mapping[str, object], write: Callable[[Path], None]) -> None:
    entry.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{entry.name}.", dir=entry.parent))
    try:
        write(temporary)
        (temporary / "about.json").write_text(json.dumps(about, indent=1) + "\n")
        try:
            temporary.rename(entry)  # atomic: the entry is complete or absent
        except OSError:
            if not entry.exists():
                raise  # if it does exist, another process was faster
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write(recordings: Iterator[Recordings], binned: _Binned, progress: Progress, folder: Path) -> None:
    """Bin part by part into files, and join them when the number of rows is known."""
    without_events: list[Recordings] = []
    parts: list[tuple[Path, tuple[int, ...]]] = []
    lengths: list[NDArray[np.int64]] = []
    kinds: list[np.dtype[np.integer[Any]]] = [np.dtype(np.uint8)]

    def read() -> Iterator[Recordings]:
        for part in recordings:
            # Copies: a view, even an empty one, would hold all events in memory.
            without_events.append(replace(part, times=part.times[:0].copy(), units=part.units[:0].copy()))
            yield part

    for i, (rows, length) in enumerate(binned(read())):
        kinds.append(rows.dtype)
        lengths.append(length)
        parts.append((folder / f"part{i}.npy", rows.shape))
        np.save(parts[-1][0], rows)
        progress(sum(map(len, lengths)))
    channels = parts[0][1][1]
    # An empty file cannot be mapped: without any event there is one row that belongs to no recording.
    height = max(1, sum(shape[0] for _, shape in parts))
    kind = np.result_type(*kinds)
    about_rows = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": (height, channels)}
    with (folder / "rows.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, about_rows)
        for part_path, _ in parts:
            np.load(part_path).astype(kind).tofile(file)
            part_path.unlink()
        if not any(shape[0] for _, shape in parts):
            np.zeros((height, channels), kind).tofile(file)
    labels = np.concatenate([part.labels for part in without_events])
    speakers = [part.speakers for part in without_events if part.speakers is not None]
    save = partial(np.savez, folder / "about.npz", lengths=np.concatenate(lengths), labels=labels)
    classes = np.array(without_events[0].classes)
    if speakers:
        save(classes=classes, speakers=np.concatenate(speakers))
    else:
        save(classes=classes)


def _read(entry: Path) -> Frames:
    try:
        # Copy-on-write: torch takes writable memory only, and changes must not reach the file.
        rows = np.load(entry / "rows.npy", mmap_mode="c")
        with np.load(entry / "about.npz") as about:
            lengths, labels, classes = about["lengths"], about["labels"], tuple(map(str, about["classes"].tolist()))
            speakers = about.get("speakers")
        frames = Frames.packed(rows, lengths, labels, classes, speakers)
        if max(1, int(lengths.sum())) != len(rows):
            raise ValueError(f"{len(rows)} rows, of recordings that have {int(lengths.sum())}")
    except Exception as error:  # whatever numpy and torch raise for a damaged file
        got = f"a damaged entry ({shortened(str(error).partition(chr(10))[0])})"
        raise DataError(f"{entry}: expected binned recordings, got {got}. Delete it") from error
    return frames
