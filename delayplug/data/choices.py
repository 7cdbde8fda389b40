"""The words that options of this room take, without heavy imports: the command line reads them for its help."""

from typing import Literal, get_args

Binning = Literal["grid", "events"]
BINNINGS: tuple[Binning, ...] = get_args(Binning)

# Of the times in a file; "check": seconds, which are looked at.
TimeUnit = Literal["check", "s", "ms", "us"]
TIME_UNITS: tuple[TimeUnit, ...] = get_args(TimeUnit)

HoldOut = Literal["auto", "speaker", "stratified"]
HOLD_OUTS: tuple[HoldOut, ...] = get_args(HoldOut)

DataSet = Literal["shd", "ssc"]
DATA_SETS: tuple[DataSet, ...] = get_args(DataSet)

Packing = Literal["zip", "gz"]
PACKINGS: tuple[Packing, ...] = get_args(Packing)
