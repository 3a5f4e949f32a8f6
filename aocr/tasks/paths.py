"""The paths of images to read: from arguments, directories, patterns, lists and a stream."""

import itertools
import logging
import os
import posixpath
import queue
import threading
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from aocr.data.listing import directories, is_folder, is_image
from aocr.errors import UserError
from aocr.files import cause, exists, is_pattern, matches_of, open_file

log = logging.getLogger(__name__)

QUEUED = 4  # parts of a stream that wait at most
LONGEST_PATH = 1 << 16  # bytes; no path is as long
LIST_MARK = "@"  # in front of the path of a list


def check_lists(arguments: Iterable[str]) -> list[str]:
    """Returns the paths of the lists among arguments. UserError if one cannot be read."""
    lists = [argument[1:] for argument in arguments if _is_list(argument)]
    for path in lists:
        try:
            open_file(path).close()
        except (OSError, ValueError) as error:
            raise UserError(f"{LIST_MARK}{path}: cannot be read: {cause(error)}; name a file of paths, one per line"
                            ) from None
    return lists


def image_paths(arguments: Iterable[str], recursive: bool) -> Iterator[str]:
    """Yields the paths of images in the order of the arguments, those of a directory by name; nothing is collected but
    the names in one directory.

    Args:
      arguments: paths of files; of directories, whose images they stand for; glob patterns; `@` and the path of a list,
        one path per line, which are taken as they are.
      recursive: whether the directories in directories count.

    Raises: UserError if a directory cannot be read, or has no images.
    """
    for argument in arguments:
        if _is_list(argument):
            with open_file(argument[1:]) as lines:
                yield from filter(None, map(_path, lines))
            continue
        for path in _matches(argument):
            if is_folder(path):
                yield from _in_directory(path, recursive)
            else:
                yield path


def parts_of(paths: Iterable[str], size: int) -> Iterator[list[str]]:
    """Yields lists of `size` paths, then of those left."""
    part: list[str] = []
    for path in paths:
        part.append(path)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part


def waiting_parts(stream: BinaryIO, size: int, end: bytes = b"\n") -> Iterator[list[str]]:
    """Yields lists of the paths received so far, at most `size` each: no path waits for others.

    A path is cut after LONGEST_PATH bytes, so that it is one that does not exist. An empty list follows a full one if
    nothing else is waiting.

    Args: end: what a path ends with, a line feed or NUL.
    """
    waiting: queue.Queue[bytes | None] = queue.Queue(QUEUED * size)

    def collect():
        for record in _lines(stream) if end == b"\n" else _records(stream, end):
            waiting.put(record)
        waiting.put(None)

    threading.Thread(target=collect, daemon=True).start()
    part: list[str] = []
    while (record := waiting.get()) is not None:
        if path := _path(record) if end == b"\n" else os.fsdecode(record):
            part.append(path)
        if part and (len(part) == size or waiting.empty()):
            yield part
            if len(part) == size and waiting.empty():
                yield []
            part = []
    if part:
        yield part


def _is_list(argument):
    return argument.startswith(LIST_MARK) and not exists(argument)


def _path(line):
    return line.decode(errors="surrogateescape").rstrip("\r\n")


def _matches(argument):
    """Returns the paths that match a pattern; anything else, and a pattern without matches, as it is."""
    return is_pattern(argument) and matches_of(argument) or [argument]


def _in_directory(folder, recursive):
    """Yields the images in a directory, hidden ones left out; each directory once however many links lead to it."""
    found = False
    for directory in directories(folder) if recursive else itertools.islice(directories(folder), 1):
        for name in directory.files:
            if is_image(name) and not name.startswith("."):
                found = True
                yield posixpath.join(directory.place, name)
    if not found:
        log.warning("%s: no images there%s", folder, "" if recursive else "; --recursive reads those below it")


def _lines(stream):
    """Yields the lines of a stream, each as soon as it arrives."""
    while line := stream.readline(LONGEST_PATH):
        part = line
        while part and not part.endswith(b"\n"):  # the rest of a longer line
            part = stream.readline(LONGEST_PATH)
        yield line


def _records(stream, end):
    """Yields what a stream holds between ends, each as soon as it arrives."""
    rest = b""
    while block := stream.read1(LONGEST_PATH):  # type: ignore[attr-defined]
        *records, last = block.split(end)
        for record in records:
            yield (rest + record)[:LONGEST_PATH]
            rest = b""
        rest = (rest + last)[:LONGEST_PATH]
    if rest:
        yield rest
