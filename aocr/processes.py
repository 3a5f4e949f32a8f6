"""Parallel map over processes: ordered results, bounded memory, no orphaned processes.

Free of TensorFlow, so that worker processes start fast.
"""

import collections
import concurrent.futures
import multiprocessing
import multiprocessing.connection
import multiprocessing.resource_tracker
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable
from typing import TypeVar

from aocr.ending import later
from aocr.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 4  # maximum number of submitted items per process
LAST_ITEMS = 3.0  # seconds that processes have for items whose results nobody takes


def in_processes(function: Callable[[Item], Result], items: Iterable[Item],
                 workers: int) -> Generator[Result, None, None]:
    """Yields function(item) for each item, in order. Close it if it is not exhausted.

    Args:
      function: picklable, as must be items and results.
      items: consumed as results are taken.
      workers: number of processes; 1 runs in this process.

    Raises: what `function` raises; UserError if a worker process was killed.
    """
    if workers == 1:
        yield from map(function, items)
        return
    _start_tracker()
    # Spawned, not forked: a fork would inherit locks held by other threads.
    executor = concurrent.futures.ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=_start_worker)
    waiting, before = collections.deque(), set(multiprocessing.active_children())
    try:
        for item in items:
            with later():  # a half-started process would be orphaned
                waiting.append(executor.submit(function, item))
            if len(waiting) >= AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except concurrent.futures.process.BrokenProcessPool:
        raise UserError("a worker process was killed, possibly for lack of memory; lower --workers") from None
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
        _end(set(multiprocessing.active_children()) - before)


def _end(processes):
    """Waits for processes that end after their current items, and kills those that take long."""
    running, end = {process.sentinel: process for process in processes}, time.monotonic() + LAST_ITEMS
    while running and (left := end - time.monotonic()) > 0:
        for sentinel in multiprocessing.connection.wait(list(running), left):
            del running[sentinel]
    for process in running.values():
        process.kill()
    for process in processes:
        process.join()


def _start_tracker():
    """Starts the process that removes semaphores which this one leaves, quietly: after a signal there may be some."""
    sys.warnoptions.append("ignore:resource_tracker")
    try:
        multiprocessing.resource_tracker.ensure_running()
    finally:
        sys.warnoptions.pop()


def _start_worker():
    # A terminal sends Ctrl-C to all processes, but only the parent may act on it and stop the workers. Where
    # `later` cannot mask SIGINT from the start, ignore it here. SIGTERM, masked likewise, must work again.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent():
    """Exits when the parent does, since a killed parent cannot stop its workers."""
    multiprocessing.parent_process().join()
    os._exit(1)
