"""Ends the program on SIGINT and SIGTERM where Python cannot: in TensorFlow's code, or before anything awaits them."""

import contextlib
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator

ENDING = (signal.SIGINT, signal.SIGTERM)
NAMES = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
STOP, CALM = 0, 255  # bytes to a Watch: end, and forget the signals so far; no signals have these numbers


class Watch:
    """Ends the process if a signal does not end it soon, within a block.

    Python acts on a signal only between its own instructions: a call into TensorFlow delays it by up to minutes. In any
    thread but the main one, signals are left to the calling program.
    """

    def __init__(self, *waits: float):
        """`waits`: seconds that the process has to end after the first signal, the second and so on; none: forever."""
        self._waits = waits
        self._here = threading.current_thread() is threading.main_thread()

    def __enter__(self) -> "Watch":
        if self._here:
            self._reader, self._writer = socket.socketpair()
            self._writer.setblocking(False)
            self._before = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
            self._thread = threading.Thread(target=self._watch, daemon=True)
            with masked():  # in the thread too, or the process could not mask them any more
                self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        if self._here:
            signal.set_wakeup_fd(self._before)
            self._writer.send(bytes([STOP]))
            self._thread.join()
            self._reader.close()
            self._writer.close()

    def calm(self) -> None:
        """Gives the process as long as it needs, until another signal arrives."""
        if self._here:
            self._writer.send(bytes([CALM]))

    def _watch(self):
        received, end = [], float("inf")
        while True:
            self._reader.settimeout(None if end == float("inf") else max(1e-3, end - time.monotonic()))
            try:
                numbers = self._reader.recv(64)
            except TimeoutError:
                end_now(received[-1])
            if STOP in numbers:
                return
            for number in numbers:
                if number == CALM:
                    end = float("inf")
                elif number in ENDING:
                    received.append(number)
                    if self._waits:
                        end = min(end, time.monotonic() + self._waits[min(len(received), len(self._waits)) - 1])


@contextlib.contextmanager
def masked() -> Iterator[None]:
    """Keeps SIGINT and SIGTERM from this thread, and for good from threads and processes that start in the block."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def later() -> Iterator[None]:
    """Defers SIGINT and SIGTERM to the end of the block. `masked` alone does not: another thread may receive them."""
    received = []
    with masked(), handling(dict.fromkeys(ENDING, lambda number, _: received.append(number))):
        yield
    for number in received:
        handler = signal.getsignal(number)
        if callable(handler):
            handler(number, None)
        else:
            signal.raise_signal(number)


def end_now(number: int, stderr: int = 2) -> None:
    """Ends this process and those that it started with `multiprocessing`, with one line. `stderr`: its descriptor."""
    processes = sys.modules.get("multiprocessing.process")
    for child in processes.active_children() if processes else ():
        child.kill()
    with contextlib.suppress(OSError, ValueError):
        if select.select([], [stderr], [], 0)[1]:  # a full pipe would block
            os.write(stderr, f"aocr: error: {NAMES[signal.Signals(number)]}\n".encode())
    os._exit(128 + number)


@contextlib.contextmanager
def at_once(stderr: int = 2) -> Iterator[None]:
    """Lets SIGINT and SIGTERM end the process at once within the block, which has nothing to clean up.

    For imports, which take an exception in their middle for an error of their own. `stderr`: as for `end_now`.
    """
    with handling(dict.fromkeys(ENDING, lambda number, _: end_now(number, stderr))):
        yield


@contextlib.contextmanager
def handling(handlers: dict) -> Iterator[None]:
    """Handles signals within the block, unless they are ignored: a shell does that for jobs in the background."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()
                  if signal.getsignal(number) not in (signal.SIG_IGN, None)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
