"""Work in several processes: results in order, in bounded memory, and no process left behind.

No TensorFlow here, so that worker processes start fast.
"""

import collections
import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable
from typing import TypeVar

from aocr.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 4  # items for each process that are given out before the first of them is done, at the most
ENDING = (signal.SIGINT, signal.SIGTERM)


def in_processes(function: Callable[[Item], Result], items: Iterable[Item],
                 workers: int) -> Generator[Result, None, None]:
    """Yields function(item) for each item, in their order. To be closed when it is not used to its end.

    Args:
      function: what can be sent to another process, as must be items and results.
      items: they are read as results are taken.
      workers: the number of processes; 1 is this one.

    Raises: what `function` raises; UserError if a process was ended from outside.
    """
    if workers == 1:
        yield from map(function, items)
        return
    # Fresh processes: a copy of this one would hold locks that its threads were holding.
    executor = concurrent.futures.ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=_start_worker)
    waiting = collections.deque()
    try:
        for item in items:
            with _signals_later():
                waiting.append(executor.submit(function, item))
            if len(waiting) >= AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except concurrent.futures.process.BrokenProcessPool:
        raise UserError("a worker process was ended from outside; was memory short? Try fewer with --workers") from None
    finally:
        executor.shutdown(cancel_futures=True)


def _start_worker():
    # Ctrl-C goes to all processes of a terminal; the first one tells the others to end. Here is where that is not
    # masked from the start, as `_signals_later` does it. SIGTERM is masked with it, but ends them at any other time.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent():
    """If the first process is killed, nobody else tells the others."""
    multiprocessing.parent_process().join()
    os._exit(1)


@contextlib.contextmanager
def _signals_later():
    """Ctrl-C and SIGTERM wait for the block's end, which may start a process: half started, nobody would end it.

    A process that is started in it never gets Ctrl-C, not even while it starts.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
