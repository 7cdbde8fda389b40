"""delayplug's backend for snnTorch. Importing this does not import snnTorch."""

from delayplug import Backend, Toolkit, hookimpl


@hookimpl
def delayplug_backend() -> Backend:
    """Describe snnTorch."""
    return Backend(name="snntorch", package="snntorch", extra="snntorch", toolkit=_toolkit)


def _toolkit() -> Toolkit:
    from ._backend import SnnTorch

    return SnnTorch()
