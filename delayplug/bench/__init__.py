"""The benchmark: one network, one training loop and one data pipeline; only the neurons differ by backend.

Read `config.RunConfig` first: everything that decides the result of a run. `task` loads its data; `model/` is the
paper's network; `training/` trains it; `comparison/` makes runs side by side and keeps their records; `report/` shows
records; `search/` searches for settings; `measure/` times and deploys.

May import: everything but plot, testing and cli.
"""
