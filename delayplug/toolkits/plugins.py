"""Discovery of plugins: each is loaded under its own guard, and its failure is stored and shown."""

import functools
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata

import pluggy
from torch import nn

from ..errors import BackendBrokenError, BackendMissingError, UnknownBackendError, WiringError, did_you_mean
from . import hookspecs
from .capabilities import check_toolkit
from .toolkit import Backend, Toolkit

# What a stranger's code may raise without taking others down; whoever presses Ctrl-C means all of it.
_PLUGIN_ERRORS = (Exception, SystemExit)


@dataclass(frozen=True)
class Plugin:
    """An entry point, and the backend it gave or the reason why there is none."""

    name: str
    distribution: str
    backend: Backend | None = None
    error: Exception | SystemExit | None = None


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
def plugins() -> tuple[Plugin, ...]:
    """All plugins, loaded once, in the order of their names."""
    loaded: list[Plugin] = []
    manager = pluggy.PluginManager(hookspecs.GROUP)
    manager.add_hookspecs(hookspecs)
    for entry in sorted(metadata.entry_points(group=hookspecs.GROUP), key=lambda entry: entry.name):
        distribution = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "unknown distribution"
        try:
            backend = _load(manager, entry)
            rivals = [p.distribution for p in loaded if p.backend is not None and p.backend.name == backend.name]
            if rivals:
                raise ValueError(f"the name {backend.name!r} is taken by {rivals[0]}")
        except _PLUGIN_ERRORS as error:
            loaded.append(Plugin(entry.name, distribution, error=error))
        else:
            loaded.append(Plugin(backend.name, distribution, backend))
    return tuple(loaded)


def _load(manager: pluggy.PluginManager, entry: metadata.EntryPoint) -> Backend:
    module = entry.load()
    manager.register(module, name=entry.name)
    others = [plugin for plugin in manager.get_plugins() if plugin is not module]
    results = manager.subset_hook_caller("delayplug_backend", others)()
    if len(results) != 1 or not isinstance(results[0], Backend):
        raise TypeError(
            f"{entry.value} must implement delayplug_backend() returning one delayplug.Backend, got {results}"
        )
    return results[0]


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
    if plugin.backend is None:
        raise BackendBrokenError(
            f"the plugin {name!r} of {plugin.distribution} does not load: {plugin.error!r}"
        ) from plugin.error
    return _import(plugin.backend, plugin.distribution)


def _import(backend: Backend, distribution: str) -> Toolkit:
    if not is_installed(backend.package):
        raise BackendMissingError(
            f"{backend.name} needs the package {backend.package!r}, which is not installed. "
            f"Run: pip install '{install_target(backend)}'"
        )
    try:
        return check_toolkit(backend.toolkit())
    except _PLUGIN_ERRORS as error:
        plugin = f"the plugin {backend.name!r} of {distribution}"
        raise BackendBrokenError(f"{backend.package} is installed, but {plugin} cannot load it: {error!r}") from error


def is_installed(package: str) -> bool:
    """Whether a package is installed, without importing it."""
    return package in sys.modules or importlib.util.find_spec(package) is not None


def version(package: str) -> str:
    """The version of the distribution that a package, by its import name, comes from; "" if there is none."""
    top = package.partition(".")[0]
    distributions = _distributions().get(top, (top,))
    try:
        return metadata.version(distributions[0])
    except metadata.PackageNotFoundError:
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
            if plugin.backend is None:
                assert plugin.error is not None
                raise plugin.error
            _import(plugin.backend, plugin.distribution)
        except BackendMissingError as error:
            state, reason = Readiness.NOT_INSTALLED, str(error)
        except SystemExit as error:
            state, reason = Readiness.BROKEN, repr(error)  # its text is a bare number
        except Exception as error:
            state, reason = Readiness.BROKEN, str(error) or repr(error)
        yield Status(plugin.name, number, plugin.distribution, state, reason)


def ready() -> list[str]:
    """Names of the backends that work here."""
    return [status.name for status in statuses() if status.state is Readiness.READY]


def toolkit_of(modules: Iterable[nn.Module]) -> tuple[str, Toolkit]:
    """The backend whose neurons are among the modules.

    Only plugins whose package is already imported are asked: a model cannot be made of another. One that fails does not
    stand in the way of those that work.

    Raises:
        WiringError: the modules hold neurons of no backend, or of several.
        BackendBrokenError: no backend that works knows the neurons, and some do not work; the first cause is chained.
    """
    modules = list(modules)
    counts: dict[str, int] = {}
    broken: list[BackendBrokenError] = []
    for plugin in plugins():
        if plugin.backend is not None and plugin.backend.package in sys.modules:
            try:
                counts[plugin.name] = _count_neurons(plugin, modules)
            except BackendBrokenError as error:
                broken.append(error)
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
        "delayplug backends shows which of them work"
    )


def _count_neurons(plugin: Plugin, modules: list[nn.Module]) -> int:
    """How many of the modules are neurons of a plugin's toolkit, or BackendBrokenError if it fails to say so."""
    asked = toolkit(plugin.name)
    try:
        return sum(bool(asked.is_neuron(module)) for module in modules)
    except _PLUGIN_ERRORS as error:
        raise BackendBrokenError(
            f"the plugin {plugin.name!r} of {plugin.distribution} cannot tell whether a module is its neuron: {error!r}"
        ) from error
