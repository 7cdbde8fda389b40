"""Recordings of spikes: reading them, binning them into frames, holding out a part for validation."""

from .augment import Augmented
from .cache import cached_frames
from .frames import BINNINGS, Binning, Frames, bin_recordings
from .recordings import Recordings, find_splits, read_recordings, stream_recordings
from .splits import HoldOut, hold_out

__all__ = [
    "BINNINGS",
    "Augmented",
    "Binning",
    "Frames",
    "HoldOut",
    "Recordings",
    "bin_recordings",
    "cached_frames",
    "find_splits",
    "hold_out",
    "read_recordings",
    "stream_recordings",
]
