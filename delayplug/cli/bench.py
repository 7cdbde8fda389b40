"""`delayplug bench`: runs, and the report on them."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from .console import SpreadCommand, console, progress_bars

Preset = Literal["quick", "planted", "shd", "ssc"]
Binning = Literal["grid", "events"]
HoldOut = Literal["auto", "speaker", "stratified"]
Protocol = Literal["heldout", "official", "paper"]
Launcher = Literal["here", "local", "ray"]

_DATASET = "'synthetic', or a folder with *_train, *_test (and *_valid) in SHD's layout, .h5 or .h5.gz."
_BINNING = "Steps of equal length, or frames that open at an event, as in the paper (grid)."
_PROTOCOL = "What chooses the epoch: held-out recordings, the official validation file, or the test set (heldout)."
_DELAYS = "none, fixed, constant (sigma), learned, axonal or dendritic (none fixed learned)."
_FAN_IN = "Incoming synapses of each neuron, drawn at random; 0 for all (0)."
_ABLATION = "The paper's: no, fixed and learned delays, constant and shrinking sigma; all and ten synapses per neuron."
_LAUNCHER = "Runs one after the other, on processes side by side, or on a Ray cluster."
_BATCH = "Recordings per step, on all devices together (the preset's)."
_COMPILE = "Compile the loops over time of snnTorch and Norse: faster steps after a slow first one."
_CONFIG = 'TOML file of settings, such as epochs = 30 or backends = ["norse"]; options go before it.'
_OUT = "Folder of the runs; one that is there already is not made again."


bench = typer.Typer(
    help="Train the paper's network under one or more toolkits, report, deploy.",
    no_args_is_help=True,
)


@bench.command(cls=SpreadCommand)
def run(
    dataset: Annotated[str | None, typer.Option(help=_DATASET)] = None,
    preset: Annotated[Preset | None, typer.Option(help="Sizes and rates (quick; shd for a folder).")] = None,
    backend: Annotated[list[str] | None, typer.Option(help="Toolkits (all that work).")] = None,
    delays: Annotated[list[str] | None, typer.Option(help=_DELAYS)] = None,
    fan_in: Annotated[list[int] | None, typer.Option(min=0, help=_FAN_IN)] = None,
    ablation: Annotated[bool, typer.Option("--ablation", help=_ABLATION)] = False,
    hidden: Annotated[list[int] | None, typer.Option(min=1, help="Sizes of the hidden layers (the preset's).")] = None,
    taps: Annotated[int | None, typer.Option(min=1, help="Weights and delays per synapse (1).")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Length of the training (the preset's).")] = None,
    batch_size: Annotated[int | None, typer.Option(min=2, help=_BATCH)] = None,
    seeds: Annotated[list[int] | None, typer.Option(help="Of everything random (0).")] = None,
    binning: Annotated[Binning | None, typer.Option(help=_BINNING)] = None,
    protocol: Annotated[Protocol | None, typer.Option(help=_PROTOCOL)] = None,
    validation: Annotated[HoldOut | None, typer.Option(help="What is held out of train (auto).")] = None,
    compile: Annotated[bool, typer.Option("--compile", help=_COMPILE)] = False,
    accelerator: Annotated[str, typer.Option(help="cpu, gpu or auto, as Lightning takes it.")] = "auto",
    devices: Annotated[int, typer.Option(min=1, help="Of each run, on each node.")] = 1,
    nodes: Annotated[int, typer.Option(min=1, help="Computers of each run.")] = 1,
    launcher: Annotated[Launcher, typer.Option(help=_LAUNCHER)] = "here",
    workers: Annotated[int, typer.Option(min=1, help="Processes of --launcher local.")] = 2,
    threads: Annotated[int | None, typer.Option(min=1, help="Of torch, for each run (its own choice).")] = None,
    config: Annotated[Path | None, typer.Option(help=_CONFIG)] = None,
    out: Annotated[Path, typer.Option(help=_OUT)] = Path("runs"),
) -> None:
    """Train the paper's network under one or more toolkits and compare them.

    Without options: all installed toolkits, with no, fixed and learned delays, on a small task made on the fly whose
    classes differ only in the timing of their spikes. --backend, --delays, --fan-in, --hidden and --seeds take several
    values.

    \b
    Examples:
        delayplug bench run
        delayplug bench run --backend snntorch norse --delays learned --seeds 0 1 2
        delayplug bench run --dataset data/shd --preset shd --backend spikingjelly
        delayplug bench run --config mine.toml --epochs 30
        delayplug bench run --dataset data/ssc --preset ssc --devices 4
        delayplug bench run --dataset data/shd --ablation --seeds 0 1 2 --launcher local --workers 4
    """
    from ..bench.comparison.compare import ABLATION, compare, configurations
    from ..bench.comparison.run import Means, is_first
    from ..bench.config import read_toml
    from ..bench.model.synapses import learns_delays
    from ..bench.report.figures import plot_delays, plot_learning_curves
    from ..bench.report.tables import table

    said = {
        "dataset": dataset,
        "preset": preset,
        "backends": backend,
        "delays": delays,
        "fan_in": fan_in,
        "hidden": None if hidden is None else tuple(hidden),
        "taps": taps,
        "seeds": seeds,
        "epochs": epochs,
        "batch_size": batch_size,
        "binning": binning,
        "protocol": protocol,
        "validation": validation,
        "compile": compile or None,
    }
    # What is said on the command line goes before what the file says, and that before the preset.
    values = ({} if config is None else read_toml(config)) | (ABLATION if ablation else {})
    values |= {name: value for name, value in said.items() if value is not None}
    name = values.pop("preset", "quick" if values.get("dataset", "synthetic") == "synthetic" else "shd")
    configs = configurations(name, **values)
    means = Means(accelerator, devices, nodes, threads)
    console.quiet = not is_first()
    with _progress(len(configs)) as watch:
        records = compare(configs, out, watch=watch, means=means, launcher=launcher, workers=workers)
    if not is_first():
        return
    console.print(table(records))
    with console.status("drawing"):
        plots = [out / "learning_curves.png"]
        plot_learning_curves(records, plots[0])
        for made, record in zip(configs, records, strict=True):
            if learns_delays(made.delays):
                plots.append(out / made.cell / "delays.png")
                plot_delays(record, out / made.cell, plots[-1])
    console.print(f"Records and models: {out}/*/    Plots: {', '.join(map(str, plots))}", soft_wrap=True)
    console.print(f"Next: delayplug bench report {out}", soft_wrap=True)


@bench.command()
def report(
    folder: Annotated[Path, typer.Argument(help="Folder of runs, as `bench run --out` made it.")],
) -> None:
    """Tell what the runs in a folder gave: a table here, results.csv, and a page to show.

    The page is one file, report.html: accuracies with intervals, learning curves, delays before and after training, an
    example with its hidden spikes, how it was measured, and the command that makes each number again.

    \b
    Example:
        delayplug bench report runs
    """
    from ..bench.report.page import read_records, write_csv, write_page
    from ..bench.report.tables import table

    records = read_records(folder)
    console.print(table(records))
    with console.status("drawing"):
        write_csv(records, folder / "results.csv")
        write_page(records, folder, folder / "report.html")
    console.print(f"Page: {folder / 'report.html'}    Numbers: {folder / 'results.csv'}", soft_wrap=True)


@bench.command()
def deploy(
    folder: Annotated[Path, typer.Argument(help="Folder of one finished run with delays.")],
) -> None:
    """Tell what a run loses, and saves, with whole delays, few bits, few different delays, short weights.

    \b
    Example:
        delayplug bench deploy runs/shd-shd-spikingjelly-learned-seed0
    """
    from ..bench.comparison.records import read_record
    from ..bench.measure.deployment import deploy as measure, table

    with console.status("reading") as status:
        found = measure(folder, lambda constraint: status.update(constraint))
    console.print(table(folder.resolve().name, found, read_record(folder / "record.json")["data"]["test"]))


@contextlib.contextmanager
def _progress(runs: int) -> Iterator[Callable[..., Any]]:
    """Two bars: runs of the comparison, epochs of the current one."""
    from ..bench.config import variant

    with progress_bars() as progress:
        total = progress.add_task("runs", total=runs, note="")

        @contextlib.contextmanager
        def watch(config: Any, epochs: int) -> Iterator[Callable[[dict[str, Any]], None]]:
            name = f"{config.backend}, {variant(config.delays, config.fan_in)}, seed {config.seed}"
            bar = progress.add_task(name, total=epochs, note="")

            def on_epoch(entry: dict[str, Any]) -> None:
                note = f"loss {entry['train_loss']:.3f}, valid. {100 * entry['valid_accuracy']:.1f} %"
                progress.update(bar, advance=1, note=note)

            yield on_epoch
            progress.update(total, advance=1)

        yield watch
        progress.update(total, completed=runs)
