"""Thirty networks of the toolkits' own tutorials and examples, and what delays in them take.

`python -m tests.tutorials` prints the table of docs/benchmark/tutorials.md. The networks are written anew after the
tutorial or example that each names, at its size where two CPU cores allow, and are driven as it drives them.
"""
