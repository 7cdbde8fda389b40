"""Modules of delayplug 0.1 under their old names: the same modules, and loaded only when asked for."""

import importlib
import subprocess
import sys

import pytest

import delayplug
from delayplug import _moved


@pytest.mark.parametrize("old", _moved.MOVED)
def test_an_old_name_is_the_module_where_it_is_now(old: str) -> None:
    module = importlib.import_module(old)
    assert module is importlib.import_module(_moved.MOVED[old])
    assert module.__name__ == _moved.MOVED[old]


def test_the_layers_of_old_are_where_saved_models_look() -> None:
    assert importlib.import_module("delayplug.layers").LearnableDelay is delayplug.LearnableDelay
    assert importlib.import_module("delayplug.spatial").ConvDelay is delayplug.ConvDelay
    assert importlib.import_module("delayplug.delays").DelayState is delayplug.DelayState
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        importlib.import_module("delayplug.layers").Nothing  # noqa: B018


def test_other_names_are_not_found() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"delayplug\.nothing"):
        importlib.import_module("delayplug.nothing")


def test_importing_delayplug_loads_none_of_them() -> None:
    code = "import sys, delayplug, delayplug._moved as m; print({*m.MOVED, *m.MOVED.values()} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "set()"
