"""Triton kernels of the engines, and of the construction of taps. Read `rows.shifted_product` first.

Each is imported by the operator that launches it, when that first runs: nothing else here may be imported by other
modules, since Triton is not everywhere. May import: Triton, torch.
"""
