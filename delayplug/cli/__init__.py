"""The command line: `delayplug backends`, `bench`, `data` and `speed`.

Read `commands.run` first: a command imports what it needs when it runs, so that `--help` answers at once. `usage` is
how commands take arguments and explain them; `options` makes the options of a command from the fields of a
configuration; `console` is what commands print with. This file imports no other package, so that Ctrl-C while those are
imported ends the command like any other.

May import: everything.
"""

import contextlib
import os
import sys
from typing import TYPE_CHECKING

from ..bench.stopping import Stopped, consequence, end, end_children, follow_starter, stoppable

if TYPE_CHECKING:
    import typer


def main() -> None:
    """Run the command line. What a user can mend is an error of one line; Ctrl-C and SIGTERM end with 130 and 143."""
    quiet = follow_starter()
    code = 1
    try:
        with stoppable(lambda _: None if quiet else _last_words(_)):
            from .commands import run

            code = run(quiet=quiet)
            if (why := consequence()) is not None and why[0] > 128:  # a package has caught the exception
                end(*why)
            sys.stdout.flush()
    except Stopped as stop:
        end(stop.exit_code, str(stop))
    except BrokenPipeError:  # whoever read it has read enough: `delayplug ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception:
        end_children()
        if (why := consequence()) is None:
            raise
        end(*why)
    sys.exit(code)


def __getattr__(name: str) -> "typer.Typer":
    """`app`, imported when it is first asked for."""
    if name == "app":
        from .commands import app

        return app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _last_words(reason: str) -> None:
    """Without rich, whose import may be what was interrupted."""
    if sys.stderr.isatty():
        sys.stderr.write("\x1b[?25h")  # the cursor: bars hide it
    with contextlib.suppress(UnicodeError):
        print(reason, file=sys.stderr)
