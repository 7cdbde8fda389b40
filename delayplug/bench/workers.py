"""A function in a process of its own, which ends with this one. Imports no torch."""

import contextlib
import multiprocessing
import os
import pickle
import signal
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Generic, TypeVar

from ..errors import RunError
from .stopping import Stopped, adopt, follow, let_go, stoppable, uninterrupted

Result = TypeVar("Result")

_PATIENCE = 3.0  # seconds in which a worker that is told to end may clean up


class WorkerDiedError(RunError):
    """The process of a worker ended without a result: it was killed, perhaps for want of memory."""


class Worker(Generic[Result]):
    """A function that runs in a new process. Functions and arguments go there by pickle.

    Attributes:
        answers: for `multiprocessing.connection.wait`: ready when there is a result, or the process has died.
    """

    def __init__(self, function: Callable[..., Result], *arguments: object) -> None:
        context = multiprocessing.get_context("spawn")
        self.answers, sender = context.Pipe(duplex=False)
        self._process = context.Process(target=_work, args=(sender, os.getpid(), function, arguments))
        with uninterrupted(), _without_interrupts():
            self._process.start()
            adopt(self._process)
        sender.close()

    def result(self) -> Result:
        """Wait for the result; what the function raised is raised here.

        Raises:
            WorkerDiedError: the process ended without a result.
        """
        try:
            done, value = self.answers.recv()
        except EOFError:
            self._process.join()
            raise WorkerDiedError(f"the process of a worker ended with code {self._process.exitcode}") from None
        finally:
            let_go(self._process)
        self._process.join()
        if not done:
            raise value
        result: Result = value
        return result

    def tell(self) -> None:
        """Tell the process to end, if it is still there."""
        self._process.terminate()

    def end(self) -> None:
        """Have the process end, if it is still there, and wait until it has."""
        if self._process.is_alive():
            self._process.terminate()
            self._process.join(_PATIENCE)
            self._process.kill()
            self._process.join()
        let_go(self._process)


def run_in_worker(function: Callable[..., Result], *arguments: object) -> Result:
    """The result of a function, computed in a new process.

    Raises:
        WorkerDiedError: the process ended without a result.
    """
    worker = Worker(function, *arguments)
    try:
        return worker.result()
    finally:
        worker.end()


def _work(sender: Connection, parent: int, function: Callable[..., Result], arguments: tuple[object, ...]) -> None:
    follow(parent)
    try:
        with stoppable(lambda _: None):
            try:
                answer: tuple[bool, object] = (True, function(*arguments))
            except Exception as error:
                answer = (False, _picklable(error))
            sender.send(answer)
    except Stopped as stop:
        os._exit(stop.exit_code)  # quickly: nothing is left to clean up, and to take libraries down takes a second


def _picklable(error: Exception) -> Exception:
    """The error, or its text if the error itself cannot go to another process."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RunError(f"{type(error).__name__}: {error}")
    return error


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Processes started in this block do not receive Ctrl-C, from their first moment on."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
