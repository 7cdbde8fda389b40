"""Packages that only a part of delayplug needs: an import of one that is missing says which extra brings it."""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager

from .errors import ExtraMissingError


@contextmanager
def extra(name: str, what: str) -> Iterator[None]:
    """A block of imports that need an extra of delayplug.

    Args:
        name: of the extra, as in `pip install 'delayplug[bench]'`.
        what: needs the packages; the error begins with it.

    Raises:
        ExtraMissingError: a package that the block imports is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or str(error)).partition(".")[0]
        raise ExtraMissingError(what, package, name) from error


def require(package: str, name: str, what: str) -> None:
    """Raise ExtraMissingError unless a package, by its import name, is installed; it is not imported.

    Args:
        package: by the name that one imports.
        name: of the extra that brings it.
        what: needs it; the error begins with it.
    """
    try:
        there = importlib.util.find_spec(package) is not None
    except ValueError:  # what stands in for it in sys.modules says nothing about where it came from
        there = True
    if not there:
        raise ExtraMissingError(what, package, name)
