"""Known data sets, recognised by the MD5 of their files, wherever these are and whatever their names.

Results are labelled with the name of their data set: SHD-R is not SHD. To add a data set, add an entry to `KNOWN_DATA`.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

# A file that `delayplug data download` writes beside its files: by name, the MD5 of each file and of its archive.
DOWNLOADED = "checksums.json"

_CC_BY = "CC BY 4.0"
_CRAMER = (
    'Cramer, Stradmann, Schemmel, Zenke, "The Heidelberg Spiking Data Sets for the Systematic Evaluation of Spiking '
    'Neural Networks", IEEE TNNLS 2020'
)
_COCHLEA = "Each recording of the audio was replaced by the response of an artificial cochlea to it"


@dataclass(frozen=True)
class KnownPart:
    """A file of a data set.

    Attributes:
        recordings: number of recordings.
        checksums: MD5 of the file, or of its archive, by the end of the name: ".h5", ".h5.gz" or ".h5.zip".
    """

    recordings: int
    checksums: Mapping[str, str]


@dataclass(frozen=True)
class KnownData:
    """A data set.

    Attributes:
        name: by which results on it are labelled.
        title: what it is, in one line.
        about: what else a user must know, in sentences.
        licence: the name of its licence.
        attribution: the source to cite, as the licence requires.
        prefix: the beginning of the names of its files.
        parts: its files, by "train", "test" and perhaps "valid".
    """

    name: str
    title: str
    about: str
    licence: str
    attribution: str
    prefix: str
    parts: Mapping[str, KnownPart]

    def describe(self) -> str:
        """The data set, its licence and its attribution, in one paragraph."""
        return f"{self.name}: {self.title}. {self.about} Licence: {self.licence}. {self.attribution}."


KNOWN_DATA = (
    KnownData(
        "SHD",
        "the Spiking Heidelberg Digits",
        "Spoken digits in German and English, 20 classes, 12 speakers, two of them in the test file only.",
        _CC_BY,
        _CRAMER,
        "shd",
        {
            "train": KnownPart(
                8156, {".h5.zip": "f3252aeb598ac776c1b526422d90eecb", ".h5.gz": "d47c9825dee33347913e8ce0f2be08b0"}
            ),
            "test": KnownPart(
                2264, {".h5.zip": "1503a5064faa34311c398fb0a1ed0a6f", ".h5.gz": "3062a80ec0c5719404d5b02e166543b1"}
            ),
        },
    ),
    KnownData(
        "SSC",
        "the Spiking Speech Commands",
        "The 35 words of Google's Speech Commands 0.02.",
        _CC_BY,
        _CRAMER,
        "ssc",
        {
            "train": KnownPart(75466, {".h5.zip": "d102be95e7144fcc0553d1f45ba94170"}),
            "valid": KnownPart(9981, {".h5.zip": "b4eee3516a4a90dd0c71a6ac23a8ae43"}),
            "test": KnownPart(20382, {".h5.zip": "a35ff1e9cffdd02a20eb850c17c37748"}),
        },
    ),
    KnownData(
        "SHD-R",
        "the Spiking Heidelberg Digits, regenerated",
        "The audio from which SHD was made, converted again by an independent implementation of the same cochlea model "
        "and split by the same rule. Results on it are labelled SHD-R, never SHD.",
        _CC_BY,
        f"Audio: Heidelberg Digits ({_CRAMER}). {_COCHLEA}",
        "shdr",
        {
            "train": KnownPart(
                8156, {".h5": "2661eaed8d044fb1b44dac6cf0aafa05", ".h5.gz": "b74fbf15cb850ab24b32fb8f87f7ad8d"}
            ),
            "test": KnownPart(
                2264, {".h5": "eab1bd6d04d709fd71964242b3e53c24", ".h5.gz": "034e23479a338b307f091eb7e67d914f"}
            ),
        },
    ),
    KnownData(
        "SC10",
        "ten words of Speech Commands as spikes, in SSC's layout",
        "It is not SSC: 10 words of 35, another split. Results on it are labelled SC10.",
        _CC_BY,
        f"Audio: Speech Commands 0.02, its test files (Warden, arXiv 1804.03209, 2018). {_COCHLEA}",
        "sc10",
        {
            "train": KnownPart(
                2755, {".h5": "a333997f4e855fa5b3621c3515c1e4e0", ".h5.gz": "303def3b5ce054ef8aed2855d7ae92a7"}
            ),
            "valid": KnownPart(
                545, {".h5": "d357aea71102a7b8a48f69ecf85fad42", ".h5.gz": "2914be85edc7e6faa6ecfbe64a71d627"}
            ),
            "test": KnownPart(
                774, {".h5": "b1e488948d9675d24e064a0371a977f6", ".h5.gz": "a894de0c0a35f6598f6954fad8046309"}
            ),
        },
    ),
    KnownData(
        "SFSD",
        "the Free Spoken Digits as spikes, in SHD's layout",
        "English digits, 10 classes, six speakers, two of them in the test file only. It is not SHD. Results on it are "
        "labelled SFSD.",
        "CC BY-SA 4.0",
        f"Audio: Free Spoken Digit Dataset (Zohar Jackson and contributors). {_COCHLEA}",
        "sfsd",
        {
            "train": KnownPart(
                1800, {".h5": "11621a5a1110d6e90a3508094b195445", ".h5.gz": "fb34be2a8f04a4a3c006ff6d6021b472"}
            ),
            "test": KnownPart(
                600, {".h5": "a166a1ce8f6c29f6a290be91035b2a7d", ".h5.gz": "c00fcb39afc05ca9718e68709a6f75e7"}
            ),
        },
    ),
)


class Recognised(NamedTuple):
    """The result of `recognise`.

    Attributes:
        data: the data set that all files of a folder belong to, or None.
        warnings: files whose names and checksums do not agree, in sentences.
    """

    data: KnownData | None
    warnings: tuple[str, ...]


class _Owner(NamedTuple):
    """The data set that a file belongs to, and which of its files it is: "train", "valid" or "test"."""

    data: KnownData
    part: str

    def __str__(self) -> str:
        return f"{self.data.name}'s {self.data.prefix}_{self.part}"


def recognise(files: Mapping[str, Path], checksums: Mapping[str, str]) -> Recognised:
    """Find out which data set a folder contains, by the MD5 of its files.

    A file that `delayplug data download` unpacked is recognised by the MD5 of its archive.

    Args:
        files: by "train", "valid" and "test", as `find_splits` returns them.
        checksums: the MD5 of these files.
    """
    owners = {part: _owner(path, checksums[part]) for part, path in files.items()}
    notes = (_mismatch(path, part, checksums[part], owners[part]) for part, path in files.items())
    warnings = tuple(filter(None, notes))
    names = {"" if owner is None or owner.part != part else owner.data.name for part, owner in owners.items()}
    if len(names) == 1 and names != {""}:
        return Recognised(next(owner.data for owner in owners.values() if owner is not None), warnings)
    parts = ", ".join(f"{part} is {owner or 'unknown'}" for part, owner in owners.items())
    if names != {""} and not warnings:
        warnings = (f"The files are not those of one data set: {parts}.",)
    return Recognised(None, warnings)


def md5(path: Path) -> str:
    """The MD5 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def downloaded(folder: Path) -> dict[str, str]:
    """The MD5 sums that `delayplug data download` stored in a folder, by file name; {} if there are none."""
    try:
        record = json.loads((folder / DOWNLOADED).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return {name: each for name, each in record.items() if isinstance(each, str)} if isinstance(record, dict) else {}


def _owner(path: Path, checksum: str) -> _Owner | None:
    by_checksum = {
        each: _Owner(data, name)
        for data in KNOWN_DATA
        for name, part in data.parts.items()
        for each in part.checksums.values()
    }
    record = downloaded(path.parent)
    archives = [record.get(f"{path.name}.{ending}") for ending in ("zip", "gz")]
    if record.get(path.name) != checksum:  # the file is not the one that was unpacked
        archives = []
    return next((by_checksum[each] for each in (checksum, *archives) if each in by_checksum), None)


def _mismatch(path: Path, part: str, checksum: str, owner: _Owner | None) -> str:
    """A warning, if the name of a file and its MD5 do not agree; else ""."""
    ending = ".h5.gz" if path.suffix == ".gz" else ".h5"
    prefix = path.name.removesuffix(f"_{part}{ending}")
    claimed = next((data for data in KNOWN_DATA if data.prefix == prefix), None)
    if owner is not None:
        if owner.part == part and claimed in (None, owner.data):
            return ""
    elif claimed is None:
        return ""
    got = f"{checksum}, that of {owner or 'no known file'}"
    if claimed is None:
        return f"{path.name}: expected {part} recordings, got the MD5 {got}."
    if part not in claimed.parts:
        return f"{path.name}: {claimed.name} has no {part} file, got the MD5 {got}."
    known = claimed.parts[part].checksums
    if ending in known:
        return f"{path.name}: expected the MD5 {known[ending]} of {claimed.name}, got {got}."
    sums = " or ".join(f"{each} ({prefix}_{part}{end})" for end, each in known.items())
    advice = f" Files that `delayplug data download {prefix}` unpacked are known." if owner is None else ""
    return f"{path.name}: of {claimed.name} only the MD5 of archives is known, {sums}; got {got}.{advice}"
