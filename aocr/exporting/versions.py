"""The versions of a model as TensorFlow Serving looks for them: directories with numbers for names."""

import logging
import os
import posixpath
from collections.abc import Callable

from aocr.aside import aside
from aocr.exports import version_of
from aocr.files import is_remote, names_in

log = logging.getLogger(__name__)


def next_version(directory: str) -> int:
    """Returns a version above all in a directory, at least 1. Raises OSError."""
    try:
        names = names_in(directory)
    except (FileNotFoundError, NotADirectoryError):
        names = []
    return 1 + max((version for name in names if (version := version_of(name)) is not None), default=0)


def prune(directory: str, newest: str, keep: int, is_ours: Callable[[str], bool],
          remove: Callable[[str], None]) -> None:
    """Removes old versions.

    Args:
      newest: name of the version that was written last; it stays.
      keep: number of versions to keep, by their numbers, the newest among them.
      is_ours: whether a directory is an export; others stay and do not count.
      remove: removes a remote directory.
    """
    numbers = {name: version for name in names_in(directory) if (version := version_of(name)) is not None}
    others = sorted(numbers.keys() - {newest}, key=lambda name: numbers[name], reverse=True)
    ours = [name for name in others if is_ours(posixpath.join(directory, name))]
    old = ours[keep - 1:]
    if not old:
        return
    if is_remote(directory):
        for name in old:
            remove(posixpath.join(directory, name))
    else:
        with aside(directory) as place:  # from where it is removed, out of the server's sight
            for name in old:
                os.rename(os.path.join(directory, name), os.path.join(place, name))
    log.info("%s: removed the old versions %s", directory, ", ".join(reversed(old)))
