"""The leaderboard: a page that is made of records, those of others included.

Read `board.leaderboard` first; `verification` says which records are not taken, and why; `consistency` compares the
numbers of a record with each other; `board_rows` brings the runs of a method together.
"""
