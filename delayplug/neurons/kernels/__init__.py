"""Kernels in Triton for neurons over a sequence. They import Triton, and are imported by the operators that launch them.

Read `membranes.forward` first. May import: nothing of delayplug.
"""
