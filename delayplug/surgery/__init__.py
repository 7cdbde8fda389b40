"""A user's network gets delays, and gives them back.

Read `apply.add_delays` first. `inventory` sorts a model into layers and neurons; `by_structure` and `by_example`
(with the tracer `dataflow`) tell which neuron each layer feeds; `verdict` says why a layer can or cannot have a delay;
`plan` is what would be done; `delayed` is a layer with a delay inside; `sequence` tells when a sequence begins, for
which `identity` compares states; `patch` is the one way to replace a forward; `find` and `describe` look at the delays
of a model.

May import: toolkits, neurons, layers, errors, _tables.
"""
