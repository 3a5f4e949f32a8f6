"""Signals that ask a run to end."""

import logging
import signal
import threading

log = logging.getLogger(__name__)


class Signals:
    """Notes SIGINT and SIGTERM while a block runs; a second one ends the program at once, as without us."""

    def __init__(self) -> None:
        self.received: int | None = None  # the number of the last one

    def __enter__(self) -> "Signals":
        # Where a program trains in a thread of its own, signals are for that program.
        ours = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
        self._before = {number: signal.signal(number, self._note) for number in ours}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number, _):
        self.received = number
        log.warning("%s: saving after this step", signal.Signals(number).name)
        signal.signal(number, self._before[number])

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, 0 without one."""
        return 128 + self.received if self.received else 0
