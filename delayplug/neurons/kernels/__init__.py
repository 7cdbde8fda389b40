"""Kernels in Triton for neurons over a sequence, imported by the operators that launch them.

Read `membranes.forward` first. May import: nothing of delayplug.
"""
