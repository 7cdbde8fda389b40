"""Sweeps: a search for settings that reads the test set only after one setting has been chosen.

Read `sweep.sweep` first. `sweep_config` reads CONFIG.toml, `space` describes the settings that are searched, `sampling`
draws them, `judging` decides which runs they are judged by, `trials` reads and writes the record of a sweep,
`standings` and `trial_figures` show it as tables and as a picture.
"""
