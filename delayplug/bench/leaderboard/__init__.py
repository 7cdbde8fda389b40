"""The leaderboard: a page made from records of runs, including contributed ones.

Read `board.leaderboard` first. `verification` decides which records are refused, and why; `consistency` compares the
numbers of a record with each other; `board_rows` groups the runs of a method into a row.
"""
