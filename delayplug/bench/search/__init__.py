"""A search for settings that never looks at the test set before it has chosen one.

Read `sweep.sweep` first; `sweep_config` is what CONFIG.toml says, `space` the settings that are searched, `sampling`
draws them, `judging` says by which runs they are judged, `trials` is the record of it all, `standings` and
`trial_figures` show it.
"""
