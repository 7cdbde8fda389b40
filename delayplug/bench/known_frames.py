"""Data sets whose results can be compared, recognised by the checksums of their frames.

A record names its data by a path on the computer that made it. The checksums of the frames (`task.data_checksums`) tell
which data that was. `delayplug.data.known_data` describes the data sets. Imports no torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..data.known_data import KNOWN_DATA
from .config import SYNTHETIC

Checksums = Mapping[tuple[float, int, str] | tuple[()], Mapping[str, str]]


@dataclass(frozen=True)
class KnownFrames:
    """A data set as networks receive it: binned into frames.

    Attributes:
        name: by which results on it are labelled.
        folder: the name of its folder in commands that documentation shows.
        about: what it is, its licence and its attribution.
        recordings: the number of recordings of each file.
        classes: the number of classes.
        channels: of a recording, before pooling.
        frames: SHA-256 of the frames of each file, by (step_ms, pool, binning); by () for the embedded task, which is
            not binned.
    """

    name: str
    folder: str
    about: str
    recordings: Mapping[str, int]
    classes: int
    channels: int
    frames: Checksums

    @property
    def dataset(self) -> str:
        """The value of `--dataset` in commands that documentation shows."""
        return SYNTHETIC if self.folder == SYNTHETIC else f"data/{self.folder}"


def _in_files(name: str, classes: int, frames: Checksums) -> KnownFrames:
    """The entry of a data set of 700 channels from `KNOWN_DATA`."""
    data = next(data for data in KNOWN_DATA if data.name == name)
    recordings = {name: part.recordings for name, part in data.parts.items()}
    return KnownFrames(name, data.prefix, data.describe(), recordings, classes, 700, frames)


KNOWN_FRAMES = (
    _in_files(
        "SHD-R",
        20,
        {
            (10.0, 5, "grid"): {
                "train": "b7a40f2739b448215ac5bab7e0b4931e4610e7c2ef37f75afe238fad0deeebf2",
                "test": "73998308ef74bc97e3931b184661c29516f1ebbc8adf5f7a0efab4ca4b0068b4",
            },
            (4.0, 5, "grid"): {
                "train": "c7a5a21a20fe4d09fe94acc8b2955aafdec2df930c2fb1864d29e4c755d68284",
                "test": "fee03fa7696d1fcc1d51aa9ebcd9f1d2ad0f2116624ef67da5e523f01079370e",
            },
            (10.0, 5, "events"): {
                "train": "a938d8a8589666309bc3ce00e59d57a14bc0abfcbc5acea6dc3dd21c67e27a53",
                "test": "2c19040fc333987cd51aa52d92da2bab6559dd4c2982a3218819106b224a8bad",
            },
        },
    ),
    _in_files(
        "SC10",
        10,
        {
            (10.0, 5, "grid"): {
                "train": "ba82c050675a212d90c197c721556610970391b02a954a66f942fb4ec0c724a2",
                "valid": "2842ed0e6d51f1ef089f8cab9295399393ce3e756659ce6424ddb2aef29b78ab",
                "test": "f2acf005608abff54666c45b1c2a1470843f46e9dc53a28af180866255b00b16",
            },
            (4.0, 5, "grid"): {
                "train": "47a69b57e87ae3e83e1bb50edd2f57d005f6f154b9b71ec1be7b85a5a18ac216",
                "valid": "cf8a91a76254f525ab18e0b27308a62c4ed7a73763ec430dd57c18bf79e234e5",
                "test": "cf389b6b3ea01ff42854598ff57090e43f080f4ef6b9660de1f465aeefd6a0d6",
            },
            (10.0, 5, "events"): {
                "train": "0195a8cf030c8b9791f09cdb9e01118eef245ce70257b5fb90228d276430a54b",
                "valid": "3a21829d264547fa84e687622f4dc6d0c8a4f91c0a18f9372522f717f96bd558",
                "test": "ceeb74936a718f96384a04d82df8d1c1f13bfe7003c0879e3f0a6cd8a016b1a9",
            },
        },
    ),
    _in_files(
        "SFSD",
        10,
        {
            (10.0, 5, "grid"): {
                "train": "9f1f97274c057ac5fbfc9b6a6e630051386863c637c8ec8a9623b9ee7a98f0ab",
                "test": "6828b386128d667d6322137062a1db63689e0f0d973bb5a5fd57c3a18254e1b0",
            },
            (4.0, 5, "grid"): {
                "train": "a9392220b0f250809c8da796b024c683f1d818d583b2fa77715c4cfc360675b9",
                "test": "b9e5d85fc272fe3adbb084f2c8c327621921be4753cd36eecee86e9178602cbd",
            },
            (10.0, 5, "events"): {
                "train": "19d32a18dfad7f804493d7873c36d9f5eac746387e392aced015089d09e07689",
                "test": "3b168bfaf49a8d48038acc6a38ca11adf3479e129b9b71b3cd192d0a0b5f0707",
            },
        },
    ),
    KnownFrames(
        "embedded task",
        SYNTHETIC,
        "embedded task: generated, ten classes that differ only in the timing of their spikes. Licence: MIT, as all of "
        "delayplug.",
        {"train": 1000, "valid": 300, "test": 1000},
        10,
        20,
        {
            (): {
                "train": "f7155ef73a6e68eb7405cf62ba3e3052f6e9328eb8d793029438e8059bc8b6bb",
                "valid": "979deabd15334e8b17caa2b073f8b80c93882395356eb470682e02ff6059e111",
                "test": "9b72a12ff300bd81bf67e2860e1ea33f569c9690d765ebca4ce916475bb3700c",
            },
        },
    ),
)


def known_frames(config: Mapping[str, Any], checksums: Mapping[str, str] | None) -> KnownFrames | None:
    """The data set that a run was made with, by the checksums of its frames; None if it is not among `KNOWN_FRAMES`.

    Args:
        config: of the run, as in its record; only the fields that decide the binning are used.
        checksums: of the files that the run read; the training file must be among them.
    """
    if not checksums or "train" not in checksums:
        return None
    frames = () if config["dataset"] == SYNTHETIC else (config["step_ms"], config["pool"], config["binning"])
    for known in KNOWN_FRAMES:
        there = known.frames.get(frames, {})
        if all(there.get(name) == checksum for name, checksum in checksums.items()):
            return known
    return None
