"""Pictures of delays: `import delayplug.plot`. Needs matplotlib, which `pip install 'delayplug[bench]'` brings.

Every function draws on the axes passed to it and returns them; without axes it makes a new figure, `axes.figure`.
Neither pyplot nor rcParams are touched, and no model is changed. A `layer` may be a layer of delays, or one that got
delays from `add_delays`. Delays are in steps; colours are those of Okabe and Ito, and viridis from zero to the largest
delay.

Read `distribution.histogram` first. `distribution` has the delays of a layer as they are, `trajectory` those over a
training, `realigned` their effect on an input; `style` is what the pictures have in common.

May import: learning, surgery, layers, errors, _colours; not bench or testing.
"""

from .._extras import extra

with extra("bench", "delayplug.plot"):
    import matplotlib as _matplotlib  # noqa: F401

from .distribution import histogram, histograms, kernel, matrix
from .realigned import realigned
from .trajectory import trajectory

__all__ = ["histogram", "histograms", "kernel", "matrix", "realigned", "trajectory"]
