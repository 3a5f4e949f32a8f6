"""Reads text inputs as lines of UTF-8, whatever their encoding, line ends and byte order marks.

Imports TensorFlow for remote paths only.
"""

import codecs
import itertools
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from aocr.data.rows import STDIN
from aocr.errors import UserError
from aocr.files import StorageError, is_remote, open_file, os_error

CHUNK = 1 << 16  # bytes; the first chunk of a file tells its encoding and line ends
LONGEST_LINE = 1 << 28  # bytes; a text with a longer line is none, such as /dev/zero
BOM = codecs.BOM_UTF8
UTF_16 = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
UTF_32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
# First bytes of files that are often named by mistake, and the remedy.
NO_TEXT = {
    b"\x1f\x8b": "is compressed with gzip; decompress it first",
    b"PK\x03\x04": "is a zip archive or a spreadsheet; unpack it, or save the table as CSV in UTF-8",
    b"\xd0\xcf\x11\xe0": "is a spreadsheet; save the table as CSV in UTF-8",
    b"\x89PNG": "is an image; name a list of images with their labels, or their directory",
    b"\xff\xd8\xff": "is an image; name a list of images with their labels, or their directory",
}


def lines_of(source: str, stdin: BinaryIO | None) -> Iterator[bytes]:
    """Yields the lines of a text file in UTF-8, without line ends and byte order marks.

    Reads UTF-8 and UTF-16, with and without byte order mark; other bytes pass through, for `rows.decode` to report.
    Lines end in LF or CRLF or, in a file that starts without LF, in CR. A file joined from others may have byte order
    marks in front of any line.

    Args: source: path, or `-` for `stdin`.
    Raises: UserError if the file cannot be read or is no text, StorageError if remote storage refuses access.
    """
    try:
        chunks = _chunks(source, stdin)
        head = next(chunks, b"")
        _check_text(source, head)
        chunks = itertools.chain([head], chunks)
        if encoding := _utf_16(head):
            chunks = _as_utf_8(chunks, encoding)
        head = next(chunks)
        ends_in_cr = b"\r" in head and b"\n" not in head
        lines = _split(source, itertools.chain([head], chunks), b"\r" if ends_in_cr else b"\n")
        for line in _split_at_lf(lines) if ends_in_cr else lines:
            line = line.rstrip(b"\r")
            while line.startswith(BOM):
                line = line.removeprefix(BOM)
            yield line
    except StorageError:
        raise
    except OSError as error:
        raise UserError(f"{source}: cannot be read: {error.strerror or error}") from None


def _chunks(source, stdin):
    if source == STDIN:
        yield from iter(lambda: stdin.read(CHUNK), b"")
    elif not is_remote(source):
        with open_file(source) as file:
            yield from iter(lambda: file.read(CHUNK), b"")
    else:
        yield from _remote_chunks(source)


def _remote_chunks(path):
    import tensorflow.compat.v1 as tf

    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            yield from iter(lambda: file.read(CHUNK), b"")
    except tf.errors.OpError as error:
        raise os_error(error, path) from None


def _check_text(source, head):
    """Raises UserError if a file that starts with `head` is of a known kind other than text in UTF-8 or UTF-16."""
    if head.startswith(UTF_32):
        raise UserError(f"{source}: is in UTF-32; save it as UTF-8")
    for start, problem in NO_TEXT.items():
        if head.startswith(start):
            raise UserError(f"{source}: {problem}")


def _utf_16(head):
    """Returns the codec of a text in UTF-16 that starts with `head`; None for other texts."""
    for mark, name in UTF_16.items():
        if head.startswith(mark):
            return name
    # Without mark: paths are mostly ASCII, every other byte of which is zero in UTF-16.
    high, low, enough = head[1::2].count(0), head[::2].count(0), len(head) // 8
    if high > max(1, enough, 8 * low):
        return "utf-16-le"
    return "utf-16-be" if low > max(1, enough, 8 * high) else None


def _as_utf_8(chunks, encoding):
    """Transcodes UTF-16. Lone surrogates, and half a character at the end, become bytes that are not UTF-8."""
    decoder = codecs.getincrementaldecoder(encoding)("surrogatepass")
    for chunk in chunks:
        yield decoder.decode(chunk).encode("utf-8", "surrogatepass")
    if decoder.getstate()[0]:
        yield b"\xff"


def _split(source, chunks, end):
    pieces, length, number = [], 0, 1
    for chunk in chunks:
        first, *others = chunk.split(end)
        pieces.append(first)
        length += len(first)
        if others:
            yield b"".join(pieces)
            yield from others[:-1]
            pieces, length, number = [others[-1]], len(others[-1]), number + len(others)
        if length > LONGEST_LINE:
            raise UserError(f"{source}:{number}: a line of more than {LONGEST_LINE >> 20} MB; is the file a text?")
    if length:
        yield b"".join(pieces)


def _split_at_lf(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Splits lines that end in CR once more, since other line ends may follow in joined files."""
    for line in lines:
        yield from line.removeprefix(b"\n").split(b"\n")
