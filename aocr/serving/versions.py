"""The versions of the served model: the newest one answers; a new one takes over when it is ready."""

import gc
import logging
import threading
import weakref
from collections.abc import Callable

import tensorflow.compat.v1 as tf

from aocr.errors import UserError
from aocr.files import cause
from aocr.serving.contract import Problem, Target
from aocr.serving.models import Servable
from aocr.serving.sources import Found, Source

LOADING, AVAILABLE, END = "LOADING", "AVAILABLE", "END"
FINE = "OK", ""
REMEMBERED = 16  # ended versions that the status still names

log = logging.getLogger(__name__)


class Versions:
    """Loads the newest version of a Source, and looks for newer ones in a thread."""

    def __init__(self, name: str, source: Source, poll_seconds: float, changed: Callable[[int | None], None]):
        """`changed`: is called with a version that answers from now on, or None if one could not be loaded."""
        self.name, self._source, self._poll, self._changed = name, source, poll_seconds, changed
        self._current: Servable | None = None
        self._loaded: Found | None = None
        self._failed: set[tuple] = set()
        self._said = ""  # the last problem that was logged
        self._retired: list[weakref.ref] = []
        self.states: dict[int, tuple[str, str, str]] = {}  # version -> (state, error code, message)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="versions", daemon=True)

    @property
    def current(self) -> Servable:
        """The version that answers, once `start` has returned."""
        assert self._current
        return self._current

    def start(self) -> None:
        """Loads the newest version that can be loaded; then looks for others. UserError if there is none."""
        problem = None
        for found in self._source.find():
            problem = self._load(found)
            if not problem:
                self._thread.start()
                return
        raise problem or UserError("no version could be loaded")

    def close(self) -> None:
        """Ends the thread."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def get(self, target: Target) -> Servable:
        """Returns the model that a request names. It stays open as long as it is referred to. Raises: Problem."""
        current = self.current
        if target.label is not None and target.name == self.name:
            raise Problem(400, f"Unrecognized servable version label: {target.label}")
        if target.name != self.name or target.version not in (None, current.version):
            raise Problem(404, f"Servable not found for request: {target.describe()}")
        return current

    def status(self, target: Target) -> dict[int, tuple[str, str, str]]:
        """Returns the states of the versions that a request names. Raises: Problem."""
        states = self.states if target.name == self.name else {}
        if target.version is None:
            if not states:
                raise Problem(404, f"Could not find any versions of model {target.name}")
            return states
        if target.version not in states:
            raise Problem(404, f"Could not find version {target.version} of model {target.name}")
        return {target.version: states[target.version]}

    # ---- the thread

    def _watch(self):
        while not self._stop.wait(self._poll):
            try:
                self._release()
                self._update()
                self._said = ""
            except Exception as error:  # the storage may come back
                self._say(error)

    def _say(self, error):
        """Logs why no new version can be looked for, once."""
        if str(error) != self._said:
            self._said = str(error)
            log.warning("%s; version %s stays", error, self.current.version,
                        exc_info=None if isinstance(error, (UserError, OSError, tf.errors.OpError)) else error)

    def _update(self):
        for found in self._source.find():
            if self._loaded and (found.version, found.state) == (self._loaded.version, self._loaded.state):
                return
            if _key(found) not in self._failed and not self._load(found):
                return

    def _release(self):
        """Forgets retired versions that no request uses any more."""
        if self._retired and not all(reference() for reference in self._retired):
            self._retired = [reference for reference in self._retired if reference()]
            gc.collect()  # a graph and its operations refer to each other

    def _load(self, found):
        """Loads a version and lets it answer; returns the UserError if that fails."""
        log.info("version %d: loading", found.version)
        replaced = self.states.get(found.version)
        self._set_state(found.version, replaced if replaced and replaced[0] == AVAILABLE else (LOADING, *FINE))
        try:
            new = found.open()
            new.warm_up()
        except Exception as error:  # whatever it is, the old version must stay
            problem = error if isinstance(error, UserError) else UserError(
                f"version {found.version}: cannot read an image: {cause(error)}; export it again")
            log.error("version %d: not served: %s", found.version, problem,
                      exc_info=None if isinstance(error, (UserError, tf.errors.OpError)) else error)
            self._failed.add(_key(found))
            self._set_state(found.version, replaced if replaced and replaced[0] == AVAILABLE
                            else (END, "INTERNAL", "The version could not be loaded; the server's log tells why"))
            self._changed(None)
            return problem
        old, self._current, self._loaded = self._current, new, found
        self._set_state(new.version, (AVAILABLE, *FINE))
        if old:
            self._retired.append(weakref.ref(old))
            if old.version != new.version:
                self._set_state(old.version, (END, *FINE))
        self._changed(new.version)
        log.info("version %d: answers from now on", new.version)
        return None

    def _set_state(self, version, state):
        states = {**self.states, version: state}
        ended = sorted(number for number, (name, *_) in states.items() if name == END)
        for number in ended[:-REMEMBERED]:
            del states[number]
        self.states = states  # replaced as a whole: requests read it in other threads


def _key(found):
    return found.version, found.state
