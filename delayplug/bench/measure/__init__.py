"""Measurements beside accuracy: speed against DCLS and the paper's code, loading of data, a trained run on a device.

Read `speed.measure` first. `paper` is the paper's network written with DCLS and SpikingJelly alone.
"""
