"""Reads a file of netx with lava-dl's own reader, and runs it in Lava's simulation of Loihi, bit by bit.

Run by an interpreter that has lava-dl, which needs another Python than delayplug does:

    python run_in_lava.py network.net inputs.npy outputs.npy [reset_interval reset_offset]

Inputs are (T, I) zeros and ones, outputs (T, O).
"""

import sys

import numpy as np
from lava.lib.dl.netx import hdf5
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.io.sink import RingBuffer as Sink
from lava.proc.io.source import RingBuffer as Source


def main(path: str, inputs: str, outputs: str, *reset: str) -> None:
    """Run the file for as many steps as there are inputs."""
    spikes = np.load(inputs)  # (T, I)
    options = {"reset_interval": int(reset[0]), "reset_offset": int(reset[1])} if reset else {}
    shape = {} if spikes.ndim == 2 else {"input_shape": spikes.shape[:0:-1]}  # (C, H, W) is (W, H, C) there
    net = hdf5.Network(net_config=path, **options, **shape)
    print(net)
    source = Source(data=np.moveaxis(spikes, 0, -1) if spikes.ndim == 2 else spikes.transpose(3, 2, 1, 0))
    sink = Sink(shape=net.out.shape, buffer=len(spikes))
    source.s_out.connect(net.inp)
    net.out.connect(sink.a_in)
    net.run(condition=RunSteps(num_steps=len(spikes)), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
    np.save(outputs, np.moveaxis(sink.data.get(), -1, 0))  # (T, ...)
    net.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
