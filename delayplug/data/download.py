"""SHD and SSC from their site, or a mirror of it, checked and unpacked.

Cramer, Stradmann, Schemmel, Zenke, "The Heidelberg Spiking Data Sets for the Systematic Evaluation of Spiking Neural
Networks", IEEE TNNLS 2020. The files are on https://zenkelab.org/datasets/ under CC BY 4.0.
"""

import gzip
import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from ..errors import ArgumentError, DataError
from .choices import DATA_SETS as DATA_SETS, DataSet as DataSet, Packing as Packing

SITE = "https://zenkelab.org/datasets/"
MIRROR = "DELAYPLUG_DATA_URL"  # environment variable

# MD5 of what is on the site, as tonic (.h5.zip) and Norse (.h5.gz) know them.
CHECKSUMS: dict[str, str] = {
    "shd_train.h5.zip": "f3252aeb598ac776c1b526422d90eecb",
    "shd_test.h5.zip": "1503a5064faa34311c398fb0a1ed0a6f",
    "ssc_train.h5.zip": "d102be95e7144fcc0553d1f45ba94170",
    "ssc_valid.h5.zip": "b4eee3516a4a90dd0c71a6ac23a8ae43",
    "ssc_test.h5.zip": "a35ff1e9cffdd02a20eb850c17c37748",
    "shd_train.h5.gz": "d47c9825dee33347913e8ce0f2be08b0",
    "shd_test.h5.gz": "3062a80ec0c5719404d5b02e166543b1",
}

_RECORD = "checksums.json"
_PIECE = 1 << 20
_PACKET = 1 << 16  # what a broken connection can lose
_TRIES = 4
_SECONDS = 30.0  # without a byte

# Called with the file, the bytes that are there and those that there will be (None if unknown).
Progress = Callable[[str, int, int | None], None]


def download(
    name: DataSet,
    root: str | os.PathLike[str],
    *,
    url: str | None = None,
    packing: Packing = "zip",
    progress: Progress | None = None,
    checksums: dict[str, str] | None = None,
) -> Path:
    """Fetch what is not there yet, and return the folder, root/name.

    A download that breaks off goes on where it stopped, at once or when called again; a file appears under its name
    only when it is whole. What was unpacked before is checked against the checksum taken then.

    Args:
        name: "shd" or "ssc".
        root: folder of all data sets.
        url: folder of a mirror; the environment variable DELAYPLUG_DATA_URL by default, else the official site.
        packing: archives to take, "zip" or (SHD only) "gz".
        progress: told how far a file is.
        checksums: MD5 of the archives by name, for a mirror of other files in this layout.

    Raises:
        ArgumentError: a name or a packing that is not known.
        DataError: the site cannot be reached, a file is not what it should be, or it cannot be written.
    """
    if name not in DATA_SETS:
        raise ArgumentError("name", " or ".join(map(repr, DATA_SETS)), repr(name))
    known = CHECKSUMS if checksums is None else checksums
    archives = [file for file in known if file.startswith(f"{name}_") and file.endswith(f".h5.{packing}")]
    if not archives:
        raise ArgumentError("packing", f"one in which {name} is offered: zip", repr(packing))
    site = (url or os.environ.get(MIRROR) or SITE).rstrip("/") + "/"
    folder = Path(root) / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for archive in archives:
            _file(folder, archive, site, known[archive], progress or (lambda *_: None))
    except OSError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{folder}: expected a folder that can be written to, got {error}. {_room(folder)}") from error
    return folder


def _file(folder: Path, archive: str, site: str, checksum: str, progress: Progress) -> None:
    """One file, unless it is there."""
    unpacked = folder / archive.removesuffix(".zip").removesuffix(".gz")
    if unpacked.exists():
        _check_unpacked(unpacked)
        return
    packed = folder / archive
    fetch(site + archive, packed, checksum, progress)
    _unpack(packed, unpacked)
    _remember(unpacked)
    packed.unlink()


def fetch(url: str, path: Path, checksum: str, progress: Progress) -> None:
    """Download a file of this MD5 to `path`, through pooch; a broken connection is taken up again where it broke."""
    import pooch
    import requests

    def resumed(url: str, out: str, _: Any) -> None:
        _resume(url, path.with_name(f"{path.name}.part"), path.name, progress)
        path.with_name(f"{path.name}.part").replace(out)

    try:
        pooch.get_logger().setLevel("WARNING")
        pooch.retrieve(url, f"md5:{checksum}", path.name, path.parent, downloader=resumed)
    except requests.RequestException as error:
        advice = f"What is there is kept; call again to go on, or name a mirror with --url or {MIRROR}"
        raise DataError(f"{url}: expected {path.name}, got {_reason(error)}. {advice}") from error
    except ValueError as error:  # pooch's word for a wrong checksum; it has deleted the file
        raise DataError(f"{url}: expected a file with MD5 {checksum}, got another one ({error}). Try again") from error


def _resume(url: str, part: Path, name: str, progress: Progress) -> None:
    """Download to `part`, going on from what it holds, as often as the connection breaks."""
    import requests

    for attempt in range(_TRIES):
        there = part.stat().st_size if part.exists() else 0
        try:
            with requests.get(
                url, stream=True, timeout=_SECONDS, headers={"Range": f"bytes={there}-"} if there else {}
            ) as answer:
                if answer.status_code == 416:  # nothing is left to send
                    return
                answer.raise_for_status()
                if answer.status_code != 206:
                    there = 0  # the server does not know how to go on
                length = answer.headers.get("Content-Length")
                total = None if length is None else there + int(length)
                _write(answer, part, there, total, name, progress)
            return
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError):
            if attempt == _TRIES - 1:
                raise


def _write(answer: Any, part: Path, there: int, total: int | None, name: str, progress: Progress) -> None:
    import requests

    free = shutil.disk_usage(part.parent).free
    if total is not None and total - there > free:
        got = f"{free / 1e6:,.0f} MB free, {(total - there) / 1e6:,.0f} MB to come"
        raise DataError(f"{part.parent}: expected room for {name}, got {got}. Make room or choose another --root")
    with part.open("ab" if there else "wb") as file:
        progress(name, there, total)
        for piece in answer.iter_content(_PACKET):
            file.write(piece)
            there += len(piece)
            progress(name, there, total)
    if total is not None and there < total:  # some servers just stop
        raise requests.ConnectionError(f"{there:,} of {total:,} bytes")


def _unpack(packed: Path, unpacked: Path) -> None:
    """The one file in an archive, under its name only when it is whole."""
    temporary = unpacked.with_name(f"{unpacked.name}.{os.getpid()}.tmp")
    try:
        with _inside(packed, unpacked.name) as source, temporary.open("wb") as target:
            shutil.copyfileobj(source, target, _PIECE)
        temporary.replace(unpacked)
    except (zipfile.BadZipFile, gzip.BadGzipFile, EOFError, KeyError) as error:
        packed.unlink()
        raise DataError(f"{packed}: expected an archive of {unpacked.name}, got {error}. Download it again") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def _inside(packed: Path, name: str) -> IO[bytes]:
    if packed.suffix == ".gz":
        return gzip.open(packed)  # type: ignore[return-value]
    archive = zipfile.ZipFile(packed)
    member = next((m for m in archive.namelist() if Path(m).name == name), None)
    if member is None:
        raise KeyError(f"only {', '.join(archive.namelist()) or 'an empty archive'}")
    return archive.open(member)


def _remember(unpacked: Path) -> None:
    record = _recorded(unpacked.parent)
    record[unpacked.name] = _md5(unpacked)
    temporary = unpacked.with_name(f"{_RECORD}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(record, indent=1) + "\n")
    temporary.replace(unpacked.with_name(_RECORD))


def _check_unpacked(unpacked: Path) -> None:
    expected = _recorded(unpacked.parent).get(unpacked.name)
    if expected is None:
        return  # somebody else put it there
    found = _md5(unpacked)
    if found != expected:
        advice = "It has changed since it was unpacked: delete it and call again"
        raise DataError(f"{unpacked}: expected MD5 {expected}, got {found}. {advice}")


def _recorded(folder: Path) -> dict[str, str]:
    try:
        record = json.loads((folder / _RECORD).read_text())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _room(folder: Path) -> str:
    with suppress(OSError):
        return f"({shutil.disk_usage(folder).free / 1e6:,.0f} MB are free there.) Choose another --root"
    return "Choose another --root"


def _reason(error: Exception) -> str:
    response = getattr(error, "response", None)
    return f"{response.status_code} {response.reason}" if response is not None else f"no connection ({error})"
