"""`delayplug bench publish`, `collect` and `leaderboard`: publish the results of finished runs."""

from pathlib import Path
from typing import Annotated

import typer

from .._tables import counted
from .bench import bench
from .console import say, warn, working
from .options import check_file, check_folder
from .usage import Command


@bench.command(cls=Command)
def publish(
    folder: Annotated[Path, typer.Argument(help="Folder of one finished run.")],
    name: Annotated[str, typer.Argument(help="Name of the network: small letters, digits and hyphens.")],
    dataset: Annotated[
        str | None, typer.Option(help="Folder of its data (default: the folder that the run read).")
    ] = None,
    files: Annotated[Path, typer.Option(help="Folder for NAME.safetensors.")] = Path("models"),
    pages: Annotated[Path, typer.Option(help="Folder for pages: NAME.md and index.md.")] = Path("models"),
) -> None:
    """Store the network of a run in a file that delayplug.pretrained loads, and make a page about it.

    The accuracy of the stored network is measured on the test recordings of the run, if they can be read.

    \b
    Example:
        delayplug bench publish runs/shdr-shd-norse-learned-seed0 shdr-learned --dataset data/shdr
    """
    from ..models.publish import publish as make

    check_folder(files)
    check_folder(pages)
    with working("measuring"):
        card = make(folder, name, files, pages, dataset=dataset)
    measured = f"{100 * card['stored_accuracy']:.2f} %" if "stored_accuracy" in card else "not measured"
    say(f"File: {files / name}.safetensors    Page: {pages / name}.md")
    say(f"Accuracy of the run: {100 * card['accuracy']['last epoch']:.2f} %, of the file: {measured}")


@bench.command(cls=Command)
def collect(
    sources: Annotated[list[Path], typer.Argument(help="Folders of runs, or files of records.")],
    out: Annotated[Path, typer.Option(help="File for the records; records that it contains already stay there.")],
) -> None:
    """Collect the records of finished runs in one file, with a few of their epochs and without networks.

    `bench report` and `bench leaderboard` read such a file like a folder of runs.

    \b
    Example:
        delayplug bench collect runs/shdr --out results/shdr.json
    """
    from ..bench.comparison.collection import collect as put

    check_file(out)
    new, every = put(sources, out)
    say(f"{out}: {counted(new, 'record')} put in, {every} in all")


@bench.command(cls=Command)
def leaderboard(
    sources: Annotated[
        list[Path] | None, typer.Argument(help="Files of records, or folders of them (results).")
    ] = None,
    out: Annotated[Path, typer.Option(help="File for the page, in Markdown.")] = Path("docs/benchmark/leaderboard.md"),
) -> None:
    """Make the page of the leaderboard from records. Records that cannot be correct are refused, with the reason.

    The exit code is 1 if a record was refused.

    \b
    Examples:
        delayplug bench leaderboard
        delayplug bench leaderboard results/shdr.json runs/mine --out mine.md
    """
    from ..bench.leaderboard.board import leaderboard as make
    from ..bench.whole_files import write_whole

    check_file(out)
    page, refused = make(sources or [Path("results")])
    for each in refused:
        warn(f"refused: {each}")
    write_whole(out, page)
    say(f"Page: {out}")
    if refused:
        raise typer.Exit(1)
