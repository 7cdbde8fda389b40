"""The command line: `delayplug backends`, `bench`, `data` and `speed`.

Read `bench.run` first: a command imports what it needs when it runs, so that `--help` answers at once. `options` makes
the options of a command from the fields of a configuration; `console` is what commands print with.

May import: everything.
"""

import sys
import warnings
from typing import Annotated

try:
    import typer
    from rich.console import Console
except ModuleNotFoundError as error:  # the library alone needs neither
    raise SystemExit(f"The command line needs {error.name}. Run: pip install 'delayplug[bench]'") from error

from .._tables import make_table, text
from . import bench, data, speed
from .console import SpreadCommand, console

app = typer.Typer(
    help="Learnable delays for spiking neural networks: see which toolkits are there, and compare them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(bench.bench, name="bench")
app.command(cls=SpreadCommand)(speed.speed)
app.add_typer(data.data, name="data")


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
    from delayplug.toolkits import plugins

    headers = ("backend", "version", "state", "plugin from", "reason")
    table = make_table(*(text(header, wrap="anywhere") for header in headers), borders=True)
    colours = dict(zip(plugins.Readiness, ("green", "yellow", "red"), strict=True))
    for status in plugins.statuses():
        state = f"[{colours[status.state]}]{status.state}[/]"
        table.add_row(status.name, status.version or "-", state, status.distribution, status.reason)
    console.print(table)


def main() -> None:
    """Run the command line; errors of delayplug are printed as one line."""
    from delayplug.errors import DelayplugError

    warnings.filterwarnings("ignore", message=".*torch.jit.*")  # Norse's own use of it, not the user's concern
    try:
        app()
    except DelayplugError as error:
        Console(stderr=True).print(f"[red]error:[/] {error}", highlight=False, soft_wrap=True)
        sys.exit(1)
