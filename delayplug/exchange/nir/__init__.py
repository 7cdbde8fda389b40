"""NIR, the exchange format of neuromorphic toolkits (neuroir.org).

Read `files.to_nir` and `files.from_nir` first; `write` and `read` translate between our graph and that of the format,
`branches` between a layer with a delay per synapse and the nodes that NIR has for it.

May import: the other modules of `exchange`, and what these may.
"""
