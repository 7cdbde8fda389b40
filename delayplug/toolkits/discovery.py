"""Finding plugins, and running their code: what one of them raises is stored as its failure, and stops no other."""

import contextlib
import functools
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from typing import TypeVar

import pluggy
from torch import nn

from ..errors import Interruption
from . import hookspecs
from .capabilities import check_toolkit
from .toolkit import Backend, Toolkit

_PATIENCE = 3.0  # seconds of an import after which it says what it waits for
_OWN = "delayplug"  # the distribution whose backends keep their names, whatever others call theirs

Answer = TypeVar("Answer")


class PluginFailed(Exception):  # noqa: N818
    """The code of a plugin has failed.

    Attributes:
        reason: what it raised.
    """

    def __init__(self, reason: BaseException) -> None:
        super().__init__(told(reason))
        self.reason = reason


def told(error: BaseException) -> str:
    """An error in a line; its class alone where it cannot say more."""
    try:
        return repr(error)
    except Exception:
        return type(error).__name__


@dataclass(frozen=True)
class Plugin:
    """An entry point, and the backend it gave or the reason why there is none."""

    name: str
    distribution: str
    backend: Backend | None = None
    error: BaseException | None = None

    @functools.cached_property
    def toolkit(self) -> "Toolkit | BaseException":
        """The toolkit of the backend, imported once; what that raised if it failed, which would fail again."""
        assert self.backend is not None
        try:
            return guarded(partial(_toolkit, self.backend), f"{self.backend.package} is imported, for {self.label}")
        except PluginFailed as failed:
            return failed.reason

    @property
    def label(self) -> str:
        """Its name and that of the distribution that brings it."""
        return f"the plugin {self.name!r} of {self.distribution}"


def _toolkit(backend: Backend) -> Toolkit:
    """The toolkit of a backend that has answered a first question, or any error."""
    if not callable(backend.toolkit):
        raise TypeError(f"Backend.toolkit: expected a function, got {backend.toolkit!r}")
    toolkit = check_toolkit(backend.toolkit())
    claims(toolkit, nn.Identity())
    return toolkit


def claims(toolkit: Toolkit, module: nn.Module) -> bool:
    """Whether a toolkit takes a module for its neuron.

    Raises:
        TypeError: its answer cannot be right.
        Exception: whatever the toolkit raises.
    """
    answer: object = toolkit.is_neuron(module)
    if not isinstance(answer, bool):
        raise TypeError(f"is_neuron: expected True or False, got {answer!r}")
    if answer and type(module).__module__.startswith("torch.nn."):
        raise TypeError(f"is_neuron: expected False for torch's own {type(module).__name__}, got True")
    return answer


def guarded(call: Callable[[], Answer], importing: str = "") -> Answer:
    """Call the code of a plugin.

    Args:
        call: the code.
        importing: says what is imported, where the code imports something: "norse is imported". What is printed then
            goes to stderr, so that the output of a program stays its own; and if it takes long, so does a line.

    Raises:
        PluginFailed: it raised anything, `SystemExit` included.
        KeyboardInterrupt, Interruption: the user has ended the program.
    """
    try:
        if not importing:
            return call()
        with _announced(importing), contextlib.redirect_stdout(sys.stderr):
            return call()
    except BaseException as error:
        if is_the_users(error):
            raise
        raise PluginFailed(error) from error


def is_the_users(error: BaseException) -> bool:
    """Whether an exception is the user's who ends the program, and no failure of a plugin."""
    if isinstance(error, KeyboardInterrupt):  # a command has a handler of its own, which does not raise this one
        return signal.getsignal(signal.SIGINT) is signal.default_int_handler
    return isinstance(error, Interruption)


@contextlib.contextmanager
def _announced(what: str) -> Iterator[None]:
    timer = threading.Timer(_PATIENCE, _announce, (f"delayplug: waiting until {what}",))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _announce(line: str) -> None:
    with contextlib.suppress(Exception):  # no stderr, or a closed one
        print(line, file=sys.__stderr__, flush=True)


@functools.cache
def plugins() -> tuple[Plugin, ...]:
    """All plugins, loaded once: delayplug's own first, each in the order of their names."""
    found = [(_distribution_of(entry), entry) for entry in metadata.entry_points(group=hookspecs.GROUP)]
    loaded: list[tuple[str, Plugin]] = []
    for distribution, entry in sorted(found, key=lambda each: (each[0].partition(" ")[0] != _OWN, each[1].name)):
        try:
            backend = guarded(partial(_load, entry), f"the plugin {entry.name!r} of {distribution} is imported")
            rivals = [p.distribution for _, p in loaded if p.backend is not None and p.backend.name == backend.name]
            if rivals:
                raise PluginFailed(ValueError(f"the name {backend.name!r} is taken by {rivals[0]}"))
            plugin = Plugin(backend.name, distribution, backend)
        except PluginFailed as failed:
            plugin = Plugin(entry.name, distribution, error=failed.reason)
        loaded.append((entry.name, plugin))
    return tuple(plugin for _, plugin in sorted(loaded, key=lambda each: each[0]))


def _distribution_of(entry: metadata.EntryPoint) -> str:
    """The name and the version of the distribution that brings an entry point, as far as its metadata has them."""
    with contextlib.suppress(Exception):  # no METADATA
        if entry.dist and entry.dist.name:
            return f"{entry.dist.name} {entry.dist.version}"
    return "unknown distribution"


def _load(entry: metadata.EntryPoint) -> Backend:
    """The backend of an entry point; whatever goes wrong is raised."""
    if not re.match(r"[\w.]+\s*(:|\[|$)", entry.value):
        raise ValueError(f"the entry point {entry.name!r}: expected the name of a module, got {entry.value!r}")
    module = entry.load()
    manager = pluggy.PluginManager(hookspecs.GROUP)  # one each: what a plugin does to it stays its own
    manager.add_hookspecs(hookspecs)
    manager.register(module, name=entry.name)
    results = manager.hook.delayplug_backend()
    if len(results) != 1 or not isinstance(results[0], Backend):
        raise TypeError(
            f"{entry.value} must implement delayplug_backend() returning one delayplug.Backend, got {results}"
        )
    return _checked(results[0])


def _checked(backend: Backend) -> Backend:
    """A backend whose fields have the right types, or TypeError."""
    for field in ("name", "package", "extra"):
        value = getattr(backend, field)
        if not isinstance(value, str) or not value.strip() or not value.isprintable():
            raise TypeError(f"Backend.{field}: expected a name, got {value!r}")
    if not all(part.isidentifier() for part in backend.package.split(".")):
        raise TypeError(f"Backend.package: expected the import name of a package, got {backend.package!r}")
    return backend
