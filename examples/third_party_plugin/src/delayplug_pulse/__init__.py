"""delayplug's backend for pulse. Importing this does not import pulse."""

from delayplug import Backend, Toolkit, hookimpl


@hookimpl
def delayplug_backend() -> Backend:
    """Describe pulse."""
    return Backend(name="pulse", package="pulse", extra="delayplug-pulse", toolkit=_toolkit)


def _toolkit() -> Toolkit:
    from ._backend import Pulse

    return Pulse()
