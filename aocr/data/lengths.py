"""Checks the lengths that a TFRecord file states, before TensorFlow believes them.

A record is its length (8 bytes), a checksum of these, its content, a checksum of that. TensorFlow allocates the length
before it reads, whatever the size of the file; where that fails, the process is killed.
"""

import gzip
import os
import stat
import struct
import zlib
from collections.abc import Iterator

from aocr.errors import UserError
from aocr.files import is_remote

HEADER = struct.Struct("<QI")  # length, its checksum
AROUND = 16  # bytes of a record besides its content
LONGEST_RECORD = (1 << 31) - 1  # bytes; protocol buffers are no longer
GZIP_MAGIC = b"\x1f\x8b\x08"
CHUNK = 1 << 20
CASTAGNOLI = 0x82F63B78  # the polynomial of CRC-32C, reflected
MASK = 0xA282EAD8


def check_records(file: str, most: int | None = None) -> None:
    """Raises UserError if a dataset file is not a regular one, or one of its first `most` records is too long.

    Other damage is left to TensorFlow to find, and files in remote storage are not looked at.
    """
    if is_remote(file):
        return
    try:
        if not stat.S_ISREG(os.stat(file).st_mode):
            raise UserError(f"{file}: not a regular file; copy it to one")
        for number, length in enumerate(_lengths(file)):
            if length > LONGEST_RECORD:
                raise UserError(f"{file}: broken after {number} records (the next one claims to have {length} bytes, "
                                f"the maximum is {LONGEST_RECORD}); create it again with `aocr dataset`")
            if most and number + 1 >= most:
                break
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror or error}") from None


def _lengths(file):
    """Yields the lengths of a file's records, up to the first whose checksum is wrong, or which does not fit in it."""
    with open(file, "rb") as stream:
        compressed = stream.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        headers = _compressed_headers(file) if compressed else _headers(stream.fileno())
        for header in headers:
            length, checksum = HEADER.unpack(header)
            if length > LONGEST_RECORD and checksum != masked_crc(header[:8]):
                return
            yield length


def _headers(descriptor) -> Iterator[bytes]:
    size, at = os.fstat(descriptor).st_size, 0
    while len(header := os.pread(descriptor, HEADER.size, at)) == HEADER.size:
        yield header
        at += AROUND + HEADER.unpack(header)[0]
        if at > size:
            return


def _compressed_headers(file) -> Iterator[bytes]:
    try:
        with gzip.open(file) as stream:
            while len(header := stream.read(HEADER.size)) == HEADER.size:
                yield header
                left = HEADER.unpack(header)[0] + AROUND - HEADER.size
                while left and (content := stream.read(min(left, CHUNK))):
                    left -= len(content)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return


def masked_crc(content: bytes) -> int:
    """Returns the checksum of TFRecord files: CRC-32C, masked."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (CASTAGNOLI if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + MASK) & 0xFFFFFFFF
