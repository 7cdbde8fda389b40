"""A configuration as a file and as a command."""

import shlex
from pathlib import Path

import pytest

from delayplug import ArgumentError
from delayplug.bench.comparison import compare
from delayplug.bench.comparison.compare import configurations
from delayplug.bench.comparison.records import write_config
from delayplug.bench.config import RunConfig, configure
from delayplug.bench.serialise import read_toml, to_command


def test_the_command_makes_the_run_again() -> None:
    config = configure("shd", dataset="some data/shd", backend="norse", delays="fixed", seed=3, epochs=5, compile=True)
    words = shlex.split(to_command(config))
    assert words[:3] == ["delayplug", "bench", "run"]
    for option, value in {"--dataset": "some data/shd", "--epochs": "5", "--seeds": "3", "--delays": "fixed"}.items():
        assert words[words.index(option) + 1] == value
    assert "--compile" in words
    assert "--batch-size" not in words  # the preset's
    several = configure("quick", hidden=(8, 4), fan_in=3, taps=2, seed=1)
    assert "--hidden 8 4 --taps 2 --fan-in 3" in to_command(several)
    assert to_command(configure("quick", backend="norse", lr=0.1)) == (
        "delayplug bench run --preset quick --backend norse --delays learned --seeds 0 --lr 0.1"
    )
    fold = configure("shd", dataset="d", backend="norse", protocol="speakers")
    assert to_command(fold).endswith("--delays learned --seeds 0 --protocol speakers --folds 0")
    named = configure("shd", dataset="d", backend="norse", protocol="speakers", held_speakers=(6, 8))
    assert to_command(named).endswith("--protocol speakers --held-speakers 6 8")
    # There is no option for an empty list, but the file in the run's folder has it.
    other = configure("quick", hidden=(), seed=5)
    assert to_command(other) == f"delayplug bench run --config {other.name}/config.toml"
    assert "--config" not in to_command(configure("planted", backend="norse"))  # the preset's


@pytest.mark.parametrize(
    "config",
    [
        configure("quick", backend="norse"),
        configure("shd", dataset='da "ta', backend="norse", hidden=(3, 4), fan_in=2, seed=7, weight_decay=1e-7),
        configure(
            "ssc", backend="snntorch", compile=True, window_ms=500.0, time_mask=3, cutmix=0.5, protocol="official"
        ),
        configure("shd", backend="norse", protocol="speakers", fold=3),
        configure("shd", backend="norse", protocol="speakers", held_speakers=(6, 8), validate_every=10),
        configure("shd", backend="norse", refit=True),
    ],
)
def test_the_file_in_a_runs_folder_makes_it_again(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "number_of_folds", lambda config: 5)  # of data that is not here
    write_config(tmp_path, config)
    values = read_toml(tmp_path / "config.toml")
    assert configurations(values.pop("preset"), **values) == [config]


def test_settings_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('epochs = 3\nhidden = [8, 8]\nbackends = "norse"\nseeds = [1, 2]\n')
    values = read_toml(path)
    assert values == {"epochs": 3, "hidden": [8, 8], "backends": ["norse"], "seeds": [1, 2]}
    assert [config.seed for config in configurations("quick", delays=["none"], **values)] == [1, 2]
    for text in ("epochs = ", "colour = 1"):
        path.write_text(text)
        with pytest.raises(ArgumentError, match="config: expected"):
            read_toml(path)
    with pytest.raises(ArgumentError, match="config: expected a TOML file"):
        read_toml(tmp_path / "nothing.toml")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('epochs = "3"', "epochs in .*: expected an integer >= 1, got '3'"),
        ("hidden = 64", "hidden in .*: expected integers >= 1, got 64"),
        ('seeds = "0"', "seeds in .*: expected an integer"),
        ("backends = [3]", "backends in .*: expected text, got 3"),
        ('delays = ["fixed", "some"]', "delays in .*: expected one of none, fixed, .* got 'some'"),
        ("fan_in = [1.5]", "fan_in in .*: expected an integer"),
        ('preset = ["quick"]', r"preset in .*: expected one of quick, .* got \['quick'\]"),
        ("tau = 0.5", "tau in .*: expected a number > 1, got 0.5"),
        ("lr = inf", "lr in .*: expected a number >= 0, got inf"),
    ],
)
def test_values_of_a_wrong_type(line: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(line)
    with pytest.raises(ArgumentError, match=words):
        read_toml(path)
