"""A configuration as a file and as a command."""

import contextlib
import shlex
from pathlib import Path

import pytest

from delayplug import ArgumentError
from delayplug.bench.comparison import compare
from delayplug.bench.comparison.compare import configurations
from delayplug.bench.comparison.records import write_config
from delayplug.bench.config import RunConfig, configure
from delayplug.bench.serialise import read_toml, to_command
from delayplug.bench.settings import settings
from tests.damage import is_one_line


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


@pytest.mark.parametrize(
    "value",
    [
        *('"x"', '""', "true", "-1", "1.5", "nan", "inf", "1" + "0" * 30, "1" + "0" * 400, '"\\u0000"'),
        *("1979-05-27", "07:32:00", "1979-05-27T07:32:00Z", "{}", "{a = 1}", "[{a = 1}]"),
        *("[]", "[[]]", "[[1]]", '["x"]', "[true]", "[nan]"),
    ],
)
def test_each_setting_of_each_kind_of_value(value: str, tmp_path: Path) -> None:
    """It is refused in one line that names the setting, or a configuration can be made of it."""
    path, errors = tmp_path / "c.toml", list[ArgumentError]()
    for key in (setting.key for setting in settings(RunConfig).values()):
        path.write_text(f"{key} = {value}\n")
        try:
            values = read_toml(path)
        except ArgumentError as error:
            errors.append(error)
            assert is_one_line(error, f"{key} in {path}"), str(error)  # noqa: PT017
        else:
            name = next(setting.name for setting in settings(RunConfig).values() if setting.key == key)
            each = values[key][0] if settings(RunConfig)[name].plural and values[key] else values[key]
            with contextlib.suppress(ArgumentError):  # of two settings that contradict each other
                RunConfig(**{"backend": "norse", name: each})
    assert errors


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a = " + "[" * 5000, "nested too deeply"),
        ("epochs = 1" + "0" * 5000, "Exceeds the limit"),
        ("epochs = 1\0", "."),
        ("epochs = 1\nepochs = 2", "Cannot overwrite"),
        ("[epochs]\na = 1", "epochs in .*: expected an integer >= 1, got {'a': 1}"),
        ("[[epochs]]\na = 1", "epochs in "),
        ("epochs.x = 1", "epochs in "),
        ("epoch = 1", r"got epoch in .*c\.toml\. Did you mean 'epochs'\?"),
        ("seed = 1", r"Did you mean 'seeds'\?"),
        ("[a.b.c]\nd = 1", "got a in "),
    ],
    ids=lambda text: text[:20],
)
def test_other_toml(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(ArgumentError, match=words) as caught:
        read_toml(tmp_path / "c.toml")
    assert is_one_line(caught.value, str(tmp_path / "c.toml"))
    for content in (b"\xff\xfe", b"\xef\xbb\xbfepochs = 1", "epochs = 1".encode("utf-16")):
        (tmp_path / "c.toml").write_bytes(content)
        with pytest.raises(ArgumentError, match="config: expected a TOML file") as caught:
            read_toml(tmp_path / "c.toml")
        assert is_one_line(caught.value, str(tmp_path / "c.toml"))
