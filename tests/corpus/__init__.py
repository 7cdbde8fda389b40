"""Networks as the users of each toolkit write them; `delayplug.testing.Network` says what they are for."""

# One or two of each toolkit for the fast tests: their state is the neuron's, the model's or the caller's.
FAST_NETWORKS = {
    "snntorch": {"reset-mem", "sequential"},
    "norse": {"cells", "cells-carried"},
    "spikingjelly": {"sequential-s", "sequential-m"},
}
