"""Download of SHD and SSC from their site or a mirror, with checksums, unpacked.

Cramer, Stradmann, Schemmel, Zenke, "The Heidelberg Spiking Data Sets for the Systematic Evaluation of Spiking Neural
Networks", IEEE TNNLS 2020. The files are on https://zenkelab.org/datasets/ under CC BY 4.0.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from .._extras import extra
from .._files import replace_file
from ..errors import ArgumentError, DataError, choice_error
from .choices import DATA_SETS as DATA_SETS, DataSet as DataSet, Packing as Packing
from .known_data import DOWNLOADED, KNOWN_DATA, downloaded, md5

if TYPE_CHECKING:
    import requests

SITE = "https://zenkelab.org/datasets/"
MIRROR = "DELAYPLUG_DATA_URL"  # environment variable

# MD5 of the files on the site, as tonic (.h5.zip) and Norse (.h5.gz) have them.
CHECKSUMS: dict[str, str] = {
    f"{data.prefix}_{part}{ending}": checksum
    for data in KNOWN_DATA
    if data.prefix in DATA_SETS
    for part, known in data.parts.items()
    for ending, checksum in known.checksums.items()
    if ending != ".h5"
}

_PIECE = 1 << 20
_PACKET = 1 << 16  # bytes; at most so many are lost when a connection breaks
_TRIES = 4
_TIMEOUT = 30.0  # seconds without a byte

# Called with the name of the file, the bytes received and those in total (None if unknown).
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
    """Fetch the files that are missing, and return the folder, root/name.

    An interrupted download is resumed where it stopped, at once or by the next call; a file appears under its name only
    when it is complete. Files unpacked earlier are checked against the checksum taken then.

    Args:
        name: "shd" or "ssc".
        root: folder of all data sets.
        url: folder of a mirror; the environment variable DELAYPLUG_DATA_URL by default, else the official site.
        packing: archives to take, "zip" or (SHD only) "gz".
        progress: called with the name of a file, the bytes received and those in total (None if unknown).
        checksums: MD5 of the archives by name, for a mirror of other files in this layout.

    Raises:
        ArgumentError: `name` or `packing` is unknown.
        DataError: the site cannot be reached, a checksum is wrong, or a file cannot be written.
    """
    if name not in DATA_SETS:
        raise choice_error("name", DATA_SETS, name)
    known = CHECKSUMS if checksums is None else checksums
    archives = [file for file in known if file.startswith(f"{name}_") and file.endswith(f".h5.{packing}")]
    if not archives:
        raise ArgumentError("packing", f"one in which {name} is offered: zip", repr(packing))
    with extra("bench", "downloading"):  # before there is a folder
        import pooch  # noqa: F401
        import requests  # noqa: F401
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
    """Fetch and unpack one file, unless it is there."""
    unpacked = folder / archive.removesuffix(".zip").removesuffix(".gz")
    if unpacked.exists():
        _check_unpacked(unpacked)
        return
    packed = folder / archive
    fetch(site + archive, packed, checksum, progress)
    _unpack(packed, unpacked)
    _remember(unpacked, archive, checksum)
    packed.unlink()


def fetch(url: str, path: Path, checksum: str, progress: Progress) -> None:
    """Download a file of this MD5 to `path`, through pooch; a broken connection is resumed where it broke."""
    with extra("bench", "downloading"):
        import pooch
        import requests

    def resumed(url: str, out: str, _: object) -> None:
        _resume(url, path.with_name(f"{path.name}.part"), path.name, progress)
        path.with_name(f"{path.name}.part").replace(out)

    try:
        pooch.get_logger().setLevel("WARNING")
        pooch.retrieve(url, f"md5:{checksum}", path.name, path.parent, downloader=resumed)
    except requests.RequestException as error:
        advice = f"The part received so far stays; call again to go on, or name a mirror with --url or {MIRROR}"
        answer = error.response
        got = f"no connection ({error})" if answer is None else f"{answer.status_code} {answer.reason}"
        raise DataError(f"{url}: expected {path.name}, got {got}. {advice}") from error
    except ValueError as error:  # by pooch, for a wrong checksum; it has deleted the file
        raise DataError(f"{url}: expected a file with MD5 {checksum}, got another one ({error}). Try again") from error


def _resume(url: str, part: Path, name: str, progress: Progress) -> None:
    """Download to `part`, resuming behind the bytes that it holds, as often as the connection breaks."""
    import requests

    for attempt in range(_TRIES):
        there = part.stat().st_size if part.exists() else 0
        try:
            with requests.get(
                url, stream=True, timeout=_TIMEOUT, headers={"Range": f"bytes={there}-"} if there else {}
            ) as answer:
                if answer.status_code == 416:  # nothing is left to send
                    return
                answer.raise_for_status()
                if answer.status_code != 206:
                    there = 0  # the server cannot resume
                length = answer.headers.get("Content-Length")
                total = None if length is None else there + int(length)
                _write(answer, part, there, total, name, progress)
            return
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError):
            if attempt == _TRIES - 1:
                raise


def _write(answer: requests.Response, part: Path, there: int, total: int | None, name: str, progress: Progress) -> None:
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
    if total is not None and there < total:  # some servers end the connection without an error
        raise requests.ConnectionError(f"{there:,} of {total:,} bytes")


def _unpack(packed: Path, unpacked: Path) -> None:
    """Unpack the one file in an archive; it appears under its name only when it is complete."""
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


def _inside(packed: Path, name: str) -> IO[bytes] | gzip.GzipFile:
    if packed.suffix == ".gz":
        return gzip.GzipFile(packed)
    archive = zipfile.ZipFile(packed)
    member = next((m for m in archive.namelist() if Path(m).name == name), None)
    if member is None:
        raise KeyError(f"only {', '.join(archive.namelist()) or 'an empty archive'}")
    return archive.open(member)


def _remember(unpacked: Path, archive: str, checksum: str) -> None:
    record = downloaded(unpacked.parent) | {unpacked.name: md5(unpacked), archive: checksum}
    replace_file(unpacked.with_name(DOWNLOADED), json.dumps(record, indent=1) + "\n")


def _check_unpacked(unpacked: Path) -> None:
    expected = downloaded(unpacked.parent).get(unpacked.name)
    if expected is None:
        return  # not unpacked by this program
    actual = md5(unpacked)
    if actual != expected:
        advice = "It has changed since it was unpacked: delete it and call again"
        raise DataError(f"{unpacked}: expected MD5 {expected}, got {actual}. {advice}")


def _room(folder: Path) -> str:
    with suppress(OSError):
        return f"({shutil.disk_usage(folder).free / 1e6:,.0f} MB are free there.) Choose another --root"
    return "Choose another --root"
