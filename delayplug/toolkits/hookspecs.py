"""The one hook of delayplug. A plugin is any installed module with an entry point in the group "delayplug":

# in the plugin's pyproject.toml
[project.entry-points.delayplug]
mytoolkit = "my_module"

# in my_module.py, which imports its toolkit only inside of `toolkit`
@delayplug.hookimpl
def delayplug_backend():
    return delayplug.Backend(name="mytoolkit", package="mytoolkit", extra="my-distribution", toolkit=toolkit)
"""

import pluggy

from .toolkit import Backend

GROUP = "delayplug"

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


@hookspec
def delayplug_backend() -> Backend:  # type: ignore[empty-body]
    """Return the description of a toolkit. Must not import it."""
