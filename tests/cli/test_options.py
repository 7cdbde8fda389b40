"""Options that come from the fields of a dataclass."""

import inspect
import shlex
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, Literal

import pytest
import typer
from typer.testing import CliRunner

from delayplug.bench import task
from delayplug.bench.comparison import compare
from delayplug.bench.config import RunConfig, configure
from delayplug.bench.serialise import to_command
from delayplug.bench.settings import Setting, settings
from delayplug.cli import bench
from delayplug.cli.options import with_settings
from delayplug.cli.usage import Command
from tests.cli.command import delayplug


@dataclass(frozen=True)
class Baking:
    """Settings of a cake."""

    minutes: Annotated[int, Setting("How long.", at_least=1)] = 40
    oven: Annotated[Literal["gas", "electric"], Setting("Which oven.")] = "gas"
    sizes: Annotated[tuple[int, ...], Setting("Of the layers, in cm.")] = (20, 10)
    fruit: Annotated[str, Setting("On top.", plural="fruits", default_text="none")] = ""
    glaze: Annotated[bool, Setting("Cover it with sugar.")] = True
    heat_c: Annotated[float, Setting("Temperature.", above=0)] = 180.0


def baked(*args: str) -> tuple[int, str, dict[str, Any]]:
    """Exit code, output, and the settings that the command was called with."""
    app, seen = typer.Typer(), {}

    @app.command(cls=Command)
    @with_settings(Baking, in_presets={"minutes"})
    def bake(*, times: Annotated[int, typer.Option()] = 1, **settings: Any) -> None:
        seen.update(settings, times=times)

    result = CliRunner().invoke(app, list(args), env={"COLUMNS": "120", "NO_COLOR": "1", "TERM": "dumb"})
    return result.exit_code, result.output, seen


def test_values_arrive_under_the_keys_of_the_settings() -> None:
    _, _, none = baked()
    assert none.pop("times") == 1
    assert none == dict.fromkeys(("minutes", "oven", "sizes", "fruits", "glaze", "heat_c"))
    _, _, some = baked("--sizes", "9", "8", "--fruits", "fig", "plum", "--no-glaze", "--heat-c", "1e2", "--times", "2")
    expected = {"sizes": [9, 8], "fruits": ["fig", "plum"], "glaze": False, "heat_c": 100.0, "times": 2}
    assert {name: value for name, value in some.items() if value is not None} == expected


def test_bounds_and_choices_are_the_fields() -> None:
    for args in (["--minutes", "0"], ["--oven", "wood"], ["--sizes", "big"]):
        code, output, seen = baked(*args)
        assert code == 2
        assert args[0] in output
        assert not seen


def test_help_shows_the_default() -> None:
    _, output, _ = baked("--help")
    text = " ".join(output.replace("│", " ").split())
    for words in ("How long (the preset's)", "Which oven (gas)", "On top (none)", "Temperature (180)", "with sugar."):
        assert words in text


def test_every_field_of_a_run_has_an_option() -> None:
    parameters = inspect.signature(bench.run).parameters
    assert [setting.key for setting in settings(RunConfig).values()] == list(parameters)[: len(fields(RunConfig))]
    text = delayplug("bench", "run", "--help").stdout
    flags = [setting.flag for setting in settings(RunConfig).values()]
    of_the_process = ["--ablation", "--accelerator", "--devices", "--nodes", "--launcher", "--workers", "--threads"]
    assert [flag for flag in (*flags, *of_the_process, "--config", "--out") if f"{flag} " not in text] == []
    assert "delayplug bench run --backend snntorch norse --delays learned --seeds 0 1 2" in text


class Compared(Exception):  # noqa: N818
    """The runs that a command would make."""


CHANGED = {
    "dataset": "some data/shd",
    "backend": "norse",
    "delays": "fixed",
    "seed": 7,
    "binning": "events",
    "time_unit": "ms",
    "protocol": "paper",
    "precision": "medium",
    "validation": "speaker",
    "compile": True,
    "hidden": (8, 4),
    "tau": 1.5,
    "held_speakers": (6, 8),
    "refit": True,
    "neuron": "adlif",
    "readout": "max",
    "recurrent": "axonal",
    "reset": "subtract",
}
NEEDED = {"fold": {"protocol": "speakers"}, "held_speakers": {"protocol": "speakers"}}


@pytest.mark.parametrize("name", [field.name for field in fields(RunConfig) if field.name != "preset"])
def test_the_command_of_a_run_is_understood(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever field is changed, its option makes the same run."""
    base = configure("shd", backend="snntorch", dataset="folder")
    value = CHANGED.get(name, getattr(base, name) + 1 if isinstance(getattr(base, name), int) else 0.75)
    config = replace(base, **{name: value}, **NEEDED.get(name, {}))

    def compared(configs: list[RunConfig], *_: object, **__: object) -> None:
        raise Compared(configs)

    monkeypatch.setattr(compare, "compare", compared)
    monkeypatch.setattr(compare, "number_of_folds", lambda config: 5)  # there is no such folder
    with pytest.raises(Compared) as caught:
        typer.main.get_command(bench.bench)(shlex.split(to_command(config))[2:], standalone_mode=False)
    assert caught.value.args == ([config],)


@pytest.mark.parametrize(
    ("data", "args", "preset"),
    [
        ("SC10", "--dataset folder", "sc10"),
        ("SHD-R", "--dataset folder", "shd"),
        ("", "--dataset folder", "shd"),
        ("SC10", "--dataset folder --preset ssc", "ssc"),
        ("", "--epochs 3", "quick"),
    ],
)
def test_the_preset_of_a_data_set(data: str, args: str, preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of a known one, unless another one is chosen."""

    def compared(configs: list[RunConfig], *_: object, **__: object) -> None:
        raise Compared({config.preset for config in configs})

    monkeypatch.setattr(compare, "compare", compared)
    monkeypatch.setattr(task, "data_name", lambda dataset, *_: data if dataset == "folder" else "")
    with pytest.raises(Compared) as caught:
        typer.main.get_command(bench.bench)(["run", *args.split()], standalone_mode=False)
    assert caught.value.args == ({preset},)
