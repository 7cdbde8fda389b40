"""The long run: `python -m tests.surgery.programs --programs 20000 --seed 0`, or one program: `--only 17`."""

import argparse
import multiprocessing
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import partial

from .generate import THEMES, Drawn, program
from .judge import CRASH, EQUAL, INVALID, REFUSED, TWIN, WRONG, Verdict, judge, quick, shrunk, style
from .program import Program, text

Judged = tuple[int, Program, Verdict]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.surgery.programs")
    parser.add_argument("--programs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--theme", choices=THEMES)
    parser.add_argument("--only", type=int, help="the program of this number")
    parser.add_argument("--show", type=int, default=5, help="wrong programs to print, made smaller")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=60.0)
    options = parser.parse_args()
    quick()
    if options.only is not None:
        made = program(Drawn((options.seed, options.only)), options.theme)
        print(text(made), judge(made), repr(made), sep="\n")
        return 0
    start = time.monotonic()
    numbers = range(options.programs)
    work = partial(_one, options.seed, options.theme, start + 60 * options.minutes)
    if options.jobs > 1:
        with multiprocessing.get_context("spawn").Pool(options.jobs, quick) as pool:
            verdicts = [v for v in pool.imap(work, numbers, chunksize=50) if v is not None]
    else:
        verdicts = [v for v in map(work, numbers) if v is not None]
    _print(verdicts, time.monotonic() - start)
    bad = [said for said in verdicts if _result(said[2]) in (WRONG, CRASH, REFUSED + "!")]
    _examples(bad, options.show)
    return 1 if bad else 0


def _one(seed: int, theme: str | None, until: float, number: int) -> Judged | None:
    if time.monotonic() > until:
        return None
    made = program(Drawn((seed, number)), theme)
    return number, made, judge(made)


def _result(verdict: Verdict) -> str:
    """The result, with a mark if it is a refusal in a style that must not be refused."""
    return verdict.result + ("!" if verdict.result == REFUSED and not verdict.may_refuse else "")


def _print(verdicts: list[Judged], seconds: float) -> None:
    columns = (EQUAL, REFUSED, REFUSED + "!", WRONG, CRASH, TWIN, INVALID)
    by: dict[str, Callable[[Program], str]] = {
        "style": style,
        "neuron": lambda p: p.network.kind,
        "form": lambda p: p.network.form + ("" if p.network.on_outer else ", delays on the inner module"),
        "start": lambda p: p.network.start,
    }
    for title, name in by.items():
        table: dict[str, Counter[str]] = defaultdict(Counter)
        for _, made, verdict in verdicts:
            table[name(made)][_result(verdict)] += 1
        print(f"\n{title:50s}", *(f"{c:>8s}" for c in columns))
        for row in sorted(table):
            print(f"{row:50s}", *(f"{table[row][c] or '':>8}" for c in columns))
    total = Counter(_result(verdict) for _, _, verdict in verdicts)
    print(f"\n{'all':50s}", *(f"{total[c]:8d}" for c in columns))
    print(f"{len(verdicts)} programs in {seconds:.0f} s")
    print("refused!: in a style that must not be refused; invalid: fails on the plain network, too")
    print("twin: wrong where what was put back is, bit by bit, the state of a beginning\n")
    why: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for _, made, verdict in verdicts:
        if verdict.result not in (EQUAL, WRONG):
            why[_result(verdict), verdict.reason[:100]][made.theme] += 1
    for (result, reason), themes in sorted(why.items(), key=lambda item: (item[0][0], -item[1].total())):
        print(f"{themes.total():6d} {result:9s} {reason}  [{', '.join(f'{t} {n}' for t, n in themes.most_common(3))}]")


def _examples(bad: list[tuple[int, Program, Verdict]], show: int) -> None:
    """Of each result and style one, made smaller."""
    seen: Counter[tuple[str, object]] = Counter()
    for i, made, verdict in sorted(bad, key=lambda item: item[2].result != WRONG):
        n = made.network
        why = style(made) if verdict.result == WRONG else (verdict.reason[:60], n.form, n.start)
        key = _result(verdict), why
        if seen[key] or len(seen) >= show:
            continue
        seen[key] += 1
        small, said = shrunk(made, verdict)
        print(f"\n--- program {i}: {_result(said)} at line {said.at + 4}: {said.reason}")
        print(text(small), repr(small), sep="\n")


if __name__ == "__main__":
    raise SystemExit(main())
