"""A neuron in numbers, and how it runs over a sequence.

Read `cell.Cell` first: what a neuron computes in one step, in the same numbers for every toolkit, for exchange.
`dynamics.Dynamics` says it by live tensors and in the toolkit's own order of operations; by that, `fused.run_fused`
runs a neuron over a sequence in one kernel. `loops.over_steps` runs a neuron of single steps in a loop, compiled if
wanted.

May import: layers, data, errors.
"""
