"""The command line: `delayplug backends`, `delayplug bench` and `delayplug speed`.

Torch, Lightning and matplotlib are imported inside of the commands, so that `--help` answers at once.
"""

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

try:
    import typer
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.table import Table
    from typer.core import TyperCommand
except ModuleNotFoundError as error:  # the library alone needs neither
    raise SystemExit(f"The command line needs {error.name}. Run: pip install 'delayplug[bench]'") from error

app = typer.Typer(
    help="Learnable delays for spiking neural networks: see which toolkits are there, and compare them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console()

# Spelled out here, since importing them would import torch. A test holds them against the originals.
Preset = Literal["quick", "shd", "ssc"]
Binning = Literal["grid", "events"]
HoldOut = Literal["auto", "speaker", "stratified"]

_DATASET = "'synthetic', or a folder with *_train, *_test (and *_valid) in SHD's layout, .h5 or .h5.gz."
_BINNING = "Steps of equal length, or frames that open at an event, as in the paper (grid)."
_COMPILE = "Compile the loops over time of snnTorch and Norse: faster steps after a slow first one."
_OUT = "Folder of the runs; one that is there already is not made again."


class SpreadCommand(TyperCommand):
    """A command whose list options take several values after one name: `--seeds 0 1 2`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat the name of a list option before each of its values, as the parser wants it."""
        lists = {name for parameter in self.params if getattr(parameter, "multiple", False) for name in parameter.opts}
        return super().parse_args(ctx, spread(args, lists))


def spread(args: list[str], lists: set[str]) -> list[str]:
    """`--seeds 0 1` as `--seeds 0 --seeds 1`, for the options named.

    >>> spread(["--seeds", "0", "1", "--epochs", "3"], {"--seeds"})
    ['--seeds', '0', '--seeds', '1', '--epochs', '3']
    """
    result: list[str] = []
    current, values = "", 0
    for arg in args:
        name, equals, _ = arg.partition("=")
        if equals and name in lists:  # --seeds=0 1
            current, values = name, 1
        elif arg.startswith("-"):
            current, values = (arg if arg in lists else ""), 0
        elif current:
            values += 1
            if values > 1:
                result.append(current)
        result.append(arg)
    return result


def _version(wanted: bool) -> None:
    if wanted:
        from delayplug import __version__

        console.print(f"delayplug {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
) -> None:
    """Options of all commands."""


@app.command()
def backends() -> None:
    """Show the backends that are installed, their versions, and why one does not work."""
    from delayplug import plugins

    table = Table()
    for name in ("backend", "version", "state", "plugin from", "reason"):
        table.add_column(name, overflow="fold")
    colours = {"ready": "green", "not installed": "yellow", "broken": "red"}
    for status in plugins.statuses():
        state = f"[{colours[status.state]}]{status.state}[/]"
        table.add_row(status.name, status.version or "-", state, status.distribution, status.reason)
    console.print(table)


@app.command(cls=SpreadCommand)
def bench(
    dataset: Annotated[str, typer.Option(help=_DATASET)] = "synthetic",
    preset: Annotated[Preset | None, typer.Option(help="Sizes and rates (quick; shd for a folder).")] = None,
    backend: Annotated[list[str] | None, typer.Option(help="Toolkits (all that work).")] = None,
    delays: Annotated[list[str] | None, typer.Option(help="none, fixed or learned (all three).")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Length of the training (the preset's).")] = None,
    batch_size: Annotated[int | None, typer.Option(min=2, help="Recordings per step (the preset's).")] = None,
    seeds: Annotated[list[int] | None, typer.Option(help="Of everything random (0).")] = None,
    binning: Annotated[Binning | None, typer.Option(help=_BINNING)] = None,
    validation: Annotated[HoldOut | None, typer.Option(help="What is held out of train (auto).")] = None,
    compile: Annotated[bool, typer.Option("--compile", help=_COMPILE)] = False,
    accelerator: Annotated[str, typer.Option(help="cpu, gpu or auto, as Lightning takes it.")] = "auto",
    devices: Annotated[int, typer.Option(min=1, help="How many of them (one, in this version).")] = 1,
    out: Annotated[Path, typer.Option(help=_OUT)] = Path("runs"),
) -> None:
    """Train the paper's network under one or more toolkits and compare them.

    Without options: all installed toolkits, with no, fixed and learned delays, on a small task made on the fly whose
    classes differ only in the timing of their spikes. --backend, --delays and --seeds take several values.

    \b
    Examples:
        delayplug bench
        delayplug bench --backend snntorch norse --delays learned --seeds 0 1 2
        delayplug bench --dataset data/shd --preset shd --backend spikingjelly
    """
    from .bench.compare import compare, configurations
    from .bench.show import plot_delays, plot_learning_curves, table

    configs = configurations(
        preset or ("quick" if dataset == "synthetic" else "shd"),
        backends=backend or (),
        delays=delays or (),  # type: ignore[arg-type]
        seeds=seeds or (),
        dataset=dataset,
        epochs=epochs,
        batch_size=batch_size,
        binning=binning,
        validation=validation,
        compile=compile,
    )
    with _progress(len(configs)) as watch:
        records = compare(configs, out, watch=watch, accelerator=accelerator, devices=devices)
    console.print(table(records))
    with console.status("drawing"):
        plots = [out / "learning_curves.png"]
        plot_learning_curves(records, plots[0])
        for config, record in zip(configs, records, strict=True):
            if config.delays == "learned":
                plots.append(out / config.cell / "delays.png")
                plot_delays(record, out / config.cell, plots[-1])
    console.print(f"Records and models: {out}/*/    Plots: {', '.join(map(str, plots))}", soft_wrap=True)


@app.command(cls=SpreadCommand)
def speed(
    only: Annotated[list[str] | None, typer.Option(help="Parts of names of comparisons (all).")] = None,
    backend: Annotated[list[str] | None, typer.Option(help="Toolkits of the networks (all that work).")] = None,
    rounds: Annotated[int, typer.Option(min=3, help="Most rounds of each comparison.")] = 10,
    seconds: Annotated[float, typer.Option(min=0, help="No new round after so long.")] = 20.0,
    threads: Annotated[int | None, typer.Option(min=1, help="Of torch, on a CPU (its own choice).")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
    out: Annotated[Path | None, typer.Option(help="JSON file for the results.")] = None,
) -> None:
    """Time delays side by side with DCLS and with a network written the paper's way.

    Both sides of a comparison take turns in one process; the ratio is the median over the rounds, with the middle half
    of them. Peak memory, where shown, is that of a process of its own for each side. Takes some minutes.

    \b
    Examples:
        delayplug speed
        delayplug speed --only layer kernel --rounds 5
        delayplug speed --device cuda --out speed.json
    """
    import torch

    from . import plugins
    from .bench import speed as measured

    if threads is not None:
        torch.set_num_threads(threads)
    where = measured.check_device(device)
    chosen = measured.choose(measured.works(backend or plugins.ready()), only or ())
    results = []
    with Progress(*_columns(), console=console) as progress:
        bar = progress.add_task("comparisons", total=len(chosen), note="")
        for work in chosen:
            progress.update(bar, note=work.name)
            results.append(measured.measure(work, where, rounds=rounds, seconds=seconds))
            progress.advance(bar)
        progress.update(bar, note="")
    console.print(measured.table(results, where))
    if out is not None:
        measured.write(results, where, out)
        console.print(f"Results: {out}", soft_wrap=True)


def _columns() -> tuple[Any, ...]:
    return (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )


@contextlib.contextmanager
def _progress(runs: int) -> Iterator[Callable[..., Any]]:
    """Two bars: runs of the comparison, epochs of the current one."""
    with Progress(*_columns(), console=console) as progress:
        total = progress.add_task("runs", total=runs, note="")

        @contextlib.contextmanager
        def watch(config: Any, epochs: int) -> Iterator[Callable[[dict[str, Any]], None]]:
            name = f"{config.backend}, {config.delays}, seed {config.seed}"
            bar = progress.add_task(name, total=epochs, note="")

            def on_epoch(entry: dict[str, Any]) -> None:
                note = f"loss {entry['train_loss']:.3f}, valid. {100 * entry['valid_accuracy']:.1f} %"
                progress.update(bar, advance=1, note=note)

            yield on_epoch
            progress.update(total, advance=1)

        yield watch
        progress.update(total, completed=runs)


def main() -> None:
    """Run the command line; errors of delayplug's own are told in one line."""
    from delayplug.errors import DelayplugError

    warnings.filterwarnings("ignore", message=".*torch.jit.*")  # Norse's own use of it, not the user's concern
    try:
        app()
    except DelayplugError as error:
        Console(stderr=True).print(f"[red]error:[/] {error}", highlight=False, soft_wrap=True)
        sys.exit(1)
