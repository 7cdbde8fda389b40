"""Print the table: `python -m tests.tutorials [--rounds N] [name ...]`."""

import argparse
import math

import torch

from . import norse_tutorials, snntorch_tutorials, spikingjelly_tutorials
from .measure import Row, measure

ALL = (*snntorch_tutorials.TUTORIALS, *norse_tutorials.TUTORIALS, *spikingjelly_tutorials.TUTORIALS)


def line(row: Row) -> str:
    """A row of the table, in Markdown."""
    tutorial, taken = row.tutorial, row.times
    cells = [tutorial.backend, tutorial.name, tutorial.source]
    if not row.attempts:
        return "| " + " | ".join([*cells, "none worked", "", "", "", ""]) + " |"
    cells += [str(row.attempts), f"{row.laws - len(row.broken)}/{row.laws}"]
    if taken is None:
        return "| " + " | ".join([*cells, "", "", ""]) + " |"
    if tutorial.unrolled is None:
        unrolled = "sequences"
    elif math.isnan(taken.unrolled):
        unrolled = "refused"
    else:
        unrolled = f"{taken.delayed / taken.unrolled:.1f}"
    cells += [f"{1000 * taken.plain:.0f}", f"{taken.delayed / taken.plain:.1f}"]
    return "| " + " | ".join([*cells, unrolled]) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="of rows; all of them if there are none")
    parser.add_argument("--rounds", type=int, default=5, help="of the times; 0: they are not measured")
    parser.add_argument("--no-laws", dest="laws", action="store_false")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("| toolkit | network | written after | attempts | laws | plain ms | delayed / plain | loop / unroll |")
    print("|---|---|---|---|---|---|---|---|")
    for tutorial in ALL:
        if not arguments.names or tutorial.name in arguments.names:
            row = measure(tutorial, arguments.rounds, arguments.laws)
            print(line(row), flush=True)
            for broken in row.broken:
                print(f"    {broken}", flush=True)
            if row.times is not None and row.times.refusal:
                print(f"    unroll: {row.times.refusal}", flush=True)


if __name__ == "__main__":
    main()
