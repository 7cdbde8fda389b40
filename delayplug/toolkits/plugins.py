"""The toolkits that plugins speak for: by name, by the neurons of a model, and which of them work."""

import functools
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata

from torch import nn

from ..errors import (
    ArgumentError,
    BackendBrokenError,
    BackendError,
    BackendMissingError,
    UnknownBackendError,
    WiringError,
    did_you_mean,
)
from .discovery import Plugin, PluginFailed, claims, guarded, plugins, told
from .own import Modes, Neurons, OwnNeurons, checked_neurons
from .toolkit import Backend, Toolkit


class Readiness(StrEnum):
    """Whether a backend can be used."""

    READY = "ready"
    NOT_INSTALLED = "not installed"
    BROKEN = "broken"


@dataclass(frozen=True)
class Status:
    """One line of `delayplug backends`."""

    name: str
    version: str  # of the toolkit, "" if unknown
    distribution: str  # that brings the plugin, with its version
    state: Readiness
    reason: str


@functools.cache
def toolkit(name: str) -> Toolkit:
    """The toolkit of a backend, imported.

    Raises:
        UnknownBackendError: no plugin has this name.
        BackendMissingError: its package is not installed.
        BackendBrokenError: the plugin or the package failed to load; the cause is chained.
    """
    named = [plugin for plugin in plugins() if plugin.name == name]
    if not named:
        known = [plugin.name for plugin in plugins()]
        hint = did_you_mean(name, known)
        expected = ", ".join(known) or "none installed"
        raise UnknownBackendError(f"backend: expected one of {expected}, got {name!r}. {hint}".rstrip())
    plugin = next((plugin for plugin in named if plugin.backend is not None), named[0])
    return _import(plugin)


def _import(plugin: Plugin) -> Toolkit:
    """The toolkit of a plugin, or an error as `toolkit` raises."""
    backend = plugin.backend
    if backend is None:
        assert plugin.error is not None
        raise BackendBrokenError(f"{plugin.label} does not load: {told(plugin.error)}") from plugin.error
    if not is_installed(backend.package):
        raise BackendMissingError(
            f"{backend.name} needs the package {backend.package!r}, which is not installed. "
            f"Run: pip install '{install_target(backend)}'"
        )
    if isinstance(plugin.toolkit, Toolkit):
        return plugin.toolkit
    raise BackendBrokenError(
        f"{backend.package} is installed, but {plugin.label} cannot load it: {told(plugin.toolkit)}"
    ) from plugin.toolkit


def is_installed(package: str) -> bool:
    """Whether a package is installed, without importing it."""
    top = package.partition(".")[0]  # the rest can be found only by importing this
    return top in sys.modules or importlib.util.find_spec(top) is not None


def version(package: str) -> str:
    """The version of the distribution that a package, by its import name, comes from; "" if there is none."""
    top = package.partition(".")[0]
    try:
        return metadata.version(_distributions().get(top, (top,))[0])
    except Exception:  # no such distribution, or one with damaged metadata
        return ""


@functools.cache
def _distributions() -> Mapping[str, list[str]]:
    """The distributions of every import name; read once, as that takes most of a second."""
    return metadata.packages_distributions()


def backend_package(name: str) -> str:
    """The import name of the toolkit that a backend speaks for; "" if no plugin that loads has this name."""
    return next((p.backend.package for p in plugins() if p.backend is not None and p.backend.name == name), "")


def install_target(backend: Backend) -> str:
    """What to give to pip: an extra of delayplug, or a distribution of somebody else."""
    extras = metadata.metadata("delayplug").get_all("Provides-Extra") or []
    return f"delayplug[{backend.extra}]" if backend.extra in extras else backend.extra


def statuses() -> Iterator[Status]:
    """The state of every plugin. Imports the toolkits."""
    for plugin in plugins():
        number = version(plugin.backend.package) if plugin.backend else ""
        state, reason = Readiness.READY, ""
        try:
            _import(plugin)
        except BackendMissingError as error:
            state, reason = Readiness.NOT_INSTALLED, str(error)
        except BackendBrokenError as error:
            cause = error.__cause__
            state, reason = Readiness.BROKEN, str(error) if cause is None else _in_a_line(cause)
        yield Status(plugin.name, number, plugin.distribution, state, reason)


def _in_a_line(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:
        text = ""
    return f"{type(error).__name__}: {text}" if text and isinstance(error, Exception) else told(error)


def ready() -> list[str]:
    """Names of the backends that work here."""
    return [status.name for status in statuses() if status.state is Readiness.READY]


OWN = "own"  # stands for a backend where a model has no neurons but those of its user
_ADVICE = (
    "For neurons of a class of your own pass neurons=[MyNeuron]; delayplug.LearnableDelay is a layer with delays for "
    "a network of any kind; and a plugin makes the neurons of another toolkit known (docs/adapters.md)"
)


def toolkit_with(modules: Iterable[nn.Module], neurons: Neurons, backend: str | None) -> tuple[str, Toolkit]:
    """The backend whose neurons are among the modules, and a toolkit that knows the user's own classes, too.

    Args:
        modules: those of a model.
        neurons: the classes of the user's own neurons.
        backend: name of the toolkit of the other neurons; None to find it.

    Raises:
        ArgumentError: `neurons` are no classes of modules in the model.
        WiringError, BackendError: as `toolkit_of`.
    """
    modules, modes = list(modules), checked_neurons(neurons)
    for kind in modes:
        if not any(isinstance(module, kind) for module in modules):
            found = ", ".join(sorted({type(module).__name__ for module in modules}))
            raise ArgumentError("neurons", f"classes of modules in the model ({found})", kind.__name__)
    if not modes:
        return toolkit_of(modules) if backend is None else (backend, _with_neurons(toolkit(backend), backend, modules))
    stored = _own_of(modules)
    modes = {**(stored.modes if stored is not None else {}), **modes}
    if backend is not None:
        return backend, _beside(modes, toolkit(backend), modules)
    counts, _ = _counts(modules)  # one that is broken does not stand in the way of classes that are named
    owners = [name for name, count in counts.items() if count]
    if len(owners) > 1:
        raise WiringError(f"the model has neurons of {' and '.join(owners)}: name one with backend=")
    return (owners[0], _beside(modes, toolkit(owners[0]), modules)) if owners else (OWN, OwnNeurons(modes, None))


def _with_neurons(base: Toolkit, backend: str, modules: list[nn.Module]) -> Toolkit:
    """A toolkit that its user named, or WiringError if all neurons are those of others."""
    if _own_of(modules) is None and not any(map(base.is_neuron, modules)):
        others = [name for name, count in _counts(modules)[0].items() if count]
        if others:
            raise WiringError(
                f"the model has no neurons of {backend}, but of {' and '.join(others)}: leave backend= out, or name it"
            )
    return base


def _beside(modes: Modes, base: Toolkit, modules: list[nn.Module]) -> Toolkit:
    """A toolkit with the classes of the user's own that it does not know by itself."""
    unknown = [module for module in modules if not base.is_neuron(module)]
    own = {kind: mode for kind, mode in modes.items() if any(isinstance(module, kind) for module in unknown)}
    return OwnNeurons(own, base) if own else base


def _own_of(modules: Iterable[nn.Module]) -> OwnNeurons | None:
    """The toolkit of a model that has delays already, and neurons of its user's own."""
    memories = (module.__dict__.get("delay_memory") for module in modules)
    kinds = (getattr(memory, "toolkit", None) for memory in memories)
    return next((kind for kind in kinds if isinstance(kind, OwnNeurons)), None)


def _counts(modules: list[nn.Module]) -> tuple[dict[str, int], list[BackendBrokenError]]:
    """How many neurons each imported backend knows among the modules, and the errors of those that do not work."""
    counts: dict[str, int] = {}
    broken: list[BackendBrokenError] = []
    for plugin in plugins():
        if plugin.backend is not None and plugin.backend.package in sys.modules:
            try:
                counts[plugin.name] = _count_neurons(plugin, modules)
            except BackendBrokenError as error:
                broken.append(error)
    return counts, broken


def toolkit_of(modules: Iterable[nn.Module]) -> tuple[str, Toolkit]:
    """The backend whose neurons are among the modules.

    Only plugins whose package is already imported are asked: a model cannot be made of another. One that fails does not
    stand in the way of those that work. A model that got delays with `neurons=` keeps knowing these.

    Raises:
        WiringError: the modules hold neurons of no backend, or of several.
        BackendBrokenError: no backend that works knows the neurons, and some do not work; the first cause is chained.
    """
    modules = list(modules)
    own = _own_of(modules)
    if own is not None:
        return next((plugin.name for plugin in plugins() if _speaks_for(plugin, own.base)), OWN), own
    counts, broken = _counts(modules)
    owners = [name for name, count in counts.items() if count]
    if len(owners) == 1:
        return owners[0], toolkit(owners[0])
    if owners:
        raise WiringError(f"the model has neurons of {' and '.join(owners)}: name one with backend=")
    imported = ", ".join(counts) or "none"
    if broken:
        reasons = "; ".join(map(str, broken))
        raise BackendBrokenError(
            f"no neurons found in the model by the backends that work (of these, imported: {imported}), and others are "
            f"broken: {reasons}"
        ) from broken[0].__cause__
    known = ", ".join(plugin.name for plugin in plugins())
    raise WiringError(
        f"no neurons found in the model. Known backends: {known}; of these, imported: {imported}. "
        f"delayplug backends shows which of them work. {_ADVICE}"
    )


def _speaks_for(plugin: Plugin, base: Toolkit | None) -> bool:
    """Whether a toolkit is that of a plugin."""
    if base is None or plugin.backend is None or plugin.backend.package not in sys.modules:
        return False
    try:
        return type(toolkit(plugin.name)) is type(base)
    except BackendError:
        return False


def _count_neurons(plugin: Plugin, modules: list[nn.Module]) -> int:
    """How many of the modules are neurons of a plugin's toolkit, or BackendBrokenError if it fails to say so."""
    asked = toolkit(plugin.name)
    try:
        return guarded(lambda: sum(claims(asked, module) for module in modules))
    except PluginFailed as failed:
        raise BackendBrokenError(
            f"{plugin.label} cannot tell whether a module is its neuron: {failed}"
        ) from failed.reason
