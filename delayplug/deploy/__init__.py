"""Trained delays for devices: whole steps, fewer bits, fewer different delays, and what a network costs.

Read `freeze.freeze_delays` first. `summary` is what it returns, `quantise` has the arithmetic as pure functions,
`devices` knows what devices hold, `costs` counts bytes and operations.

May import: running, surgery, toolkits, neurons, layers, errors, _tables; not learning or exchange.
"""
