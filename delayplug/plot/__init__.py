"""Pictures of delays: `import delayplug.plot`. Wants matplotlib, which `pip install 'delayplug[bench]'` brings.

Every function draws on the axes that it is given and returns them; without any it makes a figure of its own, which is
`axes.figure`. Neither pyplot nor rcParams are touched, and no model is changed. Where a layer is asked for, it may be a
layer of delays or one that `add_delays` gave delays. Delays are in steps; colours are those of Okabe and Ito, and
viridis from zero to the largest delay.
"""

from ..errors import ExtraMissingError

try:
    import matplotlib as _matplotlib  # noqa: F401
except ModuleNotFoundError as error:
    raise ExtraMissingError("delayplug.plot", "matplotlib", "bench") from error

from .distribution import histogram, histograms, kernel, matrix
from .realigned import realigned
from .trajectory import trajectory

__all__ = ["histogram", "histograms", "kernel", "matrix", "realigned", "trajectory"]
