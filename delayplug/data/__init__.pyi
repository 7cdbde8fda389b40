# The public names of delayplug.data and where each of them is defined. `data/__init__.py` reads this file, too.

from .augment import Augmented as Augmented
from .cache import cached_frames as cached_frames
from .choices import BINNINGS as BINNINGS, Binning as Binning, HoldOut as HoldOut, TimeUnit as TimeUnit
from .frames import Frames as Frames, bin_recordings as bin_recordings
from .recordings import (
    Recordings as Recordings,
    find_splits as find_splits,
    read_recordings as read_recordings,
    stream_recordings as stream_recordings,
)
from .splits import hold_out as hold_out
