"""The command line: `delayplug backends`, `bench`, `data` and `speed`.

Read `bench.run` first: a command imports what it needs when it runs, so that `--help` answers at once. `options` makes
the options of a command from the fields of a configuration; `console` is what commands print with.

May import: everything.
"""

import sys
import warnings
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from .._tables import make_table, text
from ..bench.stopping import Stopped, consequence, end, end_children, follow_starter, stoppable
from . import bench, data, publishing as publishing, speed
from .console import SpreadCommand, console

app = typer.Typer(
    help="Learnable delays for spiking neural networks: see which toolkits are there, and compare them.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["--help", "-h"]},  # of all commands: they inherit it
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
        cells = (escape(cell) for cell in (status.name, status.version or "-", status.distribution, status.reason))
        name, version, distribution, reason = cells
        table.add_row(name, version, state, distribution, reason)
    console.print(table)


def main() -> None:
    """Run the command line. Errors of delayplug are printed as one line; Ctrl-C and SIGTERM end with 130 and 143."""
    from delayplug.errors import DelayplugError

    console.quiet = follow_starter()
    warnings.filterwarnings("ignore", message=".*torch.jit.*")  # Norse's own use of it, not the user's concern
    try:
        with stoppable(_last_words):
            app()
    except Stopped as stop:
        end(stop.exit_code, str(stop))
    except DelayplugError as error:
        end_children()
        Console(stderr=True).print(f"[red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(1)
    except Exception:
        end_children()
        if (why := consequence()) is None:
            raise
        end(*why)


def _last_words(reason: str) -> None:
    if console.quiet:  # another process of the run speaks
        return
    if console.is_terminal:
        console.show_cursor()  # bars hide it
    Console(stderr=True).print(escape(reason), highlight=False, soft_wrap=True)
