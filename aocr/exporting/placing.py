"""Puts an export in its place, whole: locally by a swap, on remote storage file by file."""

import os
import posixpath
import tempfile
from collections.abc import Callable

import tensorflow.compat.v1 as tf

from aocr.aside import aside, swap_in
from aocr.exporting import versions
from aocr.exporting.formats import MAIN_NAMES


def put(write: Callable[[str], None], target: str, numbered: bool = False) -> str:
    """Writes under a temporary name, which TensorFlow Serving ignores, then swaps the directories. A link stays.

    `numbered`: the name is a version; if another process has taken it meanwhile, the next one is used.
    Returns: the directory.
    """
    place = os.path.realpath(target)
    parent, name = os.path.split(place)
    os.makedirs(parent, exist_ok=True)
    with aside(parent) as directory:
        part = os.path.join(directory, name)
        write(part)
        while numbered and not _renamed(part, place):
            place = os.path.join(parent, str(versions.next_version(parent)))
            target = place
        if not numbered:
            swap_in(part, place)
    return target


def _renamed(part, place):
    """Renames a directory. Returns whether the new name was free."""
    try:
        os.rename(part, place)
        return True
    except OSError:
        if not os.path.lexists(place):
            raise
        return False


def upload(write: Callable[[str], None], target: str) -> None:
    """Copies file by file, since remote storage cannot rename directories; the file that makes it an export is last."""
    with tempfile.TemporaryDirectory() as directory:
        part = os.path.join(directory, "part")
        write(part)
        names = [os.path.relpath(os.path.join(place, name), part) for place, _, names in os.walk(part)
                 for name in names]
        remove(target)
        for name in sorted(names, key=lambda name: (name in MAIN_NAMES, name)):
            to = posixpath.join(target, *name.split(os.sep))
            tf.io.gfile.copy(os.path.join(part, name), to, overwrite=True)


def remove(path: str) -> None:
    """Removes a directory, the files that make it an export first, so that no partial export remains."""
    if tf.io.gfile.isdir(path):
        for name in sorted(MAIN_NAMES):
            if tf.io.gfile.exists(posixpath.join(path, name)):
                tf.io.gfile.remove(posixpath.join(path, name))
        tf.io.gfile.rmtree(path)
