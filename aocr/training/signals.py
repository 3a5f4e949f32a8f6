"""Signals that ask a run to end."""

import logging
import signal

log = logging.getLogger(__name__)


class Signals:
    """Notes SIGINT and SIGTERM while a block runs; a second one ends the program at once, as without us."""

    def __init__(self):
        self.received = None

    def __enter__(self):
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number, _):
        self.received = number
        log.warning("%s: saving after this step", signal.Signals(number).name)
        signal.signal(number, self._before[number])

    @property
    def exit_code(self):
        """128 + the signal's number, 0 without one."""
        return 128 + self.received if self.received else 0
