"""Which runs judge a setting, and how many of them."""

from pathlib import Path

import pytest

from delayplug import ArgumentError, DataError
from delayplug.bench.search.judging import Judge, Repetition, judge_of, rungs, survivors
from delayplug.bench.search.sweep_config import SweepOptions
from tests.bench.runs import write_recordings
from tests.bench.search.sweeps import SEARCH, SMALL, config_of


def test_rungs() -> None:
    assert rungs(1, 3) == (1,)
    assert rungs(2, 3) == (1, 2)
    assert rungs(5, 3) == (1, 3, 5)
    assert rungs(10, 3) == (1, 3, 9, 10)
    assert rungs(8, 2) == (1, 2, 4, 8)
    assert rungs(10, 1) == (10,)
    assert [survivors(n, 3) for n in (1, 3, 4, 30)] == [1, 1, 2, 10]


def test_the_synthetic_task_has_validation_recordings(tmp_path: Path) -> None:
    config = config_of(tmp_path, f"seeds = [4, 2]{SMALL}{SEARCH}")
    judge = judge_of(config)
    assert judge.repetitions == (Repetition(None, 4), Repetition(None, 2))
    values: dict[str, object] = {"lr": 0.01, "dropout": 0.0}
    run = judge.run(config, values, judge.repetitions[0])
    assert (run.protocol, run.seed, run.lr) == ("validation", 4, 0.01)
    assert judge.final_run(config, values, 7).protocol == "heldout"
    assert judge.text == "validation recordings, seeds 2, 4"
    with pytest.raises(ArgumentError, match="folds: expected none for synthetic, which has validation recordings"):
        judge_of(config_of(tmp_path, f"folds = [0]{SMALL}{SEARCH}"))


def test_a_folder_has_a_validation_file_or_speakers(tmp_path: Path) -> None:
    data = tmp_path / "digits"
    data.mkdir()
    write_recordings(data / "digits_train.h5", 40, speakers=5)
    (data / "digits_test.h5").write_bytes(b"damaged")
    text = f"dataset = '{data}'\nseeds = [0, 1]{SMALL}{SEARCH}"
    config = config_of(tmp_path, text)
    judge = judge_of(config)
    assert judge.repetitions == tuple(Repetition(fold, seed) for seed in (0, 1) for fold in range(3))
    assert judge.rungs == (1, 3, 6)
    run = judge.run(config, {}, judge.repetitions[4])
    assert (run.protocol, run.fold, run.seed) == ("speakers", 1, 1)
    final = judge.final_run(config, {}, 3)
    assert (final.protocol, final.refit, final.seed, final.fold) == ("heldout", True, 3, 0)
    assert judge.text == "speakers held out of training, folds 0, 1, 2, seeds 0, 1"
    some = judge_of(config_of(tmp_path, f"folds = [2, 0]\n{text}"))
    assert some.repetitions[:2] == (Repetition(2, 0), Repetition(0, 0))
    with pytest.raises(ArgumentError, match=r"folds: expected 0 to 2, of which .* has speakers, got \[0, 3\]"):
        judge_of(config_of(tmp_path, f"folds = [0, 3]\n{text}"))

    write_recordings(data / "digits_valid.h5", 4)
    official = judge_of(config)
    assert official.protocol == "validation"
    assert official.final_run(config, {}, 0).protocol == "official"


def test_data_without_speakers(tmp_path: Path) -> None:
    write_recordings(tmp_path / "d_train.h5", 10)
    write_recordings(tmp_path / "d_test.h5", 4)
    with pytest.raises(DataError, match="expected three speakers or more in the training file"):
        judge_of(config_of(tmp_path, f"dataset = '{tmp_path}'{SMALL}{SEARCH}"))


def test_the_number_of_runs() -> None:
    """30 settings and the preset's on one fold; ten and the preset's on two more; four and the preset's on all five."""
    judge = Judge("speakers", tuple(Repetition(fold, 0) for fold in range(5)), (1, 3, 5), {})
    assert judge.planned(SweepOptions()) == 31 + 2 * 11 + 2 * 5 + 5
    assert judge.planned(SweepOptions(baseline=False, halving=3, final_seeds=())) == 30 + 2 * 10 + 2 * 4
