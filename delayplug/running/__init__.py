"""A delayed network over a whole sequence, or on input as it comes in.

Read `unroll.unroll` first, which runs a network of single steps layer by layer, then `stream.stream`, which runs one
with an explicit state, a step or a few at a time. Both use the one loop over time (`loop`), the one way to replace a
forward (`surgery.patch`) and the same comparison of two ways to run a model (`selfcheck`).

May import: surgery, toolkits, neurons, layers, errors.
"""
