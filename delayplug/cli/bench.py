"""`delayplug bench`."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from .console import console, progress_bars

Preset = Literal["quick", "shd", "ssc"]
Binning = Literal["grid", "events"]
HoldOut = Literal["auto", "speaker", "stratified"]
Protocol = Literal["heldout", "official", "paper"]

_DATASET = "'synthetic', or a folder with *_train, *_test (and *_valid) in SHD's layout, .h5 or .h5.gz."
_BINNING = "Steps of equal length, or frames that open at an event, as in the paper (grid)."
_PROTOCOL = "What chooses the epoch: held-out recordings, the official validation file, or the test set (heldout)."
_COMPILE = "Compile the loops over time of snnTorch and Norse: faster steps after a slow first one."
_OUT = "Folder of the runs; one that is there already is not made again."


def bench(
    dataset: Annotated[str, typer.Option(help=_DATASET)] = "synthetic",
    preset: Annotated[Preset | None, typer.Option(help="Sizes and rates (quick; shd for a folder).")] = None,
    backend: Annotated[list[str] | None, typer.Option(help="Toolkits (all that work).")] = None,
    delays: Annotated[list[str] | None, typer.Option(help="none, fixed or learned (all three).")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Length of the training (the preset's).")] = None,
    batch_size: Annotated[int | None, typer.Option(min=2, help="Recordings per step (the preset's).")] = None,
    seeds: Annotated[list[int] | None, typer.Option(help="Of everything random (0).")] = None,
    binning: Annotated[Binning | None, typer.Option(help=_BINNING)] = None,
    protocol: Annotated[Protocol | None, typer.Option(help=_PROTOCOL)] = None,
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
    from ..bench.compare import compare, configurations
    from ..bench.show import plot_delays, plot_learning_curves, table

    configs = configurations(
        preset or ("quick" if dataset == "synthetic" else "shd"),
        backends=backend or (),
        delays=delays or (),  # type: ignore[arg-type]
        seeds=seeds or (),
        dataset=dataset,
        epochs=epochs,
        batch_size=batch_size,
        binning=binning,
        protocol=protocol,
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


@contextlib.contextmanager
def _progress(runs: int) -> Iterator[Callable[..., Any]]:
    """Two bars: runs of the comparison, epochs of the current one."""
    with progress_bars() as progress:
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
