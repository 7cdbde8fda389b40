"""Trained networks, each in a file that can be loaded with the neurons of any toolkit.

Read `pretrained.pretrained` first. `network_file` reads and writes the files, `card` defines the description in them,
`publish` makes a file from a finished run, and `model_page` makes the page of documentation about it. The files that
come with the package are in `trained/`.

May import: everything but cli.
"""
