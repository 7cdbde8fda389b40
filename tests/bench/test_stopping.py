"""How a process ends: real signals to real processes, which import no torch."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")

BEGIN = """
import os, signal, sys, time
from delayplug.bench import stopping
from delayplug.bench.stopping import Stopped, stoppable, uninterrupted, end
from delayplug.bench.workers import Worker, run_in_worker

def wait(path):
    open(path, "w").write(str(os.getpid()))
    time.sleep(600)

def main():
    stopping.advise(lambda: "run again")
{body}

if __name__ == "__main__":
    try:
        with stoppable(lambda text: print(text, flush=True)):
            main()
    except Stopped as stop:
        end(stop.exit_code, str(stop))
"""


def begin(tmp_path: Path, body: str) -> subprocess.Popen[str]:
    """A process with this body of its main function, once it has printed "ready"."""
    script = tmp_path / "script.py"
    script.write_text(BEGIN.replace("{body}", "\n".join(f"    {line}" for line in body.strip().splitlines())))
    process = subprocess.Popen([sys.executable, str(script), str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def ended(pid: int) -> bool:
    """Whether a process is gone, after ten seconds at most."""
    for _ in range(200):
        try:
            state = (
                Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] if sys.platform == "linux" else ""
            )
            os.kill(pid, 0)
        except (ProcessLookupError, FileNotFoundError):
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize(
    ("number", "words", "code"),
    [(signal.SIGINT, "stopped by Ctrl-C: run again", 130), (signal.SIGTERM, "stopped by SIGTERM: run again", 143)],
)
def test_the_first_signal_cleans_up(number: int, words: str, code: int, tmp_path: Path) -> None:
    process = begin(
        tmp_path,
        """
try:
    print("ready", flush=True)
    time.sleep(600)
finally:
    print("cleaned up", flush=True)
""",
    )
    process.send_signal(number)
    assert process.communicate(timeout=20)[0].splitlines() == ["cleaned up", words]
    assert process.returncode == code


def test_the_second_signal_ends_at_once(tmp_path: Path) -> None:
    process = begin(
        tmp_path,
        """
try:
    print("ready", flush=True)
    time.sleep(600)
finally:
    print("cleaning", flush=True)
    time.sleep(600)
""",
    )
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    assert process.stdout.readline() == "cleaning\n"
    time.sleep(0.3)  # sooner it would be the first one, sent twice
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=5)[0] == "stopped by Ctrl-C: run again\n"
    assert process.returncode == 130


def test_a_library_that_catches_everything_is_ended_all_the_same(tmp_path: Path) -> None:
    process = begin(
        tmp_path,
        """
stopping._PATIENCE = 0.5
print("ready", flush=True)
while True:
    try:
        time.sleep(600)
    except BaseException:
        pass
""",
    )
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=20)[0] == "stopped by SIGTERM: run again\n"
    assert process.returncode == 143


def test_what_is_not_to_be_interrupted_is_finished(tmp_path: Path) -> None:
    process = begin(
        tmp_path,
        """
with uninterrupted():
    with uninterrupted():
        print("ready", flush=True)
        time.sleep(1)
    print("written", flush=True)
print("never", flush=True)
""",
    )
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=20)[0].splitlines() == ["written", "stopped by SIGTERM: run again"]
    assert process.returncode == 143


def test_ignored_signals_stay_ignored(tmp_path: Path) -> None:
    """As `nohup` and the background jobs of scripts have them."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process = begin(tmp_path, 'print("ready", flush=True)\ntime.sleep(1)\nprint("done", flush=True)')
    finally:
        signal.signal(signal.SIGINT, before)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20)[0] == "done\n"
    assert process.returncode == 0


WORKING = """
worker = Worker(wait, sys.argv[1] + "/pid")
while not os.path.exists(sys.argv[1] + "/pid"):
    time.sleep(0.05)
time.sleep(0.1)
print("ready", flush=True)
worker.result()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_the_process_that_started_them(number: int, tmp_path: Path) -> None:
    process = begin(tmp_path, WORKING)
    worker = int((tmp_path / "pid").read_text())
    process.send_signal(number)
    process.communicate(timeout=20)
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -signal.SIGKILL}[number]
    assert ended(worker)


def test_workers_leave_ctrl_c_to_their_parent(tmp_path: Path) -> None:
    process = begin(tmp_path, WORKING)
    worker = int((tmp_path / "pid").read_text())
    os.kill(worker, signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert ended(worker)


def test_a_lost_rank_ends_the_process_that_waits_for_it(tmp_path: Path) -> None:
    process = begin(
        tmp_path,
        """
import subprocess
stopping._PATIENCE = 0.5
stopping.adopt_rank(subprocess.Popen([sys.executable, "-c", "import sys; sys.exit(3)"]))
print("ready", flush=True)
time.sleep(600)
""",
    )
    assert "a process of the run was killed" in process.communicate(timeout=20)[0]
    assert process.returncode == 1


def test_handlers_of_a_library_are_replaced(tmp_path: Path) -> None:
    process = begin(
        tmp_path,
        """
signal.signal(signal.SIGTERM, lambda *_: None)
stopping.handle_signals()
print("ready", flush=True)
time.sleep(600)
""",
    )
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 143
