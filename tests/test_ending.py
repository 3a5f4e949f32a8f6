"""SIGINT and SIGTERM at any moment: one line, soon, the exit code of the signal."""

import os
import signal
import subprocess
import sys
import time

import pytest

from aocr.ending import Watch, handling, later

START = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it in background jobs
class Interrupter:
    def find_spec(self, name, path, target=None):
        if name == sys.argv[-1]:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupter())
import aocr.__main__
sys.exit(aocr.__main__.main())
"""
# `aocr inspect`, but it runs this code.
RUN = """
import ctypes, queue, signal, sys, threading, time, aocr.__main__, aocr.cli, aocr.commands.inspect
signal.signal(signal.SIGINT, signal.default_int_handler)
aocr.cli.GRACE = 0.5
aocr.commands.inspect.run = lambda args: exec(args.dataset, globals())
if __name__ == "__main__":
    sys.exit(aocr.__main__.main())
"""
BLOCKED_READ = """
lines = queue.Queue()
threading.Thread(target=lambda: [lines.put(line) for line in sys.stdin.buffer], daemon=True).start()
print(flush=True)
lines.get()
"""
# Of a lock that is held already: unlike Python's own waiting, such a call is not interrupted.
BLOCKED_CALL = """
lock, c = ctypes.create_string_buffer(64), ctypes.CDLL(None)
c.pthread_mutex_lock(lock)
print(flush=True)
c.pthread_mutex_lock(lock)
"""
BUSY_WORKERS = """
from aocr.processes import in_processes
work = in_processes(time.sleep, [0.0] * 2 + [600.0] * 9, 2)
next(work)
print(flush=True)
list(work)
"""


def start(*command):
    """Starts Python with a program and its arguments."""
    return subprocess.Popen([sys.executable, "-c", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE)


def ended(process):
    """Returns (exit code, messages) of a process that ends by itself."""
    with process:
        errors = process.stderr.read()
    return process.returncode, errors.decode()


@pytest.mark.parametrize("module", ["aocr.cli", "argparse", "aocr.config", "aocr.synth.generate", "numpy", "PIL.Image"])
def test_ctrl_c_while_the_program_starts_is_one_line(module, tmp_path):
    process = start(START, "synth", str(tmp_path / "out"), "--log-path", "", "--words", module)
    assert ended(process) == (130, "aocr: error: interrupted\n")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("code, signals, most", [
    (BLOCKED_READ, [signal.SIGTERM], 2), (BLOCKED_READ, [signal.SIGINT], 2), (BLOCKED_CALL, [signal.SIGTERM], 3),
    (BLOCKED_CALL, [signal.SIGINT], 3), (BUSY_WORKERS, [signal.SIGINT] * 2, 2), (BUSY_WORKERS, [signal.SIGTERM], 3)])
def test_a_signal_ends_what_is_blocked(code, signals, most):
    process = start(RUN, "inspect", code, "--log-path", "")
    process.stdout.readline()
    began = time.monotonic()
    for number in signals:
        process.send_signal(number)
        time.sleep(0.1)
    code = 128 + signals[0]
    assert ended(process) == (code, f"aocr: error: {'interrupted' if code == 130 else 'terminated'}\n")
    assert time.monotonic() - began < most


def test_workers_that_take_long_are_ended_with_their_results_unwanted():
    """Not only by a signal: after a full disk, for example, nobody waits for the images in progress either."""
    code = "from aocr.processes import in_processes\nimport aocr.processes, multiprocessing, time\n" \
           "if __name__ == '__main__':\n    aocr.processes.LAST_ITEMS = 0.2\n" \
           "    work = in_processes(time.sleep, [0.0] * 2 + [600.0] * 9, 2)\n    next(work)\n" \
           "    work.close()\n    print(multiprocessing.active_children())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=20)
    assert (done.stdout, done.stderr) == (b"[]\n", b"")


def test_a_watch_that_is_calmed_waits_for_the_next_signal():
    received = []
    with handling({signal.SIGTERM: lambda number, _: received.append(number)}), Watch(0.1) as watch:
        os.kill(os.getpid(), signal.SIGTERM)
        watch.calm()
        time.sleep(0.3)
    assert received == [signal.SIGTERM]


def test_a_signal_comes_later():
    received = []
    with handling({signal.SIGTERM: lambda number, _: received.append(number)}):
        with later():
            os.kill(os.getpid(), signal.SIGTERM)
            assert not received
        assert received == [signal.SIGTERM]
