"""Every exception that delayplug raises on purpose.

DelayplugError
|-- ArgumentError (ValueError)            an argument is not what it should be
|-- BackendError
|   |-- UnknownBackendError (LookupError)   no plugin of that name
|   |-- BackendMissingError (ImportError)   the plugin is there, its toolkit is not installed
|   `-- BackendBrokenError                  the plugin or its toolkit fails to load
|-- WiringError                           a model cannot be delayed as asked
|-- SequenceError (RuntimeError)          what a call goes on from is not known
|-- UnrollError                           a model cannot be run layer by layer
|-- ExtraMissingError (ImportError)       a package that an extra installs is missing
|-- ExchangeError (ValueError)            another format does not support a network or a graph
|-- DataError (ValueError)                a file or folder of recordings is unusable
`-- RunError                              a folder of runs cannot take this run

Interruption (BaseException)              the process is told to end; only commands raise it
"""

import difflib
from collections.abc import Iterable
from typing import Any

_LONGEST = 100  # characters of a value in a message


def shortened(value: object) -> str:
    """A value as `repr` shows it, cut after some characters; numbers of thousands of digits have no text at all."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        text = f"a {type(value).__name__} that is too long to show"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


class DelayplugError(Exception):
    """Base of all errors that delayplug raises on purpose."""


class ArgumentError(DelayplugError, ValueError):
    """An argument has a wrong value, shape or dtype.

    >>> raise ArgumentError("max_delay", "an integer >= 0", -1)
    Traceback (most recent call last):
    delayplug.errors.ArgumentError: max_delay: expected an integer >= 0, got -1
    """

    def __init__(self, name: str, expected: str, got: Any, advice: str = "") -> None:
        text = f"{name}: expected {expected}, got {got}"
        super().__init__(f"{text}. {advice}" if advice else text)
        self.name = name


def choice_error(name: str, choices: Iterable[object], got: object, advice: str = "") -> ArgumentError:
    """The error for an argument that is none of its choices, with a suggestion where one of them is spelt alike.

    >>> raise choice_error("engine", ("auto", "fft", "direct"), "ftt")
    Traceback (most recent call last):
    delayplug.errors.ArgumentError: engine: expected one of auto, fft, direct, got 'ftt'. Did you mean 'fft'?
    """
    known = [str(choice) for choice in choices]
    hints = " ".join(filter(None, (did_you_mean(got, known), advice)))
    return ArgumentError(name, f"one of {', '.join(known)}", repr(got), hints)


def did_you_mean(got: object, choices: Iterable[str]) -> str:
    """`Did you mean ...?` where a name is spelt almost like one of the choices, else an empty string."""
    lower = {choice.lower(): choice for choice in choices}
    close = difflib.get_close_matches(got.lower(), lower, n=1) if isinstance(got, str) else []
    return f"Did you mean {lower[close[0]]!r}?" if close else ""


class BackendError(DelayplugError):
    """A backend cannot be used."""


class UnknownBackendError(BackendError, LookupError):
    """No installed plugin has this name."""


class BackendMissingError(BackendError, ImportError):
    """The plugin is known, but the toolkit it speaks for is not installed."""


class BackendBrokenError(BackendError):
    """The plugin, or the toolkit it speaks for, failed while loading. The cause is chained."""


class WiringError(DelayplugError):
    """A model cannot be delayed as asked. The model is unchanged."""


class SequenceError(DelayplugError, RuntimeError):
    """A delay does not know whether a call begins a sequence, or which one it goes on from.

    The message names what came and the ways out: `reset_delays`, `set_delay_state`, `select_delays`, `new_sequence`.
    """


class UnrollError(DelayplugError):
    """A model cannot be run layer by layer over a whole sequence."""


class ExtraMissingError(DelayplugError, ImportError):
    """A package that only this part of delayplug needs is not installed.

    >>> raise ExtraMissingError("delayplug.plot", "matplotlib", "bench")
    Traceback (most recent call last):
    delayplug.errors.ExtraMissingError: delayplug.plot needs matplotlib. Run: pip install 'delayplug[bench]'
    """

    def __init__(self, what: str, package: str, extra: str) -> None:
        super().__init__(f"{what} needs {package}. Run: pip install 'delayplug[{extra}]'", name=package)


class ExchangeError(DelayplugError, ValueError):
    """Another format does not support a network, or a file in that format is not readable. Nothing was written."""


class DataError(DelayplugError, ValueError):
    """A file or folder of recordings is empty, truncated or not in the expected layout."""


class RunError(DelayplugError):
    """A folder of runs holds something else than this run."""


class Interruption(BaseException):
    """The user, or the system, ends the process: `except Exception` and the guards around plugins let it through."""
