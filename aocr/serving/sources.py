"""What there is to serve in a directory: versions of an export, a single export, or the checkpoints of a model."""

import posixpath
from collections.abc import Callable, Hashable
from typing import NamedTuple

import tensorflow.compat.v1 as tf

from aocr.checkpoint import BEST_NAME, DESCRIPTION_NAME, STATE_NAME, Trained, find_model, step_of
from aocr.config import ServeConfig
from aocr.errors import UserError
from aocr.evaluation import validations
from aocr.exports import FROZEN_GRAPH, SAVED_MODEL, version_of
from aocr.serving.models import Servable, open_frozen, open_saved_model, open_trained
from aocr.weights import files_of

TRAINED = (STATE_NAME, posixpath.join(BEST_NAME, STATE_NAME), DESCRIPTION_NAME, validations.NAME)


class Found(NamedTuple):
    """A version that can be opened."""

    version: int
    state: Hashable  # differs if the files have changed
    open: Callable[[], Servable]


class Source:
    """The directory that is served."""

    def __init__(self, directory: str, config: ServeConfig, session_config: tf.ConfigProto | None,
                 checkpoint: str | None = None):
        """`checkpoint`: of a model directory, as for checkpoint.find_model."""
        self._directory, self._config, self._session_config = directory.rstrip("/") or "/", config, session_config
        self._checkpoint = checkpoint
        self._trained_state: Hashable = None
        self._trained: list[Found] = []

    def find(self) -> list[Found]:
        """Returns the versions that are there, the highest first. UserError if the directory holds none."""
        there = self._directory
        if _is_file(posixpath.join(there, SAVED_MODEL)):
            return [self._saved_model(there, version_of(posixpath.basename(there)) or 1)]
        if _is_file(path := posixpath.join(there, FROZEN_GRAPH)):
            return [Found(1, _state(path),
                          lambda: open_frozen(there, 1, self._config.max_pixels, self._session_config))]
        if any(_is_file(posixpath.join(there, name)) for name in TRAINED[:3]):
            return self._find_trained()
        if found := self._find_versions():
            return found
        raise UserError(f"{there}: no model there; name an export ({SAVED_MODEL}, numbered versions of it, or "
                        f"{FROZEN_GRAPH}) or a model directory ({DESCRIPTION_NAME} and checkpoints)")

    def _saved_model(self, directory, version):
        # With the files of the weights, which arrive later where a directory is copied.
        weights = posixpath.join(directory, "variables")
        names = sorted(tf.io.gfile.listdir(weights)) if tf.io.gfile.isdir(weights) else []
        files = [posixpath.join(directory, SAVED_MODEL), *(posixpath.join(weights, name) for name in names)]
        return Found(version, tuple(map(_state, files)),
                     lambda: open_saved_model(directory, version, self._config.max_pixels, self._session_config))

    def _find_versions(self):
        names = tf.io.gfile.listdir(self._directory) if tf.io.gfile.isdir(self._directory) else []
        numbers = {name.rstrip("/"): version_of(name.rstrip("/")) for name in names}
        return [self._saved_model(posixpath.join(self._directory, name), version)
                for name, version in sorted(numbers.items(), key=lambda item: item[1] or 0, reverse=True)
                if version is not None and _is_file(posixpath.join(self._directory, name, SAVED_MODEL))]

    def _find_trained(self):
        """Reads the weights only if a file of the directory has changed."""
        state = tuple(_state(posixpath.join(self._directory, name)) for name in TRAINED)
        if state != self._trained_state:
            most = self._config.max_pixels
            found = find_model(self._directory, dict(max_pixels=most) if most else {}, None, self._checkpoint,
                               self._config.decoding)
            self._trained, self._trained_state = [self._of_checkpoint(found)], state
        return self._trained

    def _of_checkpoint(self, trained: Trained):
        version = max(step_of(trained.checkpoint), 0)
        files = tuple(_state(path) for path in files_of(trained.checkpoint))
        return Found(version, (trained.checkpoint, trained.decoding, trained.temperature, files),
                     lambda: open_trained(trained, version, self._session_config))


def _is_file(path):
    return tf.io.gfile.exists(path) and not tf.io.gfile.isdir(path)


def _state(path):
    """Returns what tells a file from the one that was there before; None if there is none."""
    try:
        found = tf.io.gfile.stat(path)
    except tf.errors.OpError:
        return None
    return path, found.mtime_nsec, found.length
