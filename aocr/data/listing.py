"""Lists the files of directories, local and remote."""

import os
import posixpath
import stat
from collections.abc import Iterator
from typing import NamedTuple

from aocr.errors import UserError
from aocr.files import is_remote

# Extensions of the images that Pillow reads without other programs, listed here since Pillow loads all of its plugins
# to tell them. Its formats of films, of printers and of scientific data are left out.
IMAGE_EXTENSIONS = (
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".gif", ".bmp", ".dib", ".webp", ".tif", ".tiff", ".jp2",
    ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".pbm", ".pgm", ".ppm", ".pnm", ".pfm", ".tga", ".icb", ".vda", ".vst",
    ".ico", ".cur", ".icns", ".pcx", ".dcx", ".sgi", ".rgb", ".rgba", ".bw", ".ras", ".xbm", ".xpm", ".qoi", ".avif",
    ".psd", ".dds", ".msp", ".im")


HIDDEN = ("__MACOSX", "@eaDir")  # directories that systems make


class Directory(NamedTuple):
    """The files of one directory."""

    place: str  # its path
    files: list[str]  # names of its regular files, sorted
    others: list[str]  # names of its entries that are neither files nor directories, such as devices
    hidden: int = 0  # number of directories in it that are left out


def is_image(name: str) -> bool:
    """Returns whether a file's name has the extension of an image."""
    return name.lower().endswith(IMAGE_EXTENSIONS)


def is_folder(path: str) -> bool:
    """Returns whether a path is a directory."""
    if not is_remote(path):
        return os.path.isdir(path)
    import tensorflow.compat.v1 as tf

    return tf.io.gfile.isdir(path)


def directories(folder: str) -> Iterator[Directory]:
    """Yields a directory and all below it, in order of their names, each once however many links lead to it.

    Raises UserError if one cannot be read.
    """
    yield from _remote_directories(folder) if is_remote(folder) else _local_directories(folder)


def _local_directories(folder):
    seen, waiting = set(), [folder]
    while waiting:
        place = waiting.pop()
        try:
            status = os.stat(place)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            files, others, inside = [], [], []
            with os.scandir(place) as entries:  # of which only the names stay in memory
                for entry in entries:
                    (inside if _is_directory(entry) else files if _is_file(entry) else others).append(entry.name)
        except OSError as error:
            raise UserError(f"{place}: cannot be read: {error.strerror or error}") from None
        shown = sorted(name for name in inside if not _is_hidden(name))
        yield Directory(place, sorted(files), sorted(others), len(inside) - len(shown))
        waiting += (os.path.join(place, name) for name in reversed(shown))


def _is_hidden(name):
    return name.startswith(".") or name in HIDDEN


def _is_directory(entry):
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _is_file(entry):
    """Returns whether an entry is a regular file; links that lead nowhere are too, for their rows to be reported."""
    try:
        return stat.S_ISREG(entry.stat().st_mode)
    except OSError:
        return True


def _remote_directories(folder):
    """gfile.walk would query each name for being a directory, which is slow."""
    import tensorflow.compat.v1 as tf

    names = sorted(tf.io.gfile.listdir(folder))
    if folder.startswith("gs://"):  # where names of directories end in a slash
        folders = [name for name in names if name.endswith("/")]
    else:
        folders = [name for name in names if tf.io.gfile.isdir(posixpath.join(folder, name))]
    shown = [name for name in folders if not _is_hidden(name.rstrip("/"))]
    yield Directory(folder, [name for name in names if name not in folders], [], len(folders) - len(shown))
    for name in shown:
        yield from _remote_directories(posixpath.join(folder, name))
