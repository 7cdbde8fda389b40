"""Plugins of every bad kind, really on the path of a process: each is told by name, and harms nobody."""

import subprocess
import sys
from pathlib import Path

import pytest

from delayplug import LearnableDelay, Toolkit
from delayplug.errors import Interruption
from delayplug.toolkits.discovery import PluginFailed, claims, guarded, is_the_users, told

GOOD = """
import sys, delayplug
from delayplug import Toolkit
class Nothing(Toolkit):
    is_neuron = is_spiking = lambda self, module: False
    mode = held_state = passed_state = returned_state = reset_signal = None
toolkit, name, package = Nothing, __name__, "torch"
{changes}
@delayplug.hookimpl
def delayplug_backend():
    return delayplug.Backend(name=name, package=package, extra="their-dist", toolkit=toolkit)
"""
CLASS = "class toolkit(Nothing):\n    def is_neuron(self, module): "
# For each module what it does, and what is said about it.
BROKEN = {
    "exits": ("raise SystemExit(0)", "SystemExit(0)"),
    "exits_later": (GOOD.format(changes="def toolkit(): sys.exit(3)"), "SystemExit(3)"),
    "base": ("class Odd(BaseException): pass\nraise Odd('odd')", "Odd('odd')"),
    "generator": ("raise GeneratorExit", "GeneratorExit()"),
    "endless": ("def f(): f()\nf()", "RecursionError"),
    "mute": (
        "class Odd(Exception):\n    def __repr__(self): raise ValueError\n    __str__ = __repr__\nraise Odd",
        "Odd",
    ),
    "markup": ("raise ValueError('[/x] \\x1b[2J :smile:')", "ValueError: [/x] \\x1b[2J :smile:"),
    "no_backend": ("import delayplug\n@delayplug.hookimpl\ndef delayplug_backend(): return 42", "got [42]"),
    "number": (GOOD.format(changes="name = 5"), "Backend.name: expected a name, got 5"),
    "unhashable": (GOOD.format(changes="package = []"), "Backend.package: expected a name, got []"),
    "no_name": (GOOD.format(changes="package = 'a/b'"), "expected the import name of a package, got 'a/b'"),
    "not_called": (GOOD.format(changes="toolkit = None"), "Backend.toolkit: expected a function, got None"),
    "absent": (GOOD.format(changes="toolkit, package = None, 'not_there'"), "Run: pip install 'their-dist'"),
    "raises": (GOOD.format(changes=f"{CLASS}raise OSError('so')"), "OSError: so"),
    "quits": (GOOD.format(changes=f"{CLASS}sys.exit()"), "SystemExit()"),
    "vague": (GOOD.format(changes=f"{CLASS}return 'no'"), "expected True or False, got 'no'"),
    "greedy": (GOOD.format(changes=f"{CLASS}return True"), "expected False for torch's own Identity"),
    "a_thief": (GOOD.format(changes="name = 'snntorch'"), "the name 'snntorch' is taken by delayplug"),
}
ENTRIES = {"gone": ("gone_module", "No module named 'gone_module'"), "strange": ("!!! no", "the name of a module")}


def install(folder: Path, name: str, code: str | None, value: str = "", metadata: bool = True) -> None:
    """Make a distribution with one plugin in a folder."""
    (folder / f"{name}-1.0.dist-info").mkdir()
    if metadata:
        (folder / f"{name}-1.0.dist-info" / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
        )
    (folder / f"{name}-1.0.dist-info" / "entry_points.txt").write_text(f"[delayplug]\n{name} = {value or name}\n")
    if code is not None:
        (folder / f"{name}.py").write_text(code)


def with_plugins(folder: Path, code: str) -> "subprocess.CompletedProcess[str]":
    """Run code with the plugins in a folder."""
    code = f"import sys; sys.path.insert(0, {str(folder)!r})\n{code}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200, check=False)


LIST = "from delayplug.cli import main; sys.argv = ['delayplug', 'backends']; main()"
ADD = """
import torch, snntorch, delayplug
model = torch.nn.Sequential(torch.nn.Linear(4, 3), snntorch.Leaky(beta=0.9, init_hidden=True))
print(len(dict(delayplug.named_delays(delayplug.add_delays(model, 5)))))
"""


@pytest.mark.slow
def test_all_bad_plugins_at_once(tmp_path: Path) -> None:
    pytest.importorskip("snntorch")
    for name, (code, _) in BROKEN.items():
        install(tmp_path, name, code)
    for name, (value, _) in ENTRIES.items():
        install(tmp_path, name, None, value)
    install(tmp_path, "nameless", GOOD.format(changes=""), metadata=False)
    install(tmp_path, "inside", GOOD.format(changes="package = 'exits.inner'"))
    done = with_plugins(tmp_path, LIST)
    assert done.returncode == 0, done.stderr
    for name, (_, reason) in {**BROKEN, **ENTRIES}.items():
        (line,) = [line for line in done.stdout.splitlines() if line.startswith(f"{name}: ")]
        assert reason in line
    assert "nameless" in done.stdout
    table = [line.split() for line in done.stdout.splitlines()]
    assert [row[2] for row in table if row[:1] == ["snntorch"] and row[-2] == "delayplug"] == ["ready"]
    added = with_plugins(tmp_path, ADD)
    assert added.stdout == "1\n", added.stderr


@pytest.mark.slow
def test_a_plugin_that_is_slow_and_prints(tmp_path: Path) -> None:
    install(tmp_path, "talks", "import time; print('hello'); time.sleep(3.5)\n" + GOOD.format(changes=""))
    done = with_plugins(tmp_path, LIST)
    assert "hello" not in done.stdout
    assert "hello" in done.stderr
    assert done.stderr.count("delayplug: waiting until the plugin 'talks' of talks 1.0 is imported") == 1


def test_what_the_user_ends_is_no_failure_of_a_plugin() -> None:
    def interrupted() -> None:
        raise Interruption

    with pytest.raises(Interruption):
        guarded(interrupted)
    assert is_the_users(KeyboardInterrupt())
    assert not is_the_users(SystemExit(0))


def test_a_failure_has_its_reason() -> None:
    with pytest.raises(PluginFailed, match="division") as caught:
        guarded(lambda: 1 / 0, "it is imported")
    assert isinstance(caught.value.reason, ZeroDivisionError)
    assert told(caught.value.reason) == "ZeroDivisionError('division by zero')"


def test_a_layer_of_torch_is_nobodys_neuron() -> None:
    class Greedy(Toolkit):
        is_neuron = lambda self, module: True  # noqa: E731
        is_spiking = mode = held_state = passed_state = returned_state = reset_signal = None

    assert claims(Greedy(), LearnableDelay(2, max_delay=1))  # whose class is not of torch
