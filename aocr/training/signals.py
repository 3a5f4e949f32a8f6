"""Signals that end a run."""

import logging
import signal
import threading

log = logging.getLogger(__name__)


class Signals:
    """Records SIGINT and SIGTERM within a block; a second one of the same kind has its usual effect."""

    def __init__(self) -> None:
        self.received: int | None = None  # number of the last one

    def __enter__(self) -> "Signals":
        # Only the main thread may set handlers; a program that trains in another thread handles its signals itself.
        ours = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
        self._before = {number: signal.signal(number, self._receive) for number in ours}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number, _):
        self.received = number
        log.warning("%s: saving after this step", signal.Signals(number).name)
        signal.signal(number, self._before[number])

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, 0 without one."""
        return 128 + self.received if self.received else 0
