"""A neuron in numbers, and how it runs over a sequence.

Read `cell.Cell` first: what a neuron computes in one step, in the same numbers for every toolkit. `loops.over_steps`
runs a neuron that takes steps over a sequence, compiled if wanted.

May import: layers, data, errors.
"""
