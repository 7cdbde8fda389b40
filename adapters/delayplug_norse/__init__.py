"""delayplug's backend for Norse. Importing this does not import Norse."""

from delayplug import Backend, Toolkit, hookimpl


@hookimpl
def delayplug_backend() -> Backend:
    """Describe Norse."""
    return Backend(name="norse", package="norse", extra="norse", toolkit=_toolkit)


def _toolkit() -> Toolkit:
    from ._backend import Norse

    return Norse()
