"""Learnable delays for spiking neural networks, in the toolkit you already use.

A public name is imported from its module when it is first used, so that `import delayplug` and the command line start
at once: torch is loaded with the first layer. Where each name is defined stands in `__init__.pyi`.
"""

import os
import signal
import sys

_IS_THE_COMMAND = os.path.basename(getattr(sys, "argv", [""])[0]) in ("delayplug", "delayplug.exe", "-m")
if _IS_THE_COMMAND and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # From now on, while it is still importing, Ctrl-C ends it without a traceback.
    signal.signal(signal.SIGINT, lambda number, frame: os._exit(128 + number))

import lazy_loader  # noqa: E402

from ._moved import MovedModules  # noqa: E402

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

__version__ = "0.2.0"

sys.meta_path.append(MovedModules())
