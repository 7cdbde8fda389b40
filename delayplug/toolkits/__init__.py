"""What a toolkit answers about its modules, and how its plugin is loaded.

Read `toolkit.Toolkit` first: the questions that every adapter answers. `hookspecs` is the one hook of a plugin,
`plugins` loads them, each under its own guard. `states` turns a state of any toolkit into plain tensors and back.

May import: neurons, layers, errors. No toolkit is imported here: the adapters are packages of their own.
"""
