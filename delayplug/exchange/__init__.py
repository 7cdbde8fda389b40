"""Networks with delays in the formats of other programs: NIR, ONNX, netx for Loihi 2, lists of synapses for PyNN.

Read `graph.Graph` first: a network as a graph of a few kinds of nodes. `from_model` makes it from a model (`observe`
follows a run, `sources` says what comes from where, `verify` compares graph and model), `to_module` makes a model from
it, `nir/` and `onnx` write and read files. `chain` makes a graph a list of stages, for `netx` and `connections`.

May import: running, surgery, toolkits, neurons, layers, errors; not learning or deploy.
"""
