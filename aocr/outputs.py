"""The guard of all outputs: what a command may write, and which existing files it may replace.

Every command calls it before it opens anything. An output is never an input, a directory, a device, a FIFO or a
dangling link, and replaces only a file of the kind that the command makes. `WholeFiles` then writes it.
"""

import logging
import os
import re
import stat
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import NamedTuple

from aocr.aside import is_stream, place_of
from aocr.errors import UserError
from aocr.files import StorageError, exists, is_remote, load_json, read_bytes

SNIFFED = 1 << 16  # bytes of a file that tell whether it is text of ours
LOG_LINE = re.compile(rb"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}|\d\d:\d\d:\d\d|aocr: (warning|error):) ", re.MULTILINE)
COMPRESSED = (b"\x1f\x8b", b"\x89PNG", b"\xff\xd8\xff", b"PK\x03\x04", b"%PDF")  # files that may be without zeros


class Kind(NamedTuple):
    """What a command makes, to recognise it before it is replaced."""

    name: str  # such as "a dataset"
    fits: Callable[[str], bool]  # whether an existing file is one; may raise OSError
    hint: str = ""  # after the remedy


class Output(NamedTuple):
    """A file that a command is about to write."""

    path: str
    kind: Kind
    flag: str = ""  # that names it, for messages


def check_outputs(outputs: Iterable[Output], inputs: Iterable[str]) -> None:
    """Raises UserError unless each output may be written.

    `inputs`: files and directories, without patterns; the standard streams and the log file count as well.
    """
    used = {identity: told for told, path in _in_use(inputs) for identity in _identities(path)}
    for output in outputs:
        told = f"{output.flag} {output.path}".strip()
        try:
            output.path.encode()  # TensorFlow takes UTF-8 only
            place = output.path if is_remote(output.path) else place_of(output.path)
            identities = _identities(place)
            clash = next((used[identity] for identity in identities if identity in used), None)
            if clash:
                raise UserError(f"{told}: is {clash}; name another file")
            fits = not _holds_something(place) or output.kind.fits(place)
        except StorageError:
            raise
        except OSError as error:
            raise UserError(f"{told}: cannot be written: {error.strerror}; name another file") from None
        except UnicodeEncodeError:
            raise UserError(f"{told!r}: cannot be written: not valid UTF-8; name another file") from None
        if not fits:
            raise UserError(f"{told}: exists and is not {output.kind.name}; remove it or name another output"
                            f"{output.kind.hint}")
        used.update(dict.fromkeys(identities, f"an output already ({told})"))


def _in_use(inputs: Iterable[str]) -> Iterator[tuple[str, str | int]]:
    """Yields (what it is, path or descriptor) of the files that no output may replace."""
    for path in inputs:
        yield f"one of the inputs ({path})", path
    for number, name in enumerate(("input", "output", "error")):
        yield f"where standard {name} leads", number
    for handler in logging.getLogger("aocr").handlers:
        if isinstance(handler, logging.FileHandler):
            yield "the log file", handler.baseFilename


def _identities(path: str | int) -> list[Hashable]:
    """Returns what identifies a file: its resolved path, and its device and inode if it is there."""
    if isinstance(path, str) and is_remote(path):
        return [path]
    found: list[Hashable] = [os.path.realpath(path)] if isinstance(path, str) and "\0" not in path else []
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return found
    if isinstance(path, str) or stat.S_ISREG(status.st_mode):
        found.append((status.st_dev, status.st_ino))
    return found


def _holds_something(path):
    if not is_remote(path):
        return os.path.exists(path) and os.path.getsize(path) > 0
    import tensorflow.compat.v1 as tf

    return exists(path) and not tf.io.gfile.isdir(path)


def is_within(path: str, directories: Iterable[str]) -> bool:
    """Returns whether a local path is below one of these local directories."""
    place = os.path.realpath(path)
    return any(place.startswith(os.path.join(os.path.realpath(directory), "")) for directory in directories
               if os.path.isdir(directory))


def check_log(path: str) -> None:
    """Raises OSError unless a log may be appended to this file: a new, empty or log file, or a stream of the system."""
    if is_stream(path):
        return
    place = place_of(path)
    if os.path.exists(place) and os.path.getsize(place) and not _is_log(place):
        raise OSError(0, "the file exists and is not a log", path)


def _is_log(path):
    start = start_of(path)
    return b"\0" not in start and not start.startswith(COMPRESSED) and (
        path.endswith(".log") or bool(LOG_LINE.search(start)))


def is_rows(path: str) -> bool:
    """Returns whether a file may hold rejected rows: text, but no log and no JSON document or list of a model."""
    start = start_of(path)
    if b"\0" in start or start.startswith((*COMPRESSED, b"model_checkpoint_path")) or LOG_LINE.match(start):
        return False
    line = _json_of(start.partition(b"\n")[0])
    if isinstance(line, dict):  # a row, unless it is of a history or a sidecar
        return not line.keys() & {"kind", "fingerprint"}
    return start.lstrip()[:1] not in (b"{", b"[") or not isinstance(_json_of(read_bytes(path)), (dict, list))


def json_with(*names: str) -> Callable[[str], bool]:
    """Returns a function of paths: whether a file holds a JSON object with these members."""
    def fits(path):
        values = _json_of(read_bytes(path)) if start_of(path).lstrip().startswith(b"{") else None
        return isinstance(values, dict) and values.keys() >= set(names)
    return fits


def _json_of(content):
    """Returns the value of JSON; None if it is not valid."""
    try:
        return load_json(content)
    except ValueError:
        return None


def start_of(path: str) -> bytes:
    """Returns the first bytes of a file, SNIFFED at most."""
    if is_remote(path):
        return read_bytes(path)[:SNIFFED]
    with open(path, "rb") as file:
        return file.read(SNIFFED)
