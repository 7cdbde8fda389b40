"""Runs side by side, and their records on disk.

Read `compare.compare` first; `run` makes one run, `launch` several on workers, `records` reads and writes folders of
runs.
"""
