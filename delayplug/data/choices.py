"""The words that options of this room take, without heavy imports: the command line reads them for its help."""

from typing import Literal, get_args

Binning = Literal["grid", "events"]
BINNINGS: tuple[Binning, ...] = get_args(Binning)

HoldOut = Literal["auto", "speaker", "stratified"]
HOLD_OUTS: tuple[HoldOut, ...] = get_args(HoldOut)

DataSet = Literal["shd", "ssc"]
DATA_SETS: tuple[DataSet, ...] = get_args(DataSet)

Packing = Literal["zip", "gz"]
PACKINGS: tuple[Packing, ...] = get_args(Packing)
