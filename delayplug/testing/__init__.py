"""What an adapter must pass: laws over networks in its toolkit's idiom.

In a test module of the plugin:

    from delayplug.testing import Laws, Network

    class TestMyToolkit(Laws):
        backend = "mytoolkit"
        networks = (Network("two layers", make, (5,), ("fc1", "fc2"), advance, start, cut), ...)

pytest then runs every law on every network. For failures with values, a conftest.py next to it says
`pytest.register_assert_rewrite("delayplug.testing")`. Importing this needs no pytest.

Read `laws.Laws` first; what a call goes on from is in `sequence_laws`. May import: everything but bench, plot and cli.
"""

from .cases import GRANULARITIES
from .laws import EXACT, Laws
from .networks import Advance, Network, Sees
from .oracle import MAX_DELAY, draw_whole_delays, reference_neuron, shift_cell, shift_inputs
from .snapshots import can_pickle, copies, snapshot, states

__all__ = [
    "EXACT",
    "GRANULARITIES",
    "MAX_DELAY",
    "Advance",
    "Laws",
    "Network",
    "Sees",
    "can_pickle",
    "copies",
    "draw_whole_delays",
    "reference_neuron",
    "shift_cell",
    "shift_inputs",
    "snapshot",
    "states",
]
