"""All commands, and what becomes of their errors."""

import warnings
from typing import Annotated

import typer

from .._tables import make_table, plain, text
from ..bench.stopping import end_children
from ..errors import DelayplugError
from . import bench, data, publishing as publishing, speed
from .console import be_quiet, fail, note, prepare_streams, say, show, working
from .usage import USAGE_ERROR, Command, Group, explain

app = typer.Typer(
    cls=Group,
    help="Learnable delays for spiking neural networks: see which toolkits are there, and compare them.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["--help", "-h"]},  # of all commands: they inherit it
    pretty_exceptions_enable=False,
)
app.add_typer(bench.bench, name="bench")
app.command(cls=Command)(speed.speed)
app.add_typer(data.data, name="data")


def _version(wanted: bool) -> None:
    if wanted:
        from delayplug import __version__

        say(f"delayplug {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
) -> None:
    """Options of all commands."""


@app.command(cls=Command)
def backends() -> None:
    """Show the backends that are installed, their versions, and why one does not work."""
    with working("importing the toolkits"):
        from ..toolkits import plugins

        statuses = list(plugins.statuses())
    table = make_table(*(text(header, wrap="anywhere") for header in ("backend", "version", "state", "plugin from")))
    colours = dict(zip(plugins.Readiness, ("green", "yellow", "red"), strict=True))
    for status in statuses:
        state = plain(status.state, colours[status.state])
        table.add_row(status.name, status.version or "-", state, status.distribution)
    show(table)
    for status in statuses:
        if status.reason:  # outside of the table, so that a command in it can be copied
            say(f"{status.name}: {status.reason}")
    if not statuses:
        say("No plugin is installed. Run: pip install 'delayplug[all]'")


def run(*, quiet: bool = False) -> int:
    """Run the command that the process was started with; its exit code.

    Args:
        quiet: print nothing but errors.
    """
    prepare_streams()
    be_quiet(quiet)
    warnings.filterwarnings("ignore", message=".*torch.jit.*")  # Norse's own use of it, not the user's concern
    try:
        code = app(prog_name="delayplug", standalone_mode=False)
    except USAGE_ERROR as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            note(error.format_message())
        else:
            fail(explain(error))
        return int(error.exit_code)
    except DelayplugError as error:
        end_children()
        fail(str(error))
        return 1
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.errno is None:  # not the system's
            raise
        end_children()
        fail(f"{error.filename or 'writing'}: {(error.strerror or str(error))}")
        return 1
    except typer.Abort:
        return 130
    return code if isinstance(code, int) else 0
