"""`delayplug speed`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from ..bench.config import Precision
from ..bench.resources import MOST_THREADS
from ..errors import RunError
from .console import progress_bars, say, show
from .options import check_file


def speed(
    only: Annotated[list[str] | None, typer.Option(help="Parts of names of comparisons (all).")] = None,
    backend: Annotated[list[str] | None, typer.Option(help="Toolkits of the networks (all that work).")] = None,
    rounds: Annotated[int, typer.Option(min=3, help="Most rounds of each comparison.")] = 10,
    seconds: Annotated[float, typer.Option(min=0, help="No new round after so long.")] = 20.0,
    threads: Annotated[
        int | None, typer.Option(min=1, max=MOST_THREADS, help="Of torch, on a CPU (its own choice).")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
    precision: Annotated[
        Precision, typer.Option(help="Of products of float32: torch.set_float32_matmul_precision.")
    ] = "highest",
    against: Annotated[list[str] | None, typer.Option(help="Other packages: sparx.")] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file for the results.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON, and no table.")] = False,
) -> None:
    """Time delays side by side with DCLS and with a network written the paper's way.

    Both sides of a comparison take turns in one process; the ratio is the median over the rounds, with the middle half
    of them. Peak memory, where shown, is that of a process of its own for each side. On a GPU its own events are the
    clock, and there is a column of kernels launched, with the share of the time in which they ran. Takes some minutes.

    \b
    Examples:
        delayplug speed
        delayplug speed --only layer kernel --rounds 5
        delayplug speed --device cuda --precision medium --out speed.json
        delayplug speed --device cuda --only training --against sparx --json
    """
    import torch

    from .._extras import require
    from ..bench.measure import speed as measured
    from ..bench.measure.comparisons import comparisons
    from ..toolkits import plugins

    if out is not None:
        check_file(out)
    if threads is not None:
        torch.set_num_threads(threads)
    torch.set_float32_matmul_precision(precision)
    where = measured.check_device(device)
    chosen = measured.choose(comparisons(backend or plugins.ready(), where, against or ()), only or ())
    if any(each.theirs.startswith("DCLS") for each in chosen):
        require("DCLS", "dcls", "delayplug speed")
    results, failures = [], list[str]()
    with progress_bars() as progress:
        bar = progress.add_task("comparisons", total=len(chosen), note="")
        for comparison in progress.track(chosen, task_id=bar):
            progress.update(bar, note=comparison.name)
            try:
                results.append(measured.measure(comparison, where, rounds=rounds, seconds=seconds))
            except Exception as error:  # whatever it is: the others may do
                failures.append(f"{comparison.name}: {type(error).__name__}: {error}")
            if out is not None:  # so far: it may be interrupted
                measured.write(results, where, out)
        progress.update(bar, note="")
    if as_json:
        say(json.dumps(measured.record(results, where), indent=2))
    else:
        show(measured.table(results, where))
        if out is not None:
            say(f"Results: {out}")
    if failures:
        raise RunError("not measured: " + "; ".join(failures))
