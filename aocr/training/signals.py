"""Signals that end a run."""

import logging
import signal
import threading

from aocr.ending import Watch

LAST_STEP = 60.0  # seconds from a signal to the end of the step in progress
GRACE = 10.0  # seconds from a second one to the end of the process

log = logging.getLogger(__name__)


class Signals:
    """Records SIGINT and SIGTERM within a block; a second one of the same kind has its usual effect.

    A step that takes longer than LAST_STEP after a signal ends the process, without saving.
    """

    def __init__(self) -> None:
        self.received: int | None = None  # number of the last one
        self._watch = Watch(LAST_STEP, GRACE, 0.0)

    def __enter__(self) -> "Signals":
        # Only the main thread may set handlers; a program that trains in another thread handles its signals itself.
        ours = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
        self._before = {number: signal.signal(number, self._receive) for number in ours}
        self._watch.__enter__()
        return self

    def __exit__(self, *_) -> None:
        self._watch.__exit__()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number, _):
        self.received = number
        log.warning("%s: saving after this step", signal.Signals(number).name)
        signal.signal(number, self._before[number])

    def saving(self) -> None:
        """Gives the run as long as it needs to save."""
        self._watch.calm()

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, 0 without one."""
        return 128 + self.received if self.received else 0
