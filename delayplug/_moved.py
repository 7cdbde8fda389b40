"""Modules of delayplug 0.1 under their old names, which models that were saved whole with `torch.save` contain."""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

# Those whose classes are part of a saved model; `delayplug.layers` is a package now and looks after itself.
MOVED = {
    "delayplug.attach": "delayplug.surgery.delayed",
    "delayplug.delays": "delayplug.layers.base",
    "delayplug.exchange.running": "delayplug.exchange.to_module",
    "delayplug.frozen": "delayplug.layers.frozen",
    "delayplug.memory": "delayplug.surgery.inner",
    "delayplug.spatial": "delayplug.layers.conv",
    "delayplug.structure": "delayplug.surgery.verdict",
    "delayplug.tape": "delayplug.layers.state",
    "delayplug.wiring": "delayplug.surgery.plan",
}


class MovedModules(MetaPathFinder):
    """Finds the modules of `MOVED` where they are now."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The specification of a module that has moved; None for all others."""
        return ModuleSpec(name, _SameModule()) if name in MOVED else None


class _SameModule(Loader):
    def exec_module(self, module: ModuleType) -> None:
        sys.modules[module.__name__] = import_module(MOVED[module.__name__])
