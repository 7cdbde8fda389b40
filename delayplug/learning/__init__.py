"""Training with delays: optimizer groups and sigma schedules, penalties, pruning, restarts, a history of the delays.

Read `schedules.SigmaSchedule` and `schedules.parameter_groups` first: training as the paper does it needs no more. The
others are options.

May import: running, surgery, toolkits, neurons, layers, errors, _tables; not deploy or exchange.
"""
