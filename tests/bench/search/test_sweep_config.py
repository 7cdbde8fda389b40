"""CONFIG.toml: what it may say, and when it is another sweep's."""

from pathlib import Path

import pytest

from delayplug import ArgumentError, RunError
from delayplug.bench.config import configure
from delayplug.bench.search.sweep_config import SweepOptions
from tests.bench.runs import write_recordings
from tests.bench.search.sweeps import SEARCH, SMALL, config_of


def test_a_file(tmp_path: Path) -> None:
    config = config_of(tmp_path, f"budget = 4\nseeds = [1, 2]{SMALL}{SEARCH}")
    assert config.options == SweepOptions(budget=4, seeds=(1, 2))
    assert (config.preset, config.dataset) == ("quick", "synthetic")
    run = config.run({"lr": 0.01, "dropout": 0.25}, seed=2)
    assert run == configure(
        "quick",
        backend="spikingjelly",
        delays="learned",
        hidden=(4,),
        epochs=1,
        max_delay=4,
        batch_size=16,
        lr=0.01,
        dropout=0.25,
        seed=2,
    )
    assert config.baseline() == {"lr": 5e-3, "dropout": 0.1}


def test_a_folder_that_is_not_known_has_the_preset_shd(tmp_path: Path) -> None:
    for part in ("train", "test"):
        write_recordings(tmp_path / f"digits_{part}.h5", 8)
    config = config_of(tmp_path, f"dataset = '{tmp_path}'{SMALL}{SEARCH}")
    assert (config.preset, config.baseline()["dropout"]) == ("shd", 0.4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("budget = 0", r"budget in .*sweep.toml: expected an integer >= 1, got 0"),
        ("sampler = 'guess'", "sampler in .*: expected one of tpe, random, grid, got 'guess'"),
        ("seeds = [0, 0]", "seeds: expected each number once"),
        ("seeds = []", "seeds: expected at least one, got none"),
        ("seeds = 3", "seeds in .*: expected integers >= 0, got 3"),
        ("learning_rate = 3", "config .*: expected settings among .*, got learning_rate"),
        ("seed = 3", r"seed in .*: expected seeds = \[...\]"),
        ("protocol = 'paper'", "protocol in .*: expected nothing: settings are judged by held-out speakers"),
        ("refit = true", r"refit in .*: expected final_seeds = \[...\]"),
        ("tau = 1.0", "tau in .*: expected a number > 1, got 1.0"),
        ("lr = 0.1", r"lr in .*: expected a value here or in \[search\], not both, got 0.1"),
        ("backends = ['norse']", "config .*: expected settings among .*backend.*, got backends"),
    ],
)
def test_what_is_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=message):
        config_of(tmp_path, f"{text}{SMALL}{SEARCH}")


def test_a_toolkit_must_be_named(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"backend in .*: expected the name of a toolkit, got none"):
        config_of(tmp_path, SEARCH)
    config = config_of(tmp_path, f"{SEARCH}backend = {{ values = ['norse', 'snntorch'] }}")
    assert config.space["backend"].values() == ("norse", "snntorch")


@pytest.mark.parametrize("text", ["budget = ", "search = 3", b"\xff"])
def test_what_is_no_file_of_a_sweep(text: str | bytes, tmp_path: Path) -> None:
    (tmp_path / "sweep.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
    from delayplug.bench.search.sweep_config import read_sweep

    with pytest.raises(ArgumentError, match=r"sweep\.toml"):
        read_sweep(tmp_path / "sweep.toml")
    with pytest.raises(ArgumentError, match=r"config: expected a TOML file.*nowhere"):
        read_sweep(tmp_path / "nowhere.toml")


def test_another_sweep_is_refused_with_the_differences(tmp_path: Path) -> None:
    config = config_of(tmp_path, f"{SMALL}{SEARCH}")
    config.check_same(config.to_json(), tmp_path)
    other = config_of(tmp_path, f"budget = 4{SMALL}{SEARCH}tau = {{ low = 1.5, high = 3.0 }}", "other.toml")
    with pytest.raises(RunError, match=r"is of another sweep \(budget: 4 there, 30 here; search\.tau: .* there, None"):
        config.check_same(other.to_json(), tmp_path)
