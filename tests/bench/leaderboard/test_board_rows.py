"""Rows of the leaderboard."""

import pytest

from delayplug.bench.config import RunConfig
from delayplug.bench.leaderboard.board_rows import BoardRow, Entry, board_rows
from tests.bench.leaderboard.records import record


def rows(*records: object, by: str = "us") -> list[BoardRow]:
    return board_rows(Entry(each, by) for each in records)  # type: ignore[arg-type]


def test_seeds_of_a_method_are_one_row_and_the_best_comes_first() -> None:
    runs = [record(2110, seed=0), record(2124, seed=1), record(2117, seed=2)]
    worse, other = record(2000, delays="fixed"), record(2117, backend="norse")
    first, second, third = rows(worse, *runs, other)
    assert [row.runs.delays for row in (first, second, third)] == ["learned", "learned", "fixed"]
    ours = first if first.runs.backend == "spikingjelly" else second
    assert ours.seeds == [0, 1, 2]
    assert ours.accuracy == "93.51 ± 0.77"
    assert third.accuracy == "88.34 ± 1.32"
    assert len(board_rows([Entry(runs[0], "us"), Entry(runs[0], "them")])) == 2


def test_methods_that_differ_in_a_setting_are_different_rows() -> None:
    made = rows(record(seed=0), record(seed=1, lr=0.001), record(seed=2, compile=True), record(protocol="heldout"))
    assert sorted((row.method, row.runs.protocol, row.seeds) for row in made) == [
        ("shd: learned", "heldout", [0]),
        ("shd: learned", "paper", [0, 2]),
        ("shd: learned, lr 0.001", "paper", [1]),
    ]
    (row,) = rows(record(fan_in=10, hidden=(128, 64), delays="constant"))
    assert row.method == "shd: constant-sparse10, hidden 128-64"


def test_the_command_makes_all_seeds() -> None:
    first = record(seed=3)
    first["config"]["dataset"] = "/home/me/digits"
    (row,) = rows(first, record(seed=1, dataset="elsewhere"))
    assert row.commands == [
        "delayplug bench run --preset shd --dataset data/shdr --backend spikingjelly --delays learned --seeds 1 3 "
        "--protocol paper"
    ]


def test_speakers_held_out_are_a_column_of_the_method() -> None:
    folds = [
        record(hits, protocol="speakers", fold=fold, seed=seed, tested=1600)
        for fold, seed, hits in ((0, 0, 1300), (1, 0, 1200), (0, 1, 1320), (1, 1, 1190))
    ]
    made = rows(record(seed=3), record(protocol="heldout", refit=True), *folds, record(protocol="paper", lr=0.001))
    columns = {(row.method, row.runs.protocol): row.on_speakers for row in made}
    mean, half = 100 * 5010 / 6400, 12.706 * 100 * 57.5 / 1600  # of two folds, whose means are 115 recordings apart
    assert columns["shd: learned", "paper"] == ""  # it is shown once
    found = [float(text) for text in columns["shd: learned", "heldout, refit"].split(" ± ")]
    assert found == pytest.approx([mean, half], abs=0.01)
    assert columns["shd: learned, lr 0.001", "paper"] == ""
    (first, second) = next(row for row in made if row.runs.held).commands
    assert "--seeds 0 --refit" in first
    assert "--seeds 0 1" in second
    assert "--folds 0 1" in second
    (alone,) = rows(*folds)
    assert (alone.runs.protocol, alone.accuracy, alone.seeds) == ("", "", [0, 1])
    assert len(alone.commands) == 1


def test_each_command_makes_the_runs_that_there_are_and_no_others() -> None:
    held = [((0, 0), ()), ((1, 0), ()), ((0, 2), ()), ((1, 2), ()), ((4, 1), ()), ((0, 0), (6, 8))]
    runs = [
        record(1300, protocol="speakers", fold=fold, seed=seed, held_speakers=list(speakers), tested=1600)
        for (fold, seed), speakers in held
    ]
    (row,) = rows(*runs)
    asked = [command.split("--protocol speakers ")[1] for command in row.commands]
    seeds = [command.split("--seeds ")[1].split(" --")[0] for command in row.commands]
    assert list(zip(seeds, asked, strict=True)) == [
        ("0 2", "--folds 0 1"),
        ("1", "--folds 4"),
        ("0", "--held-speakers 6 8"),
    ]


def test_costs() -> None:
    (row,) = rows(record())
    assert row.inference() == {
        "spikes": 3840.0,
        "multiply": 1_280_000.0,
        "accumulate": 680_960.0,
        "sparsity": pytest.approx(1 - 3840 / (256 * (149 + 161))),
    }
    assert row.delay_bits == 5
    old = record()
    del old["inference"]
    assert rows(old)[0].inference() == {}
    assert rows(record(delays="none"))[0].delay_bits == 0


def test_a_row_is_of_known_frames() -> None:
    (row,) = rows(record())
    assert row.data.name == "SHD-R"
    assert isinstance(row.config, RunConfig)
    assert row.on_speakers == ""
