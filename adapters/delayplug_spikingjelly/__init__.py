"""delayplug's backend for SpikingJelly. Importing this does not import SpikingJelly."""

from delayplug import Backend, Toolkit, hookimpl


@hookimpl
def delayplug_backend() -> Backend:
    """Describe SpikingJelly."""
    return Backend(name="spikingjelly", package="spikingjelly", extra="spikingjelly", toolkit=_toolkit)


def _toolkit() -> Toolkit:
    from ._backend import SpikingJelly

    return SpikingJelly()
