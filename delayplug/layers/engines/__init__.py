"""Engines: taps applied to a sequence of inputs.

Read `convolve.convolve` first, which chooses an engine by what each costs (see `rates`). `direct` is torch's own
convolution, `products` is for short kernels on a GPU (its Triton kernels are in `kernels`), `fourier` for long ones, on
the real transforms of `transforms`; `channels` has delays per channel, `spatial` those of convolutions; `events`
takes one step spike by spike. On GPUs `spectral` is for long kernels and `columns` for delays per channel, both on the
spectra of `windows`. `caches` and `scratch` hold memory between calls and within one.

May import: the other modules of `layers`.
"""
