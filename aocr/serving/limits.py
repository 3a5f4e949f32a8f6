"""Bodies of bounded size and time, and the keys of clients."""

import asyncio
import hashlib
import hmac
import zlib
from collections.abc import Sequence

from starlette.requests import ClientDisconnect, Request

from aocr.errors import UserError
from aocr.files import cause
from aocr.serving.contract import Problem

LINGER = 64 << 20  # bytes beyond the limit that are read and dropped: a client that is cut off would not see the answer


async def read_body(request: Request, most: int, seconds: float) -> bytes:
    """Returns the body of a request, unpacked. Raises: Problem if it is too large, too slow or cut off."""
    length = request.headers.get("content-length", "")
    read = most if "expect" in request.headers else most + LINGER
    if length.isascii() and length.isdecimal() and int(length) > read:
        raise _too_large(most)
    try:
        body = await asyncio.wait_for(_receive(request, most), seconds)
    except asyncio.TimeoutError:
        raise Problem(408, f"The request did not arrive within {seconds:g} s", {"Connection": "close"}) from None
    except ClientDisconnect:
        raise Problem(400, "The request was cut off") from None
    return _unpacked(body, most) if request.headers.get("content-encoding", "").lower() == "gzip" else body


async def _receive(request, most):
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > most + LINGER:
            break
        if size <= most:
            chunks.append(chunk)
        else:
            chunks.clear()
    if size > most:
        raise _too_large(most)
    return b"".join(chunks)


def _too_large(most):
    # Closed, since the rest of the body would be taken for the next request.
    return Problem(413, f"The request is larger than {most} bytes", {"Connection": "close"})


def _unpacked(body, most):
    unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        unpacked = unpacker.decompress(body, most + 1)
    except zlib.error:
        raise Problem(400, "Failed to decompress the body: it is not gzip") from None
    if len(unpacked) > most:
        raise _too_large(most)
    if not unpacker.eof:
        raise Problem(400, "Failed to decompress the body: it is cut off")
    return unpacked


class Keys:
    """The keys of which a request must have one; without keys every request is allowed."""

    def __init__(self, keys: Sequence[str] = ()):
        self._digests = [_digest(key.encode()) for key in keys]

    @classmethod
    def read(cls, path: str) -> "Keys":
        """Reads a file of keys, one per line; empty lines and those that begin with # are skipped.

        UserError if it cannot be read or holds none.
        """
        try:
            with open(path, encoding="utf-8") as file:
                lines = [line.strip() for line in file]
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"--api-key-file {path}: cannot be read: {cause(error)}; name a UTF-8 file of keys, one "
                            "per line") from None
        keys = [line for line in lines if line and not line.startswith("#")]
        if not keys:
            raise UserError(f"--api-key-file {path}: holds no key; write one per line, or leave the option out")
        return cls(keys)

    def check(self, request: Request) -> None:
        """Raises: Problem unless the request has one of the keys."""
        if not self._digests:
            return
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        text = token.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key", "")
        given = _digest(text.encode("latin-1"))  # the bytes that were sent
        # All are compared, in constant time, so that the answer's time tells nothing.
        if not sum([hmac.compare_digest(given, known) for known in self._digests]):
            raise Problem(401, "The request has no valid key; send it as `Authorization: Bearer KEY`",
                          {"WWW-Authenticate": "Bearer"})


def _digest(key):
    return hashlib.sha256(key).digest()
