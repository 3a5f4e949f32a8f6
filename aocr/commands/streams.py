"""The standard streams: results on stdout, always UTF-8; messages on stderr; paths on stdin."""

import contextlib
import errno
import io
import os
import re
import sys
from collections.abc import Iterator
from typing import BinaryIO

from aocr.errors import UserError

CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")  # all but the tab
NAMES = ("stdin", "stdout", "stderr")


def one_line(text: str, tabs: bool = True) -> str:
    """Escapes control characters, so that a text is one line. `tabs`: whether it may hold tabs."""
    escaped = CONTROL.sub(lambda found: repr(found.group())[1:-1], text)
    return escaped if tabs else escaped.replace("\t", "\\t")


@contextlib.contextmanager
def standard_streams() -> Iterator[None]:
    """Makes the standard streams usable within the block: open, and UTF-8 in any locale.

    What cannot be UTF-8, such as a byte of a file name, is written as its escape sequence, valid in JSON too.
    """
    _open_closed()
    with contextlib.ExitStack() as stack:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stack.callback(_reconfigure, stream, stream.encoding, stream.errors)
                _reconfigure(stream, "utf-8", "backslashreplace")
        yield


def _reconfigure(stream, encoding, errors):
    with contextlib.suppress(OSError, ValueError):  # what is left cannot be written; the stream may be closed
        stream.reconfigure(encoding=encoding, errors=errors)


def _open_closed():
    """Opens the standard streams that are closed: the next file would take their place, and get what is printed.

    Reading from stdin and writing to stdout stay errors.
    """
    for number, access in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_RDWR)):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, access)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            os.set_inheritable(number, True)
        if getattr(sys, NAMES[number]) is None:
            mode = "w" if number else "r"
            setattr(sys, NAMES[number], open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


def standard_input() -> BinaryIO:
    """Returns stdin. UserError if it is closed."""
    try:
        os.read(sys.stdin.fileno(), 0)
        # Not Python's own object: at its exit Python waits for a thread that reads from that, and then aborts.
        return open(sys.stdin.fileno(), "rb", closefd=False)
    except io.UnsupportedOperation:  # not a file, in a program that calls this one
        return sys.stdin.buffer
    except OSError as error:
        raise UserError(f"standard input: cannot be read: {_reason(error)}; pass paths as arguments or through a "
                        "pipe") from None


def write_line(*fields: str) -> None:
    """Writes a line of results, its fields separated by tabs, at once. Raises: as `write`."""
    write("\t".join(one_line(field, tabs=False) for field in fields))


def write(text: str, end: str = "\n") -> None:
    """Writes results at once. Raises: BrokenPipeError if nobody reads them any more; UserError if it fails."""
    try:
        print(text, end=end, flush=True)
    except OSError as error:
        drop_rest()
        if isinstance(error, BrokenPipeError):
            raise
        raise UserError(f"standard output: cannot be written: {_reason(error)}; the results are incomplete") from None


def drop_rest() -> None:
    """Sends what is left to write nowhere: Python would try again at its exit."""
    with contextlib.suppress(OSError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


def _reason(error):
    return "it is closed" if error.errno == errno.EBADF else error.strerror or error
