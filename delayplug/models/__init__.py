"""Trained networks: a file for each, loaded into any toolkit.

Read `pretrained.pretrained` first. `network_file` reads and writes the files, `card` is what they say about their
networks, `publish` makes a file from a finished run, and `model_page` the page of documentation about it. The files
that come with the package lie in `trained/`.

May import: everything but cli.
"""
