"""How a command ends when it is told to, by Ctrl-C or SIGTERM: with everything that it started.

The first signal raises `Stopped` in the main thread, wherever it is, so that files and processes are cleaned up on the
way out; while a file is being written (`uninterrupted`) it waits until that is done. A thread sees the signals too. It
tells the processes that this one started, and ends everything at once when a second signal comes, or when the main
thread does not end by itself: because it waits for another process, or because a library caught the exception.

A process that was started by another (`follow`) leaves Ctrl-C to that one, and ends when that one is gone.

Imports no torch: commands use it before anything else.
"""

import _thread
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.abc import MetaPathFinder
from types import ModuleType
from typing import NoReturn, Protocol

from ..errors import Interruption

SIGNALS = (signal.SIGINT, signal.SIGTERM)
PARENT = "DELAYPLUG_PARENT"  # environment variable: the process that started this one

LOST = "a process of the run was killed, perhaps for want of memory, or failed"

_PATIENCE = 8.0  # seconds in which the main thread may clean up
_RANKS_PATIENCE = 2.0
_SAME = 0.2  # seconds in which a second signal is the first one sent twice: to a process and to its group, say
_POLL = 0.5  # seconds


class Child(Protocol):
    """A process that this one started: `subprocess.Popen`, or a `Process` of multiprocessing."""

    def terminate(self) -> None:
        """Send SIGTERM."""

    def kill(self) -> None:
        """Send SIGKILL."""


class Rank(Child, Protocol):
    """A process without which this one cannot go on: `subprocess.Popen`."""

    def wait(self) -> int:
        """Wait until it has ended; its exit code."""


class Stopped(Interruption):
    """The process was told to end. Not an `Exception`, and no KeyboardInterrupt: Lightning has its own way with those.

    Attributes:
        signal: by which signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(_reason(number))
        self.signal = signal.Signals(number)

    @property
    def exit_code(self) -> int:
        """As shells have it: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.signal


def _reason(number: int) -> str:
    return "stopped by Ctrl-C" if number == signal.SIGINT else f"stopped by {signal.Signals(number).name}"


class _State:
    """What this process was told so far. There is one: signals belong to the process."""

    def __init__(self) -> None:
        self.told: int | None = None  # the first signal
        self.raised = False
        self.blocks = 0  # of `uninterrupted`, one inside of another
        self.handled: tuple[signal.Signals, ...] = ()
        self.children: list[Child] = []
        self.ranks: list[Rank] = []
        self.parent = 0
        self.lost = threading.Event()  # a rank, or the parent
        self.last_words: Callable[[str], object] = lambda _: None
        self.advice: Callable[[], str] | None = None
        self.speaking = threading.Lock()


_state = _State()


@contextlib.contextmanager
def stoppable(last_words: Callable[[str], object]) -> Iterator[None]:
    """Raise `Stopped` in this block when the process is told to end. Signals that are ignored stay so (nohup).

    Args:
        last_words: called once, by `say_last_words`, with the reason for the end. The caller, who catches `Stopped`,
            calls that; another thread does where the process is ended by force.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals arrive in the main thread
        return
    before = {each: signal.getsignal(each) for each in SIGNALS}
    _state.handled = tuple(each for each in SIGNALS if before[each] != signal.SIG_IGN)
    _state.last_words, _state.advice = last_words, None
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    previous = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    hook, sys.unraisablehook = sys.unraisablehook, _raise_again
    finder = _StopsImports()
    sys.meta_path.insert(0, finder)
    threading.Thread(target=_watch, args=(reader,), daemon=True, name="signals").start()
    handle_signals()
    try:
        yield
    finally:
        sys.unraisablehook = hook
        sys.meta_path.remove(finder)
        if _state.told is None:  # else the thread must see that the process does end
            signal.set_wakeup_fd(previous)
            os.close(writer)
            _state.handled = ()
            for each, handler in before.items():
                signal.signal(each, handler)


def handle_signals() -> None:
    """Put this module's handlers back in place, where a library has put its own: Lightning and Ray do."""
    if threading.current_thread() is threading.main_thread():
        for each in _state.handled:
            signal.signal(each, _raise)


def _raise(number: int, frame: object) -> None:
    if _state.told is None:
        _state.told = number
    if not _state.blocks and not _state.raised:
        _state.raised = True
        raise Stopped(_state.told)


def _raise_again(unraisable: "sys.UnraisableHookArgs") -> None:
    """Raise `Stopped` a moment later, where it was raised in a callback of Python's own, which swallows it."""
    if not isinstance(unraisable.exc_value, Stopped):
        sys.__unraisablehook__(unraisable)
        return
    _state.raised = False
    timer = threading.Timer(_SAME / 10, _thread.interrupt_main, (unraisable.exc_value.signal,))
    timer.daemon = True
    timer.start()


class _StopsImports(MetaPathFinder):
    """Raises `Stopped` again at the next import, where a package has caught it: some guard their imports like that."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        """Find nothing."""
        if _state.raised and _state.told is not None and threading.current_thread() is threading.main_thread():
            raise Stopped(_state.told)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """A block, such as the writing of a file, that is finished before `Stopped` is raised."""
    _state.blocks += 1
    try:
        yield
    finally:
        _state.blocks -= 1
        if _state.told is not None and not _state.blocks and not _state.raised:
            _state.raised = True
            raise Stopped(_state.told)


def _watch(reader: int) -> None:
    """Read signals from a pipe until it is closed."""
    first = 0.0
    while number := os.read(reader, 1):
        if number[0] not in _state.handled:
            continue
        if not first:
            first = time.monotonic()
            for child in list(_state.children):
                with contextlib.suppress(Exception):  # it has ended
                    child.terminate()
            # A rank may wait for others that have ended already.
            patience = _RANKS_PATIENCE if _state.ranks else _PATIENCE
            timer = threading.Timer(patience, _end_late, (number[0],))
            timer.daemon = True
            timer.start()
        elif time.monotonic() - first > _SAME:
            _end_now(number[0])
    os.close(reader)


def _end_late(number: int) -> None:
    latest = time.monotonic() + _PATIENCE
    while _state.blocks and time.monotonic() < latest:
        time.sleep(0.05)
    _end_now(number)


def _end_now(number: int) -> None:
    end(128 + number, _reason(number))


def end(code: int, reason: str) -> NoReturn:
    """End this process and its children at once, with a last word.

    At once: a second signal, while libraries are taken down, would decide the exit code.
    """
    end_children()
    say_last_words(reason)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)


def end_children() -> None:
    """End the children that are left, by force."""
    for child in list(_state.children):
        with contextlib.suppress(Exception):  # it has ended
            child.kill()


def say_last_words(reason: str) -> None:
    """Call the `last_words` of `stoppable`, unless that was done before. Whatever they do, they get two seconds."""
    if not _state.speaking.acquire(blocking=False):
        return
    speaker = threading.Thread(target=_speak, args=(reason,), daemon=True)
    speaker.start()
    speaker.join(2.0)


def _speak(reason: str) -> None:
    with contextlib.suppress(Exception):  # a damaged file, perhaps
        reason = f"{reason}: {_state.advice()}" if _state.advice else reason
    with contextlib.suppress(Exception):  # the terminal may be gone
        _state.last_words(reason)


def advise(advice: Callable[[], str]) -> None:
    """Have the last words end with how to go on."""
    _state.advice = advice


def adopt(child: Child) -> None:
    """Have a child told when this process is told to end, and ended when this process is ended by force."""
    _state.children.append(child)


def adopt_rank(rank: Rank) -> None:
    """`adopt` a process without which this one cannot go on, and end this one when that one fails."""
    adopt(rank)
    _state.ranks.append(rank)
    threading.Thread(target=_mind, args=(rank,), daemon=True, name="rank").start()


def _mind(rank: Rank) -> None:
    code = rank.wait()
    if code and _state.told is None and rank in _state.ranks:
        _state.lost.set()
        time.sleep(_PATIENCE)  # the main thread fails, unless it waits for what cannot come
        end(1, LOST)


def consequence() -> tuple[int, str] | None:
    """The exit code and the reason of a failure that is a consequence: of a signal, or of the end of another process.

    A rank, or the process that started this one. That may be noticed a moment after the failure.
    """
    if _state.told is not None:
        return 128 + _state.told, _reason(_state.told)
    connected = bool(_state.ranks or _state.parent)
    return (1, LOST) if connected and _state.lost.wait(1.0) else None


def let_go(child: Child) -> None:
    """Forget a child that has ended."""
    with contextlib.suppress(ValueError):
        _state.children.remove(child)


def let_all_go() -> None:
    """Forget all children: they have nothing left to do, and end by themselves."""
    _state.children.clear()
    _state.ranks.clear()


def follow(parent: int) -> None:
    """End this process when `parent`, which started it, is gone: killed, perhaps. Ctrl-C is left to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if os.name == "posix":  # elsewhere the parent's number stays when the parent is gone
        _state.parent = parent
        threading.Thread(target=_follow, args=(parent,), daemon=True, name="parent").start()


def follow_starter() -> bool:
    """`follow` the process that the environment names as the one that started this one; False if it names none."""
    parent = os.environ.pop(PARENT, "")
    if parent:
        follow(int(parent))
    return bool(parent)


def _follow(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_POLL)
    _state.lost.set()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_PATIENCE)
    end(128 + signal.SIGTERM, _reason(signal.SIGTERM))
