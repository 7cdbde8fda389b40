"""The words of the options are those that the functions take, and can be read without torch."""

import subprocess
import sys
from typing import get_args

import numpy as np
import pytest

import delayplug.data
from delayplug.data import bin_recordings, choices, download, hold_out, read_recordings


def test_words_are_read_without_heavy_imports() -> None:
    code = "import sys; from delayplug.data import BINNINGS, Binning, HoldOut, choices; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert not {"torch", "numpy", "h5py", "matplotlib", "pooch"} & set(run.stdout.split())


def test_names_are_the_same_objects_wherever_they_are_imported_from() -> None:
    assert delayplug.data.Binning is choices.Binning
    assert delayplug.data.BINNINGS is choices.BINNINGS
    assert delayplug.data.HoldOut is choices.HoldOut
    assert delayplug.data.TimeUnit is choices.TimeUnit
    assert download.DataSet is choices.DataSet
    assert download.Packing is choices.Packing


@pytest.mark.parametrize("binning", choices.BINNINGS)
def test_every_binning_is_taken(write, binning) -> None:
    assert len(bin_recordings(read_recordings(write()), binning=binning)) == 3


@pytest.mark.filterwarnings("ignore:.*are their times seconds")
@pytest.mark.parametrize("time_unit", choices.TIME_UNITS)
def test_every_unit_of_time_is_taken(write, time_unit) -> None:
    assert len(read_recordings(write(), time_unit=time_unit)) == 3


@pytest.mark.parametrize("by", choices.HOLD_OUTS)
def test_every_way_of_holding_out_is_taken(by) -> None:
    train, valid = hold_out([0, 1] * 6, np.arange(12) // 4, by=by)
    assert len(train) + len(valid) == 12


def test_every_data_set_and_packing_is_offered() -> None:
    offered = {(file.partition("_")[0], file.rpartition(".")[2]) for file in download.CHECKSUMS}
    assert {name for name, _ in offered} == set(choices.DATA_SETS) == set(get_args(choices.DataSet))
    assert {packing for _, packing in offered} == set(choices.PACKINGS)
