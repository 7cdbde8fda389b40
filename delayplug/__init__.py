"""Learnable delays for spiking neural networks, in the toolkit you already use.

A public name is imported from its module when it is first used, so that `import delayplug` and the command line start
at once: torch is loaded with the first layer. Where each name is defined stands in `__init__.pyi`.
"""

import sys

import lazy_loader

from ._moved import MovedModules

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

__version__ = "0.2.0"

sys.meta_path.append(MovedModules())
