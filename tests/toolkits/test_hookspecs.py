"""The one hook of a plugin."""

import pluggy
import pytest

from delayplug import Backend, hookimpl
from delayplug.toolkits import hookspecs


def manager() -> pluggy.PluginManager:
    made = pluggy.PluginManager(hookspecs.GROUP)
    made.add_hookspecs(hookspecs)
    return made


def test_a_plugin_hands_out_its_backend() -> None:
    backend = Backend("mine", "mine", "delayplug-mine", toolkit=lambda: None)

    class Plugin:
        @hookimpl
        def delayplug_backend(self) -> Backend:
            return backend

    made = manager()
    made.register(Plugin())
    assert made.hook.delayplug_backend() == [backend]
    made.check_pending()


def test_a_hook_of_another_name_is_noticed() -> None:
    class Misspelled:
        @hookimpl
        def delayplug_backends(self) -> None:
            """A name that nobody calls."""

    made = manager()
    made.register(Misspelled())
    with pytest.raises(pluggy.PluginValidationError, match="delayplug_backends"):
        made.check_pending()


def test_the_specification_takes_no_argument_and_has_a_line_of_its_own() -> None:
    assert hookspecs.delayplug_backend.__doc__
    assert "Must not import" in hookspecs.delayplug_backend.__doc__
