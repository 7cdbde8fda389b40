"""Discovery: every plugin under its own guard, three different errors, and no toolkit imported before its time."""

import importlib.metadata
import importlib.util
import subprocess
import sys
import types

import pytest
import torch
from torch import nn

from delayplug import (
    Backend,
    BackendBrokenError,
    BackendMissingError,
    LearnableDelay,
    Toolkit,
    UnknownBackendError,
    WiringError,
    add_delays,
    hookimpl,
    named_delays,
    stream,
)
from delayplug.toolkits import plugins
from delayplug.toolkits.capabilities import containers

all_toolkits = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("snntorch", "norse", "spikingjelly"))), reason="needs all three toolkits"
)


class Distribution:
    def __init__(self, name: str) -> None:
        self.name, self.version = name, "7.1"


class EntryPoint:
    """What importlib.metadata gives, around an object in place of a module."""

    def __init__(self, name: str, load, dist: str | None = "their-dist") -> None:
        self.name, self.load, self.value = name, load, f"{name}_module"
        self.dist = None if dist is None else Distribution(dist)


def module(*backends: Backend) -> types.ModuleType:
    made = types.ModuleType("plugin_module")
    if backends:
        made.delayplug_backend = hookimpl(lambda: backends[0])
    return made


class Nothing(Toolkit):
    """A toolkit that knows no modules."""

    is_neuron = is_spiking = lambda self, module: False
    mode = held_state = passed_state = returned_state = reset_signal = None


def backend(name: str, package: str = "torch", toolkit=Nothing, extra: str = "their-dist") -> Backend:
    return Backend(name=name, package=package, extra=extra, toolkit=toolkit)


def fails(error: BaseException):
    def load():
        raise error

    return load


@pytest.fixture
def install(monkeypatch):
    """Replace what is installed: `install(EntryPoint(...), ..., keep=True)`."""
    real = importlib.metadata.entry_points

    def forget():
        plugins.plugins.cache_clear()
        plugins.toolkit.cache_clear()

    def do(*entries: EntryPoint, keep: bool = False) -> None:
        own = list(real(group="delayplug")) if keep else []
        monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [*own, *entries])
        forget()

    yield do
    monkeypatch.undo()
    forget()


@all_toolkits
def test_the_three_adapters_are_found():
    found = {p.name: p for p in plugins.plugins()}
    for name in ("norse", "snntorch", "spikingjelly"):
        assert found[name].error is None
        assert found[name].backend.name == found[name].backend.package == found[name].backend.extra == name
        assert found[name].distribution == f"delayplug {importlib.metadata.version('delayplug')}"
        assert plugins.toolkit(name) is plugins.toolkit(name)


def test_unknown_name():
    with pytest.raises(UnknownBackendError, match=r"norse, snntorch, spikingjelly, got 'nors'. Did you mean 'norse'\?"):
        plugins.toolkit("nors")
    with pytest.raises(UnknownBackendError) as caught:
        plugins.toolkit("zzzzzzz")
    assert "Did you mean" not in str(caught.value)
    assert isinstance(caught.value, LookupError)


def test_nothing_installed(install):
    install()
    with pytest.raises(UnknownBackendError, match="none installed"):
        plugins.toolkit("norse")
    with pytest.raises(WiringError, match="imported: none"):
        add_delays(nn.Linear(1, 1), 3)


@pytest.mark.parametrize(("extra", "target"), [("norse", "delayplug[norse]"), ("their-dist", "their-dist")])
def test_missing_toolkit(install, extra, target):
    called = []
    install(EntryPoint("far", lambda: module(backend("far", "not_there_at_all", lambda: called.append(1), extra))))
    with pytest.raises(BackendMissingError) as caught:
        plugins.toolkit("far")
    assert f"pip install '{target}'" in str(caught.value)
    assert isinstance(caught.value, ImportError)
    assert not called


def test_broken_plugin(install):
    cause = RuntimeError("boom")
    install(EntryPoint("bad", fails(cause)))
    with pytest.raises(BackendBrokenError, match=r"'bad' of their-dist 7.1 does not load.*boom") as caught:
        plugins.toolkit("bad")
    assert caught.value.__cause__ is cause


def test_broken_toolkit(install):
    cause = OSError("libcuda.so")
    install(EntryPoint("bad", lambda: module(backend("bad", toolkit=fails(cause)))))
    with pytest.raises(
        BackendBrokenError, match=r"torch is installed, but the plugin 'bad' of their-dist 7\.1"
    ) as caught:
        plugins.toolkit("bad")
    assert caught.value.__cause__ is cause


def test_no_distribution(install):
    install(EntryPoint("bad", fails(ValueError("x")), dist=None))
    with pytest.raises(BackendBrokenError, match="unknown distribution"):
        plugins.toolkit("bad")


@pytest.mark.parametrize("made", [module(), module("not a backend"), object()])
def test_a_plugin_without_a_backend(install, made):
    install(EntryPoint("empty", lambda: made))
    with pytest.raises(BackendBrokenError, match="must implement delayplug_backend"):
        plugins.toolkit("empty")


@all_toolkits
@pytest.mark.parametrize("name", ["aaa", "zzz"])  # loaded before and after the good ones
@pytest.mark.parametrize("error", [RuntimeError("boom"), ImportError("numpy.core"), SyntaxError("no"), SystemExit(0)])
def test_a_broken_plugin_does_not_disturb_the_others(install, name, error):
    install(EntryPoint(name, fails(error)), EntryPoint(f"{name}2", lambda: module("junk")), keep=True)
    states = {status.name: status for status in plugins.statuses()}
    assert states[name].state == states[f"{name}2"].state == "broken"
    assert type(error).__name__ in states[name].reason or str(error) in states[name].reason
    assert plugins.ready() == ["norse", "snntorch", "spikingjelly"]
    from tests.networks import CellNet

    add_delays(CellNet(), 3)


class CannotTell(Nothing):
    """A toolkit that loads, and fails when it is asked."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def is_neuron(self, module: nn.Module) -> bool:
        raise self.error


def broken_toolkits(error: BaseException) -> dict[str, Backend]:
    """Backends of an imported package, one that does not load and one that cannot answer."""
    return {
        "not loading": backend("bad", toolkit=fails(error)),
        "not answering": backend("bad", toolkit=lambda: CannotTell(error)),
    }


@pytest.mark.parametrize("error", [OSError("libcuda.so"), SystemExit(3)])
@pytest.mark.parametrize("how", ["not loading", "not answering"])
@pytest.mark.parametrize("name", ["aaa", "zzz"])  # asked before and after the good ones
def test_a_broken_toolkit_does_not_disturb_the_others(install, name, how, error):
    install(EntryPoint(name, lambda: module(broken_toolkits(error)[how])), keep=True)
    from tests.networks import CellNet

    assert list(named_delays(add_delays(CellNet(), 3)))


@pytest.mark.parametrize("error", [OSError("libcuda.so"), SystemExit(3)])
@pytest.mark.parametrize("how", ["not loading", "not answering"])
def test_a_broken_toolkit_is_named_where_no_other_knows_the_neurons(install, how, error):
    also = OSError("second")
    bad = EntryPoint("bad", lambda: module(broken_toolkits(error)[how]))
    worse = EntryPoint("worse", lambda: module(backend("worse", toolkit=fails(also))), dist="other-dist")
    install(bad, worse, keep=True)
    with pytest.raises(BackendBrokenError, match="no neurons found in the model") as caught:
        add_delays(nn.Linear(1, 1), 3)
    assert caught.value.__cause__ is error
    for part in ("'bad' of their-dist 7.1", repr(error), "'worse' of other-dist 7.1", repr(also)):
        assert part in str(caught.value)


def test_a_stream_of_layers_needs_no_toolkit(install):
    install(EntryPoint("bad", lambda: module(broken_toolkits(OSError("so"))["not loading"])))
    layer = LearnableDelay(2, 3, max_delay=2).eval()
    assert stream(layer).push(torch.ones(1, 2)).shape == (1, 3)


@pytest.mark.parametrize("how", ["not loading", "not answering"])
def test_an_interrupt_goes_through(install, how):
    install(EntryPoint("bad", lambda: module(broken_toolkits(KeyboardInterrupt())[how])))
    with pytest.raises(KeyboardInterrupt):
        add_delays(nn.Linear(1, 1), 3)
    install(EntryPoint("bad", fails(KeyboardInterrupt())))
    with pytest.raises(KeyboardInterrupt):
        plugins.plugins()


def test_two_plugins_with_one_name(install):
    first, second = backend("twin"), backend("twin")
    install(EntryPoint("a", lambda: module(first), dist="one"), EntryPoint("b", lambda: module(second), dist="two"))
    found = plugins.plugins()
    assert found[0].backend is first
    assert found[1].backend is None
    assert "taken by one 7.1" in str(found[1].error)
    broken = [status for status in plugins.statuses() if status.state == "broken"]
    assert [status.distribution for status in broken] == ["two 7.1"]


def test_one_entry_point_twice(install):
    made = module(backend("same"))
    install(EntryPoint("same", lambda: made, dist="one"), EntryPoint("same", lambda: made, dist="two"))
    assert [p.error is None for p in plugins.plugins()] == [True, False]
    assert isinstance(plugins.toolkit("same"), Nothing)  # the good one is used


def test_a_toolkit_that_is_none(install):
    install(EntryPoint("odd", lambda: module(backend("odd", toolkit=lambda: None))))
    with pytest.raises(BackendBrokenError, match=r"expected a delayplug\.Toolkit, got None"):
        plugins.toolkit("odd")


def test_statuses(install):
    install(
        EntryPoint("far", lambda: module(backend("far", "not_there_at_all"))),
        EntryPoint("bad", lambda: module(backend("bad", toolkit=fails(OSError("so"))))),
        EntryPoint("worse", fails(RuntimeError())),
        EntryPoint("quits", fails(SystemExit(0))),
        EntryPoint("good", lambda: module(backend("good"))),
    )
    states = {status.name: status for status in plugins.statuses()}
    assert {name: s.state for name, s in states.items()} == {
        "far": "not installed",
        "bad": "broken",
        "worse": "broken",
        "quits": "broken",
        "good": "ready",
    }
    assert "pip install" in states["far"].reason
    assert states["good"].reason == ""
    assert states["worse"].reason == "RuntimeError()"
    assert states["quits"].reason == "SystemExit(0)"
    assert states["good"].version == importlib.metadata.version("torch")
    assert states["far"].version == ""
    assert plugins.ready() == ["good"]


def test_versions():
    assert plugins.version("_pytest") == plugins.version("_pytest.mark") == importlib.metadata.version("pytest")
    assert plugins.version("not_there_at_all") == ""


def test_backend_packages(install):
    install(EntryPoint("far", lambda: module(backend("far", "not_there_at_all"))), EntryPoint("bad", fails(OSError())))
    assert plugins.backend_package("far") == "not_there_at_all"
    assert plugins.backend_package("bad") == plugins.backend_package("nobody") == ""


def test_children_that_a_container_takes_as_stateful():
    import norse.torch as norse

    net = norse.SequentialState(nn.Linear(2, 3), norse.LIFCell(), nn.Sequential(nn.Linear(3, 3)))
    asked = containers(plugins.toolkit("norse"))

    def stateful(module: nn.Module) -> list[str]:
        return [child for child in module._modules if asked.is_stateful(module, child)]

    assert stateful(net) == ["1"]
    assert stateful(net[2]) == []
    asked.set_stateful(net, "0", True)
    assert stateful(net) == ["0", "1"]
    asked.set_stateful(net, "0", False)
    assert stateful(net) == ["1"]
    assert not containers(Nothing()).is_stateful(net, "1")


def test_plugins_whose_toolkit_is_not_imported_are_not_asked(install):
    install(EntryPoint("far", lambda: module(backend("far", "not_there_at_all", fails(AssertionError())))), keep=True)
    from tests.networks import CellNet

    add_delays(CellNet(), 3)


HEAVY = ("snntorch", "norse", "spikingjelly", "DCLS", "h5py", "matplotlib", "lightning", "typer", "rich")


def fresh(code: str) -> str:
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


@pytest.mark.slow
def test_importing_the_library_and_its_adapters_loads_no_toolkit():
    names = "delayplug, delayplug_snntorch, delayplug_norse, delayplug_spikingjelly"
    found = "plugins.plugins()"
    check = f"sorted(set({HEAVY}) & set(sys.modules))"
    assert (
        fresh(f"import sys, {names}; from delayplug.toolkits import plugins; assert len({found}) >= 3; print({check})")
        == "[]"
    )


@all_toolkits
@pytest.mark.slow
def test_a_model_of_one_toolkit_loads_no_other():
    code = (
        "import sys, torch, norse.torch as norse, delayplug\n"
        "net = norse.SequentialState(torch.nn.Linear(2, 3), norse.LIFCell())\n"
        "delayplug.add_delays(net, 3)\n"
        "print(sorted({'snntorch', 'spikingjelly', 'lightning'} & set(sys.modules)))"
    )
    assert fresh(code) == "[]"


@all_toolkits
def test_a_backend_without_neurons_in_the_model_is_named():
    import snntorch

    from delayplug import plan_delays

    net = nn.Sequential(nn.Linear(4, 3), snntorch.Leaky(beta=0.9, init_hidden=True))
    with pytest.raises(WiringError, match="no neurons of norse, but of snntorch: leave backend= out"):
        plan_delays(net, backend="norse")
    assert plan_delays(net, backend="snntorch").connections
