"""Engines: taps applied to a sequence of inputs.

Read `convolve.convolve` first, which chooses one by the sizes at hand. `fourier` is for long kernels, on the real
transforms of `transforms`; `events` takes one step spike by spike.

May import: the other modules of `layers`.
"""
